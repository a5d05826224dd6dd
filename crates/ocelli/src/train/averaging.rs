//! How far an average of the weights moves towards the present ones.

/// The exponential moving average after `steps` steps, the last included: w̄ ← d · w̄ + (1 − d) · w with
/// d = min(decay, (1 + steps) / (10 + steps)), so that the random start is soon forgotten (TensorFlow's ramp).
pub(super) fn ema_share(decay: f64, steps: u64) -> f32 {
    let steps = steps as f64;
    (1.0 - decay.min((1.0 + steps) / (10.0 + steps))) as f32
}

/// The mean of the weights at the ends of the epochs `from`, `from` + 1, … `epoch` (Izmailov et al. 2018): the newest counts
/// 1 / number of them. Before `from` the average is the weights.
pub(super) fn swa_share(from: u64, epoch: u64) -> f32 {
    1.0 / (epoch.saturating_sub(from) + 1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_ends_at_the_decay() {
        assert_eq!(ema_share(0.9, 1), (9.0 / 11.0f64) as f32);
        assert_eq!(ema_share(0.9, 80), 0.1); // 81 / 90
        assert_eq!(ema_share(0.9, 81), 0.1);
        assert_eq!(ema_share(0.5, 1_000_000), 0.5);
    }

    #[test]
    fn a_mean_of_ends_counts_each_alike() {
        assert_eq!([1, 2, 3, 4, 5].map(|epoch| swa_share(3, epoch)), [1.0, 1.0, 1.0, 1.0 / 2.0, 1.0 / 3.0]);
    }
}
