//! Running networks: inference and training on a backend.
//!
//! A [`Backend`] opens a [`Session`]: parameters and state by name, and any number of plans over them. The plain
//! interpreter ([`plain`]) runs every graph and is what the others are compared with; [`cpu`] is the fast one.

mod average;
mod build;
pub mod cpu;
mod gradients;
mod inference;
mod operations;
mod optimizer;
pub mod plain;
mod training;

pub use gradients::{GradientsOf, gradients};
pub use inference::Inference;
pub use optimizer::Optimizer;
pub use training::{StepResult, TrainOptions, Training, part_size};

pub use crate::graph::LossKind as Loss;
pub use crate::plan::{Feed, Part};

use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::net::Resolved;
use std::sync::Arc;

/// Which backend runs a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// SIMD kernels over one arena.
    #[default]
    Cpu,
    /// The plain interpreter: slow, simple, the oracle of the others.
    Plain,
}

/// What a network runs on.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// The backend.
    pub backend: Kind,
    /// Threads, at least one.
    pub threads: usize,
    /// Sums as the definitions have them: no Winograd, whose sums differ by rounding.
    pub exact: bool,
}

impl Default for Device {
    /// The CPU with a thread for each core.
    fn default() -> Device {
        Device::cpu(std::thread::available_parallelism().map_or(1, |n| n.get()))
    }
}

impl Device {
    /// The CPU with a number of threads.
    pub fn cpu(threads: usize) -> Device {
        Device { backend: Kind::Cpu, threads, exact: false }
    }
    /// The plain interpreter.
    pub fn plain() -> Device {
        Device { backend: Kind::Plain, threads: 1, exact: true }
    }
    /// The same with [`Device::exact`] set.
    pub fn exact(self, exact: bool) -> Device {
        Device { exact, ..self }
    }
    /// Opens a session on the backend.
    ///
    /// # Errors
    /// `OCELLI_ISA` names an instruction set that this processor lacks.
    pub fn session(&self) -> Result<Box<dyn Session>> {
        match self.backend {
            Kind::Cpu => cpu::Cpu.open(self),
            Kind::Plain => plain::Plain.open(self),
        }
    }
}

/// Something that can run graphs.
pub trait Backend {
    /// Opens a session without parameters or plans.
    ///
    /// # Errors
    /// The device cannot be used.
    fn open(&self, device: &Device) -> Result<Box<dyn Session>>;
}

/// Parameters and state by name, and plans that use them.
pub trait Session: Send {
    /// Makes a plan for at most `batch` pictures; `keep_all` keeps every value readable afterwards.
    ///
    /// # Errors
    /// The backend does not support an operation.
    fn add(&mut self, graph: &Arc<Graph>, batch: usize, keep_all: bool) -> Result<usize>;
    /// Takes the memory of a plan and of all parameters, as its first run would do.
    ///
    /// # Errors
    /// There is not enough.
    fn reserve(&mut self, plan: usize) -> Result<()>;
    /// Promises that this is the only plan, and that parameters will not change once it has run: where weights are packed,
    /// they need not be kept as they were. Adding plans and writing parameters fails from then on.
    fn settle(&mut self, _plan: usize) {}
    /// Runs a part of a plan with `n` pictures.
    ///
    /// # Errors
    /// The feed does not fit the graph.
    fn run(&mut self, plan: usize, part: Part, n: usize, feed: &Feed) -> Result<()>;
    /// Appends a value after a run with `n` pictures, in the layout that the graph writes. `None` where it was not kept.
    fn fetch_into(&mut self, plan: usize, value: ValueId, n: usize, out: &mut Vec<f32>) -> Option<()>;
    /// As [`Session::fetch_into`], in memory of its own.
    fn fetch(&mut self, plan: usize, value: ValueId, n: usize) -> Option<Vec<f32>> {
        let mut out = Vec::new();
        self.fetch_into(plan, value, n, &mut out).map(|()| out)
    }
    /// The first number of a value, without allocating.
    fn number(&mut self, plan: usize, value: ValueId) -> f32;
    /// Sets values of a parameter or state from the `start`-th on; names that no plan uses are ignored.
    ///
    /// # Errors
    /// There is not enough memory.
    fn write(&mut self, name: &str, start: usize, values: &[f32]) -> Result<()>;
    /// A parameter or state.
    fn read(&mut self, name: &str) -> Option<Vec<f32>>;
    /// Memory in use.
    fn memory(&self) -> Memory;
    /// Runs a part and tells the time of each step.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn profile(&mut self, plan: usize, part: Part, n: usize, feed: &Feed) -> Result<Vec<Timing>>;
}

/// Bytes that a session holds, or will after its first run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Parameters, optimiser state and packed weights.
    pub stored: usize,
    /// Activations, gradients and workspace: of the plan that needs most, because the plans run one at a time.
    pub scratch: usize,
}

impl Memory {
    /// All of it.
    pub fn bytes(&self) -> usize {
        self.stored + self.scratch
    }
}

/// What a session is opened for.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// Answers and nothing else, see [`Inference::only_answers`].
    Infer,
    /// Training steps alone, and the average where one is kept.
    Train(&'a TrainOptions),
    /// Training steps, and answers of the network in training between them.
    TrainAndEvaluate(&'a TrainOptions),
}

/// What work takes for a batch (or a part of one); asked of the plans, without taking it.
///
/// A [`Training`] takes what [`Work::Train`] does until it answers for the first time: the system gives memory that nothing
/// has been written to yet to nobody.
///
/// # Errors
/// The network cannot be run, or not be trained.
pub fn memory(net: &Resolved, work: Work, device: &Device, batch: usize) -> Result<Memory> {
    let mut session = device.session()?;
    if let Work::Train(options) | Work::TrainAndEvaluate(options) = work {
        session.add(&Arc::new(build::training(net, options, batch)?.graph), batch, false)?;
        if options.average {
            average::Averages::add(net, &mut *session, batch)?;
        }
    }
    if let Work::Infer | Work::TrainAndEvaluate(_) = work {
        let mut evaluated = build::inference(net)?;
        if matches!(work, Work::TrainAndEvaluate(options) if options.average) {
            average::rename(&mut evaluated);
        }
        let plan = session.add(&Arc::new(evaluated), batch, false)?;
        if let Work::Infer = work {
            session.settle(plan);
        }
    }
    Ok(session.memory())
}

/// Time of one step of a plan.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The layer that it belongs to.
    pub layer: Option<usize>,
    /// What it does.
    pub step: &'static str,
    /// Which of several kernels does it.
    pub kernel: Option<&'static str>,
    /// Milliseconds.
    pub ms: f64,
}
