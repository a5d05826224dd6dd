//! Where Winograd's form is taken: where the estimate of its time is the shorter one.
//!
//! The costs are fitted to the times of both forms of many convolutions by `benches/fit`. One table serves all machines,
//! because another choice is another rounding.

use super::winograd;
use crate::geometry::ConvShape;
use crate::simd::LANES;

/// One of the three products of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// y from x and w.
    Forward,
    /// dx from dy and w.
    DataGradient,
    /// dw from x and dy.
    WeightGradient,
}

/// Pictures for which the choice is made: a plan serves any number, and a picture's bits must not depend on it. Forward counts for
/// one picture as much, of which inference has no more; few tiles use the transformed weights less often.
pub const PICTURES: [usize; 2] = [1, 16];

/// What a form's parts cost, in multiply-adds of a vector by the direct form.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// Of a vector's multiply-add at a point.
    product: f64,
    /// Of transforming a tile of 16 source channels.
    source: f64,
    /// Of transforming a tile of 16 target channels.
    target: f64,
    /// Of transforming 16 kernels.
    weights: f64,
}

// fit: begin
/// Forward and data gradient, for kernels of 3 and of 5.
const PRODUCT: [Costs; 2] = [
    Costs { product: 1.53, source: 0.0, target: 368.3, weights: 205.0 },
    Costs { product: 1.38, source: 31.3, target: 392.0, weights: 294.6 },
];
/// Weight gradient.
const WEIGHTS: [Costs; 2] = [
    Costs { product: 1.55, source: 0.0, target: 466.8, weights: 0.0 },
    Costs { product: 1.15, source: 611.0, target: 442.2, weights: 548.3 },
];
// fit: end

/// What both forms of a pass do for `n` pictures, in vectors of 16: multiply-adds of the direct form; multiply-adds at the points,
/// transformed source tiles, target tiles and kernels of Winograd's.
pub fn work(shape: &ConvShape, pass: Pass, n: usize) -> [f64; 5] {
    let kernel = shape.window.kernel[0];
    let (source, target, size) = match pass {
        Pass::DataGradient => (shape.filters, shape.channels, shape.input),
        _ => (shape.channels, shape.filters, shape.output()),
    };
    let tiling = winograd::Tiling::new(size, kernel, shape.window.dilation);
    let vectors = |channels: usize| (channels.div_ceil(LANES)) as f64;
    let tiles = (n * tiling.tiles()) as f64;
    // A vector's kernels are those of 16 target channels and one source channel.
    let kernels = (source / shape.groups) as f64 * vectors(target);
    let times = match pass {
        Pass::WeightGradient => winograd::WeightGradient::times(shape, n),
        _ => winograd::Product::times([source, target].map(|channels| channels / shape.groups), tiles as usize),
    };
    let [sources, targets, weights] = times.map(|times| times as f64);
    let direct = n as f64 * shape.macs() as f64 / LANES as f64;
    [
        direct,
        tiles * winograd::POINTS as f64 * kernels,
        sources * tiles * vectors(source),
        targets * tiles * vectors(target),
        weights * kernels,
    ]
}

/// Whether Winograd's form, which is possible, is also the faster one.
pub(super) fn pays(shape: &ConvShape, pass: Pass) -> bool {
    let costs = if pass == Pass::WeightGradient { WEIGHTS } else { PRODUCT };
    let costs = costs[usize::from(shape.window.kernel[0] == 5)];
    let estimate = |n: usize| {
        let [direct, product, source, target, weights] = work(shape, pass, n);
        let parts =
            [(costs.product, product), (costs.source, source), (costs.target, target), (costs.weights, weights)];
        parts.iter().map(|(cost, count)| cost * count).sum::<f64>() / direct
    };
    let [one, many] = PICTURES;
    (if pass == Pass::Forward { estimate(one) } else { 1.0 }) * estimate(many) < 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::conv::{DataGradient, Forward, WeightGradient};
    use crate::geometry::Window;

    #[test]
    fn winograd_is_taken_where_tiles_fit_and_channels_are_many() {
        let direct = ["indirect", "indirect", "tiles"];
        for (side, channels, filters, kernel, dilation, expected) in [
            (56, 64, 64, 3, 1, ["winograd"; 3]),
            (14, 256, 256, 3, 1, ["winograd"; 3]),
            (7, 512, 512, 3, 1, ["winograd"; 3]),
            (27, 96, 256, 5, 1, ["winograd"; 3]),
            // Of four tiles of 16 outputs 25 of 64 are used.
            (5, 32, 32, 3, 1, direct),
            (5, 96, 64, 3, 1, direct),
            (28, 64, 64, 3, 2, ["winograd"; 3]),
            // 36 tiles of one or two outputs in a direction.
            (8, 64, 64, 3, 6, direct),
        ] {
            let padding = [(dilation * (kernel / 2)) as isize; 4];
            let window = Window { padding, dilation: [dilation; 2], ..Window::new([kernel; 2]) };
            let shape = ConvShape { input: [side; 2], channels, filters, groups: 1, window };
            let isa = Isa::Portable;
            let chosen = [
                Forward::new(&shape, isa, false).kernel(),
                DataGradient::new(&shape, isa, false).kernel(),
                WeightGradient::new(&shape, isa, false).kernel(),
            ];
            assert_eq!(
                chosen, expected,
                "{kernel}x{kernel}, dilation {dilation}, {channels} to {filters} at {side}x{side}"
            );
        }
    }

    #[test]
    fn a_data_gradient_works_as_the_forward_pass_of_the_turned_convolution() {
        let window = Window { padding: [1; 4], ..Window::new([3, 3]) };
        let shape = ConvShape { input: [12, 12], channels: 32, filters: 64, groups: 1, window };
        let turned = ConvShape { channels: 64, filters: 32, ..shape };
        assert_eq!(work(&shape, Pass::DataGradient, 16), work(&turned, Pass::Forward, 16));
        // 9 tiles a picture; 2 vectors of sources by 4 of targets.
        let [direct, product, source, target, weights] = work(&shape, Pass::Forward, 16);
        assert_eq!([direct, product], [16.0 * 144.0 * 9.0 * 128.0, 16.0 * 9.0 * 36.0 * 128.0]);
        assert_eq!([source, target, weights], [16.0 * 9.0 * 2.0, 16.0 * 9.0 * 4.0, 128.0]);
    }
}
