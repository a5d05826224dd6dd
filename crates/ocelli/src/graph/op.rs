//! The primitive operations and the types of their results.

use super::conv::{ConvNorm, conv_type};
use super::{Dim, ElementType, Type};
use crate::error::{Error, Result};
use ocelli_kernels::elementwise::Activation;
use ocelli_kernels::geometry::{PoolShape, Window};
use ocelli_kernels::layout::Border;
use ocelli_kernels::lrn::Lrn;

/// A pooling window and the rules for its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// The sliding window; dilation is 1.
    pub window: Window,
    /// Whether the output size is rounded up.
    pub ceil_mode: bool,
    /// Whether padding counts in an average's divisor.
    pub count_include_pad: bool,
}

/// Weights in the places of a larger array.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// For each element of the larger array, which weight; `ocelli_kernels::early::NONE` is 0.
    pub table: std::sync::Arc<[u32]>,
    /// Sizes of the weights.
    pub from: Vec<usize>,
    /// Sizes of the larger array.
    pub to: Vec<usize>,
}

/// A loss over the batch: its mean, its gradient and the number of right answers.
#[derive(Clone, Debug, PartialEq)]
pub enum LossKind {
    /// Softmax cross-entropy against class indices.
    CrossEntropy {
        /// Label smoothing in [0, 1).
        smoothing: f32,
        /// A weight for each class.
        class_weights: Option<Vec<f32>>,
    },
    /// Mean of squared differences against targets.
    MeanSquared,
    /// Binary cross-entropy of each output's sigmoid against targets of 0 and 1, the mean over all.
    BinaryCrossEntropy,
}

impl LossKind {
    /// Whether it reads a row of targets for each picture, not a class index.
    pub fn has_targets(&self) -> bool {
        matches!(self, LossKind::MeanSquared | LossKind::BinaryCrossEntropy)
    }
}

/// A primitive operation. Inputs and outputs are listed as `(inputs) → outputs`; `x` is the value that flows forward,
/// `dy` the gradient of the loss with respect to the forward operation's result.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `() → pictures` of the feed, `[batch, channels, height, width]`.
    Pictures(Type),
    /// `() → the gradient` of the feed with respect to a result, for gradient checks and explanations.
    OutputGradient(Type),
    /// `(x, weight, bias?) → y`, cross-correlation as CNNs compute it. With an activation, y is after it.
    Conv {
        /// The sliding window.
        window: Window,
        /// Groups.
        groups: usize,
        /// Applied to the result; set by fusion.
        activation: Option<Activation>,
    },
    /// `(x, weight, bias?, scale, shift, mean, variance, residual?) → y`: a convolution with an inferring batch norm folded in.
    ConvNorm(ConvNorm),
    /// `(x, weight, bias?, …, variance, weight, …, residual?) → y`: such convolutions one after the other, of which only the
    /// last may have a residual; set by fusion.
    Chain(Vec<ConvNorm>),
    /// `(dy, weight, added?) → dx` of a convolution whose input had `input` rows and columns; `added`, another gradient of the
    /// same input, comes from fusion.
    ConvData {
        /// The forward window.
        window: Window,
        /// Groups.
        groups: usize,
        /// Input rows and columns.
        input: [usize; 2],
    },
    /// `(x, dy) → dweight, dbias?`
    ConvWeight {
        /// The forward window.
        window: Window,
        /// Groups.
        groups: usize,
        /// Whether the bias's gradient is wanted.
        bias: bool,
    },
    /// `(x [batch, in], weight [out, in], bias?) → y [batch, out]`
    Linear {
        /// Applied to the result; set by fusion.
        activation: Option<Activation>,
    },
    /// `(dy, weight) → dx`
    LinearData,
    /// `(x, dy) → dweight, dbias?`
    LinearWeight {
        /// Whether the bias's gradient is wanted.
        bias: bool,
    },
    /// `(x, dy, weight, state …) → dbias?`: the weights' gradient and their update in one, set by fusion. Changes weights and
    /// state.
    LinearUpdate {
        /// Whether the bias's gradient is wanted.
        bias: bool,
        /// Which optimiser, with its constants.
        optimizer: crate::exec::Optimizer,
        /// Factor of the learning rate.
        rate: f32,
        /// Weight decay, the layer's factor included.
        decay: f32,
        /// Steps before the first update.
        since: u64,
    },
    /// `(maps) → features`, channels first as PyTorch flattens.
    Flatten,
    /// `(features) → maps` of the given channels, height and width: the gradient of flattening.
    Unflatten([usize; 3]),
    /// `(x) → y` with a border: top, left, bottom, right.
    Pad {
        /// Rows and columns added.
        amount: [usize; 4],
        /// With what.
        mode: Border,
    },
    /// `(dy) → dx`
    PadBackward {
        /// Rows and columns that were added.
        amount: [usize; 4],
        /// With what.
        mode: Border,
    },
    /// `(x) → y, positions` (the position of the maximum inside its window)
    MaxPool(Pool),
    /// `(dy, positions) → dx`
    MaxPoolBackward {
        /// The forward window.
        pool: Pool,
        /// Input rows and columns.
        input: [usize; 2],
    },
    /// `(x) → y`
    AvgPool(Pool),
    /// `(dy) → dx`
    AvgPoolBackward {
        /// The forward window.
        pool: Pool,
        /// Input rows and columns.
        input: [usize; 2],
    },
    /// `(x) → y`: the mean of each of so many parts of the rows and columns, as PyTorch's adaptive pooling.
    AdaptiveAvgPool([usize; 2]),
    /// `(dy) → dx`
    AdaptiveAvgPoolBackward {
        /// Input rows and columns.
        input: [usize; 2],
    },
    /// `(x) → y`
    Activate(Activation),
    /// `(dy, y or x) → dx`, see [`Activation::saves_output`].
    ActivateBackward(Activation),
    /// `(x, scale, shift, residual?) → y, mean, unbiased variance, 1/√(variance + eps)` with the statistics of the batch. The
    /// residual, which fusion adds, is added before the activation.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
        /// What follows; set by fusion, to ReLU or ReLU6.
        activation: Option<Activation>,
    },
    /// `(dy, x, scale, mean, 1/√(variance + eps), shift if an activation followed) → dx, dscale, dshift`
    BatchNormBackward {
        /// Whose gradient dy passes first; set by fusion.
        activation: Option<Activation>,
    },
    /// `(mean, variance, running mean, running variance) → ()`: running ← (1 − momentum) · running + momentum · batch.
    /// Changes its last two inputs.
    RunningStatistics {
        /// Share of the new batch.
        momentum: f64,
    },
    /// `(x, scale, shift, running mean, running variance) → y`
    BatchNormInfer {
        /// Added to the variance.
        eps: f64,
    },
    /// `(dy, x, scale, running mean, running variance) → dx, dscale, dshift` of a batch norm with fixed statistics.
    BatchNormInferBackward {
        /// Added to the variance.
        eps: f64,
    },
    /// `(weights) → full weights`, fixed sizes: a connection table, or weights that are tied.
    Spread(Spread),
    /// `(gradient of the full weights) → dweights`
    Gather(Spread),
    /// `(x, bias) → y`: a bias of its own at every position.
    AddBias,
    /// `(dy) → dbias`
    AddBiasGradient,
    /// `(x) → factor · x`, its own gradient.
    Scale(f32),
    /// `(x, weights) → −‖x − w‖²` for each row of the weights
    Radial,
    /// `(dy, x, weights) → dx`
    RadialData,
    /// `(dy, x, weights) → dweights`
    RadialWeight,
    /// `(x) → y`, in each of some groups of channels by itself.
    Lrn {
        /// Its numbers.
        lrn: Lrn,
        /// Groups of channels.
        groups: usize,
    },
    /// `(dy, x) → dx`
    LrnBackward {
        /// Its numbers.
        lrn: Lrn,
        /// Groups of channels.
        groups: usize,
    },
    /// `(a, b) → a + b`
    Add,
    /// `(a, b) → a · b`; b may be `[batch, channels, 1, 1]` against maps.
    Multiply,
    /// `(a, b) → Σ a · b` over each map: `[batch, channels, 1, 1]`, the gradient of a per-channel factor.
    MultiplyReduce,
    /// `(a, b, …) → ` the inputs' channels one after the other
    Concat,
    /// `(x) → ` channels `start .. start + channels`
    Slice {
        /// First channel.
        start: usize,
        /// Channels.
        channels: usize,
    },
    /// `(x) → y`, over the channels or features of each position
    Softmax,
    /// `(dy, y) → dx`
    SoftmaxBackward,
    /// `(x) → y`: zeroes a share of the elements and scales the others by 1 / (1 − rate).
    Dropout {
        /// Share of zeroed elements.
        rate: f32,
        /// Tells the dropout layers of a network apart.
        key: u64,
    },
    /// `(dy) → dx` with the same mask.
    DropoutBackward {
        /// Share of zeroed elements.
        rate: f32,
        /// Tells the dropout layers of a network apart.
        key: u64,
    },
    /// `(outputs) → loss, correct, gradient`, against the feed's labels or targets. Loss and count are one number each.
    Loss {
        /// Which loss.
        kind: LossKind,
        /// Factor of loss and gradient, for networks with several outputs.
        weight: f32,
    },
    /// `(gradient of a part of the batch, waiting) → gradient of the batch`, where a batch runs in parts: what comes before
    /// the last part waits, see [`ocelli_kernels::reduce::join_part`]. Changes its last input.
    JoinParts {
        /// Pictures of a part.
        part: usize,
    },
    /// `(gradient, total?) → total`: adds the sum of squares, for the norm of all gradients.
    SquareSum,
    /// `(parameter, gradient, [norm², if clipping], state …) → ()`. Changes the parameter and the state.
    Update {
        /// Which optimiser, with its constants.
        optimizer: crate::exec::Optimizer,
        /// Factor of the learning rate.
        rate: f32,
        /// Weight decay, the layer's factor included.
        decay: f32,
        /// Largest norm of all gradients together.
        clip: Option<f32>,
        /// Steps before the first update.
        since: u64,
    },
}

impl Op {
    /// Whether it runs in the last part of a batch only: it reads gradients of the whole batch.
    pub fn last_part(&self) -> bool {
        matches!(self, Op::Gather(_) | Op::SquareSum | Op::Update { .. })
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        let debug = format!("{self:?}");
        debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_string()
    }

    /// Types of the results.
    ///
    /// # Errors
    /// The inputs do not fit.
    pub fn outputs(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let input =
            |i: usize| inputs.get(i).copied().ok_or_else(|| Error::new(format!("{} lacks its input {i}", self.name())));
        let same = || Ok(vec![input(0)?.clone()]);
        let number = || Type::fixed(&[1]);
        Ok(match self {
            Op::Pictures(ty) | Op::OutputGradient(ty) => vec![ty.clone()],
            Op::Conv { window, groups, .. } | Op::ConvNorm(ConvNorm { window, groups, .. }) => {
                vec![conv_type(input(0)?, input(1)?, window, *groups)?]
            }
            Op::Chain(stages) => {
                let (mut y, mut weight) = (input(0)?.clone(), 1);
                for stage in stages {
                    y = conv_type(&y, input(weight)?, &stage.window, stage.groups)?;
                    weight += stage.parameters();
                }
                vec![y]
            }
            Op::ConvData { groups, input: size, .. } => {
                let weight = input(1)?.sizes(1);
                vec![Type::maps(weight.get(1).copied().unwrap_or(0) * groups, *size)]
            }
            Op::ConvWeight { window, groups, bias } => {
                let (channels, _) = input(0)?.as_maps()?;
                let (filters, _) = input(1)?.as_maps()?;
                let [r, s] = window.kernel;
                let mut out = vec![Type::fixed(&[filters, channels / groups, r, s])];
                out.extend(bias.then(|| Type::fixed(&[filters])));
                out
            }
            Op::Linear { .. } => {
                let (x, w) = (input(0)?.sizes(1), input(1)?.sizes(1));
                if x.len() != 2 || w.len() != 2 || x[1] != w[1] {
                    return Err(Error::new(format!(
                        "a linear layer with weights {} cannot read {}",
                        inputs[1], inputs[0]
                    )));
                }
                vec![Type::features(w[0])]
            }
            Op::LinearData => vec![Type::features(input(1)?.sizes(1)[1])],
            Op::LinearWeight { bias } => {
                let (x, dy) = (input(0)?.sizes(1), input(1)?.sizes(1));
                let mut out = vec![Type::fixed(&[dy[1], x[1]])];
                out.extend(bias.then(|| Type::fixed(&[dy[1]])));
                out
            }
            Op::LinearUpdate { bias, .. } => {
                let units = input(2)?.sizes(1)[0];
                bias.then(|| Type::fixed(&[units])).into_iter().collect()
            }
            Op::Flatten => vec![Type::features(input(0)?.per_picture())],
            Op::Unflatten([c, h, w]) => vec![Type::maps(*c, [*h, *w])],
            Op::Pad { amount: [top, left, bottom, right], .. } => {
                let (c, [h, w]) = input(0)?.as_maps()?;
                vec![Type::maps(c, [h + top + bottom, w + left + right])]
            }
            Op::PadBackward { amount: [top, left, bottom, right], .. } => {
                let (c, [h, w]) = input(0)?.as_maps()?;
                vec![Type::maps(c, [h - top - bottom, w - left - right])]
            }
            Op::MaxPool(pool) => {
                let (c, size) = input(0)?.as_maps()?;
                let y = Type::maps(c, pool.output(size)?);
                let positions = Type { element: pool.position_type(), ..y.clone() };
                vec![y, positions]
            }
            Op::AvgPool(pool) => {
                let (c, size) = input(0)?.as_maps()?;
                vec![Type::maps(c, pool.output(size)?)]
            }
            Op::AdaptiveAvgPool(size) => vec![Type::maps(input(0)?.as_maps()?.0, *size)],
            Op::MaxPoolBackward { input: size, .. }
            | Op::AvgPoolBackward { input: size, .. }
            | Op::AdaptiveAvgPoolBackward { input: size } => {
                vec![Type::maps(input(0)?.as_maps()?.0, *size)]
            }
            Op::BatchNorm { .. } => {
                let channels = input(1)?.clone();
                vec![input(0)?.clone(), channels.clone(), channels.clone(), channels]
            }
            Op::BatchNormBackward { .. } | Op::BatchNormInferBackward { .. } => {
                vec![input(0)?.clone(), input(2)?.clone(), input(2)?.clone()]
            }
            Op::Add => {
                equal(self, input(0)?, input(1)?)?;
                same()?
            }
            Op::Multiply => {
                let (a, b) = (input(0)?, input(1)?);
                if !is_channel_factor(a, b) {
                    equal(self, a, b)?;
                }
                same()?
            }
            Op::MultiplyReduce => vec![Type::maps(input(0)?.as_maps()?.0, [1, 1])],
            Op::Concat => {
                let first = input(0)?;
                let mut dims = first.dims.clone();
                let mut total = 0;
                for ty in inputs {
                    match (ty.dims.get(1), ty.dims.get(2..) == first.dims.get(2..)) {
                        (Some(Dim::Fixed(c)), true) => total += c,
                        _ => return Err(Error::new(format!("Concat of {first} and {ty}"))),
                    }
                }
                dims[1] = Dim::Fixed(total);
                vec![Type { element: first.element, dims }]
            }
            Op::Slice { channels, .. } => {
                let mut ty = input(0)?.clone();
                ty.dims[1] = Dim::Fixed(*channels);
                vec![ty]
            }
            Op::Spread(spread) => vec![Type::fixed(&spread.to)],
            Op::Gather(spread) => vec![Type::fixed(&spread.from)],
            Op::AddBiasGradient => vec![Type::fixed(&input(0)?.sizes(1)[1..])],
            Op::Radial => vec![Type::features(input(1)?.sizes(1)[0])],
            Op::RadialData => vec![input(1)?.clone()],
            Op::RadialWeight => vec![input(2)?.clone()],
            Op::Loss { .. } => vec![number(), number(), input(0)?.clone()],
            Op::SquareSum => vec![number()],
            Op::RunningStatistics { .. } | Op::Update { .. } => vec![],
            Op::Activate(_)
            | Op::ActivateBackward(_)
            | Op::JoinParts { .. }
            | Op::BatchNormInfer { .. }
            | Op::AddBias
            | Op::Scale(_)
            | Op::Lrn { .. }
            | Op::LrnBackward { .. }
            | Op::Softmax
            | Op::SoftmaxBackward
            | Op::Dropout { .. }
            | Op::DropoutBackward { .. } => same()?,
        })
    }
}

impl Pool {
    /// The shapes for maps of some channels and size.
    pub fn shape(&self, channels: usize, input: [usize; 2]) -> PoolShape {
        PoolShape { input, channels, window: self.window, ceil_mode: self.ceil_mode }
    }
    /// The element type that can hold a position inside the window.
    pub fn position_type(&self) -> ElementType {
        if self.shape(1, [1, 1]).index_bytes() == 1 { ElementType::U8 } else { ElementType::I32 }
    }
    fn output(&self, size: [usize; 2]) -> Result<[usize; 2]> {
        self.shape(1, size).output_size().ok_or_else(|| {
            Error::new(format!("a pooling window {:?} does not fit {}x{}", self.window.kernel, size[0], size[1]))
        })
    }
}

/// Whether `b` is one factor for each channel of the maps `a`.
pub fn is_channel_factor(a: &Type, b: &Type) -> bool {
    match (a.as_maps(), b.as_maps()) {
        (Ok((ca, size)), Ok((cb, [1, 1]))) => ca == cb && size != [1, 1],
        _ => false,
    }
}

fn equal(op: &Op, a: &Type, b: &Type) -> Result<()> {
    if a == b { Ok(()) } else { Err(Error::new(format!("{} of {a} and {b}", op.name()))) }
}
