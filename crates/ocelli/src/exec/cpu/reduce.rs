//! Operations that sum over channels or the batch: normalisations, softmax, losses; dropout; and the updates.

use super::lower::{Lower, PerPicture, ceiling};
use crate::error::Result;
use crate::exec::Optimizer;
use crate::exec::plain::{cost, rule, update_step};
use crate::graph::{Activation, LossKind, Lrn};
use crate::plan::{Feed, Io, Run};
use ocelli_kernels::dropout::{Dropout, dropout};
use ocelli_kernels::elementwise::{View, ViewMut};
use ocelli_kernels::loss::{CrossEntropy, EachOutput, Row, cross_entropy, each_output};
use ocelli_kernels::norm::{self, BatchNorm, BatchNormBackward, Running};
use ocelli_kernels::reduce::join_part;
use ocelli_kernels::update::{self, Updated};
use ocelli_kernels::{lrn, softmax};
use std::sync::{Mutex, PoisonError};

impl Lower<'_, '_> {
    /// `(x, scale, shift) → y, mean, variance, 1/√(variance + eps)`
    pub fn batch_norm(&mut self, eps: f64, activation: Option<Activation>) -> Result<()> {
        let relu = ceiling(activation)?;
        let per = self.layout(0);
        let reads: Vec<_> = (0..self.node.inputs.len()).map(|i| self.input(i)).collect();
        let adds = reads.len() > 3;
        let space = self.b.scratch(norm::workspace(per.extent(self.b.batch)) + per.channels);
        let (y, first, stride) = self.place(per.channels);
        let writes = [y, self.output(1), self.output(2), self.output(3), space];
        let body = move |run: &Run, io: &mut Io| {
            let (x, y) = (View::dense(io.read(0)), ViewMut::strided(&mut io.write(0)[first..], stride));
            let (gamma, beta) = (io.read(1), io.read(2));
            let (mean, variance, inverse) = (io.write(1), io.write(2), io.write(3));
            let (again, space) = io.write(4).split_at_mut(per.channels);
            // With momentum 1 the running statistics become the batch's; what was there must be finite.
            again.fill(0.0);
            variance.fill(0.0);
            let running = Running { momentum: 1.0, mean: again, variance };
            let residual = adds.then(|| View::dense(io.read(3)));
            let input = BatchNorm { extent: per.extent(run.n), x, gamma, beta, eps, residual, relu };
            norm::batch_norm(run.cpu, &input, y, [mean, inverse], Some(running), space);
        };
        self.step("batch norm", &reads, &writes, Box::new(body))
    }

    /// `(dy, x, scale, mean, 1/√(variance + eps), shift if an activation followed) → dx, dscale, dshift`
    pub fn batch_norm_backward(&mut self, activation: Option<Activation>) -> Result<()> {
        let relu = ceiling(activation)?;
        let per = self.layout(1);
        let reads: Vec<_> = (0..self.node.inputs.len()).map(|i| self.input(i)).collect();
        let space = self.b.scratch(norm::workspace(per.extent(self.b.batch)));
        let writes = [self.output(0), self.output(1), self.output(2), space];
        let body = move |run: &Run, io: &mut Io| {
            let input = BatchNormBackward {
                extent: per.extent(run.n),
                x: View::dense(io.read(1)),
                dy: View::dense(io.read(0)),
                relu: relu.map(|ceiling| (io.read(5), ceiling)),
                gamma: io.read(2),
                mean: io.read(3),
                inv_std: io.read(4),
            };
            let (dx, dscale, dshift) = (ViewMut::dense(io.write(0)), io.write(1), io.write(2));
            norm::batch_norm_backward(run.cpu, &input, dx, [dscale, dshift], io.write(3));
        };
        self.step("batch norm gradient", &reads, &writes, Box::new(body))
    }

    /// `(mean, variance, running mean, running variance) → ()`
    pub fn running_statistics(&mut self, momentum: f64) -> Result<()> {
        let reads = [self.input(0), self.input(1)];
        let writes = [self.input(2), self.input(3)];
        let body = move |_: &Run, io: &mut Io| {
            for i in 0..2 {
                let mix = |old: f32, new: f32| ((1.0 - momentum) * f64::from(old) + momentum * f64::from(new)) as f32;
                io.write(i).iter_mut().zip(io.read(i)).for_each(|(running, &batch)| *running = mix(*running, batch));
            }
        };
        self.step("running statistics", &reads, &writes, Box::new(body))
    }

    /// `(x, scale, shift, running mean, running variance) → y`
    pub fn batch_norm_infer(&mut self, eps: f64) -> Result<()> {
        let per = self.layout(0);
        let reads: Vec<_> = (0..5).map(|i| self.input(i)).collect();
        let space = self.b.scratch(2 * per.channels);
        let y = self.output(0);
        let body = move |run: &Run, io: &mut Io| {
            let (scale, shift) = io.write(1).split_at_mut(per.channels);
            norm::fold_statistics([1, 2, 3, 4].map(|i| io.read(i)), eps, [scale, shift]);
            let (x, y) = (View::dense(io.read(0)), ViewMut::dense(io.write(0)));
            norm::affine(run.cpu, per.extent(run.n), x, [scale, shift], None, None, y);
        };
        self.step("batch norm", &reads, &[y, space], Box::new(body))
    }

    /// `(dy, x, scale, running mean, running variance) → dx, dscale, dshift`: the sums as in training, then
    /// dx = dy · scale / √(variance + eps).
    pub fn batch_norm_infer_backward(&mut self, eps: f64) -> Result<()> {
        let per = self.layout(1);
        let reads: Vec<_> = (0..5).map(|i| self.input(i)).collect();
        let space = self.b.scratch(norm::workspace(per.extent(self.b.batch)) + 3 * per.channels);
        let writes = [self.output(0), self.output(1), self.output(2), space];
        let body = move |run: &Run, io: &mut Io| {
            let (extent, dy, dx) = (per.extent(run.n), View::dense(io.read(0)), io.write(0));
            let (gamma, mean, variance) = (io.read(2), io.read(3), io.read(4));
            let (coefficients, space) = io.write(3).split_at_mut(3 * per.channels);
            let (zero, rest) = coefficients.split_at_mut(per.channels);
            let (inverse, factor) = rest.split_at_mut(per.channels);
            zero.fill(0.0);
            for c in 0..per.channels {
                inverse[c] = (1.0 / (f64::from(variance[c]) + eps).sqrt()) as f32;
                factor[c] = gamma[c] * inverse[c];
            }
            let x = View::dense(io.read(1));
            let input = BatchNormBackward { extent, x, dy, relu: None, gamma, mean, inv_std: inverse };
            let sums = [io.write(1), io.write(2)];
            norm::batch_norm_backward(run.cpu, &input, ViewMut::dense(dx), sums, space);
            norm::affine(run.cpu, extent, dy, [factor, zero], None, None, ViewMut::dense(dx));
        };
        self.step("batch norm gradient", &reads, &writes, Box::new(body))
    }

    /// `(x) → y` or `(dy, x) → dx`
    pub fn lrn(&mut self, attributes: Lrn, groups: usize, backward: bool) -> Result<()> {
        // Channels last, a group of channels is as good as a pixel of its own.
        let PerPicture { pixels, channels } = self.layout(0);
        let per = PerPicture { pixels: pixels * groups, channels: channels / groups };
        let reads: Vec<_> = (0..self.node.inputs.len()).map(|i| self.input(i)).collect();
        let space = self.b.scratch(lrn::workspace(&attributes, per.channels));
        let y = self.output(0);
        let body = move |run: &Run, io: &mut Io| {
            let (extent, y, space) = (per.extent(run.n), ViewMut::dense(io.write(0)), io.write(1));
            let first = View::dense(io.read(0));
            if backward {
                lrn::lrn_backward(run.cpu, &attributes, extent, View::dense(io.read(1)), first, y, space);
            } else {
                lrn::lrn(run.cpu, &attributes, extent, first, y, space);
            }
        };
        self.step(if backward { "lrn gradient" } else { "lrn" }, &reads, &[y, space], Box::new(body))
    }

    /// `(x) → y`
    pub fn softmax(&mut self) -> Result<()> {
        let per = self.layout(0);
        let (x, y) = (self.input(0), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let n = per.elements(run.n);
            softmax::softmax(run.cpu, per.channels, &io.read(0)[..n], &mut io.write(0)[..n]);
        };
        self.step("softmax", &[x], &[y], Box::new(body))
    }

    /// `(dy, y) → dx`
    pub fn softmax_backward(&mut self) -> Result<()> {
        let per = self.layout(0);
        let (dy, y, dx) = (self.input(0), self.input(1), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let n = per.elements(run.n);
            let (dy, y) = (&io.read(0)[..n], &io.read(1)[..n]);
            softmax::softmax_backward(run.cpu, per.channels, y, dy, &mut io.write(0)[..n]);
        };
        self.step("softmax gradient", &[dy, y], &[dx], Box::new(body))
    }

    /// `(x) → y` and `(dy) → dx`: the same mask.
    pub fn dropout(&mut self, rate: f32, key: u64) -> Result<()> {
        let len = self.per_picture(0);
        let (y, in_place) = self.in_place(0);
        let reads = if in_place { vec![] } else { vec![self.input(0)] };
        let body = move |run: &Run, io: &mut Io| {
            let which = Dropout { rate, seed: run.feed.seed, layer: key, step: run.feed.step };
            let x = (!in_place).then(|| &io.read(0)[..run.n * len]);
            dropout(run.cpu, &which, run.feed.first as u64, len, x, &mut io.write(0)[..run.n * len]);
        };
        self.step("dropout", &reads, &[y], Box::new(body))
    }

    /// `(outputs) → loss, correct, gradient`: of a batch in parts, loss and correct up to here.
    pub fn loss(&mut self, kind: &LossKind, factor: f32) -> Result<()> {
        let classes = self.per_picture(0);
        let x = self.input(0);
        let writes = [self.output(0), self.output(1), self.output(2)];
        // One row a sample of the whole batch; made once, so that a step allocates nothing.
        let rows = Mutex::new(vec![Row::default(); self.b.batch]);
        let kind = kind.clone();
        let body = move |run: &Run, io: &mut Io| {
            let (x, gradient) = (&io.read(0)[..run.n * classes], &mut io.write(2)[..run.n * classes]);
            let Feed { labels, mixed, targets, first, rest, .. } = *run.feed;
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.resize(first + run.n + rest, Row::default());
            let loss = match &kind {
                LossKind::CrossEntropy { smoothing, class_weights } => {
                    let class_weights = class_weights.as_deref();
                    let loss = CrossEntropy { classes, smoothing: *smoothing, class_weights, factor, mixed, first };
                    cross_entropy(run.cpu, &loss, x, labels, Some(gradient), &mut rows)
                }
                LossKind::MeanSquared | LossKind::BinaryCrossEntropy => {
                    let loss = EachOutput { cost: cost(&kind), width: classes, factor, first };
                    each_output(run.cpu, &loss, [x, targets], Some(gradient), &mut rows)
                }
            };
            io.write(0)[0] = loss as f32;
            io.write(1)[0] = rows[..first + run.n].iter().filter(|row| row.correct).count() as f32;
        };
        self.step("loss", &[x], &writes, Box::new(body))
    }

    /// `(gradient of a part, waiting) → gradient of the batch`, once the last part has come
    pub fn join_parts(&mut self, part: usize) -> Result<()> {
        let len = self.per_picture(0);
        let (total, in_place) = self.in_place(0);
        let reads = if in_place { vec![] } else { vec![self.input(0)] };
        let writes = [total, self.input(1)];
        let body = move |run: &Run, io: &mut Io| {
            let (total, waiting) = (&mut io.write(0)[..len], io.write(1));
            if !in_place {
                total.copy_from_slice(&io.read(0)[..len]);
            }
            join_part(run.cpu, run.feed.first / part, run.feed.rest == 0, total, waiting);
        };
        self.step("join parts", &reads, &writes, Box::new(body))
    }

    /// `(gradient, total?) → total`
    pub fn square_sum(&mut self) -> Result<()> {
        let elements = self.per_picture(0);
        let reads: Vec<_> = (0..self.node.inputs.len()).map(|i| self.input(i)).collect();
        let y = self.output(0);
        let before = reads.len() > 1;
        let body = move |run: &Run, io: &mut Io| {
            let total = if before { io.read(1)[0] } else { 0.0 };
            io.write(0)[0] = total + update::square_sum(run.cpu, &io.read(0)[..elements]) as f32;
        };
        self.step("gradient norm", &reads, &[y], Box::new(body))
    }

    /// `(parameter, gradient, square sum if clipping, state …) → ()`
    pub fn update(&mut self, optimizer: Optimizer, rate: f32, decay: f32, clip: Option<f32>, since: u64) -> Result<()> {
        let elements = self.per_picture(0);
        let first_state = 2 + usize::from(clip.is_some());
        let reads: Vec<_> = (1..first_state).map(|i| self.input(i)).collect();
        let states = self.node.inputs.len() - first_state;
        let mut writes = vec![self.input(0)];
        writes.extend((0..states).map(|i| self.input(first_state + i)));
        let body = move |run: &Run, io: &mut Io| {
            let square_sum = if clip.is_some() { io.read(1)[0] } else { 0.0 };
            let step = update_step(run.feed, rate, decay, clip, square_sum, since);
            let mut state = |i: usize| if i < states { io.write(i + 1) } else { &mut [] };
            let (a, b) = (state(0), state(1));
            let (w, g) = (io.write(0), &io.read(0)[..elements]);
            update::update(run.cpu, Updated { rule: rule(optimizer), step, w, a, b }, g);
        };
        self.step("update", &reads, &writes, Box::new(body))
    }
}
