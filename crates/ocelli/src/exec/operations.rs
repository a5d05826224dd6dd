//! What each operation that changes nothing computes, by the naive references: the plain interpreter's one list of them.

use super::plain::cost;
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, LossKind, Node, Op, Pool, Type, conv_shape, is_channel_factor};
use crate::plan::Feed;
use ocelli_kernels::early::{self, Positions};
use ocelli_kernels::elementwise::Extent;
use ocelli_kernels::layout::{self, PadShape};
use ocelli_kernels::loss::Cost;
use ocelli_kernels::pooling::AdaptiveShape;
use ocelli_kernels::real::Real;
use ocelli_kernels::{conv, dropout, elementwise, linear, loss, lrn, norm, pooling, softmax};

pub(super) enum Made<T> {
    Numbers(Vec<T>),
    Positions(Vec<u32>),
}

/// The results of an operation that changes nothing.
pub(super) fn compute<T: Real>(
    graph: &Graph,
    node: &Node,
    n: usize,
    feed: &Feed,
    x: &[&[T]],
    positions: &[u32],
) -> Result<Vec<Made<T>>> {
    let of = |values: &[f32]| values.iter().map(|&v| T::from_f64(v.into())).collect::<Vec<T>>();
    let input_ty = |i: usize| graph.ty(node.inputs[i]);
    let output_ty = |i: usize| graph.ty(node.outputs[i]);
    let zeros = |i: usize| vec![T::ZERO; output_ty(i).elements(n)];
    let extent = |ty: &Type| match ty.as_maps() {
        Ok((channels, [h, w])) => Extent { samples: n, pixels: h * w, channels },
        Err(_) => Extent { samples: n, pixels: 1, channels: ty.per_picture() },
    };
    let zip = |f: &dyn Fn(T, T) -> T| x[0].iter().zip(x[1]).map(|(&a, &b)| f(a, b)).collect::<Vec<T>>();
    // Channels first, a group of channels is as good as a picture of its own.
    let grouped = |ty: &Type, groups: usize| {
        let Extent { samples, pixels, channels } = extent(ty);
        Extent { samples: samples * groups, pixels, channels: channels / groups }
    };
    let positions_of = |ty: &Type| {
        let Extent { pixels, channels, .. } = extent(ty);
        Positions { pixels, channels, channels_last: false }
    };
    let adaptive = |wide: &Type, pooled: &Type| -> Result<AdaptiveShape> {
        let ((channels, input), (_, output)) = (wide.as_maps()?, pooled.as_maps()?);
        Ok(AdaptiveShape { input, output, channels })
    };
    let pool_shape = |pool: &Pool, wide: &Type| wide.as_maps().map(|(channels, size)| pool.shape(channels, size));
    let one = |numbers: Vec<T>| Ok(vec![Made::Numbers(numbers)]);
    let many = |lists: Vec<Vec<T>>| Ok(lists.into_iter().map(Made::Numbers).collect());
    match &node.op {
        Op::Pictures(_) => one(of(feed.images)),
        Op::OutputGradient(_) => one(of(feed.output_gradient)),
        Op::Conv { window, groups, activation } => {
            let shape = conv_shape(input_ty(0), input_ty(1), window, *groups)?;
            let y = conv::reference::forward(&shape, n, x[0], x[1], x.get(2).copied());
            one(activated(*activation, y))
        }
        Op::ConvData { window, groups, .. } => {
            let shape = conv_shape(output_ty(0), input_ty(1), window, *groups)?;
            one(conv::reference::data_gradient(&shape, n, x[0], x[1]))
        }
        Op::ConvWeight { window, groups, bias } => {
            let shape = conv_shape(input_ty(0), output_ty(0), window, *groups)?;
            let mut made = vec![conv::reference::weight_gradient(&shape, n, x[0], x[1])];
            made.extend(bias.then(|| conv::reference::bias_gradient(&shape, x[1])));
            many(made)
        }
        Op::ConvNorm(_) | Op::Chain(_) | Op::LinearUpdate { .. } => {
            Err(Error::new("is made by the CPU backend's fusion only"))
        }
        Op::Linear { activation } => {
            let y = linear::reference::forward(n, input_ty(1).sizes(1)[0], x[0], x[1], x.get(2).copied());
            one(activated(*activation, y))
        }
        Op::LinearData => one(linear::reference::data_gradient(n, input_ty(1).sizes(1)[1], x[0], x[1])),
        Op::LinearWeight { bias } => {
            let mut made = vec![linear::reference::weight_gradient(n, x[0], x[1])];
            made.extend(bias.then(|| linear::reference::bias_gradient(n, x[1])));
            many(made)
        }
        // channels first already
        Op::Flatten | Op::Unflatten(_) => one(x[0].to_vec()),
        &Op::Pad { amount, mode: border } => {
            let (channels, input) = input_ty(0).as_maps()?;
            one(layout::pad_reference(&PadShape { input, amount, border }, n * channels, x[0]))
        }
        &Op::PadBackward { amount, mode: border } => {
            let (channels, input) = output_ty(0).as_maps()?;
            one(layout::pad_backward_reference(&PadShape { input, amount, border }, n * channels, x[0]))
        }
        Op::MaxPool(pool) => {
            let (mut y, mut positions) = (zeros(0), vec![0; output_ty(0).elements(n)]);
            pooling::max_pool_reference(&pool_shape(pool, input_ty(0))?, n, x[0], &mut y, &mut positions);
            Ok(vec![Made::Numbers(y), Made::Positions(positions)])
        }
        Op::MaxPoolBackward { pool, .. } => {
            let mut dx = zeros(0);
            pooling::max_pool_backward_reference(&pool_shape(pool, output_ty(0))?, n, x[0], positions, &mut dx);
            one(dx)
        }
        Op::AvgPool(pool) => {
            let mut y = zeros(0);
            let shape = pool_shape(pool, input_ty(0))?;
            pooling::average_pool_reference(&shape, pool.count_include_pad, n, x[0], &mut y);
            one(y)
        }
        Op::AvgPoolBackward { pool, .. } => {
            let mut dx = zeros(0);
            let shape = pool_shape(pool, output_ty(0))?;
            pooling::average_pool_backward_reference(&shape, pool.count_include_pad, n, x[0], &mut dx);
            one(dx)
        }
        Op::AdaptiveAvgPool(_) => {
            let mut y = zeros(0);
            pooling::adaptive_average_pool_reference(&adaptive(input_ty(0), output_ty(0))?, n, x[0], &mut y);
            one(y)
        }
        Op::AdaptiveAvgPoolBackward { .. } => {
            let mut dx = zeros(0);
            pooling::adaptive_average_pool_backward_reference(&adaptive(output_ty(0), input_ty(0))?, n, x[0], &mut dx);
            one(dx)
        }
        Op::Activate(activation) => one(activated(Some(*activation), x[0].to_vec())),
        Op::ActivateBackward(activation) => one(zip(&|dy, saved| activation.reference_backward(saved, dy))),
        Op::BatchNorm { eps, .. } => {
            let extent = extent(input_ty(0));
            let mut y = zeros(0);
            let (mean, variance) = norm::batch_norm_reference(extent, x[0], [x[1], x[2]], *eps, &mut y);
            let count = (extent.samples * extent.pixels) as f64;
            let unbiased = T::from_f64(count / (count - 1.0).max(1.0));
            let inverse = variance.iter().map(|&v| T::ONE / (v + T::from_f64(*eps)).sqrt()).collect();
            many(vec![y, mean, variance.iter().map(|&v| v * unbiased).collect(), inverse])
        }
        Op::BatchNormBackward { .. } => {
            let (mut dx, mut dscale, mut dshift) = (zeros(0), zeros(1), zeros(2));
            // 1/√(variance + eps) is what was kept: as a variance with eps 0.
            let variance: Vec<T> = x[4].iter().map(|&inverse| T::ONE / (inverse * inverse)).collect();
            norm::batch_norm_backward_reference(
                extent(input_ty(1)),
                [x[1], x[0]],
                x[2],
                [x[3], &variance],
                0.0,
                [&mut dx, &mut dscale, &mut dshift],
            );
            many(vec![dx, dscale, dshift])
        }
        Op::BatchNormInfer { eps } => {
            let extent = extent(input_ty(0));
            let channel = |i: usize| i / extent.pixels % extent.channels;
            let factor = |c: usize| x[1][c] / (x[4][c] + T::from_f64(*eps)).sqrt();
            one(x[0]
                .iter()
                .enumerate()
                .map(|(i, &v)| (v - x[3][channel(i)]) * factor(channel(i)) + x[2][channel(i)])
                .collect())
        }
        Op::BatchNormInferBackward { eps } => {
            let (mut dx, mut dscale, mut dshift) = (zeros(0), zeros(1), zeros(2));
            let extent = extent(input_ty(1));
            for (i, (&dy, &v)) in x[0].iter().zip(x[1]).enumerate() {
                let c = i / extent.pixels % extent.channels;
                let inverse = T::ONE / (x[4][c] + T::from_f64(*eps)).sqrt();
                dx[i] = dy * x[2][c] * inverse;
                dscale[c] += dy * (v - x[3][c]) * inverse;
                dshift[c] += dy;
            }
            many(vec![dx, dscale, dshift])
        }
        Op::Spread(spread) => {
            let mut full = zeros(0);
            early::spread(&spread.table, x[0], &mut full);
            one(full)
        }
        Op::Gather(spread) => {
            let mut dweights = zeros(0);
            early::gather(&spread.table, x[0], &mut dweights);
            one(dweights)
        }
        Op::AddBias => {
            let mut y = zeros(0);
            early::add_bias(positions_of(input_ty(0)), x[0], x[1], &mut y);
            one(y)
        }
        Op::AddBiasGradient => {
            let mut dbias = zeros(0);
            early::add_bias_gradient(positions_of(input_ty(0)), x[0], &mut dbias);
            one(dbias)
        }
        &Op::Scale(factor) => one(x[0].iter().map(|&x| x * T::from_f64(factor.into())).collect()),
        Op::Radial => {
            let mut y = zeros(0);
            early::radial(input_ty(0).per_picture(), x[0], x[1], &mut y);
            one(y)
        }
        Op::RadialData => {
            let mut dx = zeros(0);
            early::radial_data(input_ty(1).per_picture(), x[0], x[1], x[2], &mut dx);
            one(dx)
        }
        Op::RadialWeight => {
            let mut dw = zeros(0);
            early::radial_weight(input_ty(1).per_picture(), x[0], x[1], x[2], &mut dw);
            one(dw)
        }
        Op::Lrn { lrn: attributes, groups } => {
            let mut y = zeros(0);
            lrn::lrn_reference(attributes, grouped(input_ty(0), *groups), x[0], &mut y);
            one(y)
        }
        Op::LrnBackward { lrn: attributes, groups } => {
            let mut dx = zeros(0);
            lrn::lrn_backward_reference(attributes, grouped(input_ty(0), *groups), x[1], x[0], &mut dx);
            one(dx)
        }
        Op::Add => one(zip(&|a, b| a + b)),
        Op::Multiply if is_channel_factor(input_ty(0), input_ty(1)) => {
            let pixels = extent(input_ty(0)).pixels;
            one(x[0].iter().enumerate().map(|(i, &a)| a * x[1][i / pixels]).collect())
        }
        Op::Multiply => one(zip(&|a, b| a * b)),
        Op::MultiplyReduce => {
            let mut sums = zeros(0);
            elementwise::channel_sums_reference(extent(input_ty(0)), x[0], Some(x[1]), &mut sums);
            one(sums)
        }
        Op::Concat => {
            let mut y = Vec::new();
            for i in 0..n {
                for (&x, &value) in x.iter().zip(&node.inputs) {
                    let each = graph.ty(value).per_picture();
                    y.extend_from_slice(&x[i * each..(i + 1) * each]);
                }
            }
            one(y)
        }
        Op::Slice { start, .. } => {
            let (whole, part) = (extent(input_ty(0)), extent(output_ty(0)));
            let picture = whole.channels * whole.pixels;
            let from = |i: usize| i * picture + start * whole.pixels;
            one((0..n).flat_map(|i| x[0][from(i)..from(i) + part.channels * part.pixels].to_vec()).collect())
        }
        Op::SquareSum => {
            let before = x.get(1).map_or(T::ZERO, |total| total[0]);
            one(vec![before + x[0].iter().map(|&g| g * g).sum()])
        }
        Op::RunningStatistics { .. } | Op::Update { .. } | Op::JoinParts { .. } => {
            Err(Error::new("changes stored values"))
        }
        Op::Softmax => {
            let mut y = zeros(0);
            rows(extent(input_ty(0)), &[x[0]], &mut y, |x, y| softmax::softmax_reference(x[0].len(), x[0], y));
            one(y)
        }
        Op::SoftmaxBackward => {
            let mut dx = zeros(0);
            let inputs = [x[1], x[0]];
            rows(extent(input_ty(0)), &inputs, &mut dx, |x, dx| {
                softmax::softmax_backward_reference(x[0].len(), x[0], x[1], dx)
            });
            one(dx)
        }
        &Op::Dropout { rate, key } | &Op::DropoutBackward { rate, key } => {
            let extent = extent(input_ty(0));
            let which = dropout::Dropout { rate, seed: feed.seed, layer: key, step: feed.step };
            let mut y = zeros(0);
            dropout::dropout_reference(&which, feed.first as u64, [extent.channels, extent.pixels], x[0], &mut y);
            one(y)
        }
        Op::Loss { kind: LossKind::CrossEntropy { smoothing, class_weights }, weight } => {
            let classes = input_ty(0).per_picture();
            let class_weights = class_weights.as_deref();
            let cost = loss::CrossEntropy {
                classes,
                smoothing: *smoothing,
                class_weights,
                factor: *weight,
                mixed: feed.mixed,
                first: feed.first,
            };
            let mut gradient = zeros(2);
            let total = loss::cross_entropy_reference(&cost, x[0], feed.labels, &mut gradient);
            let first_largest = |row: &[T]| (1..classes).fold(0, |best, c| if row[c] > row[best] { c } else { best });
            let rows = x[0].chunks(classes).zip(&feed.labels[feed.first..]);
            let correct = rows.filter(|(row, label)| first_largest(row) == **label as usize).count();
            many(vec![vec![total], vec![T::from_f64(correct as f64)], gradient])
        }
        Op::Loss { kind, weight } => {
            let (cost, width) = (cost(kind), input_ty(0).per_picture());
            let each = loss::EachOutput { cost, width, factor: *weight, first: feed.first };
            let mut gradient = zeros(2);
            let total = loss::each_output_reference(&each, [x[0], &of(feed.targets)], &mut gradient);
            let is_right = |(x, target): (&T, &f32)| (*x >= T::ZERO) == (*target >= 0.5);
            let rows = x[0].chunks(width).zip(feed.targets[feed.first * width..].chunks(width));
            let right = rows.filter(|(x, targets)| cost == Cost::Logistic && x.iter().zip(*targets).all(is_right));
            many(vec![vec![total], vec![T::from_f64(right.count() as f64)], gradient])
        }
    }
}

fn activated<T: Real>(activation: Option<Activation>, mut y: Vec<T>) -> Vec<T> {
    if let Some(activation) = activation {
        y.iter_mut().for_each(|y| *y = activation.reference(*y));
    }
    y
}

/// Calls `f` with the channels of each pixel of some operands, gathered side by side.
fn rows<T: Real>(extent: Extent, inputs: &[&[T]], y: &mut [T], f: impl Fn(&[&[T]], &mut [T])) {
    let Extent { samples, pixels, channels } = extent;
    for (i, p) in (0..samples).flat_map(|i| (0..pixels).map(move |p| (i, p))) {
        let at = |c: usize| (i * channels + c) * pixels + p;
        let gathered: Vec<Vec<T>> = inputs.iter().map(|x| (0..channels).map(|c| x[at(c)]).collect()).collect();
        let slices: Vec<&[T]> = gathered.iter().map(Vec::as_slice).collect();
        let mut row = vec![T::ZERO; channels];
        f(&slices, &mut row);
        (0..channels).for_each(|c| y[at(c)] = row[c]);
    }
}
