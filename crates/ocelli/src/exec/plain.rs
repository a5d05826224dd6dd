//! The plain interpreter: one operation after the other with the naive references, generic over `f32` and `f64`.
//!
//! Slow and simple, it runs any graph and is what every other backend is compared with. In `f64` it is the truth of
//! gradient checks.

use super::{Backend, Device, Memory, Optimizer, Part, Session, Timing};
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, LossKind, Node, Op, Pool, Type, ValueId, conv_shape, is_channel_factor};
use crate::plan::Feed;
use ocelli_kernels::early::{self, Positions};
use ocelli_kernels::elementwise::Extent;
use ocelli_kernels::layout::{self, PadShape};
use ocelli_kernels::loss::Cost;
use ocelli_kernels::pooling::AdaptiveShape;
use ocelli_kernels::real::Real;
use ocelli_kernels::update::{Rule, Step, update_reference};
use ocelli_kernels::{conv, dropout, elementwise, linear, loss, lrn, norm, pooling, softmax};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// The plain interpreter as a backend, in `f32`.
pub struct Plain;

impl Backend for Plain {
    fn open(&self, _device: &Device) -> Result<Box<dyn Session>> {
        Ok(Box::new(PlainSession { stored: BTreeMap::new(), plans: Vec::new() }))
    }
}

struct PlainSession {
    stored: BTreeMap<String, Vec<f32>>,
    plans: Vec<Interpreter<f32>>,
}

impl Session for PlainSession {
    fn add(&mut self, graph: &Arc<Graph>, _batch: usize, _keep_all: bool) -> Result<usize> {
        for &value in &graph.stored {
            if let Some(name) = &graph.values[value.index()].name {
                self.stored.entry(name.clone()).or_insert_with(|| vec![0.0; graph.ty(value).elements(0)]);
            }
        }
        self.plans.push(Interpreter::new(graph.clone()));
        Ok(self.plans.len() - 1)
    }

    fn reserve(&mut self, _plan: usize) -> Result<()> {
        Ok(()) // Values are made one by one as it runs.
    }

    fn run(&mut self, plan: usize, part: Part, n: usize, feed: &Feed) -> Result<()> {
        let interpreter = &mut self.plans[plan];
        let (forward, all) = (interpreter.graph.forward_nodes, interpreter.graph.nodes.len());
        let nodes = match part {
            Part::Constants => 0..0,
            Part::Forward => 0..forward,
            Part::Backward => forward..all,
        };
        interpreter.run(nodes, n, feed, &mut self.stored)
    }

    fn fetch_into(&mut self, plan: usize, value: ValueId, _n: usize, out: &mut Vec<f32>) -> Option<()> {
        self.plans[plan].value(value, &self.stored).map(|values| out.extend_from_slice(values))
    }

    fn number(&mut self, plan: usize, value: ValueId) -> f32 {
        self.plans[plan].value(value, &self.stored).and_then(|v| v.first().copied()).unwrap_or(f32::NAN)
    }

    fn write(&mut self, name: &str, start: usize, values: &[f32]) -> Result<()> {
        if let Some(part) = self.stored.get_mut(name).and_then(|stored| stored.get_mut(start..start + values.len())) {
            part.copy_from_slice(values);
        }
        Ok(())
    }

    fn read(&mut self, name: &str) -> Option<Vec<f32>> {
        self.stored.get(name).cloned()
    }

    fn memory(&self) -> Memory {
        let floats = |lists: &mut dyn Iterator<Item = &Vec<f32>>| lists.map(|v| v.len() * 4).sum();
        Memory {
            stored: floats(&mut self.stored.values()),
            scratch: floats(&mut self.plans.iter().flat_map(|p| p.values.iter().flatten())),
        }
    }

    fn profile(&mut self, plan: usize, part: Part, n: usize, feed: &Feed) -> Result<Vec<Timing>> {
        let start = Instant::now();
        self.run(plan, part, n, feed)?;
        Ok(vec![Timing { layer: None, step: "interpreter", kernel: None, ms: start.elapsed().as_secs_f64() * 1e3 }])
    }
}

/// Runs a graph with numbers of type `T`. Values are laid out as the graph writes them.
pub struct Interpreter<T> {
    graph: Arc<Graph>,
    values: Vec<Option<Vec<T>>>,
    positions: Vec<Vec<u32>>,
}

impl<T: Real> Interpreter<T> {
    /// An interpreter of a graph.
    pub fn new(graph: Arc<Graph>) -> Interpreter<T> {
        let (values, positions) = (vec![None; graph.values.len()], vec![Vec::new(); graph.values.len()]);
        Interpreter { graph, values, positions }
    }

    /// A value after a run: a result, or one of the stored ones.
    pub fn value<'a>(&'a self, value: ValueId, stored: &'a BTreeMap<String, Vec<T>>) -> Option<&'a [T]> {
        if self.graph.stored.contains(&value) {
            return stored.get(self.graph.values[value.index()].name.as_ref()?).map(Vec::as_slice);
        }
        self.values[value.index()].as_deref()
    }

    /// Runs some of the nodes with `n` pictures; `stored` holds parameters and state and is changed by updates.
    ///
    /// # Errors
    /// A value is missing or the feed does not fit.
    pub fn run(
        &mut self,
        nodes: Range<usize>,
        n: usize,
        feed: &Feed,
        stored: &mut BTreeMap<String, Vec<T>>,
    ) -> Result<()> {
        let graph = self.graph.clone();
        for node in &graph.nodes[nodes] {
            if node.op.last_part() && feed.rest > 0 {
                continue;
            }
            self.node(&graph, node, n, feed, stored).map_err(|e| e.at(node.op.name()))?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        graph: &Graph,
        node: &Node,
        n: usize,
        feed: &Feed,
        stored: &mut BTreeMap<String, Vec<T>>,
    ) -> Result<()> {
        if matches!(node.op, Op::Update { .. } | Op::RunningStatistics { .. }) {
            return self.change(graph, node, feed, stored);
        }
        if let Op::JoinParts { .. } = node.op {
            return self.join_parts(graph, node, feed, stored);
        }
        let inputs = node
            .inputs
            .iter()
            .map(|&v| self.value(v, stored).ok_or_else(|| Error::new(format!("value {} is missing", v.index()))))
            .collect::<Result<Vec<&[T]>>>()?;
        let positions = match node.op {
            Op::MaxPoolBackward { .. } => self.positions[node.inputs[1].index()].clone(),
            _ => Vec::new(),
        };
        let made = compute(graph, node, n, feed, &inputs, &positions)?;
        for (&value, made) in node.outputs.iter().zip(made) {
            match made {
                Made::Numbers(numbers) => self.values[value.index()] = Some(numbers),
                Made::Positions(positions) => {
                    // A value exists, though its numbers are kept as integers.
                    self.values[value.index()] = Some(Vec::new());
                    self.positions[value.index()] = positions;
                }
            }
        }
        Ok(())
    }

    /// Adds a part's gradient to those before it, which wait together.
    fn join_parts(
        &mut self,
        graph: &Graph,
        node: &Node,
        feed: &Feed,
        stored: &mut BTreeMap<String, Vec<T>>,
    ) -> Result<()> {
        let mut sum = self.value(node.inputs[0], stored).map(<[T]>::to_vec).unwrap_or_default();
        let name = graph.values[node.inputs[1].index()].name.clone().unwrap_or_default();
        let waiting = stored.get_mut(&name).ok_or_else(|| Error::new(format!("{name} is missing")))?;
        if feed.first > 0 {
            sum.iter_mut().zip(&*waiting).for_each(|(sum, &before)| *sum += before);
        }
        waiting[..sum.len()].copy_from_slice(&sum);
        self.values[node.outputs[0].index()] = Some(sum);
        Ok(())
    }

    /// Operations that change stored values.
    fn change(&mut self, graph: &Graph, node: &Node, feed: &Feed, stored: &mut BTreeMap<String, Vec<T>>) -> Result<()> {
        let name = |value: ValueId| graph.values[value.index()].name.clone().unwrap_or_default();
        let take = |stored: &mut BTreeMap<String, Vec<T>>, i: usize| {
            node.inputs.get(i).and_then(|&v| stored.remove(&name(v))).unwrap_or_default()
        };
        let read = |i: usize, stored: &BTreeMap<String, Vec<T>>| {
            self.value(node.inputs[i], stored).map(<[T]>::to_vec).unwrap_or_default()
        };
        let changed: Vec<(usize, Vec<T>)> = match &node.op {
            Op::RunningStatistics { momentum } => (0..2)
                .map(|i| {
                    let (batch, mut running) = (read(i, stored), take(stored, i + 2));
                    let share = T::from_f64(*momentum);
                    running.iter_mut().zip(batch).for_each(|(r, b)| *r = (T::ONE - share) * *r + share * b);
                    (i + 2, running)
                })
                .collect(),
            Op::Update { optimizer, rate, decay, clip, since } => {
                let gradient = read(1, stored);
                let first = 2 + usize::from(clip.is_some());
                let square_sum = if clip.is_some() { read(2, stored) } else { vec![] };
                let square_sum = square_sum.first().map_or(0.0, |x| x.to_f64() as f32);
                let step = update_step(feed, *rate, *decay, *clip, square_sum, *since);
                let (mut w, mut a, mut b) = (take(stored, 0), take(stored, first), take(stored, first + 1));
                update_reference(rule(*optimizer), step, &mut w, &gradient, &mut a, &mut b);
                vec![(0, w), (first, a), (first + 1, b)]
            }
            _ => vec![],
        };
        for (i, values) in changed {
            if let Some(&value) = node.inputs.get(i) {
                stored.insert(name(value), values);
            }
        }
        Ok(())
    }
}

enum Made<T> {
    Numbers(Vec<T>),
    Positions(Vec<u32>),
}

/// The kernels' rule of an optimiser.
pub(super) fn rule(optimizer: Optimizer) -> Rule {
    match optimizer {
        Optimizer::Sgd { momentum, nesterov } => Rule::Sgd { momentum, nesterov },
        Optimizer::Adam { beta1, beta2, eps } => Rule::Adam { beta1, beta2, eps, decoupled: false },
        Optimizer::AdamW { beta1, beta2, eps } => Rule::Adam { beta1, beta2, eps, decoupled: true },
        Optimizer::Adadelta { rho, eps } => Rule::Adadelta { rho, eps },
    }
}

/// What an output costs by a loss of each output by itself.
pub(super) fn cost(kind: &LossKind) -> Cost {
    if *kind == LossKind::BinaryCrossEntropy { Cost::Logistic } else { Cost::Squared }
}

/// The numbers of one update; `square_sum` is read where there is clipping, `since` are the steps before the first one.
pub(super) fn update_step(feed: &Feed, rate: f32, decay: f32, clip: Option<f32>, square_sum: f32, since: u64) -> Step {
    let scale = match clip {
        // As PyTorch's clip_grad_norm_.
        Some(most) => (most / (square_sum.sqrt() + 1e-6)).min(1.0),
        None => 1.0,
    };
    Step { lr: feed.lr * rate, decay, scale, count: feed.step.saturating_sub(since) }
}

/// The results of an operation that changes nothing.
fn compute<T: Real>(
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
        Op::ConvNorm { .. } | Op::LinearUpdate { .. } => Err(Error::new("is made by the CPU backend's fusion only")),
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

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
