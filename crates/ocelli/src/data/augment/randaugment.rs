//! RandAugment (Cubuk et al. 2020), with torchvision's fourteen changes and magnitudes.

use super::super::Picture;
use super::pixels::{affine, brightness, byte, contrast, saturation, turn};
use ocelli_kernels::random::Random;

/// A change at a level of 0 to 1; those that go either way get a level of −1 to 1.
type Change = fn(&mut Picture, f32);

/// The changes, and whether they go either way.
const CHANGES: [(Change, bool); 14] = [
    (|_, _| {}, false),
    (|picture, level| affine(picture, [1.0, 0.3 * level, 0.0, 1.0], [0.0; 2]), true),
    (|picture, level| affine(picture, [1.0, 0.0, 0.3 * level, 1.0], [0.0; 2]), true),
    (|picture, level| affine(picture, UPRIGHT, [part(picture.width, level), 0.0]), true),
    (|picture, level| affine(picture, UPRIGHT, [0.0, part(picture.height, level)]), true),
    (|picture, level| turn(picture, 30.0 * level), true),
    (|picture, level| brightness(picture, 1.0 + 0.9 * level), true),
    (|picture, level| saturation(picture, 1.0 + 0.9 * level), true),
    (|picture, level| contrast(picture, 1.0 + 0.9 * level), true),
    (|picture, level| sharpness(picture, 1.0 + 0.9 * level), true),
    (posterize, false),
    (solarize, false),
    (|picture, _| levels(picture, stretched), false),
    (|picture, _| levels(picture, equalized), false),
];

const UPRIGHT: [f32; 4] = [1.0, 0.0, 0.0, 1.0];

pub fn randaugment(picture: &mut Picture, values: &[f32], random: &mut Random) {
    let level = values[1] / 30.0;
    for _ in 0..values[0] as usize {
        let (change, either_way) = CHANGES[random.below(CHANGES.len())];
        let sign = if random.below(2) == 1 && either_way { -1.0 } else { 1.0 };
        change(picture, sign * level);
    }
}

/// Up to 150 of 331 pixels, as AutoAugment has it.
fn part(side: usize, level: f32) -> f32 {
    150.0 / 331.0 * side as f32 * level
}

/// Against the picture smoothed by (1 1 1; 1 5 1; 1 1 1) / 13; the border stays.
fn sharpness(picture: &mut Picture, factor: f32) {
    let Picture { height, width, channels, .. } = *picture;
    let old = picture.pixels.clone();
    for y in 1..height.saturating_sub(1) {
        for i in (y * width + 1) * channels..((y + 1) * width - 1) * channels {
            let row = |i: usize| [i - channels, i, i + channels].iter().map(|&i| f32::from(old[i])).sum::<f32>();
            let around = row(i - width * channels) + row(i) + row(i + width * channels);
            let smooth = (around + 4.0 * f32::from(old[i])) / 13.0;
            picture.pixels[i] = byte(f32::from(old[i]) * factor + smooth * (1.0 - factor));
        }
    }
}

/// Keeps the upper 8 to 4 bits.
fn posterize(picture: &mut Picture, level: f32) {
    let drop = (4.0 * level).round() as u32;
    picture.pixels.iter_mut().for_each(|value| *value = *value >> drop << drop);
}

/// The negative of what is as light as the threshold, which falls from 255 to 0.
fn solarize(picture: &mut Picture, level: f32) {
    let threshold = 255.0 * (1.0 - level);
    picture.pixels.iter_mut().filter(|value| f32::from(**value) >= threshold).for_each(|value| *value = 255 - *value);
}

/// Gives each channel new values by its histogram.
fn levels(picture: &mut Picture, table: fn(&[usize; 256]) -> Option<[u8; 256]>) {
    for channel in 0..picture.channels {
        let mut counts = [0; 256];
        picture
            .pixels
            .iter()
            .skip(channel)
            .step_by(picture.channels)
            .for_each(|&value| counts[usize::from(value)] += 1);
        if let Some(table) = table(&counts) {
            let values = picture.pixels.iter_mut().skip(channel).step_by(picture.channels);
            values.for_each(|value| *value = table[usize::from(*value)]);
        }
    }
}

/// The darkest value becomes 0, the lightest 255.
fn stretched(counts: &[usize; 256]) -> Option<[u8; 256]> {
    let low = counts.iter().position(|&n| n > 0)?;
    let high = counts.iter().rposition(|&n| n > 0)?;
    let value = |i: usize| byte(255.0 * (i as f32 - low as f32) / (high - low) as f32);
    (high > low).then(|| std::array::from_fn(value))
}

/// Every value as often as every other, as nearly as can be: Pillow's rule.
fn equalized(counts: &[usize; 256]) -> Option<[u8; 256]> {
    let last = counts.iter().rev().find(|&&n| n > 0)?;
    let step = (counts.iter().sum::<usize>() - last) / 255;
    let mut sum = step / 2;
    (step > 0).then(|| {
        std::array::from_fn(|i| {
            let value = (sum / step).min(255) as u8;
            sum += counts[i];
            value
        })
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    type Case = (&'static str, u8, fn(&mut Picture));

    /// Changes that torchvision has, at levels that it was asked for, and how far values may lie apart.
    pub fn changes() -> [Case; 5] {
        [
            ("sharpness", 1, |picture| sharpness(picture, 1.8)),
            ("posterize", 0, |picture| posterize(picture, 0.75)),
            ("solarize", 0, |picture| solarize(picture, 1.0 - 128.0 / 255.0)),
            ("autocontrast", 1, |picture| levels(picture, stretched)),
            ("equalize", 1, |picture| levels(picture, equalized)),
        ]
    }

    #[test]
    fn every_change_is_drawn() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..400 {
            let pixels = (0..27 * 27 * 3).map(|i| (i * 7 % 200) as u8).collect();
            let mut picture = Picture { height: 27, width: 27, channels: 3, pixels };
            randaugment(&mut picture, &[1.0, 20.0], &mut Random::new(i, 0, 0, 0));
            seen.insert(picture.pixels);
        }
        // Nine go either way, five do not; one of those changes nothing.
        assert_eq!(seen.len(), 9 * 2 + 5);
    }
}
