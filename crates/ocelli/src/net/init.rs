//! The values that parameters start from.

use super::{Init, Parameter, Resolved};
use crate::{Tensor, Tensors};
use ocelli_kernels::random::{Random, name};

/// Parameters and running statistics of a net at the start of training. Each depends on the seed and its own name only,
/// so that changing one layer leaves the others' start alone.
pub fn initialise(net: &Resolved, seed: u64) -> Tensors {
    net.parameters().map(|p| (p.name.clone(), Tensor::new(p.dims.clone(), values(p, seed)))).collect()
}

fn values(parameter: &Parameter, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed, name("initialise"), name(&parameter.name), 0);
    let n = parameter.len();
    // PyTorch's fans: a weight is [out, in, kernel height, kernel width] or [out, in]; `in` is per group.
    let window: usize = parameter.dims.iter().skip(2).product();
    let fan_in = (parameter.dims.iter().skip(1).product::<usize>()).max(1) as f64;
    let fan_out = (parameter.dims[0] * window) as f64;
    let mut normal = |std: f64| (0..n).map(|_| (std * random.normal()) as f32).collect();
    match parameter.init {
        Init::Constant(value) => vec![value as f32; n],
        Init::Normal { std } => normal(std),
        Init::He | Init::Whiten => normal((2.0 / fan_in).sqrt()),
        Init::Codes => codes(&mut random, &parameter.dims),
        Init::HeFanOut => normal((2.0 / fan_out).sqrt()),
        Init::Uniform { limit } => uniform(&mut random, n, limit),
        Init::Xavier => uniform(&mut random, n, (6.0 / (fan_in + fan_out)).sqrt()),
        Init::Dirac => dirac(uniform(&mut random, n, (1.0 / fan_in).sqrt()), &parameter.dims),
    }
}

/// The digits 0 to 9 in twelve rows of seven, as LeNet-5's output units have them (there drawn by others).
const DIGITS: [&str; 10] = [
    ".........###...##.##.##...####...####...####...####...####...##.##.##...###.........",
    "..........##....###...####.....##.....##.....##.....##.....##.....##...######.......",
    "........#####.##...##.....##.....##....##....##....##....##....##.....#######.......",
    "........#####.##...##.....##.....##..####......##.....##.....####...##.#####........",
    "...........##....###...####..##.##.##..##.##..##.#######....##.....##.....##........",
    ".......#########.....##.....##.....######......##.....##.....####...##.#####........",
    ".........####..##....##.....##.....######.##...####...####...####...##.#####........",
    ".......#######.....##.....##....##.....##....##.....##....##.....##.....##..........",
    "........#####.##...####...####...##.#####.##...####...####...####...##.#####........",
    "........#####.##...####...####...####...##.######.....##.....##....##..####.........",
];

/// Patterns of ±1, +1 where there is ink.
fn codes(random: &mut Random, dims: &[usize]) -> Vec<f32> {
    if dims == [DIGITS.len(), DIGITS[0].len()] {
        return DIGITS.concat().bytes().map(|ink| if ink == b'#' { 1.0 } else { -1.0 }).collect();
    }
    (0..dims.iter().product()).map(|_| if random.uniform_f64() < 0.5 { -1.0 } else { 1.0 }).collect()
}

/// Filters that copy a channel each, in the first of `filters`, which are [out, in, kernel height, kernel width].
fn dirac(mut filters: Vec<f32>, dims: &[usize]) -> Vec<f32> {
    if let [count, channels, height, width] = *dims {
        let window = height * width;
        for (i, filter) in filters.chunks_exact_mut(channels * window).take(count.min(channels)).enumerate() {
            filter.fill(0.0);
            filter[i * window + height / 2 * width + width / 2] = 1.0;
        }
    }
    filters
}

/// `n` values in ±limit.
fn uniform(random: &mut Random, n: usize, limit: f64) -> Vec<f32> {
    (0..n).map(|_| ((2.0 * random.uniform_f64() - 1.0) * limit) as f32).collect()
}
