//! The definitions, generic over `f32` and `f64`.

use crate::real::Real;

/// y = x·Wᵀ + b: `[n, outputs]`.
pub fn forward<T: Real>(n: usize, outputs: usize, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
    let inputs = w.len() / outputs;
    let dot = |i: usize, o: usize| (0..inputs).map(|k| x[i * inputs + k] * w[o * inputs + k]).sum::<T>();
    let one = |j: usize| dot(j / outputs, j % outputs) + bias.map_or(T::ZERO, |bias| bias[j % outputs]);
    (0..n * outputs).map(one).collect()
}

/// ∂L/∂x = dy·W: `[n, inputs]`.
pub fn data_gradient<T: Real>(n: usize, inputs: usize, dy: &[T], w: &[T]) -> Vec<T> {
    let outputs = w.len() / inputs;
    let one = |j: usize| (0..outputs).map(|o| dy[j / inputs * outputs + o] * w[o * inputs + j % inputs]).sum();
    (0..n * inputs).map(one).collect()
}

/// ∂L/∂W = dyᵀ·x: `[outputs, inputs]`, for `n` > 0 rows.
pub fn weight_gradient<T: Real>(n: usize, x: &[T], dy: &[T]) -> Vec<T> {
    let (inputs, outputs) = (x.len() / n, dy.len() / n);
    let one = |j: usize| (0..n).map(|i| dy[i * outputs + j / inputs] * x[i * inputs + j % inputs]).sum();
    (0..outputs * inputs).map(one).collect()
}

/// ∂L/∂b: the sum of dy over the rows, for `n` > 0 rows.
pub fn bias_gradient<T: Real>(n: usize, dy: &[T]) -> Vec<T> {
    let outputs = dy.len() / n;
    (0..outputs).map(|o| (0..n).map(|i| dy[i * outputs + o]).sum()).collect()
}
