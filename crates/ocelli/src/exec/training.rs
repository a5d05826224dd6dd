//! Training: a step is forward pass, loss, gradients and update in one plan.

use super::average::{self, Averages};
use super::{Device, Feed, Loss, Memory, Optimizer, Part, Session, Timing, build};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::net::Resolved;
use crate::tensor::{Tensor, Tensors};
use ocelli_kernels::reduce::{GROUP, is_part};
use std::sync::Arc;

/// What a training run computes, apart from the learning rate, which may change each step.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// The loss.
    pub loss: Loss,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Weight decay; a layer's own factors multiply it.
    pub weight_decay: f32,
    /// Largest norm of all gradients together; longer ones are scaled down to it.
    pub clip: Option<f32>,
    /// Seed of dropout.
    pub seed: u64,
    /// Keeps an average of the parameters beside them, which [`Training::average`] moves and evaluation uses.
    pub average: bool,
    /// Parts that a batch runs in, one after the other, see [`part_size`].
    pub accumulate: usize,
    /// Steps of an epoch, by which parameters that learn later count theirs.
    pub epoch_steps: u64,
}

impl TrainOptions {
    /// A loss and an optimiser, with nothing besides.
    pub fn new(loss: Loss, optimizer: Optimizer) -> TrainOptions {
        let (weight_decay, clip, seed, average, accumulate, epoch_steps) = (0.0, None, 0, false, 1, 0);
        TrainOptions { loss, optimizer, weight_decay, clip, seed, average, accumulate, epoch_steps }
    }
}

/// Pictures of each of `accumulate` parts of a batch. Gradients of the parts join to those of the batch, bit for bit, where
/// the kernels' sums can be cut: between groups of 16 pictures, a power of two of them in each part.
///
/// # Errors
/// They cannot be cut there.
pub fn part_size(batch: usize, accumulate: usize) -> Result<usize> {
    let fits = |parts: &usize| *parts == 1 || batch.is_multiple_of(*parts) && is_part(batch / parts);
    if accumulate > 0 && fits(&accumulate) {
        return Ok(batch / accumulate);
    }
    let what = format!("accumulate {accumulate} for a batch of {batch}: parts must have 16, 32, 64 … pictures");
    let near = (2..=batch / GROUP).filter(fits).min_by_key(|parts| parts.abs_diff(accumulate));
    Err(Error::usage(what).advice(match near {
        Some(parts) => format!("Choose --accumulate {parts}: {} pictures each.", batch / parts),
        None => {
            let parts = accumulate.max(2);
            let groups = 1 << (batch / parts / GROUP).max(1).ilog2();
            format!("Choose --batch-size {}: {} pictures each.", parts.saturating_mul(groups * GROUP), groups * GROUP)
        }
    }))
}

/// What a step tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// The loss before the update, the mean over the batch.
    pub loss: f32,
    /// Pictures whose largest output is their class.
    pub correct: usize,
    /// Whether the loss is a number; if not, nothing was updated, but running statistics by the parts before.
    pub finite: bool,
    /// Norm of all gradients together before clipping, where clipping is on.
    pub grad_norm: Option<f32>,
}

/// A network in training.
pub struct Training {
    session: Box<dyn Session>,
    plan: usize,
    graph: Arc<Graph>,
    losses: Vec<ValueId>,
    correct: ValueId,
    square_sum: Option<ValueId>,
    net: Resolved,
    options: TrainOptions,
    device: Device,
    batch: usize,
    /// Pictures that run at a time.
    part: usize,
    evaluation: (usize, Arc<Graph>),
    averages: Option<Averages>,
}

impl Training {
    /// A network with the given parameters, for batches of at most `batch` pictures.
    ///
    /// # Errors
    /// A parameter is missing or of another shape, a layer cannot be trained, there is no memory for such a batch, or it
    /// cannot be cut into [`TrainOptions::accumulate`] parts.
    pub fn new(
        net: &Resolved,
        tensors: Tensors,
        options: &TrainOptions,
        device: &Device,
        batch: usize,
    ) -> Result<Training> {
        let part = part_size(batch, options.accumulate)?;
        let built = build::training(net, options, part)?;
        let mut session = device.session()?;
        let graph = Arc::new(built.graph);
        let plan = session.add(&graph, part, false)?;
        // Made now, because the parameters would have to move if they needed more room later.
        let mut evaluated = build::inference(net)?;
        if options.average {
            average::rename(&mut evaluated);
        }
        let evaluated = Arc::new(evaluated);
        let evaluation = session.add(&evaluated, part, false)?;
        let averages = options.average.then(|| Averages::add(net, &mut *session, part)).transpose()?;
        session.reserve(plan)?;
        session.reserve(evaluation)?;
        build::move_parameters(net, tensors, &mut *session)?;
        if let Some(averages) = &averages {
            averages.copy(&mut *session)?;
        }
        Ok(Training {
            session,
            plan,
            graph,
            losses: built.losses,
            correct: built.correct,
            square_sum: built.square_sum,
            net: net.clone(),
            options: options.clone(),
            device: *device,
            batch,
            part,
            evaluation: (evaluation, evaluated),
            averages,
        })
    }

    /// One step on a batch: `step` counts the steps before it. A loss that is not finite leaves everything unchanged.
    ///
    /// # Errors
    /// The batch does not fit the network.
    pub fn step(&mut self, batch: &Batch, lr: f32, step: u64) -> Result<StepResult> {
        let feed = self.feed(batch, lr, step)?;
        let mut result = StepResult { loss: 0.0, correct: 0, finite: true, grad_norm: None };
        for (n, feed) in parts(self.part, batch.n, feed) {
            self.session.run(self.plan, Part::Forward, n, &feed)?;
            result.loss = self.losses.iter().map(|&v| self.session.number(self.plan, v)).sum();
            result.correct = self.session.number(self.plan, self.correct) as usize;
            result.finite = result.loss.is_finite();
            if !result.finite {
                return Ok(result);
            }
            self.session.run(self.plan, Part::Backward, n, &feed)?;
        }
        result.grad_norm = self.square_sum.map(|value| self.session.number(self.plan, value).sqrt());
        Ok(result)
    }

    /// Time of each part of one training step, which changes the parameters.
    ///
    /// # Errors
    /// The batch does not fit the network.
    pub fn profile(&mut self, batch: &Batch, lr: f32) -> Result<Vec<(Part, Timing)>> {
        let feed = self.feed(batch, lr, 0)?;
        let mut all = Vec::new();
        for (n, feed) in parts(self.part, batch.n, feed) {
            for part in [Part::Forward, Part::Backward] {
                let timings = self.session.profile(self.plan, part, n, &feed)?;
                all.extend(timings.into_iter().map(|t| (part, t)));
            }
        }
        Ok(all)
    }

    fn feed<'a>(&self, batch: &'a Batch, lr: f32, step: u64) -> Result<Feed<'a>> {
        if batch.n == 0 || batch.n > self.batch {
            return Err(Error::new(format!("a batch of {} pictures, made for 1 to {}", batch.n, self.batch)));
        }
        build::check_pictures(&self.graph, &batch.images, batch.n)?;
        let classes = self.net.classes as u32;
        let seconds = batch.mixed.iter().map(|mixed| &mixed.label);
        if let Some(label) = batch.labels.iter().chain(seconds).find(|&&label| label >= classes) {
            return Err(Error::new(format!("label {label} of a network with {classes} classes"))
                .advice("Give the network as many classes as the data has."));
        }
        let targets = self.options.loss.has_targets();
        let given = if targets { batch.targets.len() } else { batch.labels.len() };
        let needed = if targets { batch.n * self.net.classes } else { batch.n };
        if given != needed {
            return Err(Error::new(format!("{given} labels or targets for {} pictures, {needed} needed", batch.n)));
        }
        if !batch.mixed.is_empty() && batch.mixed.len() != batch.labels.len() {
            return Err(Error::new(format!("{} second labels for {} pictures", batch.mixed.len(), batch.n)));
        }
        let Batch { images, labels, mixed, targets, .. } = batch;
        Ok(Feed { images, labels, mixed, targets, lr, step, seed: self.options.seed, ..Feed::default() })
    }

    /// Moves the kept average towards the present parameters and running statistics: a ← a + share · (w − a). A share of
    /// 1 copies them. Without [`TrainOptions::average`] nothing happens.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn average(&mut self, share: f32) -> Result<()> {
        match &self.averages {
            Some(averages) if share < 1.0 => averages.move_towards(&mut *self.session, share),
            Some(averages) => averages.copy(&mut *self.session),
            None => Ok(()),
        }
    }

    /// Gives the kept average running statistics of its own: the mean, over the batches, of each batch's, as PyTorch's
    /// `update_bn`. Those of the average of the weights are not the average of theirs. A network without batch norm reads
    /// no batch.
    ///
    /// # Errors
    /// A batch cannot be read or does not fit the network.
    pub fn measure_statistics(&mut self, batches: &mut dyn Iterator<Item = Result<Batch>>) -> Result<()> {
        let Some(averages) = self.averages.take() else { return Ok(()) };
        let measured = self.measure(&averages, batches);
        self.averages = Some(averages);
        measured
    }

    fn measure(&mut self, averages: &Averages, batches: &mut dyn Iterator<Item = Result<Batch>>) -> Result<()> {
        if !averages.has_statistics() {
            return Ok(());
        }
        let mut sums = averages.no_sums();
        for (i, batch) in batches.enumerate() {
            let batch = batch?;
            let feed = self.feed(&batch, 0.0, i as u64)?;
            for (n, feed) in parts(self.part, batch.n, feed) {
                averages.add_statistics(&mut *self.session, n, &feed, &mut sums)?;
            }
        }
        averages.write_statistics(&mut *self.session, &sums)
    }

    /// The kept average, by the parameters' names; without one the parameters.
    pub fn averaged(&mut self) -> Tensors {
        if self.averages.is_none() {
            return self.tensors();
        }
        let names: Vec<_> = self.net.parameters().map(|p| (average::name(&p.name), p.dims.clone())).collect();
        let plain = |name: String| name.strip_prefix(average::PREFIX).map(str::to_string).unwrap_or(name);
        self.read(names).into_iter().map(|(name, tensor)| (plain(name), tensor)).collect()
    }

    /// The main output before softmax for `n` pictures in evaluation mode, with the present parameters, or their average
    /// where it is kept.
    ///
    /// # Errors
    /// The pictures do not fit the network.
    pub fn logits(&mut self, images: &[f32], n: usize) -> Result<Vec<f32>> {
        let (plan, graph) = &self.evaluation;
        let mut logits = Vec::new();
        build::run_in_batches(&mut *self.session, *plan, graph, self.part, images, n, &mut logits)?;
        Ok(logits)
    }

    /// Parameters and running statistics, by PyTorch's names.
    pub fn tensors(&mut self) -> Tensors {
        let names: Vec<_> = self.net.parameters().map(|p| (p.name.clone(), p.dims.clone())).collect();
        self.read(names)
    }

    /// The optimiser's state, as `momentum.conv1.weight` and so on, and the kept average, as `average.conv1.weight`.
    pub fn optimizer_state(&mut self) -> Tensors {
        self.read(self.state_names())
    }

    fn state_names(&self) -> Vec<(String, Vec<usize>)> {
        let kinds = self.options.optimizer.state();
        let trained = self.net.parameters().filter(|p| p.trainable);
        let state = trained.flat_map(|p| kinds.iter().map(|kind| (format!("{kind}.{}", p.name), p.dims.clone())));
        let kept = self.net.parameters().filter(|_| self.averages.is_some());
        state.chain(kept.map(|p| (average::name(&p.name), p.dims.clone()))).collect()
    }

    fn read(&mut self, names: Vec<(String, Vec<usize>)>) -> Tensors {
        let one = |(name, dims): (String, Vec<usize>)| {
            let data = self.session.read(&name)?;
            Some((name, Tensor::new(dims, data)))
        };
        names.into_iter().filter_map(one).collect()
    }

    /// Goes on with the same network of which other parameters learn: those that did not start with a state of zeros.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn learn(&mut self, net: &Resolved) -> Result<()> {
        let (tensors, state) = (self.tensors(), self.optimizer_state());
        // The memory of the one before, before the new one takes its own.
        self.session = self.device.session()?;
        *self = Training::new(net, tensors, &self.options, &self.device, self.batch)?;
        state.iter().try_for_each(|(name, tensor)| self.session.write(name, 0, &tensor.data))
    }

    /// Goes back to saved parameters and state.
    ///
    /// # Errors
    /// Something is missing or of another shape.
    pub fn restore(&mut self, tensors: &Tensors, state: &Tensors) -> Result<()> {
        self.net.check_tensors(tensors)?;
        for (name, dims) in self.state_names() {
            let found = state.get(&name).map(|t| &t.dims);
            if found != Some(&dims) {
                return Err(Error::new(format!("optimiser state {name}: {found:?} instead of {dims:?}"))
                    .advice("Resume with the optimiser that the run began with."));
            }
        }
        tensors.iter().chain(state).try_for_each(|(name, tensor)| self.session.write(name, 0, &tensor.data))
    }

    /// Says where the first value that is not finite appears when a batch runs forward: the input or a layer's output.
    ///
    /// # Errors
    /// The batch does not fit the network.
    pub fn name_non_finite(&mut self, batch: &Batch, step: u64) -> Result<String> {
        let feed = self.feed(batch, 0.0, step)?;
        if let Some(i) = batch.images.iter().position(|x| !x.is_finite()) {
            let picture = i / (batch.images.len() / batch.n);
            return Ok(format!("the input picture {picture} of the batch holds {}", batch.images[i]));
        }
        let mut session = self.device.session()?;
        let plan = session.add(&self.graph, self.part.min(batch.n), true)?;
        let tensors = self.tensors();
        build::move_parameters(&self.net, tensors, &mut *session)?;
        for (n, feed) in parts(self.part, batch.n, feed) {
            session.run(plan, Part::Forward, n, &feed)?;
            for node in &self.graph.nodes[..self.graph.forward_nodes] {
                let Some(layer) = node.layer else { continue };
                let values = session.fetch(plan, node.outputs[0], n).unwrap_or_default();
                if let Some(value) = values.iter().find(|x| !x.is_finite()) {
                    return Ok(format!("the output of layer {} holds {value}", self.net.layers[layer].name));
                }
            }
        }
        Ok("the loss is not finite, though every layer's output is".to_string())
    }

    /// Memory in use.
    pub fn memory(&self) -> Memory {
        self.session.memory()
    }
}

/// The parts of a batch of `n` pictures that `feed` feeds, up to `part` pictures each.
fn parts(part: usize, n: usize, feed: Feed) -> impl Iterator<Item = (usize, Feed)> {
    let picture = feed.images.len() / n.max(1);
    (0..n).step_by(part).map(move |first| {
        let count = part.min(n - first);
        let images = &feed.images[first * picture..][..count * picture];
        (count, Feed { images, first, rest: n - first - count, ..feed })
    })
}
