//! The plain interpreter: one operation after the other with the naive references, generic over `f32` and `f64`.
//!
//! Slow and simple, it runs any graph and is what every other backend is compared with. In `f64` it is the truth of
//! gradient checks.

use super::operations::{Made, compute};
use super::{Backend, Device, Memory, Optimizer, Part, Session, Timing};
use crate::error::{Error, Result};
use crate::graph::{Graph, LossKind, Node, Op, ValueId};
use crate::plan::Feed;
use ocelli_kernels::loss::Cost;
use ocelli_kernels::real::Real;
use ocelli_kernels::update::{Rule, Step, update_reference};
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

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
