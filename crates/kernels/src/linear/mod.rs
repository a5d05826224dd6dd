//! Stub.
#![allow(missing_docs)]
use crate::Cpu;
use crate::conv::Activation;
pub mod reference {
    use crate::real::Real;
    pub fn forward<T: Real>(n: usize, out: usize, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
        let inputs = x.len() / n.max(1);
        let mut y = vec![T::ZERO; n * out];
        for i in 0..n {
            for o in 0..out {
                let mut s = bias.map_or(T::ZERO, |b| b[o]);
                for k in 0..inputs {
                    s += x[i * inputs + k] * w[o * inputs + k];
                }
                y[i * out + o] = s;
            }
        }
        y
    }
    pub fn data_gradient<T: Real>(n: usize, inputs: usize, dy: &[T], w: &[T]) -> Vec<T> {
        let out = dy.len() / n.max(1);
        let mut dx = vec![T::ZERO; n * inputs];
        for i in 0..n {
            for o in 0..out {
                for k in 0..inputs {
                    dx[i * inputs + k] += dy[i * out + o] * w[o * inputs + k];
                }
            }
        }
        dx
    }
    pub fn weight_gradient<T: Real>(n: usize, x: &[T], dy: &[T]) -> Vec<T> {
        let (inputs, out) = (x.len() / n.max(1), dy.len() / n.max(1));
        let mut dw = vec![T::ZERO; inputs * out];
        for i in 0..n {
            for o in 0..out {
                for k in 0..inputs {
                    dw[o * inputs + k] += dy[i * out + o] * x[i * inputs + k];
                }
            }
        }
        dw
    }
    pub fn bias_gradient<T: Real>(n: usize, dy: &[T]) -> Vec<T> {
        let out = dy.len() / n.max(1);
        let mut db = vec![T::ZERO; out];
        for i in 0..n {
            for o in 0..out {
                db[o] += dy[i * out + o];
            }
        }
        db
    }
}
pub struct LinearShape {
    pub inputs: usize,
    pub outputs: usize,
}
pub fn forward(
    _cpu: &Cpu,
    s: &LinearShape,
    n: usize,
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    a: Activation,
    y: &mut [f32],
) {
    let r = reference::forward(n, s.outputs, &x[..n * s.inputs], &w[..s.inputs * s.outputs], b);
    for (y, r) in y.iter_mut().zip(r) {
        *y = if a == Activation::Relu { r.max(0.0) } else { r };
    }
}
pub fn data_gradient(_cpu: &Cpu, s: &LinearShape, n: usize, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let r = reference::data_gradient(n, s.inputs, &dy[..n * s.outputs], &w[..s.inputs * s.outputs]);
    dx[..r.len()].copy_from_slice(&r);
}
pub fn weight_gradient(
    _cpu: &Cpu,
    s: &LinearShape,
    n: usize,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let r = reference::weight_gradient(n, &x[..n * s.inputs], &dy[..n * s.outputs]);
    dw[..r.len()].copy_from_slice(&r);
    if let Some(db) = db {
        let r = reference::bias_gradient(n, &dy[..n * s.outputs]);
        db[..r.len()].copy_from_slice(&r);
    }
}
