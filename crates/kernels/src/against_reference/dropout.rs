//! Dropout.

use super::common::*;
use crate::dropout::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn dropout_agrees_with_its_definition(
        samples in 1usize..4, channels in 1usize..300, pixels in 1usize..60, first: u32, seed: u64,
    ) {
        let settings = Dropout { rate: 0.3, seed, layer: 5, step: seed ^ 9 };
        let (len, first) = (channels * pixels, u64::from(first));
        let x = normal(samples * len, seed);
        let mut y = vec![0.0; x.len()];
        dropout_reference(&settings, first, [channels, pixels], &wide(&x), &mut y);
        let x_last = channels_last(&x, [samples, channels, pixels], channels, 0.0);
        check("dropout", &y, few_ulp, |cpu| {
            let mut y = vec![7.0; x.len()];
            dropout(cpu, &settings, first, len, Some(&x_last), &mut y);
            let mut z = x_last.clone();
            dropout(cpu, &settings, first, len, None, &mut z);
            assert_eq!(y, z, "in place");
            channels_first(&y, [samples, channels, pixels], channels)
        });
    }
}

fn ones(settings: &Dropout, first: u64, samples: usize, len: usize) -> Vec<f32> {
    let mut y = vec![1.0; samples * len];
    dropout(&cpus()[0], settings, first, len, None, &mut y);
    y
}

#[test]
fn the_share_of_dropped_elements_is_the_rate_and_the_mean_stays() {
    let n = 100_000;
    for rate in [0.1f32, 0.5, 0.8] {
        let y = ones(&Dropout { rate, seed: 3, layer: 1, step: 2 }, 0, 10, n / 10);
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64;
        let (n, rate) = (n as f64, f64::from(rate));
        // Five standard errors of a binomial share.
        let bound = 5.0 * (n * rate * (1.0 - rate)).sqrt();
        assert!((dropped - n * rate).abs() < bound, "{dropped} of {n} at {rate}");
        let mean = wide(&y).iter().sum::<f64>() / n;
        assert!((mean - 1.0).abs() < bound / n / (1.0 - rate), "{mean}");
    }
}

#[test]
fn a_sample_keeps_its_mask_wherever_its_batch_begins() {
    let settings = Dropout { rate: 0.5, seed: 1, layer: 2, step: 3 };
    let whole = ones(&settings, 40, 6, 777);
    assert_eq!(whole[2 * 777..4 * 777], ones(&settings, 42, 2, 777));
    assert_ne!(whole[..777], whole[777..2 * 777]);
    for other in [Dropout { seed: 2, ..settings }, Dropout { layer: 3, ..settings }, Dropout { step: 4, ..settings }] {
        assert_ne!(whole, ones(&other, 40, 6, 777), "{other:?}");
    }
}

#[test]
fn rate_zero_keeps_all_and_rate_one_keeps_none() {
    assert!(ones(&Dropout { rate: 0.0, seed: 1, layer: 1, step: 1 }, 0, 1, 1000).iter().all(|&y| y == 1.0));
    assert!(ones(&Dropout { rate: 1.0, seed: 1, layer: 1, step: 1 }, 0, 1, 1000).iter().all(|&y| y == 0.0));
}
