//! The truth that the fast kernels are compared with: seven nested loops, generic over `f32` and `f64`, in PyTorch's
//! layouts. Pictures are `[batch, channels, rows, columns]`, weights `[filters, channels / groups, rows, columns]`.

use crate::geometry::ConvShape;
use crate::real::Real;

/// Calls `visit(x, w, y)` with the three indices of every product of the convolution of `n` pictures:
/// `y[y] += x[x] * w[w]`. The products of one output value come in the order channel, kernel row, kernel column.
fn products(shape: &ConvShape, n: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let [h, w] = shape.input;
    let [oh, ow] = shape.output();
    let [kh, kw] = shape.window.kernel;
    let (group_channels, group_filters) = (shape.group_channels(), shape.group_filters());
    let inside = |out: usize, tap: usize, axis: usize| {
        let window = &shape.window;
        let at = (out * window.stride[axis] + tap * window.dilation[axis]) as isize - window.padding[axis];
        (0..shape.input[axis] as isize).contains(&at).then_some(at as usize)
    };
    for i in 0..n {
        for filter in 0..shape.filters {
            let first_channel = filter / group_filters * group_channels;
            for (row, column) in (0..oh).flat_map(|row| (0..ow).map(move |column| (row, column))) {
                let y = ((i * shape.filters + filter) * oh + row) * ow + column;
                for channel in 0..group_channels {
                    let plane = (i * shape.channels + first_channel + channel) * h;
                    for r in 0..kh {
                        let Some(at_row) = inside(row, r, 0) else { continue };
                        for s in 0..kw {
                            let Some(at_column) = inside(column, s, 1) else { continue };
                            let weight = ((filter * group_channels + channel) * kh + r) * kw + s;
                            visit((plane + at_row) * w + at_column, weight, y);
                        }
                    }
                }
            }
        }
    }
}

/// y = x ∗ w + b. `x` is `[n, C, H, W]`; returns `[n, K, OH, OW]`.
pub fn forward<T: Real>(shape: &ConvShape, n: usize, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
    let [oh, ow] = shape.output();
    let mut y = vec![T::ZERO; n * shape.filters * oh * ow];
    products(shape, n, |ix, iw, iy| y[iy] += x[ix] * w[iw]);
    if let Some(bias) = bias {
        y.chunks_mut(oh * ow).enumerate().for_each(|(i, map)| map.iter_mut().for_each(|y| *y += bias[i % bias.len()]));
    }
    y
}

/// ∂L/∂x from `dy` = ∂L/∂y. Returns `[n, C, H, W]`.
pub fn data_gradient<T: Real>(shape: &ConvShape, n: usize, dy: &[T], w: &[T]) -> Vec<T> {
    let mut dx = vec![T::ZERO; n * shape.channels * shape.input[0] * shape.input[1]];
    products(shape, n, |ix, iw, iy| dx[ix] += dy[iy] * w[iw]);
    dx
}

/// ∂L/∂w from `dy` = ∂L/∂y. Returns `[K, C / groups, R, S]`.
pub fn weight_gradient<T: Real>(shape: &ConvShape, n: usize, x: &[T], dy: &[T]) -> Vec<T> {
    let mut dw = vec![T::ZERO; shape.weights()];
    products(shape, n, |ix, iw, iy| dw[iw] += x[ix] * dy[iy]);
    dw
}

/// ∂L/∂b from `dy` = ∂L/∂y: each filter's sum over pictures and pixels.
pub fn bias_gradient<T: Real>(shape: &ConvShape, dy: &[T]) -> Vec<T> {
    let [oh, ow] = shape.output();
    let mut db = vec![T::ZERO; shape.filters];
    for (i, map) in dy.chunks(oh * ow).enumerate() {
        db[i % shape.filters] += map.iter().copied().sum();
    }
    db
}
