//! The definitions, on `[n, channels, height, width]`.

use super::{AdaptiveShape, extents};
use crate::geometry::PoolShape;
use crate::real::Real;

/// For each output element of each plane: the output element's index, then its window's elements as pairs of window
/// position and input index.
fn windows(shape: &PoolShape, n: usize, mut body: impl FnMut(usize, &mut dyn Iterator<Item = (usize, usize)>)) {
    let ([h, w], [oh, ow], window) = (shape.input, shape.output(), shape.window);
    for plane in 0..n * shape.channels {
        for oy in 0..oh {
            for ox in 0..ow {
                let ((ky, y0), (kx, x0)) = (window.taps(0, oy, h), window.taps(1, ox, w));
                let mut taps = ky.clone().flat_map(|r| {
                    let (ky, kx) = (&ky, kx.clone());
                    kx.clone().map(move |c| {
                        let (y, x) = (y0 + r - ky.start, x0 + c - kx.start);
                        (r * window.kernel[1] + c, (plane * h + y) * w + x)
                    })
                });
                body((plane * oh + oy) * ow + ox, &mut taps);
            }
        }
    }
}

/// The maximum of each window and its position in the window: the first of equal ones, a NaN before all numbers.
pub fn max_pool_reference<T: Real>(shape: &PoolShape, n: usize, x: &[T], y: &mut [T], positions: &mut [u32]) {
    assert_eq!(x.len(), extents(shape, n).0.elements());
    windows(shape, n, |o, taps| {
        let (mut best, mut at) = (T::NEG_INFINITY, None);
        for (position, i) in taps {
            at = at.or(Some(position));
            if x[i] > best || x[i].is_nan() {
                (best, at) = (x[i], Some(position));
            }
        }
        (y[o], positions[o]) = (best, at.unwrap_or(0) as u32);
    });
}

/// The gradient of [`max_pool_reference`]: dy goes to the window's maximum.
pub fn max_pool_backward_reference<T: Real>(shape: &PoolShape, n: usize, dy: &[T], positions: &[u32], dx: &mut [T]) {
    dx.fill(T::ZERO);
    windows(shape, n, |o, taps| {
        for (position, i) in taps {
            if position as u32 == positions[o] {
                dx[i] += dy[o];
            }
        }
    });
}

/// What the sum of the window at output element `o` is divided by: its elements inside the padded picture, or inside
/// the picture where padding is not counted.
fn divisor(shape: &PoolShape, count_padding: bool, o: usize) -> usize {
    let [oh, ow] = shape.output();
    super::average::span(shape, count_padding, 0, o / ow % oh) * super::average::span(shape, count_padding, 1, o % ow)
}

/// The mean of each window, 0 where a window has no element to count.
pub fn average_pool_reference<T: Real>(shape: &PoolShape, count_padding: bool, n: usize, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), extents(shape, n).0.elements());
    windows(shape, n, |o, taps| {
        let sum: T = taps.map(|(_, i)| x[i]).sum();
        y[o] = sum / T::from_f64(divisor(shape, count_padding, o).max(1) as f64);
    });
}

/// The gradient of [`average_pool_reference`]: dy is spread evenly over the window.
pub fn average_pool_backward_reference<T: Real>(
    shape: &PoolShape,
    count_padding: bool,
    n: usize,
    dy: &[T],
    dx: &mut [T],
) {
    dx.fill(T::ZERO);
    windows(shape, n, |o, taps| {
        let share = dy[o] / T::from_f64(divisor(shape, count_padding, o).max(1) as f64);
        taps.for_each(|(_, i)| dx[i] += share);
    });
}

/// For each output element of each plane: its index, and the input indices of its part.
fn parts(shape: &AdaptiveShape, n: usize, mut body: impl FnMut(usize, Vec<usize>)) {
    let ([h, w], [oh, ow]) = (shape.input, shape.output);
    for plane in 0..n * shape.channels {
        for oy in 0..oh {
            for ox in 0..ow {
                let pixels = shape.taps(0, oy).flat_map(|y| shape.taps(1, ox).map(move |x| (plane * h + y) * w + x));
                body((plane * oh + oy) * ow + ox, pixels.collect());
            }
        }
    }
}

/// The mean of each part of the picture.
pub fn adaptive_average_pool_reference<T: Real>(shape: &AdaptiveShape, n: usize, x: &[T], y: &mut [T]) {
    parts(shape, n, |o, pixels| {
        let sum: T = pixels.iter().map(|&i| x[i]).sum();
        y[o] = sum / T::from_f64(pixels.len() as f64);
    });
}

/// The gradient of [`adaptive_average_pool_reference`].
pub fn adaptive_average_pool_backward_reference<T: Real>(shape: &AdaptiveShape, n: usize, dy: &[T], dx: &mut [T]) {
    dx.fill(T::ZERO);
    parts(shape, n, |o, pixels| {
        let share = dy[o] / T::from_f64(pixels.len() as f64);
        pixels.iter().for_each(|&i| dx[i] += share);
    });
}
