//! Convolutions and linear layers.

use super::lower::{Lower, epilogue};
use crate::error::Result;
use crate::exec::Optimizer;
use crate::exec::plain::{rule, update_step};
use crate::graph::{Activation, ConvNorm, Type, ValueId, conv_shape};
use crate::plan::{BufferId, Io, Run};
use ocelli_kernels::conv::{Chain, DataGradient, Epilogue, Forward, Pixels, PixelsMut, WeightGradient};
use ocelli_kernels::geometry::{ConvShape, Window};
use ocelli_kernels::linear::{self, LinearShape};
use ocelli_kernels::update::Updated;
use std::sync::Arc;

/// The weights of a convolution: as they are, packed by the step itself, or packed by one before it.
enum Weights {
    Plain(BufferId),
    Packed(BufferId),
}

impl Lower<'_, '_> {
    fn conv_shape(&self, window: &Window, groups: usize) -> Result<ConvShape> {
        conv_shape(self.ty(self.node.inputs[0]), self.ty(self.node.inputs[1]), window, groups)
    }

    /// Memory for packed weights of input `weight`: of this run where weights change, else kept across runs and shared between plans.
    fn packed(&mut self, what: &str, weight: usize, key: &dyn std::fmt::Debug, floats: usize) -> BufferId {
        if self.b.trains() {
            return self.b.scratch(floats);
        }
        let weight = self.b.graph.values[self.node.inputs[weight].index()].name.clone().unwrap_or_default();
        self.b.stored(&format!("{what} {weight} {key:?}"), floats)
    }

    /// `(x, weight, bias?) → y`
    pub fn conv(&mut self, window: &Window, groups: usize, activation: Option<Activation>) -> Result<()> {
        let shape = self.conv_shape(window, groups)?;
        let kernel = Arc::new(Forward::new(&shape, self.isa, self.exact));
        let (x, weight) = (self.input(0), self.input(1));
        let bias = (self.node.inputs.len() > 2).then(|| self.input(2));
        if self.b.trains() {
            return self.conv_run(&shape, kernel, x, Weights::Plain(weight), [bias, None], activation);
        }
        let packed = self.packed("packed", 1, &shape, kernel.packed_len());
        let pack = kernel.clone();
        self.b.constant_step(
            "pack",
            &[weight],
            &[packed],
            Box::new(move |run, io| pack.pack(run.cpu, io.read(0), io.write(0))),
        );
        self.conv_run(&shape, kernel, x, Weights::Packed(packed), [bias, None], activation)
    }

    /// `(x, weight, bias?, scale, shift, mean, variance, residual?) → y`
    pub fn conv_norm(&mut self, norm: &ConvNorm) -> Result<()> {
        let x = self.input(0);
        let shape = self.conv_shape(&norm.window, norm.groups)?;
        let kernel = Arc::new(Forward::new(&shape, self.isa, self.exact));
        let [packed, bias] = self.fold(norm, &shape, &kernel, 1);
        let residual = norm.residual.then(|| self.input(1 + norm.parameters()));
        self.conv_run(&shape, kernel, x, Weights::Packed(packed), [Some(bias), residual], norm.activation)
    }

    /// Packs a convolution's weights, input `first` and the parameters after it, with the batch norm in them: w' = w · s and
    /// b' = shift + (b − mean) · s for each filter, with s = scale / √(variance + eps).
    fn fold(&mut self, norm: &ConvNorm, shape: &ConvShape, kernel: &Arc<Forward>, first: usize) -> [BufferId; 2] {
        let (&ConvNorm { bias: has_bias, eps, .. }, shape) = (norm, *shape);
        let key = (shape, eps.to_bits(), kernel.kernel());
        let packed = self.packed("folded", first, &key, kernel.packed_len());
        let bias = self.packed("folded bias", first, &key, shape.filters);
        let folded = self.b.scratch(shape.weights());
        let reads: Vec<BufferId> = (first..first + norm.parameters()).map(|i| self.input(i)).collect();
        let pack = kernel.clone();
        let body = move |run: &Run, io: &mut Io| {
            let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|i| io.read(i + 1 + usize::from(has_bias)));
            let bias = if has_bias { io.read(1) } else { &[] };
            let factor = |k: usize| (f64::from(scale[k]) / (f64::from(variance[k]) + eps).sqrt()) as f32;
            let per_filter = shape.weights() / shape.filters;
            let folded = io.write(2);
            let filters = folded.chunks_mut(per_filter).zip(io.read(0).chunks(per_filter)).enumerate();
            for (k, (folded, weights)) in filters {
                let factor = factor(k);
                folded.iter_mut().zip(weights).for_each(|(folded, w)| *folded = w * factor);
            }
            pack.pack(run.cpu, folded, io.write(0));
            for (k, out) in io.write(1).iter_mut().enumerate() {
                *out = shift[k] + (bias.get(k).copied().unwrap_or(0.0) - mean[k]) * factor(k);
            }
        };
        self.b.constant_step("pack", &reads, &[packed, bias, folded], Box::new(body));
        [packed, bias]
    }

    /// `(x, weight, bias?, …, variance, weight, …, residual?) → y`
    pub fn chain(&mut self, stages: &[ConvNorm]) -> Result<()> {
        let (mut x, mut next) = (self.ty(self.node.inputs[0]).clone(), 1);
        let mut shapes = vec![];
        for norm in stages {
            let shape = conv_shape(&x, self.ty(self.node.inputs[next]), &norm.window, norm.groups)?;
            x = Type::maps(shape.filters, shape.output());
            next += norm.parameters();
            shapes.push(shape);
        }
        let chain = Chain::new(&shapes, self.isa);
        let (mut reads, mut activations, mut first) = (vec![self.input(0)], vec![], 1);
        for ((norm, shape), kernel) in stages.iter().zip(&shapes).zip(chain.stages()) {
            reads.extend(self.fold(norm, shape, kernel, first));
            activations.push(epilogue(norm.activation)?);
            first += norm.parameters();
        }
        let (channels, filters, count) = (shapes[0].channels, shapes[stages.len() - 1].filters, stages.len());
        let residual = (next < self.node.inputs.len()).then(|| self.input(next));
        reads.extend(residual);
        let (y, workspace) = (self.output(0), self.b.scratch(chain.workspace_len(self.threads)));
        let body = move |run: &Run, io: &mut Io| {
            // At most three: nothing is allocated.
            let mut stages = [(&[][..], Epilogue::default()); 3];
            for (i, (stage, &activation)) in stages.iter_mut().zip(&activations).enumerate() {
                *stage = (io.read(1 + 2 * i), Epilogue { bias: Some(io.read(2 + 2 * i)), residual: None, activation });
            }
            let data = residual.map(|_| io.read(1 + 2 * count));
            stages[count - 1].1.residual = data.map(|data| Pixels { data, stride: filters });
            let x = Pixels { data: io.read(0), stride: channels };
            let y = PixelsMut { data: io.write(0), stride: filters };
            chain.run(run.cpu, run.n, x, &stages[..count], y, io.write(1));
        };
        self.b.step("conv", &reads, &[y, workspace], Box::new(body));
        self.b.kernel("chain");
        Ok(())
    }

    fn conv_run(
        &mut self,
        shape: &ConvShape,
        kernel: Arc<Forward>,
        x: BufferId,
        weights: Weights,
        [bias, residual]: [Option<BufferId>; 2],
        activation: Option<Activation>,
    ) -> Result<()> {
        let ((y, first, stride), name) = (self.place(shape.filters), kernel.kernel());
        let (weights, plain, floats) = match weights {
            Weights::Plain(id) => (id, true, kernel.plain_workspace_len(self.b.batch, self.threads)),
            Weights::Packed(id) => (id, false, kernel.workspace_len(self.threads)),
        };
        let workspace = self.b.scratch(floats);
        let (channels, filters) = (shape.channels, shape.filters);
        let activation = epilogue(activation)?;
        let mut reads = vec![x, weights];
        reads.extend(bias);
        reads.extend(residual);
        let (has_bias, residual_at) = (bias.is_some(), residual.map(|_| reads.len() - 1));
        let body = move |run: &Run, io: &mut Io| {
            let residual = residual_at.map(|i| Pixels { data: io.read(i), stride: filters });
            let epilogue = Epilogue { bias: has_bias.then(|| io.read(2)), residual, activation };
            let x = Pixels { data: io.read(0), stride: channels };
            let y = PixelsMut { data: &mut io.write(0)[first..], stride };
            match plain {
                true => kernel.run_plain(run.cpu, run.n, x, io.read(1), &epilogue, y, io.write(1)),
                false => kernel.run(run.cpu, run.n, x, io.read(1), &epilogue, y, io.write(1)),
            }
        };
        self.b.step("conv", &reads, &[y, workspace], Box::new(body));
        self.b.kernel(name);
        Ok(())
    }

    /// `(dy, weight, another gradient to add?) → dx`
    pub fn conv_data(&mut self, window: &Window, groups: usize) -> Result<()> {
        let shape = conv_shape(self.ty(self.node.outputs[0]), self.ty(self.node.inputs[1]), window, groups)?;
        let kernel = DataGradient::new(&shape, self.isa, self.exact);
        let name = kernel.kernel();
        let reads: Vec<BufferId> = (0..self.node.inputs.len()).map(|i| self.input(i)).collect();
        let (adds, dx) = (reads.len() > 2, self.output(0));
        let workspace = self.b.scratch(kernel.workspace_len(self.b.batch, self.threads));
        let body = move |run: &Run, io: &mut Io| {
            let dy = Pixels { data: io.read(0), stride: shape.filters };
            let added = adds.then(|| Pixels { data: io.read(2), stride: shape.channels });
            let dx = PixelsMut { data: io.write(0), stride: shape.channels };
            kernel.run(run.cpu, run.n, dy, io.read(1), added, dx, io.write(1));
        };
        self.b.step("conv data gradient", &reads, &[dx, workspace], Box::new(body));
        self.b.kernel(name);
        Ok(())
    }

    /// `(x, dy) → dweight, dbias?`
    pub fn conv_weight(&mut self, window: &Window, groups: usize, bias: bool) -> Result<()> {
        let (x, dy, dweight) = (self.input(0), self.input(1), self.output(0));
        let weight = self.ty(self.node.outputs[0]);
        let shape = conv_shape(self.ty(self.node.inputs[0]), weight, window, groups)?;
        let kernel = WeightGradient::new(&shape, self.isa, self.exact);
        let name = kernel.kernel();
        let workspace = self.b.scratch(kernel.workspace_len(self.b.batch, self.threads));
        let mut writes = vec![dweight, workspace];
        if bias {
            writes.push(self.output(1));
        }
        let body = move |run: &Run, io: &mut Io| {
            let x = Pixels { data: io.read(0), stride: shape.channels };
            let dy = Pixels { data: io.read(1), stride: shape.filters };
            let dbias = bias.then(|| io.write(2));
            kernel.run(run.cpu, run.n, x, dy, io.write(0), dbias, io.write(1));
        };
        self.b.step("conv weight gradient", &[x, dy], &writes, Box::new(body));
        self.b.kernel(name);
        Ok(())
    }

    fn linear_shape(&self, x: usize, y: ValueId) -> LinearShape {
        LinearShape { inputs: self.ty(self.node.inputs[x]).per_picture(), outputs: self.ty(y).per_picture() }
    }

    /// `(x, weight, bias?) → y`
    pub fn linear(&mut self, activation: Option<Activation>) -> Result<()> {
        let shape = self.linear_shape(0, self.node.outputs[0]);
        let y = self.output(0);
        let reads: Vec<BufferId> = (0..self.node.inputs.len()).map(|i| self.input(i)).collect();
        let (has_bias, activation) = (reads.len() > 2, epilogue(activation)?);
        let body = move |run: &Run, io: &mut Io| {
            let bias = has_bias.then(|| io.read(2));
            linear::forward(run.cpu, &shape, run.n, io.read(0), io.read(1), bias, activation, io.write(0));
        };
        self.step("linear", &reads, &[y], Box::new(body))
    }

    /// `(dy, weight) → dx`
    pub fn linear_data(&mut self) -> Result<()> {
        let (dy, weight, dx) = (self.input(0), self.input(1), self.output(0));
        let inputs = self.ty(self.node.outputs[0]).per_picture();
        let shape = LinearShape { inputs, outputs: self.per_picture(0) };
        let body = move |run: &Run, io: &mut Io| {
            linear::data_gradient(run.cpu, &shape, run.n, io.read(0), io.read(1), io.write(0));
        };
        self.step("linear data gradient", &[dy, weight], &[dx], Box::new(body))
    }

    /// `(x, dy) → dweight, dbias?`
    pub fn linear_weight(&mut self, bias: bool) -> Result<()> {
        let shape = self.linear_shape(0, self.node.inputs[1]);
        let (x, dy) = (self.input(0), self.input(1));
        let mut writes = vec![self.output(0)];
        if bias {
            writes.push(self.output(1));
        }
        let body = move |run: &Run, io: &mut Io| {
            let dbias = bias.then(|| io.write(1));
            linear::weight_gradient(run.cpu, &shape, run.n, io.read(0), io.read(1), io.write(0), dbias);
        };
        self.step("linear weight gradient", &[x, dy], &writes, Box::new(body))
    }

    /// `(x, dy, weight, state …) → dbias?`
    pub fn linear_update(&mut self, bias: bool, optimizer: Optimizer, rate: f32, decay: f32, since: u64) -> Result<()> {
        let shape = self.linear_shape(0, self.node.inputs[1]);
        let (x, dy) = (self.input(0), self.input(1));
        let states = self.node.inputs.len() - 3;
        let scratch = self.b.scratch(linear::update_scratch(self.threads));
        let mut writes = vec![self.input(2), scratch];
        writes.extend((0..states).map(|i| self.input(3 + i)));
        if bias {
            writes.push(self.output(0));
        }
        let body = move |run: &Run, io: &mut Io| {
            let step = update_step(run.feed, rate, decay, None, 0.0, since);
            let mut state = |i: usize| if i < states { io.write(2 + i) } else { &mut [] };
            let (a, b) = (state(0), state(1));
            let dbias = bias.then(|| io.write(2 + states));
            let weights = Updated { rule: rule(optimizer), step, w: io.write(0), a, b };
            linear::update_weights(run.cpu, &shape, run.n, io.read(0), io.read(1), weights, dbias, io.write(1));
        };
        self.step("linear weight gradient", &[x, dy], &writes, Box::new(body))
    }
}
