//! Principal components of the colours of a data set.

use super::pictures::in_parallel;
use super::{Dataset, Split};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Mean and principal components of colours, of values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pca {
    /// Variances along the components, largest first.
    pub eigenvalues: [f64; 3],
    /// The components: red, green and blue of each.
    pub eigenvectors: [[f64; 3]; 3],
}

impl Pca {
    /// ImageNet's: the standard deviations 121.78, 37.09 and 19.72 of 255 of AlexNet's own files, along the components that
    /// are in use everywhere.
    pub const IMAGENET: Pca = Pca {
        eigenvalues: [121.78 * 121.78 / 65025.0, 37.09 * 37.09 / 65025.0, 19.72 * 19.72 / 65025.0],
        eigenvectors: [[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]],
    };

    /// Σ of the components, each times what `amount` makes of its eigenvalue.
    pub(super) fn colour(&self, mut amount: impl FnMut(f64) -> f64) -> [f64; 3] {
        let mut colour = [0.0; 3];
        for (value, vector) in self.eigenvalues.iter().zip(&self.eigenvectors) {
            let amount = amount(*value);
            colour.iter_mut().zip(vector).for_each(|(colour, part)| *colour += amount * part);
        }
        colour
    }

    /// Reads what `ocelli data pca --output` wrote.
    ///
    /// # Errors
    /// The file cannot be read or is not of this form.
    pub fn read(path: &Path) -> Result<Pca> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        Pca::parse(&text).map_err(|error| error.at(path.display()))
    }

    /// From the text of such a file.
    ///
    /// # Errors
    /// As [`Pca::read`].
    pub fn parse(text: &str) -> Result<Pca> {
        let advice = "Write such a file with: ocelli data pca DATA --output FILE";
        let pca: Pca = toml::from_str(text).map_err(|error| {
            Error::new(format!("no principal components: {}", error.message().replace('\n', " "))).advice(advice)
        })?;
        let components = pca.eigenvectors.iter().flatten().all(|part| (-1.0..=1.0).contains(part));
        match components && pca.eigenvalues.iter().all(|value| (0.0..=1.0).contains(value)) {
            true => Ok(pca),
            false => Err(Error::new("eigenvalues are 0 to 1, parts of eigenvectors −1 to 1").advice(advice)),
        }
    }

    /// As the text of a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

/// Sums over colours, of whole numbers, so that no order and no division of the work changes a bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colours {
    /// Pixels.
    pub pixels: u64,
    sum: [u128; 3],
    products: [[u128; 3]; 3],
}

impl Colours {
    /// Takes in pixels of red, green and blue.
    pub fn add(&mut self, pixels: &[u8]) {
        // A block's sums fit 64 bits: 2^24 pixels of at most 255².
        for block in pixels.chunks(3 << 24) {
            let (mut sum, mut products) = ([0u64; 3], [0u64; 6]);
            for pixel in block.chunks_exact(3) {
                let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
                sum.iter_mut().zip([r, g, b]).for_each(|(sum, value)| *sum += u64::from(value));
                let each = [r * r, r * g, r * b, g * g, g * b, b * b];
                products.iter_mut().zip(each).for_each(|(sum, value)| *sum += u64::from(value));
            }
            let [rr, rg, rb, gg, gb, bb] = products;
            let block = Colours {
                pixels: (block.len() / 3) as u64,
                sum: sum.map(u128::from),
                products: [[rr, rg, rb], [rg, gg, gb], [rb, gb, bb]].map(|row| row.map(u128::from)),
            };
            self.join(&block);
        }
    }

    /// Takes in other sums.
    pub fn join(&mut self, other: &Colours) {
        self.pixels += other.pixels;
        self.sum.iter_mut().zip(other.sum).for_each(|(sum, more)| *sum += more);
        let products = self.products.iter_mut().flatten();
        products.zip(other.products.iter().flatten()).for_each(|(sum, more)| *sum += more);
    }

    /// Every pixel of a split, as the files have them.
    ///
    /// # Errors
    /// A picture cannot be read (and `skip_bad` is not set), or none can.
    pub fn measure(data: &Dataset, split: Split, workers: usize, skip_bad: bool) -> Result<Colours> {
        // Sums of a hundred pictures at a time: memory does not grow with the set.
        let mut starts: Vec<usize> = (0..data.len(split)).step_by(100).collect();
        let sums = in_parallel(&mut starts, workers, |&mut start| {
            let mut colours = Colours::default();
            for position in start..data.len(split).min(start + 100) {
                match data.picture(split, position) {
                    Ok(picture) => colours.add(&picture.with_channels(3).pixels),
                    Err(_) if skip_bad => {}
                    Err(error) => return Some(Err(error)),
                }
            }
            Some(Ok(colours))
        });
        let mut all = Colours::default();
        for sum in sums {
            all.join(&sum?);
        }
        match all.pixels {
            0 => Err(Error::new(format!("{}: no picture of the {split} split can be read", data.name))
                .advice("Look with: ocelli data check DATA")),
            _ => Ok(all),
        }
    }

    /// Mean of each channel.
    pub fn mean(&self) -> [f64; 3] {
        self.sum.map(|sum| sum as f64 / (255 * self.pixels.max(1)) as f64)
    }

    /// Variances and covariances, divided by the number of pixels.
    pub fn covariance(&self) -> [[f64; 3]; 3] {
        let n = u128::from(self.pixels.max(1));
        // n·Σxy − Σx·Σy in whole numbers: exact.
        let entry = |i: usize, j: usize| {
            let difference = (n * self.products[i][j]) as i128 - (self.sum[i] * self.sum[j]) as i128;
            difference as f64 / (n * n) as f64 / 65025.0
        };
        std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j)))
    }

    /// The principal components.
    pub fn pca(&self) -> Pca {
        let components = eigen(self.covariance().iter().map(|row| row.to_vec()).collect());
        Pca {
            eigenvalues: std::array::from_fn(|i| components[i].0),
            eigenvectors: std::array::from_fn(|i| std::array::from_fn(|part| components[i].1[part])),
        }
    }
}

/// Eigenvalues, not negative, and eigenvectors of a covariance, the largest first, by Jacobi's rotations. Of the two
/// directions of a vector, the one whose largest part is positive.
pub(crate) fn eigen(mut a: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let n = a.len();
    let mut vectors: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    // Convergence is quadratic: six sweeps are plenty for three rows, a dozen for hundreds.
    for _ in 0..12 {
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            if a[p][q] == 0.0 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let cosine = 1.0 / (t * t + 1.0).sqrt();
            let sine = t * cosine;
            let turn = |x: f64, y: f64| (cosine * x - sine * y, sine * x + cosine * y);
            for row in a.iter_mut().chain(&mut vectors) {
                (row[p], row[q]) = turn(row[p], row[q]);
            }
            let (upper, lower) = a.split_at_mut(q);
            for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                (*x, *y) = turn(*x, *y);
            }
        }
    }
    let mut components: Vec<(f64, Vec<f64>)> = (0..n)
        .map(|i| {
            let mut vector: Vec<f64> = vectors.iter().map(|row| row[i]).collect();
            let largest =
                vector.iter().copied().fold(0.0, |most: f64, part| if part.abs() > most.abs() { part } else { most });
            if largest < 0.0 {
                vector.iter_mut().for_each(|part| *part = -*part);
            }
            (a[i][i].max(0.0), vector)
        })
        .collect();
    components.sort_by(|a, b| b.0.total_cmp(&a.0));
    components
}

#[cfg(test)]
#[path = "pca_tests.rs"]
mod tests;
