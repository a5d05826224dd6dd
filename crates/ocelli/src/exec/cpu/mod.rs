//! The CPU backend: SIMD kernels over channels-last activations, planned over one arena.
//!
//! Feature maps `[batch, channels, height, width]` lie in memory as `[batch, height, width, channels]`; features and
//! parameters lie as the graph writes them.

mod early;
mod fuse;
mod lower;
mod maps;
mod reduce;
mod weighted;

use super::{Backend, Device, Feed, Memory, Part, Session, Timing};
use crate::error::{Error, Result};
use crate::graph::{ElementType, Graph, ValueId};
use crate::plan::{Builder, Plan, Run, Store};
use ocelli_kernels::layout;
use std::sync::Arc;
use std::time::Instant;

/// The CPU backend.
pub struct Cpu;

impl Backend for Cpu {
    fn open(&self, device: &Device) -> Result<Box<dyn Session>> {
        let cpu = ocelli_kernels::Cpu::new(device.threads.max(1))
            .map_err(|what| Error::usage(what).advice("Unset OCELLI_ISA to use the fastest instruction set."))?;
        Ok(Box::new(CpuSession {
            cpu,
            exact: device.exact,
            store: Store::default(),
            plans: Vec::new(),
            ran: None,
            version: 1,
            settled: false,
        }))
    }
}

struct CpuSession {
    cpu: ocelli_kernels::Cpu,
    /// [`Device::exact`].
    exact: bool,
    store: Store,
    plans: Vec<Planned>,
    /// The plan whose values lie in the memory that all of them compute in.
    ran: Option<usize>,
    /// Raised whenever a parameter may have changed.
    version: u64,
    /// Whether parameters stay as they are, see [`Session::settle`].
    settled: bool,
}

struct Planned {
    graph: Arc<Graph>,
    plan: Plan,
    /// The version of the parameters that the packed weights were made from.
    packed: u64,
}

impl CpuSession {
    fn run_with(
        &mut self,
        plan: usize,
        part: Part,
        n: usize,
        feed: &Feed,
        after: impl FnMut(&crate::plan::Step),
    ) -> Result<()> {
        let planned = &mut self.plans[plan];
        if n > planned.plan.batch {
            return Err(Error::new(format!("{n} pictures in a plan made for {}", planned.plan.batch)));
        }
        match part {
            Part::Constants if planned.packed == self.version => return Ok(()),
            Part::Constants => planned.packed = self.version,
            Part::Forward => {}
            Part::Backward => self.version += 1,
        }
        self.ran = Some(plan);
        planned.plan.run(part, &Run { cpu: &self.cpu, n, feed }, &mut self.store, after)
    }

    /// Fails where parameters are packed for good, because they are not what they were.
    fn check_open(&self) -> Result<()> {
        if self.settled && self.plans.iter().any(|planned| planned.packed > 0) {
            return Err(Error::new("the parameters of this network are packed for good: it can only answer")
                .advice("Open it without Inference::only_answers."));
        }
        Ok(())
    }

    /// A value of the plan that ran last.
    fn value(&self, plan: usize, value: ValueId) -> Option<&[f32]> {
        (self.ran == Some(plan)).then(|| self.plans[plan].plan.value(value, &self.store)).flatten()
    }
}

impl Session for CpuSession {
    fn add(&mut self, graph: &Arc<Graph>, batch: usize, keep_all: bool) -> Result<usize> {
        self.check_open()?;
        let fused = if keep_all { (**graph).clone() } else { fuse::fuse(graph) };
        let within = if keep_all { vec![None; fused.values.len()] } else { fuse::concatenated(&fused) };
        let mut builder = Builder::new(&fused, batch, keep_all, &mut self.store);
        let isa = self.cpu.isa();
        let threads = self.cpu.pool().threads();
        let mut forward = None;
        for (i, node) in fused.nodes.iter().enumerate() {
            if i == fused.forward_nodes {
                forward = Some(builder.steps_so_far());
            }
            builder.set_node(node);
            lower::Lower { b: &mut builder, node, isa, threads, exact: self.exact, within: &within }.lower()?;
        }
        let forward = forward.unwrap_or(builder.steps_so_far());
        let plan = builder.finish(forward);
        self.plans.push(Planned { graph: Arc::new(fused), plan, packed: 0 });
        Ok(self.plans.len() - 1)
    }

    fn reserve(&mut self, plan: usize) -> Result<()> {
        self.ran = None;
        self.plans[plan].plan.reserve(&mut self.store)
    }

    fn settle(&mut self, plan: usize) {
        if self.plans.len() == 1 {
            self.settled = true;
            self.plans[plan].plan.settle();
        }
    }

    fn run(&mut self, plan: usize, part: Part, n: usize, feed: &Feed) -> Result<()> {
        self.run_with(plan, part, n, feed, |_| {})
    }

    fn profile(&mut self, plan: usize, part: Part, n: usize, feed: &Feed) -> Result<Vec<Timing>> {
        let mut timings = Vec::new();
        let mut last = Instant::now();
        self.run_with(plan, part, n, feed, |step| {
            let now = Instant::now();
            let ms = (now - last).as_secs_f64() * 1e3;
            timings.push(Timing { layer: step.layer, step: step.name, kernel: step.kernel, ms });
            last = now;
        })?;
        Ok(timings)
    }

    fn fetch_into(&mut self, plan: usize, value: ValueId, n: usize, out: &mut Vec<f32>) -> Option<()> {
        let planned = &self.plans[plan];
        let ty = planned.graph.ty(value);
        if ty.element != ElementType::F32 {
            return None;
        }
        let data = self.value(plan, value)?.get(..ty.elements(n))?;
        let Some((channels, [h, w])) = ty.map_sizes() else {
            out.extend_from_slice(data);
            return Some(());
        };
        let start = out.len();
        out.resize(start + data.len(), 0.0);
        layout::channels_first(&self.cpu, n, channels, h * w, data, &mut out[start..]);
        Some(())
    }

    fn number(&mut self, plan: usize, value: ValueId) -> f32 {
        self.value(plan, value).and_then(|v| v.first().copied()).unwrap_or(f32::NAN)
    }

    fn write(&mut self, name: &str, start: usize, values: &[f32]) -> Result<()> {
        self.check_open()?;
        self.version += 1;
        if let Some(part) = self.store.get(name)?.and_then(|stored| stored.get_mut(start..start + values.len())) {
            part.copy_from_slice(values);
        }
        Ok(())
    }

    fn read(&mut self, name: &str) -> Option<Vec<f32>> {
        self.check_open().ok()?;
        self.store.get(name).ok()?.map(|values| values.to_vec())
    }

    fn memory(&self) -> Memory {
        let scratch = self.plans.iter().map(|p| p.plan.bytes()).max().unwrap_or_default();
        let given: usize = self.plans.iter().map(|p| p.plan.given_back()).sum();
        Memory { stored: self.store.bytes() - given, scratch }
    }
}
