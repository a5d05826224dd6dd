//! Local response normalisation.

use super::common::*;
use crate::elementwise::{Extent, View, ViewMut};
use crate::lrn::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn lrn_agrees_with_its_definition(
        samples in 1usize..4, pixels in 1usize..30, channels in 1usize..70, size in 1usize..12, usual: bool,
        divide_by_size: bool, gap in 0usize..4, seed: u64,
    ) {
        let beta = if usual { 0.75 } else { 0.6 };
        let constants = Lrn { size, alpha: 0.3, beta, k: if usual { 2.0 } else { 1.0 }, divide_by_size };
        let extent = Extent { samples, pixels, channels };
        let (len, shape, stride) = (extent.elements(), [samples, channels, pixels], channels + gap);
        let (x, dy) = (normal(len, seed), normal(len, seed ^ 1));
        let (mut y, mut dx) = (vec![0.0; len], vec![0.0; len]);
        lrn_reference(&constants, extent, &wide(&x), &mut y);
        lrn_backward_reference(&constants, extent, &wide(&x), &wide(&dy), &mut dx);
        let x = channels_last(&x, shape, stride, f32::NAN);
        let dy = channels_last(&dy, shape, stride, f32::NAN);
        check("lrn", &y, |_, y| 4e-6 * y.abs().max(1e-3), |cpu| {
            let (mut y, mut space) = (vec![7.0; samples * pixels * stride], vec![f32::NAN; workspace(&constants, channels)]);
            lrn(cpu, &constants, extent, View::strided(&x, stride), ViewMut::strided(&mut y, stride), &mut space);
            channels_first(&y, shape, stride)
        });
        check("lrn backward", &dx, |_, _| 1e-5, |cpu| {
            let (mut dx, mut space) = (vec![7.0; samples * pixels * stride], vec![f32::NAN; workspace(&constants, channels)]);
            let (x, dy) = (View::strided(&x, stride), View::strided(&dy, stride));
            lrn_backward(cpu, &constants, extent, x, dy, ViewMut::strided(&mut dx, stride), &mut space);
            channels_first(&dx, shape, stride)
        });
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    let extent = Extent { samples: 2, pixels: 3, channels: 7 };
    for (size, divide_by_size) in [(5, true), (4, false), (1, true), (9, false)] {
        let constants = Lrn { size, alpha: 0.7, beta: 0.75, k: 1.5, divide_by_size };
        let (x, w) = (wide(&normal(42, 1)), wide(&normal(42, 2)));
        let mut dx = vec![0.0; 42];
        lrn_backward_reference(&constants, extent, &x, &w, &mut dx);
        let forward = |x: &[f64]| {
            let mut y = vec![0.0; 42];
            lrn_reference(&constants, extent, x, &mut y);
            weighted(&y, &w)
        };
        gradients_agree("lrn", &dx, &central(&x, forward));
    }
}

#[test]
fn an_even_window_reaches_one_further_back() {
    // Size 2 sums the squares of the channel before and of the channel itself.
    let constants = Lrn { size: 2, alpha: 1.0, beta: 1.0, k: 0.0, divide_by_size: false };
    let mut y = [0.0; 3];
    lrn_reference(&constants, Extent { samples: 1, pixels: 1, channels: 3 }, &[1.0f64, 2.0, 3.0], &mut y);
    assert_eq!(y, [1.0, 2.0 / 5.0, 3.0 / 13.0]);
}
