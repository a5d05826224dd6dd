//! Reverse-mode differentiation as a transformation of the graph: it appends the operations that compute gradients.

use super::{Activation, Graph, Node, Op, Type, ValueId, is_channel_factor};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Gradients of a graph's results, by value.
pub struct Gradients {
    by_value: Vec<Option<ValueId>>,
}

impl Gradients {
    /// The gradient with respect to a value; `None` where it does not influence the result or was not asked for.
    pub fn get(&self, value: ValueId) -> Option<ValueId> {
        self.by_value.get(value.index()).copied().flatten()
    }
}

/// Appends the gradients of `seeds` (a value and the gradient of the loss with respect to it) with respect to `wanted`.
/// Only what leads to a wanted value is computed, so the first layer's data gradient is not.
///
/// `done` is called with each wanted value as soon as its gradient is complete, so that an update can follow at once and
/// the gradient's memory be used again.
///
/// # Errors
/// An operation on the way has no derivative.
pub fn append(
    graph: &mut Graph,
    seeds: &[(ValueId, ValueId)],
    wanted: &[ValueId],
    mut done: impl FnMut(&mut Graph, ValueId, ValueId) -> Result<()>,
) -> Result<Gradients> {
    let wanted: BTreeSet<ValueId> = wanted.iter().copied().collect();
    let forward: Vec<Node> = graph.nodes.clone();
    let mut needed = vec![false; graph.values.len()];
    wanted.iter().for_each(|v| needed[v.index()] = true);
    for node in &forward {
        if node.inputs.iter().any(|v| needed[v.index()]) {
            node.outputs.iter().for_each(|v| needed[v.index()] = true);
        }
    }
    // For each wanted value, the earliest node that reads it: after its gradient, nothing is added any more.
    let mut last_use = vec![usize::MAX; needed.len()];
    for (i, node) in forward.iter().enumerate().rev() {
        node.inputs.iter().for_each(|v| last_use[v.index()] = i);
    }
    let mut gradients = Gradients { by_value: vec![None; graph.values.len()] };
    for &(value, seed) in seeds {
        accumulate(graph, &mut gradients, value, seed)?;
    }
    for (i, node) in forward.iter().enumerate().rev() {
        let reached = gradients.get(node.outputs.first().copied().unwrap_or(ValueId(u32::MAX)));
        let Some(dy) = reached.filter(|_| node.inputs.iter().any(|v| needed[v.index()])) else { continue };
        graph.layer = node.layer;
        let need = |k: usize| node.inputs.get(k).is_some_and(|v| needed[v.index()]);
        for (input, gradient) in rule(graph, node, dy, &need)? {
            if need(input) {
                accumulate(graph, &mut gradients, node.inputs[input], gradient)?;
            }
        }
        let complete: BTreeSet<ValueId> =
            node.inputs.iter().copied().filter(|v| wanted.contains(v) && last_use[v.index()] == i).collect();
        for value in complete {
            if let Some(gradient) = gradients.get(value) {
                done(graph, value, gradient)?;
            }
        }
    }
    graph.layer = None;
    Ok(gradients)
}

fn accumulate(graph: &mut Graph, gradients: &mut Gradients, value: ValueId, gradient: ValueId) -> Result<()> {
    let sum = match gradients.get(value) {
        Some(before) => graph.push(Op::Add, &[before, gradient])?,
        None => gradient,
    };
    gradients.by_value[value.index()] = Some(sum);
    Ok(())
}

/// The gradients with respect to a node's inputs: (position of the input, gradient).
fn rule(graph: &mut Graph, node: &Node, dy: ValueId, need: &dyn Fn(usize) -> bool) -> Result<Vec<(usize, ValueId)>> {
    let x = node.inputs.first().copied().unwrap_or(dy);
    let y = node.outputs[0];
    let maps = |graph: &Graph, v: ValueId| graph.ty(v).as_maps();
    let one = |graph: &mut Graph, op: Op, inputs: &[ValueId]| Ok(vec![(0, graph.push(op, inputs)?)]);
    match &node.op {
        Op::Conv { window, groups, activation: None } => {
            let (window, groups, bias) = (*window, *groups, node.inputs.len() > 2);
            let mut out = Vec::new();
            if need(1) || need(2) {
                let made = graph.push_all(Op::ConvWeight { window, groups, bias }, &[x, dy])?;
                out.extend(made.into_iter().enumerate().map(|(i, g)| (i + 1, g)));
            }
            if need(0) {
                let input = maps(graph, x)?.1;
                out.push((0, graph.push(Op::ConvData { window, groups, input }, &[dy, node.inputs[1]])?));
            }
            Ok(out)
        }
        Op::Linear { activation: None } => {
            let bias = node.inputs.len() > 2;
            let mut out = Vec::new();
            // The data gradient reads the weights, so it comes before an update that may follow the weights' gradient.
            if need(0) {
                out.push((0, graph.push(Op::LinearData, &[dy, node.inputs[1]])?));
            }
            if need(1) || need(2) {
                let made = graph.push_all(Op::LinearWeight { bias }, &[x, dy])?;
                out.extend(made.into_iter().enumerate().map(|(i, g)| (i + 1, g)));
            }
            Ok(out)
        }
        Op::Flatten => {
            let (c, [h, w]) = maps(graph, x)?;
            one(graph, Op::Unflatten([c, h, w]), &[dy])
        }
        Op::Unflatten(_) => one(graph, Op::Flatten, &[dy]),
        &Op::Pad { amount, mode } => one(graph, Op::PadBackward { amount, mode }, &[dy]),
        &Op::MaxPool(pool) => {
            let input = maps(graph, x)?.1;
            one(graph, Op::MaxPoolBackward { pool, input }, &[dy, node.outputs[1]])
        }
        &Op::AvgPool(pool) => {
            let input = maps(graph, x)?.1;
            one(graph, Op::AvgPoolBackward { pool, input }, &[dy])
        }
        Op::AdaptiveAvgPool(_) => {
            let input = maps(graph, x)?.1;
            one(graph, Op::AdaptiveAvgPoolBackward { input }, &[dy])
        }
        &Op::Activate(activation) => activate(graph, activation, dy, x, y),
        Op::BatchNorm { activation: None, .. } => {
            let inputs = [dy, x, node.inputs[1], node.outputs[1], node.outputs[3]];
            let made = graph.push_all(Op::BatchNormBackward { activation: None }, &inputs)?;
            Ok(made.into_iter().enumerate().collect())
        }
        &Op::BatchNormInfer { eps } => {
            let inputs = [dy, x, node.inputs[1], node.inputs[3], node.inputs[4]];
            let made = graph.push_all(Op::BatchNormInferBackward { eps }, &inputs)?;
            Ok(made.into_iter().enumerate().collect())
        }
        Op::Spread(spread) => one(graph, Op::Gather(spread.clone()), &[dy]),
        Op::AddBias => {
            let mut out = vec![(0, dy)];
            if need(1) {
                out.push((1, graph.push(Op::AddBiasGradient, &[dy])?));
            }
            Ok(out)
        }
        &Op::Scale(factor) => one(graph, Op::Scale(factor), &[dy]),
        Op::Radial => {
            let (mut out, inputs) = (Vec::new(), [dy, x, node.inputs[1]]);
            if need(0) {
                out.push((0, graph.push(Op::RadialData, &inputs)?));
            }
            if need(1) {
                out.push((1, graph.push(Op::RadialWeight, &inputs)?));
            }
            Ok(out)
        }
        &Op::Lrn { lrn, groups } => one(graph, Op::LrnBackward { lrn, groups }, &[dy, x]),
        Op::Add => Ok(vec![(0, dy), (1, dy)]),
        Op::Multiply => {
            let [a, b] = [node.inputs[0], node.inputs[1]];
            let mut out = Vec::new();
            if need(0) {
                out.push((0, graph.push(Op::Multiply, &[dy, b])?));
            }
            if need(1) {
                let per_channel = is_channel_factor(graph.ty(a), graph.ty(b));
                let op = if per_channel { Op::MultiplyReduce } else { Op::Multiply };
                out.push((1, graph.push(op, &[dy, a])?));
            }
            Ok(out)
        }
        Op::Concat => {
            let mut out = Vec::new();
            let mut start = 0;
            for (i, &input) in node.inputs.iter().enumerate() {
                let channels = channels(graph.ty(input));
                if need(i) {
                    out.push((i, graph.push(Op::Slice { start, channels }, &[dy])?));
                }
                start += channels;
            }
            Ok(out)
        }
        Op::Softmax => one(graph, Op::SoftmaxBackward, &[dy, y]),
        &Op::Dropout { rate, key } => one(graph, Op::DropoutBackward { rate, key }, &[dy]),
        other => Err(no_derivative(other)),
    }
}

fn activate(
    graph: &mut Graph,
    activation: Activation,
    dy: ValueId,
    x: ValueId,
    y: ValueId,
) -> Result<Vec<(usize, ValueId)>> {
    let saved = if activation.saves_output() { y } else { x };
    Ok(vec![(0, graph.push(Op::ActivateBackward(activation), &[dy, saved])?)])
}

fn channels(ty: &Type) -> usize {
    ty.sizes(1).get(1).copied().unwrap_or(1)
}

fn no_derivative(op: &Op) -> Error {
    Error::new(format!("{} has no derivative here, so a network with it cannot be trained", op.name()))
        .advice("Use it for inference only, or replace that layer.")
}
