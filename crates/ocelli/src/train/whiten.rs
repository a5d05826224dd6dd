//! First layers that start by whitening the patches of the training pictures.

use crate::data::{Pictures, Preparation, eigen};
use crate::net::{Init, Parameter, Resolved};
use crate::{Result, Tensors};

/// Patches that are looked at, about: their covariance is known to a tenth of a percent.
const PATCHES: usize = 5_000_000;
/// Most pictures they are taken from.
const PICTURES: usize = 5000;
/// Added to the variances: directions that hardly vary are not blown up to noise (Jordan 2024).
const LEAST_VARIANCE: f64 = 5e-4;

/// Sets the parameters that start by [`Init::Whiten`].
///
/// # Errors
/// A picture cannot be read.
pub(super) fn start(
    net: &Resolved,
    pictures: &Pictures,
    preparation: &Preparation,
    tensors: &mut Tensors,
) -> Result<()> {
    for parameter in net.parameters().filter(|parameter| parameter.init == Init::Whiten) {
        let filters = filters(parameter, pictures, preparation)?;
        if let Some(tensor) = tensors.get_mut(&parameter.name) {
            tensor.data = filters;
        }
    }
    Ok(())
}

/// v/√(λ + ε) for the eigenvectors v of the patches' covariance, the largest eigenvalue λ first; then the same negated.
fn filters(parameter: &Parameter, pictures: &Pictures, preparation: &Preparation) -> Result<Vec<f32>> {
    let (kernel, patch) = ([parameter.dims[2], parameter.dims[3]], parameter.dims[1..].iter().product::<usize>());
    let [height, width] = preparation.size;
    let [rows, columns] = [height - kernel[0] + 1, width - kernel[1] + 1];
    let mut products = vec![vec![0.0; patch]; patch];
    let mut patches = 0;
    for numbers in pictures.some(preparation, (PATCHES / (rows * columns)).clamp(1, PICTURES)) {
        let numbers: Vec<f64> = numbers?.into_iter().map(f64::from).collect();
        // A patch's element i lies, over all patches of a row, in a run of the picture.
        let run = |i: usize, row: usize| {
            let [channel, y, x] = [i / (kernel[0] * kernel[1]), i / kernel[1] % kernel[0], i % kernel[1]];
            &numbers[(channel * height + row + y) * width + x..][..columns]
        };
        for (i, products) in products.iter_mut().enumerate() {
            for (j, product) in products[..=i].iter_mut().enumerate() {
                let pairs = (0..rows).flat_map(|row| run(i, row).iter().zip(run(j, row)));
                *product += pairs.map(|(a, b)| a * b).sum::<f64>();
            }
        }
        patches += rows * columns;
    }
    let covariance = (0..patch)
        .map(|i| (0..patch).map(|j| products[i.max(j)][i.min(j)] / patches.max(1) as f64).collect())
        .collect();
    let components = eigen(covariance);
    let filter = |i: usize| {
        let (variance, vector) = &components[i % patch];
        let factor = if i < patch { 1.0 } else { -1.0 } / (variance + LEAST_VARIANCE).sqrt();
        vector.iter().map(move |part| (factor * part) as f32)
    };
    Ok((0..parameter.dims[0]).flat_map(filter).collect())
}

#[cfg(test)]
mod tests {
    use crate::net::Net;
    use crate::train::Settings;
    use crate::train::setup::Task;

    #[test]
    fn the_first_layers_answers_are_uncorrelated_with_variance_1() {
        let text = r#"format = 1
            name = "white"
            input = [1, 28, 28]
            layers = [
              { type = "conv", name = "white", filters = 8, kernel = 2, bias = false, trainable = false, init = { weight = "whiten" } },
              { type = "global_avg_pool" },
              { type = "linear", units = "classes" },
            ]"#;
        let settings = Settings { data: "mnist-10k".into(), ..Settings::default() };
        let task = Task::open(&settings, Net::from_toml(text, "t").unwrap(), None).unwrap();
        let weights = task.start(&settings).unwrap()["white.weight"].data.clone();
        for i in 0..16 {
            assert_eq!(weights[16 + i], -weights[i], "the second half is the first one's negative");
        }
        // Second moments of the four answers, over patches of other pictures than the filters were made from.
        let mut moments = [[0.0; 4]; 4];
        let mut n = 0.0;
        for position in (1..7000).step_by(37) {
            let picture = task.data.picture(crate::data::Split::Train, position).unwrap();
            let x = task.model.preparation.numbers(picture).unwrap();
            for (y, at) in (0..27).flat_map(|y| (0..27).map(move |at| (y, at))) {
                let patch = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[v, u]| x[(y + v) * 28 + at + u]);
                let answer =
                    |k: usize| weights[4 * k..][..4].iter().zip(patch).map(|(w, x)| f64::from(w * x)).sum::<f64>();
                let answers = [0, 1, 2, 3].map(answer);
                for i in 0..4 {
                    for j in 0..4 {
                        moments[i][j] += answers[i] * answers[j];
                    }
                }
                n += 1.0;
            }
        }
        for (i, row) in moments.iter().enumerate() {
            for (j, moment) in row.iter().enumerate() {
                let (moment, want) = (moment / n, if i == j { 1.0 } else { 0.0 });
                assert!((moment - want).abs() < 0.1, "{i}, {j}: {moment}");
            }
        }
        assert_eq!(task.start(&settings).unwrap()["white.weight"].data, weights, "the same every time");
    }
}
