//! Changes of a picture's numbers: 0 is the mean there.

use super::super::Pca;
use super::exp;
use ocelli_kernels::math::ln;
use ocelli_kernels::random::Random;

/// The numbers of a picture.
pub struct Numbers<'a> {
    /// `[channels, height, width]`.
    pub values: &'a mut [f32],
    pub size: [usize; 2],
    /// What values in [0, 1] were divided by, a channel.
    pub std: &'a [f32],
    pub pca: &'a Pca,
}

impl Numbers<'_> {
    /// Adds a colour, of values in [0, 1], and multiplies.
    fn add(&mut self, colour: [f64; 3], factor: f64) {
        let area = self.size[0] * self.size[1];
        for ((plane, colour), std) in self.values.chunks_exact_mut(area).zip(colour).zip(self.std) {
            let (add, factor) = ((colour / f64::from(*std)) as f32, factor as f32);
            plane.iter_mut().for_each(|value| *value = (*value + add) * factor);
        }
    }

    /// Puts the mean in a rectangle; what lies outside is left out.
    fn erase(&mut self, [top, left]: [isize; 2], [height, width]: [usize; 2]) {
        let [rows, columns] = self.size;
        let span = |start: isize, length: usize, most: usize| {
            start.max(0) as usize..(start.saturating_add_unsigned(length).max(0) as usize).min(most)
        };
        let across = span(left, width, columns);
        for plane in self.values.chunks_exact_mut(rows * columns) {
            for y in span(top, height, rows) {
                plane[y * columns..][across.clone()].fill(0.0);
            }
        }
    }
}

/// Krizhevsky's program: noise of a standard deviation of so many standard deviations of the data along each component,
/// added to what has mean 0, then all divided by 1 + deviation, "so that the overall scale of the training data doesn't
/// become too different from the test data" (cuda-convnet2, convdata.py).
pub fn pca(numbers: &mut Numbers, values: &[f32], random: &mut Random) {
    let deviation = f64::from(values[0]);
    let colour = numbers.pca.colour(|eigenvalue| deviation * random.normal() * eigenvalue.max(0.0).sqrt());
    numbers.add(colour, 1.0 / (1.0 + deviation));
}

/// Krizhevsky et al. 2012, §4.1: [p1, p2, p3]·[α1·λ1, α2·λ2, α3·λ3], α from N(0, 0.1).
pub fn pca_paper(numbers: &mut Numbers, values: &[f32], random: &mut Random) {
    let deviation = f64::from(values[0]);
    let colour = numbers.pca.colour(|eigenvalue| deviation * random.normal() * eigenvalue);
    numbers.add(colour, 1.0);
}

/// Zhong et al. 2020, as torchvision's RandomErasing draws it: 2 to 33 % of the area, sides of 3:10 to 10:3, ten tries.
pub fn erase(numbers: &mut Numbers, values: &[f32], random: &mut Random) {
    if random.uniform() >= values[0] {
        return;
    }
    let [height, width] = numbers.size;
    let (low, high) = (ln(0.3), ln(3.3));
    for _ in 0..10 {
        let area = (height * width) as f64 * (0.02 + 0.31 * random.uniform_f64());
        let shape = exp(low + (high - low) * random.uniform_f64());
        let (h, w) = ((area * shape).sqrt().round() as usize, (area / shape).sqrt().round() as usize);
        if h < height && w < width {
            let corner = [random.below(height - h + 1) as isize, random.below(width - w + 1) as isize];
            return numbers.erase(corner, [h, w]);
        }
    }
}

/// DeVries and Taylor 2017.
pub fn cutout(numbers: &mut Numbers, values: &[f32], random: &mut Random) {
    let side = values[0] as usize;
    let corner = numbers.size.map(|most| random.below(most) as isize - (side / 2) as isize);
    numbers.erase(corner, [side, side]);
}
