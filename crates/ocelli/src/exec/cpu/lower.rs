//! From one operation to kernel calls.

use super::fuse::Within;
use crate::error::{Error, Result};
use crate::graph::{Activation, Node, Op, Type};
use crate::plan::{Body, BufferId, Builder};
use ocelli_kernels::Isa;
use ocelli_kernels::conv::Activation as Epilogue;
use ocelli_kernels::elementwise::Extent;

/// One node on its way to steps.
pub struct Lower<'a, 'g> {
    pub b: &'a mut Builder<'g>,
    pub node: &'a Node,
    pub isa: Isa,
    pub threads: usize,
    pub exact: bool,
    /// For each value, whether it is a part of another.
    pub within: &'a [Option<Within>],
}

/// Pixels and channels of a value: how elementwise kernels and normalisations see it.
#[derive(Clone, Copy)]
pub struct PerPicture {
    pub pixels: usize,
    pub channels: usize,
}

impl PerPicture {
    /// The extent of `n` pictures.
    pub fn extent(self, n: usize) -> Extent {
        Extent { samples: n, pixels: self.pixels, channels: self.channels }
    }
    /// Elements of `n` pictures.
    pub fn elements(self, n: usize) -> usize {
        n * self.pixels * self.channels
    }
}

impl Lower<'_, '_> {
    /// Adds the steps of the node.
    pub fn lower(&mut self) -> Result<()> {
        match &self.node.op {
            Op::Pictures(_) => self.pictures(),
            Op::OutputGradient(_) => self.output_gradient(),
            Op::Conv { window, groups, activation } => self.conv(window, *groups, *activation),
            Op::ConvNorm(norm) => self.conv_norm(norm),
            Op::Chain(stages) => self.chain(stages),
            Op::ConvData { window, groups, .. } => self.conv_data(window, *groups),
            Op::ConvWeight { window, groups, bias } => self.conv_weight(window, *groups, *bias),
            Op::Linear { activation } => self.linear(*activation),
            Op::LinearData => self.linear_data(),
            Op::LinearWeight { bias } => self.linear_weight(*bias),
            Op::LinearUpdate { bias, optimizer, rate, decay, since } => {
                self.linear_update(*bias, *optimizer, *rate, *decay, *since)
            }
            Op::Flatten => self.flatten(),
            Op::Unflatten(_) => self.unflatten(),
            Op::Pad { amount, mode } => self.pad(*amount, *mode, false),
            Op::PadBackward { amount, mode } => self.pad(*amount, *mode, true),
            Op::MaxPool(pool) => self.max_pool(*pool),
            Op::MaxPoolBackward { pool, .. } => self.max_pool_backward(*pool),
            Op::AvgPool(pool) => self.avg_pool(*pool, false),
            Op::AvgPoolBackward { pool, .. } => self.avg_pool(*pool, true),
            Op::AdaptiveAvgPool(_) => self.adaptive_avg_pool(false),
            Op::AdaptiveAvgPoolBackward { .. } => self.adaptive_avg_pool(true),
            Op::Activate(activation) => self.activate(*activation),
            Op::ActivateBackward(activation) => self.activate_backward(*activation),
            Op::BatchNorm { eps, activation } => self.batch_norm(*eps, *activation),
            Op::BatchNormBackward { activation } => self.batch_norm_backward(*activation),
            Op::RunningStatistics { momentum } => self.running_statistics(*momentum),
            Op::BatchNormInfer { eps } => self.batch_norm_infer(*eps),
            Op::BatchNormInferBackward { eps } => self.batch_norm_infer_backward(*eps),
            Op::Spread(spread) => self.spread(spread),
            Op::Gather(spread) => self.gather(spread),
            Op::AddBias => self.add_bias(),
            Op::AddBiasGradient => self.add_bias_gradient(),
            Op::Scale(factor) => self.scale(*factor),
            Op::Radial => self.radial(),
            Op::RadialData => self.radial_gradient(false),
            Op::RadialWeight => self.radial_gradient(true),
            Op::Lrn { lrn, groups } => self.lrn(*lrn, *groups, false),
            Op::LrnBackward { lrn, groups } => self.lrn(*lrn, *groups, true),
            Op::Add => self.add(),
            Op::Multiply => self.multiply(),
            Op::MultiplyReduce => self.multiply_reduce(),
            Op::Concat => self.concat(),
            Op::Slice { start, .. } => self.slice(*start),
            Op::Softmax => self.softmax(),
            Op::SoftmaxBackward => self.softmax_backward(),
            Op::Dropout { rate, key } | Op::DropoutBackward { rate, key } => self.dropout(*rate, *key),
            Op::Loss { kind, weight } => self.loss(kind, *weight),
            Op::JoinParts { part } => self.join_parts(*part),
            Op::SquareSum => self.square_sum(),
            Op::Update { optimizer, rate, decay, clip, since } => self.update(*optimizer, *rate, *decay, *clip, *since),
        }
    }

    /// Type of a value of the node.
    pub fn ty(&self, value: crate::graph::ValueId) -> &Type {
        self.b.graph.ty(value)
    }
    /// Buffer of input `i`.
    pub fn input(&mut self, i: usize) -> BufferId {
        self.b.of(self.node.inputs[i])
    }
    /// Buffer of output `i`.
    pub fn output(&mut self, i: usize) -> BufferId {
        self.b.of(self.node.outputs[i])
    }
    /// Where output 0, of so many channels, lies: the buffer, its first value there, and those from a pixel to the next.
    pub fn place(&mut self, channels: usize) -> (BufferId, usize, usize) {
        match self.within[self.node.outputs[0].index()] {
            Some(Within { whole, first, channels }) => (self.b.of(whole), first, channels),
            None => (self.output(0), 0, channels),
        }
    }
    /// Elements of input `i` for one picture.
    pub fn per_picture(&self, i: usize) -> usize {
        self.ty(self.node.inputs[i]).per_picture()
    }
    /// Pixels and channels of input `i`.
    pub fn layout(&self, i: usize) -> PerPicture {
        let ty = self.ty(self.node.inputs[i]);
        match ty.as_maps() {
            Ok((channels, [h, w])) => PerPicture { pixels: h * w, channels },
            Err(_) => PerPicture { pixels: 1, channels: ty.per_picture() },
        }
    }
    /// Adds a step.
    pub fn step(&mut self, name: &'static str, reads: &[BufferId], writes: &[BufferId], body: Body) -> Result<()> {
        self.b.step(name, reads, writes, body);
        Ok(())
    }
    /// The buffer of output 0, sharing that of input `i` where nothing else needs the input; and whether it does.
    pub fn in_place(&mut self, i: usize) -> (BufferId, bool) {
        let (input, output) = (self.node.inputs[i], self.node.outputs[0]);
        if self.b.may_overwrite(input) {
            let buffer = self.b.of(input);
            self.b.alias(output, buffer);
            return (buffer, true);
        }
        (self.b.of(output), false)
    }
}

/// ReLU's ceiling, as batch norm's kernels have it.
pub fn ceiling(activation: Option<Activation>) -> Result<Option<f32>> {
    match activation {
        None => Ok(None),
        Some(Activation::Relu) => Ok(Some(f32::INFINITY)),
        Some(Activation::Relu6) => Ok(Some(6.0)),
        Some(other) => Err(Error::new(format!("{other:?} cannot be fused into a batch norm"))),
    }
}

/// An activation as the kernels' epilogue has it.
pub fn epilogue(activation: Option<Activation>) -> Result<Epilogue> {
    match activation {
        None => Ok(Epilogue::None),
        Some(Activation::Relu) => Ok(Epilogue::Relu),
        Some(Activation::Relu6) => Ok(Epilogue::Relu6),
        Some(Activation::LeakyRelu(slope)) => Ok(Epilogue::LeakyRelu(slope)),
        Some(other) => Err(Error::new(format!("{other:?} cannot be fused into a convolution"))),
    }
}
