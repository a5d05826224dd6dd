//! From a graph, a backend and shapes to steps over one block of memory.
//!
//! A backend lowers each operation to steps through a [`Builder`]. The builder knows which buffers a step reads and
//! writes, from that how long each lives, and packs all of them into one arena, so that no run after the first allocates.
//! A plan made for a batch of B runs any n <= B.

mod memory;

use crate::error::{Error, Result};
use crate::graph::{ElementType, Graph, Node, ValueId};
use crate::words::bytes;
use ocelli_kernels::Cpu;
use ocelli_kernels::arena::{Arena, Parts, Span};
use ocelli_kernels::loss::Mixed;
use std::collections::BTreeMap;

/// What one run is fed with. Slices that a graph does not read may be empty.
#[derive(Clone, Copy, Default)]
pub struct Feed<'a> {
    /// Pictures, `[n, channels, height, width]`.
    pub images: &'a [f32],
    /// Class indices of the whole batch.
    pub labels: &'a [u32],
    /// Second classes with their shares of the target, of the whole batch; empty where there are none.
    pub mixed: &'a [Mixed],
    /// Targets of a regression, `[n, outputs]`, of the whole batch.
    pub targets: &'a [f32],
    /// Pictures of the batch before these, where it runs in parts.
    pub first: usize,
    /// Pictures of the batch after these.
    pub rest: usize,
    /// The gradient of a loss with respect to the result.
    pub output_gradient: &'a [f32],
    /// Learning rate.
    pub lr: f32,
    /// Steps done before this one.
    pub step: u64,
    /// Seed of dropout.
    pub seed: u64,
}

/// What a step sees when it runs.
pub struct Run<'a> {
    /// Threads and instruction set.
    pub cpu: &'a Cpu,
    /// Pictures in this run.
    pub n: usize,
    /// Inputs and hyperparameters of this run.
    pub feed: &'a Feed<'a>,
}

/// A buffer of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(usize);

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bank {
    /// Parameters, optimiser state and packed weights, shared by all plans of a session.
    Store(Span),
    /// Memory of one run, used again as soon as a value is no longer needed.
    Scratch,
}

struct Buffer {
    bytes: usize,
    bank: Bank,
    /// Lives through the whole run: a caller reads it afterwards.
    keep: bool,
}

/// The body of a step.
pub type Body = Box<dyn Fn(&Run, &mut Io) + Send + Sync>;

/// A kernel call with the buffers that it reads and writes.
pub struct Step {
    body: Body,
    reads: Vec<Place>,
    writes: Vec<Place>,
    /// Spans of the read and written parts in the store and in the scratch arena.
    spans: [Vec<Span>; 4],
    /// Of a constant step: parameters that nothing after it reads.
    sources: Vec<Span>,
    /// The layer it belongs to.
    pub layer: Option<usize>,
    /// Of a batch in parts it runs in the last one only.
    last_part: bool,
    /// What it does, for time tables.
    pub name: &'static str,
    /// Which of several kernels does it.
    pub kernel: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Place {
    stored: bool,
    index: usize,
}

/// The parts of memory that a step may touch, in the order in which it named them.
pub struct Io<'a> {
    store: Parts<'a>,
    scratch: Parts<'a>,
    reads: &'a [Place],
    writes: &'a [Place],
}

impl<'a> Io<'a> {
    /// Read buffer `i` as `f32`.
    pub fn read(&self, i: usize) -> &'a [f32] {
        let place = self.reads[i];
        if place.stored { self.store.read(place.index) } else { self.scratch.read(place.index) }
    }
    /// Read buffer `i` as bytes.
    pub fn read_bytes(&self, i: usize) -> &'a [u8] {
        let place = self.reads[i];
        if place.stored { self.store.read_bytes(place.index) } else { self.scratch.read_bytes(place.index) }
    }
    /// Takes written buffer `i` as `f32`; a second call gives an empty slice.
    pub fn write(&mut self, i: usize) -> &'a mut [f32] {
        let place = self.writes[i];
        if place.stored { self.store.write(place.index) } else { self.scratch.write(place.index) }
    }
    /// Takes written buffer `i` as bytes; a second call gives an empty slice.
    pub fn write_bytes(&mut self, i: usize) -> &'a mut [u8] {
        let place = self.writes[i];
        if place.stored { self.store.write_bytes(place.index) } else { self.scratch.write_bytes(place.index) }
    }
}

/// The memory of a session: parameters, state and packed weights by name, and what its plans compute in.
#[derive(Default)]
pub struct Store {
    arena: Arena,
    used: usize,
    spans: BTreeMap<String, Span>,
    /// One for all plans, because one runs at a time. Made by the first run: a session that only says what it needs takes
    /// no memory.
    scratch: Arena,
}

impl Store {
    /// The span of a name, made when it is new.
    pub fn span(&mut self, name: &str, bytes: usize) -> Span {
        if let Some(span) = self.spans.get(name) {
            return *span;
        }
        let span = Span { start: self.used, len: bytes };
        self.used += bytes.next_multiple_of(ocelli_kernels::arena::ALIGN);
        self.spans.insert(name.to_string(), span);
        span
    }
    /// The values of a name, if there is one.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn get(&mut self, name: &str) -> Result<Option<&mut [f32]>> {
        match self.spans.get(name).copied() {
            Some(span) => Ok(Some(self.arena()?.f32_mut(span))),
            None => Ok(None),
        }
    }
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.used
    }
    /// The memory, grown to what has been asked for.
    fn arena(&mut self) -> Result<&mut Arena> {
        if self.arena.len() < self.used {
            let mut grown = Arena::new(self.used).ok_or_else(|| {
                Error::new(format!(
                    "no memory for {} of parameters, packed or with their state",
                    bytes(self.used as u64)
                ))
                .advice("Use a smaller network, or end other programs.")
            })?;
            let old = Span { start: 0, len: self.arena.len() };
            grown.f32_mut(old).copy_from_slice(self.arena.f32(old));
            self.arena = grown;
        }
        Ok(&mut self.arena)
    }
    /// Memory for a plan to compute in. What another plan has computed may be lost.
    fn reserve_scratch(&mut self, plan: &Plan) -> Result<()> {
        if self.scratch.len() >= plan.bytes {
            return Ok(());
        }
        self.scratch = Arena::default(); // Given back first.
        self.scratch = Arena::new(plan.bytes).ok_or_else(|| {
            let (batch, needed) = (plan.batch, bytes(plan.bytes as u64));
            Error::new(format!("no memory for a batch of {batch}: its activations take {needed}"))
                .advice("Use a smaller --batch-size, or end other programs; `ocelli summary` tells what a batch takes.")
        })?;
        Ok(())
    }
}

/// Collects a plan's buffers and steps.
pub struct Builder<'g> {
    /// The graph being lowered.
    pub graph: &'g Graph,
    /// Most pictures in a run.
    pub batch: usize,
    /// Keep every value, fuse nothing: for looking inside.
    pub keep_all: bool,
    /// How many operations read each value.
    pub readers: Vec<usize>,
    buffers: Vec<Buffer>,
    steps: Vec<PendingStep>,
    of_value: Vec<Option<BufferId>>,
    layer: Option<usize>,
    last_part: bool,
    store: &'g mut Store,
}

struct PendingStep {
    body: Body,
    reads: Vec<BufferId>,
    writes: Vec<BufferId>,
    layer: Option<usize>,
    last_part: bool,
    name: &'static str,
    kernel: Option<&'static str>,
    constant: bool,
}

impl<'g> Builder<'g> {
    /// An empty plan for a graph.
    pub fn new(graph: &'g Graph, batch: usize, keep_all: bool, store: &'g mut Store) -> Builder<'g> {
        let mut readers: Vec<usize> = graph.consumers().iter().map(Vec::len).collect();
        graph.results.iter().for_each(|v| readers[v.index()] += 1);
        let of_value = vec![None; graph.values.len()];
        let (buffers, steps) = (vec![], vec![]);
        Builder { graph, batch, keep_all, readers, buffers, steps, of_value, layer: None, last_part: false, store }
    }

    /// Whether the graph changes its parameters.
    pub fn trains(&self) -> bool {
        self.graph.forward_nodes < self.graph.nodes.len()
    }

    /// The layer that the next steps belong to, and whether they run in a batch's last part only.
    pub fn set_node(&mut self, node: &Node) {
        (self.layer, self.last_part) = (node.layer, node.op.last_part());
    }

    /// Memory that lives across runs, shared by all plans under the same name.
    pub fn stored(&mut self, name: &str, floats: usize) -> BufferId {
        let span = self.store.span(name, floats * 4);
        self.buffer(floats * 4, Bank::Store(span), true)
    }

    /// Memory for this run only.
    pub fn scratch(&mut self, floats: usize) -> BufferId {
        self.buffer(floats * 4, Bank::Scratch, false)
    }

    /// Memory for this run only, in bytes.
    pub fn scratch_bytes(&mut self, bytes: usize) -> BufferId {
        self.buffer(bytes, Bank::Scratch, false)
    }

    fn buffer(&mut self, bytes: usize, bank: Bank, keep: bool) -> BufferId {
        self.buffers.push(Buffer { bytes, bank, keep });
        BufferId(self.buffers.len() - 1)
    }

    /// The buffer that holds a value; made when asked for the first time.
    pub fn of(&mut self, value: ValueId) -> BufferId {
        if let Some(buffer) = self.of_value[value.index()] {
            return buffer;
        }
        let graph = self.graph;
        let ty = graph.ty(value);
        let elements = ty.elements(self.batch);
        let buffer = match &graph.values[value.index()].name {
            Some(name) if graph.stored.contains(&value) => self.stored(name, elements),
            _ => {
                let bytes = if ty.element == ElementType::U8 { elements } else { elements * 4 };
                let keep = self.keep_all || graph.results.contains(&value);
                self.buffer(bytes, Bank::Scratch, keep)
            }
        };
        self.of_value[value.index()] = Some(buffer);
        buffer
    }

    /// Lets a value share the buffer of another one.
    pub fn alias(&mut self, value: ValueId, buffer: BufferId) {
        self.buffers[buffer.0].keep |= self.graph.results.contains(&value);
        self.of_value[value.index()] = Some(buffer);
    }

    /// Whether `value`, read by the operation being lowered, is read by nothing else, so that its memory may be
    /// overwritten by the result.
    pub fn may_overwrite(&mut self, value: ValueId) -> bool {
        let buffer = self.of(value);
        let sharers = self.of_value.iter().filter(|b| **b == Some(buffer)).count();
        !self.keep_all
            && self.readers[value.index()] == 1
            && sharers == 1
            && self.buffers[buffer.0].bank == Bank::Scratch
            && !self.buffers[buffer.0].keep
    }

    /// Adds a step.
    pub fn step(&mut self, name: &'static str, reads: &[BufferId], writes: &[BufferId], body: Body) {
        let (reads, writes, layer, last_part) = (reads.to_vec(), writes.to_vec(), self.layer, self.last_part);
        self.steps.push(PendingStep { body, reads, writes, layer, last_part, name, kernel: None, constant: false });
    }

    /// Says which kernel the last step chose.
    pub fn kernel(&mut self, kernel: &'static str) {
        if let Some(step) = self.steps.last_mut() {
            step.kernel = Some(kernel);
        }
    }

    /// Adds a step whose result depends on parameters only. When the graph does not change them it runs once, and its
    /// result must be [`Builder::stored`].
    pub fn constant_step(&mut self, name: &'static str, reads: &[BufferId], writes: &[BufferId], body: Body) {
        self.step(name, reads, writes, body);
        let constant = !self.trains();
        if let Some(step) = self.steps.last_mut() {
            step.constant = constant;
        }
    }

    /// Marks the end of the forward pass: the number of steps so far.
    pub fn steps_so_far(&self) -> usize {
        self.steps.iter().filter(|s| !s.constant).count()
    }

    /// Packs the buffers and finishes the plan. `forward_steps` comes from [`Builder::steps_so_far`].
    pub fn finish(self, forward_steps: usize) -> Plan {
        let (constants, steps): (Vec<_>, Vec<_>) = self.steps.into_iter().partition(|s| s.constant);
        let mut lives = vec![None; self.buffers.len()];
        for (time, step) in constants.iter().chain(&steps).enumerate() {
            for buffer in step.reads.iter().chain(&step.writes) {
                let (first, last) = lives[buffer.0].get_or_insert((time, time));
                *first = time.min(*first);
                *last = time.max(*last);
            }
        }
        let end = constants.len() + steps.len();
        let requests: Vec<memory::Request> = self
            .buffers
            .iter()
            .zip(&lives)
            .map(|(buffer, live)| match (buffer.bank, live) {
                (Bank::Scratch, Some((first, last))) => {
                    let last = if buffer.keep { end } else { *last };
                    memory::Request { bytes: buffer.bytes, first: *first, last }
                }
                _ => memory::Request { bytes: 0, first: 0, last: 0 },
            })
            .collect();
        let (offsets, bytes) = memory::pack(&requests);
        let span = |id: &BufferId| match self.buffers[id.0].bank {
            Bank::Store(span) => (true, span),
            Bank::Scratch => (false, Span { start: offsets[id.0], len: self.buffers[id.0].bytes }),
        };
        let place = |ids: &[BufferId]| {
            let (mut store, mut scratch, mut places) = (vec![], vec![], vec![]);
            for (stored, span) in ids.iter().map(span) {
                let list = if stored { &mut store } else { &mut scratch };
                list.push(span);
                places.push(Place { stored, index: list.len() - 1 });
            }
            (places, store, scratch)
        };
        let bind = |step: PendingStep| {
            let (reads, store_reads, scratch_reads) = place(&step.reads);
            let (writes, store_writes, scratch_writes) = place(&step.writes);
            let spans = [store_reads, store_writes, scratch_reads, scratch_writes];
            let PendingStep { body, layer, last_part, name, kernel, .. } = step;
            Step { body, reads, writes, spans, sources: vec![], layer, last_part, name, kernel }
        };
        let values = self.of_value.iter().map(|b| b.as_ref().map(&span)).collect();
        let mut constants: Vec<Step> = constants.into_iter().map(&bind).collect();
        let steps: Vec<Step> = steps.into_iter().map(&bind).collect();
        let used = |step: &Step| step.spans[..2].concat();
        let mut later: Vec<Span> = steps.iter().flat_map(used).collect();
        for step in constants.iter_mut().rev() {
            step.sources = step.spans[0].iter().filter(|span| !later.contains(span)).copied().collect();
            later.extend(used(step));
        }
        Plan { constants, steps, settled: false, forward_steps, values, bytes, batch: self.batch }
    }
}

/// Steps over one arena.
pub struct Plan {
    constants: Vec<Step>,
    steps: Vec<Step>,
    /// Whether a constant step gives back what nothing after it reads.
    settled: bool,
    forward_steps: usize,
    values: Vec<Option<(bool, Span)>>,
    bytes: usize,
    /// Most pictures in a run.
    pub batch: usize,
}

/// Which part of a plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Steps that depend on parameters only: packing weights.
    Constants,
    /// Forward pass and loss.
    Forward,
    /// Gradients and updates.
    Backward,
}

impl Plan {
    /// The steps of a part.
    pub fn steps(&self, part: Part) -> &[Step] {
        match part {
            Part::Constants => &self.constants,
            Part::Forward => &self.steps[..self.forward_steps],
            Part::Backward => &self.steps[self.forward_steps..],
        }
    }

    /// Takes the memory of the plan and of the parameters, as the first run would do.
    ///
    /// # Errors
    /// There is not enough.
    pub fn reserve(&self, store: &mut Store) -> Result<()> {
        store.reserve_scratch(self)?;
        store.arena().map(drop)
    }

    /// From now on the constants give the memory of parameters back that nothing else reads, so they run once more at most.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// Bytes of the parameters that a settled plan gives back.
    pub fn given_back(&self) -> usize {
        let sources = self.constants.iter().filter(|_| self.settled).flat_map(|step| &step.sources);
        sources.map(|span| span.len).sum()
    }

    /// Runs a part; `after` is called after each step.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn run(&self, part: Part, run: &Run, store: &mut Store, mut after: impl FnMut(&Step)) -> Result<()> {
        self.reserve(store)?;
        let Store { arena, scratch, .. } = store;
        for step in self.steps(part) {
            if step.last_part && run.feed.rest > 0 {
                continue;
            }
            let [store_reads, store_writes, scratch_reads, scratch_writes] = &step.spans;
            let mut io = Io {
                store: arena.parts(store_reads, store_writes),
                scratch: scratch.parts(scratch_reads, scratch_writes),
                reads: &step.reads,
                writes: &step.writes,
            };
            (step.body)(run, &mut io);
            if self.settled {
                step.sources.iter().for_each(|&span| arena.give_back(span));
            }
            after(step);
        }
        Ok(())
    }

    /// The memory of a value after a run, if it was kept and no other plan ran since.
    pub fn value<'a>(&self, value: ValueId, store: &'a Store) -> Option<&'a [f32]> {
        let (stored, span) = self.values.get(value.index()).copied().flatten()?;
        let arena = if stored { &store.arena } else { &store.scratch };
        (span.range().end <= arena.len()).then(|| arena.f32(span))
    }

    /// Bytes of activations, gradients and workspace.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
