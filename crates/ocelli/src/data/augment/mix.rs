//! Pairs of pictures become two mixtures.

use super::super::Batch;
use super::{Augment, Does, Key, exp};
use ocelli_kernels::loss::Mixed;
use ocelli_kernels::math::ln;
use ocelli_kernels::random::Random;

/// The numbers of a picture and of the one that is mixed into it, `[channels, height, width]`.
pub struct Pair<'a> {
    pub own: &'a mut [f32],
    pub other: &'a [f32],
    pub size: [usize; 2],
}

impl Augment {
    /// Mixes neighbours of a batch, pictures 0 and 1, 2 and 3, and so on; the last of an odd number stays as it is. What a
    /// picture gets is drawn by its own key; where several kinds are on, one of them. The class with the larger share comes
    /// first.
    pub(in super::super) fn mix(&self, batch: &mut Batch, size: [usize; 2], key: impl Fn(usize) -> Key) {
        let kinds: Vec<_> = self.steps().filter(|(kind, _)| matches!(kind.does, Does::Mix(_))).collect();
        if kinds.is_empty() {
            return;
        }
        let length = batch.images.len() / batch.n.max(1);
        let labels = batch.labels.clone();
        batch.mixed = labels.iter().map(|&label| Mixed { label, share: 0.0 }).collect();
        for (pair, images) in batch.images.chunks_exact_mut(2 * length).enumerate() {
            let before = images.to_vec();
            for (side, own) in images.chunks_exact_mut(length).enumerate() {
                let (i, other) = (2 * pair + side, 1 - side);
                let mut random = key(batch.indices[i]).random("mix");
                let (kind, values) = kinds[random.below(kinds.len())];
                let Does::Mix(change) = kind.does else { continue };
                let mut pair = Pair { own, other: &before[other * length..][..length], size };
                let left = change(&mut pair, values, &mut random);
                let (label, partner) = (labels[i], labels[i + other - side]);
                let (most, least, share) =
                    if left >= 0.5 { (label, partner, left) } else { (partner, label, 1.0 - left) };
                batch.labels[i] = most;
                batch.mixed[i] = Mixed { label: least, share: 1.0 - share };
            }
        }
    }
}

/// Zhang et al. 2018.
pub fn mixup(pair: &mut Pair, values: &[f32], random: &mut Random) -> f32 {
    let left = beta(f64::from(values[0]), random) as f32;
    pair.own.iter_mut().zip(pair.other).for_each(|(own, other)| *own = left * *own + (1.0 - left) * other);
    left
}

/// Yun et al. 2019: a rectangle of the picture's own shape around a random place, cut at the border.
pub fn cutmix(pair: &mut Pair, values: &[f32], random: &mut Random) -> f32 {
    let [height, width] = pair.size;
    let part = (1.0 - beta(f64::from(values[0]), random)).max(0.0).sqrt();
    let mut span = |side: usize| {
        let (centre, half) = (random.below(side), (side as f64 * part) as usize / 2);
        centre.saturating_sub(half)..(centre + half).min(side)
    };
    let (down, across) = (span(height), span(width));
    let planes = pair.own.chunks_exact_mut(height * width).zip(pair.other.chunks_exact(height * width));
    for (own, other) in planes {
        for y in down.clone() {
            let row = y * width + across.start..y * width + across.end;
            own[row.clone()].copy_from_slice(&other[row]);
        }
    }
    1.0 - (down.len() * across.len()) as f32 / (height * width) as f32
}

/// Beta(alpha, alpha), from two gamma variates.
pub fn beta(alpha: f64, random: &mut Random) -> f64 {
    let (log_a, log_b) = (log_gamma_variate(alpha, random), log_gamma_variate(alpha, random));
    // a / (a + b) by their logarithms: of a small alpha both may be too small for a number.
    let ratio = exp(-(log_a - log_b).abs());
    if log_a >= log_b { 1.0 / (1.0 + ratio) } else { ratio / (1.0 + ratio) }
}

/// The logarithm of a gamma variate: Marsaglia and Tsang 2000; below 1 by Γ(α) = Γ(α + 1)·U^(1/α).
fn log_gamma_variate(alpha: f64, random: &mut Random) -> f64 {
    let d = alpha + if alpha < 1.0 { 1.0 } else { 0.0 } - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    let boost = if alpha < 1.0 { ln(1.0 - random.uniform_f64()) / alpha } else { 0.0 };
    loop {
        let x = random.normal();
        let v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
        if v > 0.0 && ln(1.0 - random.uniform_f64()) < 0.5 * x * x + d - d * v + d * ln(v) {
            return ln(d * v) + boost;
        }
    }
}
