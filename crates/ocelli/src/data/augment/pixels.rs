//! Changes of a picture's bytes.

use super::super::Picture;
use super::super::picture::luma;
use super::exp;
use ocelli_kernels::random::Random;

/// Uniform between −1 and 1.
pub fn either_way(random: &mut Random) -> f32 {
    2.0 * random.uniform() - 1.0
}

pub fn rotate(picture: &mut Picture, values: &[f32], random: &mut Random) {
    turn(picture, values[0] * either_way(random));
}

/// Turns counterclockwise.
pub fn turn(picture: &mut Picture, degrees: f32) {
    let x = f64::from(degrees).to_radians();
    // Taylor's series, so that the bits do not depend on a mathematics library; π²⁷/27! < 3e-15.
    let (mut sine, mut cosine, mut term) = (0.0, 0.0, 1.0);
    for k in 0..14 {
        cosine += term;
        term *= x / f64::from(2 * k + 1);
        sine += term;
        term *= -x / f64::from(2 * k + 2);
    }
    affine(picture, [cosine as f32, -sine as f32, sine as f32, cosine as f32], [0.0, 0.0]);
}

/// Takes the pixel at (x, y) from the centre from matrix·(x, y) + offset, between pixels by their nearness; outside is
/// black.
pub fn affine(picture: &mut Picture, [a, b, c, d]: [f32; 4], [right, down]: [f32; 2]) {
    if ([a, b, c, d], [right, down]) == ([1.0, 0.0, 0.0, 1.0], [0.0, 0.0]) {
        return;
    }
    let Picture { height, width, channels, .. } = *picture;
    let (middle_x, middle_y) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    let mut turned = vec![0; picture.pixels.len()];
    for (i, pixel) in turned.chunks_exact_mut(channels).enumerate() {
        let (x, y) = ((i % width) as f32 - middle_x, (i / width) as f32 - middle_y);
        let (x, y) = (a * x + b * y + right + middle_x, c * x + d * y + down + middle_y);
        let (left, top) = (x.floor(), y.floor());
        let (across, below) = (x - left, y - top);
        for (channel, value) in pixel.iter_mut().enumerate() {
            let at = |x: f32, y: f32| {
                let inside = x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32;
                let place = || (y as usize * width + x as usize) * channels + channel;
                if inside { f32::from(picture.pixels[place()]) } else { 0.0 }
            };
            let upper = at(left, top) * (1.0 - across) + at(left + 1.0, top) * across;
            let lower = at(left, top + 1.0) * (1.0 - across) + at(left + 1.0, top + 1.0) * across;
            *value = byte(upper * (1.0 - below) + lower * below);
        }
    }
    picture.pixels = turned;
}

/// Rounded, within 0 to 255.
pub fn byte(value: f32) -> u8 {
    (value + 0.5).clamp(0.0, 255.0) as u8
}

/// torchvision's ColorJitter, in this order: brightness, contrast, saturation, hue.
pub fn jitter(picture: &mut Picture, values: &[f32], random: &mut Random) {
    let mut factor = |most: f32| 1.0 + most * either_way(random);
    brightness(picture, factor(values[0]));
    contrast(picture, factor(values[1]));
    saturation(picture, factor(values[2]));
    hue(picture, factor(values[3]) - 1.0);
}

/// Mixes each value with another: `factor` of its own and the rest of the other's.
fn blend(picture: &mut Picture, factor: f32, other: impl Fn(&[u8]) -> f32) {
    if factor == 1.0 {
        return;
    }
    for pixel in picture.pixels.chunks_exact_mut(picture.channels) {
        let other = other(pixel) * (1.0 - factor);
        pixel.iter_mut().for_each(|value| *value = byte(f32::from(*value) * factor + other));
    }
}

fn grey(pixel: &[u8]) -> f32 {
    f32::from(match *pixel {
        [red, green, blue] => luma([red, green, blue]),
        _ => pixel[0],
    })
}

pub fn brightness(picture: &mut Picture, factor: f32) {
    blend(picture, factor, |_| 0.0);
}

pub fn contrast(picture: &mut Picture, factor: f32) {
    let sum: u64 = picture.pixels.chunks_exact(picture.channels).map(|pixel| grey(pixel) as u64).sum();
    let mean = sum as f64 / (picture.height * picture.width).max(1) as f64;
    blend(picture, factor, |_| mean as f32);
}

pub fn saturation(picture: &mut Picture, factor: f32) {
    if picture.channels == 3 {
        blend(picture, factor, grey);
    }
}

/// Turns the hue of hue, saturation and value by `by` of a circle.
pub fn hue(picture: &mut Picture, by: f32) {
    if picture.channels != 3 || by == 0.0 {
        return;
    }
    for pixel in picture.pixels.chunks_exact_mut(3) {
        let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
        let most = red.max(green).max(blue);
        let range = most - red.min(green).min(blue);
        if range == 0.0 {
            continue;
        }
        // In sixths of the circle from red.
        let sixths = if most == red {
            (green - blue) / range
        } else if most == green {
            2.0 + (blue - red) / range
        } else {
            4.0 + (red - green) / range
        };
        let turned = sixths + 6.0 * by;
        for (value, from) in pixel.iter_mut().zip([5.0, 3.0, 1.0]) {
            let k = (from + turned + 12.0) % 6.0;
            *value = byte(most - range * k.min(4.0 - k).clamp(0.0, 1.0));
        }
    }
}

pub fn gray(picture: &mut Picture, values: &[f32], random: &mut Random) {
    if random.uniform() < values[0] {
        saturation(picture, 0.0);
    }
}

/// As SimCLR (Chen et al. 2020) blurs: a standard deviation from 0.1 up to a most.
pub fn blur(picture: &mut Picture, values: &[f32], random: &mut Random) {
    let sigma = 0.1 + (values[1] - 0.1) * random.uniform();
    if random.uniform() < values[0] {
        gaussian(picture, f64::from(sigma));
    }
}

/// Sums of three standard deviations each way; at the border the last pixel goes on.
pub fn gaussian(picture: &mut Picture, sigma: f64) {
    let radius = (3.0 * sigma).ceil() as usize;
    let weights: Vec<f64> = (0..=radius).map(|i| exp(-((i * i) as f64) / (2.0 * sigma * sigma))).collect();
    let total = weights[0] + 2.0 * weights[1..].iter().sum::<f64>();
    let weights: Vec<f32> = weights.iter().map(|weight| (weight / total) as f32).collect();
    let Picture { height, width, channels, .. } = *picture;
    // First along the rows, then along the columns.
    let mut values: Vec<f32> = picture.pixels.iter().map(|&value| f32::from(value)).collect();
    for (length, step) in [(width, channels), (height, width * channels)] {
        let blurred = (0..values.len()).map(|i| {
            let at = i / step % length;
            let start = i - at * step;
            let sum = |j: usize| {
                let (before, after) = (at.saturating_sub(j), (at + j).min(length - 1));
                values[start + before * step] + values[start + after * step]
            };
            (1..=radius).fold(weights[0] * values[i], |all, j| all + weights[j] * sum(j))
        });
        values = blurred.collect();
    }
    picture.pixels.iter_mut().zip(values).for_each(|(pixel, value)| *pixel = byte(value));
}
