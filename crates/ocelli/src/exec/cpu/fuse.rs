//! Fusion: operations that one kernel computes in one pass over its output.
//!
//! Forward, activations move into the convolution, linear layer or batch norm before them, a batch norm of fixed statistics
//! into the convolution before it, and the sum with a shortcut into either. Backward, the sum of a value's gradients moves into the
//! convolution whose data gradient is the last of them, the gradient of an activation moves into the batch norm's, and
//! before a max pooling's, where the maps are smaller: a maximum that the activation let pass is the pooling's output. The
//! update of a linear layer's weights moves into their gradient, which then is never written. A convolution or batch norm that
//! only a concatenation reads writes its channels among those of the others.

use crate::graph::{Activation, ConvNorm, Graph, Node, Op, ValueId, conv_shape};
use ocelli_kernels::conv::Chain;
use ocelli_kernels::geometry::ConvShape;

/// Bytes of a picture's wide map from which on an inverted residual block is computed row by row.
const WIDE: usize = 256 << 10;

/// The graph with fused operations. A value that anything else reads stays as it is.
pub fn fuse(graph: &Graph) -> Graph {
    let mut readers: Vec<usize> = graph.consumers().iter().map(Vec::len).collect();
    graph.results.iter().for_each(|v| readers[v.index()] += 1);
    let mut fused = graph.clone();
    fused.nodes.clear();
    // Position in the new list of the node that makes a value.
    let mut maker: Vec<Option<usize>> = vec![None; graph.values.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        if i == graph.forward_nodes {
            fused.forward_nodes = fused.nodes.len();
        }
        let before = node.inputs.first().filter(|x| readers[x.index()] == 1).and_then(|x| maker[x.index()]);
        if let Some((at, pool)) = before.and_then(|at| Some((at, pooled(&fused, &fused.nodes[at], node)?))) {
            // dy passes the activation's gradient first, then goes to the maxima.
            let scatter = fused.nodes[at].clone();
            let masked = fused.value(fused.ty(scatter.inputs[0]).clone(), None);
            fused.nodes[at] = Node { inputs: vec![scatter.inputs[0], pool], outputs: vec![masked], ..node.clone() };
            let inputs = vec![masked, scatter.inputs[1]];
            fused.nodes.insert(at + 1, Node { inputs, outputs: node.outputs.clone(), ..scatter });
            maker.iter_mut().flatten().filter(|made| **made > at).for_each(|made| *made += 1);
            maker.push(Some(at));
            maker[node.outputs[0].index()] = Some(at + 1);
            continue;
        }
        if let Some((at, update)) = updated(&fused, &readers, &maker, node) {
            fused.nodes[at] = update;
            continue;
        }
        let merged = before.and_then(|at| Some((at, merge(&fused, &fused.nodes[at], node)?)));
        let merged = merged.or_else(|| shortcut(&fused, &readers, &maker, node));
        let at = match merged {
            Some((at, node)) => {
                fused.nodes[at] = node;
                at
            }
            None => {
                fused.nodes.push(node.clone());
                fused.nodes.len() - 1
            }
        };
        fused.nodes[at].outputs.iter().for_each(|v| maker[v.index()] = Some(at));
    }
    if graph.forward_nodes >= graph.nodes.len() {
        fused = chains(fused);
        fused.forward_nodes = fused.nodes.len();
    }
    fused
}

/// Some channels of a wider map.
#[derive(Clone, Copy)]
pub struct Within {
    pub whole: ValueId,
    pub first: usize,
    /// Of the wider map.
    pub channels: usize,
}

/// For each value whether it is written as a part of a concatenation: the output of a convolution or batch norm that nothing else
/// reads.
pub fn concatenated(graph: &Graph) -> Vec<Option<Within>> {
    let mut within = vec![None; graph.values.len()];
    let consumers = graph.consumers();
    let placed = |value: &ValueId| {
        let makes = |node: &&Node| node.outputs.first() == Some(value);
        let maker = graph.nodes.iter().find(makes);
        maker.is_some_and(|node| matches!(node.op, Op::Conv { .. } | Op::ConvNorm(_) | Op::BatchNorm { .. }))
    };
    for node in graph.nodes.iter().filter(|node| matches!(node.op, Op::Concat)) {
        let channels_of = |value: &ValueId| {
            let ty = graph.ty(*value);
            ty.as_maps().map_or(ty.per_picture(), |(channels, _)| channels)
        };
        let (whole, channels) = (node.outputs[0], channels_of(&node.outputs[0]));
        let mut first = 0;
        for value in &node.inputs {
            let alone = consumers[value.index()].len() == 1 && !graph.results.contains(value);
            if alone && placed(value) {
                within[value.index()] = Some(Within { whole, first, channels });
            }
            first += channels_of(value);
        }
    }
    within
}

/// An inference whose inverted residual blocks are one node each, in place of the last convolution.
fn chains(mut graph: Graph) -> Graph {
    let consumers = graph.consumers();
    for node in std::mem::take(&mut graph.nodes) {
        graph.nodes.push(node);
        let starts = [3, 2].into_iter().filter_map(|len| graph.nodes.len().checked_sub(len));
        let chained = starts.into_iter().find_map(|at| Some((at, chain(&graph, &consumers, &graph.nodes[at..])?)));
        if let Some((at, node)) = chained {
            graph.nodes.truncate(at);
            graph.nodes.push(node);
        }
    }
    graph
}

/// One node in place of convolutions of which each is read by the next alone, where a kernel computes all of them and the maps
/// between them are large.
fn chain(graph: &Graph, consumers: &[Vec<usize>], nodes: &[Node]) -> Option<Node> {
    let norm = |node: &Node| if let Op::ConvNorm(norm) = node.op { Some(norm) } else { None };
    let stages: Vec<ConvNorm> = nodes.iter().map(norm).collect::<Option<_>>()?;
    let alone = |value: ValueId| consumers[value.index()].len() == 1 && !graph.results.contains(&value);
    let follow = nodes.windows(2).all(|w| w[0].outputs[0] == w[1].inputs[0] && alone(w[0].outputs[0]));
    let (last, before) = nodes.split_last()?;
    if !follow || stages[..before.len()].iter().any(|stage| stage.residual) {
        return None;
    }
    let shape = |(node, stage): (&Node, &ConvNorm)| {
        conv_shape(graph.ty(node.inputs[0]), graph.ty(node.inputs[1]), &stage.window, stage.groups).ok()
    };
    let shapes: Vec<ConvShape> = nodes.iter().zip(&stages).map(shape).collect::<Option<_>>()?;
    let wide = graph.ty(before.last()?.inputs[0]).per_picture() * size_of::<f32>();
    if !Chain::fits(&shapes) || wide < WIDE {
        return None;
    }
    let parameters = nodes.iter().flat_map(|node| &node.inputs[1..]);
    let inputs = nodes[0].inputs[..1].iter().chain(parameters).copied().collect();
    Some(Node { op: Op::Chain(stages), inputs, outputs: last.outputs.clone(), layer: last.layer })
}

/// One node in place of two, where a kernel exists for it.
fn merge(graph: &Graph, first: &Node, second: &Node) -> Option<Node> {
    let (op, inputs) = match (&first.op, &second.op) {
        (&Op::Conv { window, groups, activation: None }, &Op::Activate(activation)) if in_epilogue(activation) => {
            (Op::Conv { window, groups, activation: Some(activation) }, first.inputs.clone())
        }
        (&Op::ConvNorm(norm @ ConvNorm { activation: None, .. }), &Op::Activate(activation))
            if in_epilogue(activation) =>
        {
            (Op::ConvNorm(ConvNorm { activation: Some(activation), ..norm }), first.inputs.clone())
        }
        (Op::Linear { activation: None }, &Op::Activate(activation)) if in_epilogue(activation) => {
            (Op::Linear { activation: Some(activation) }, first.inputs.clone())
        }
        (&Op::Conv { window, groups, activation: None }, &Op::BatchNormInfer { eps }) => {
            let bias = first.inputs.len() > 2;
            let inputs: Vec<ValueId> = first.inputs.iter().chain(&second.inputs[1..]).copied().collect();
            (Op::ConvNorm(ConvNorm { window, groups, bias, eps, activation: None, residual: false }), inputs)
        }
        (&Op::BatchNorm { eps, activation: None }, &Op::Activate(activation)) if in_epilogue(activation) => {
            let op = Op::BatchNorm { eps, activation: Some(activation) };
            let outputs = [&second.outputs[..], &first.outputs[1..]].concat();
            return Some(Node { op, inputs: first.inputs.clone(), outputs, layer: first.layer });
        }
        (&Op::ActivateBackward(activation), Op::BatchNormBackward { activation: None }) if in_epilogue(activation) => {
            // From x and the shift, forward's output is computed again, which is faster than reading it.
            let forward = |node: &&Node| {
                matches!(node.op, Op::BatchNorm { activation: Some(_), .. })
                    && node.inputs.len() == 3
                    && node.outputs[0] == first.inputs[1]
            };
            let shift = graph.nodes.iter().find(forward)?.inputs[2];
            let inputs = [&first.inputs[..1], &second.inputs[1..], &[shift]].concat();
            let op = Op::BatchNormBackward { activation: Some(activation) };
            return Some(Node { op, inputs, outputs: second.outputs.clone(), layer: second.layer });
        }
        _ => return None,
    };
    Some(Node { op, inputs, outputs: second.outputs.clone(), layer: first.layer })
}

/// A linear layer's weight gradient and `node`, the update by it, as one; and where the gradient is made. The layer's data
/// gradient reads the weights before that.
fn updated(graph: &Graph, readers: &[usize], maker: &[Option<usize>], node: &Node) -> Option<(usize, Node)> {
    let &Op::Update { optimizer, rate, decay, clip: None, since } = &node.op else { return None };
    let gradient = node.inputs[1];
    let at = maker[gradient.index()].filter(|_| readers[gradient.index()] == 1)?;
    let first = &graph.nodes[at];
    let &Op::LinearWeight { bias } = &first.op else { return None };
    let op = Op::LinearUpdate { bias, optimizer, rate, decay, since };
    let inputs = [&first.inputs[..], &node.inputs[..1], &node.inputs[2..]].concat();
    Some((at, Node { op, inputs, outputs: first.outputs[1..].to_vec(), layer: first.layer }))
}

/// A sum of two values as the last step of the later one, where that is a convolution or batch norm; and where it is made.
fn shortcut(graph: &Graph, readers: &[usize], maker: &[Option<usize>], node: &Node) -> Option<(usize, Node)> {
    let (Op::Add, &[a, b]) = (&node.op, &node.inputs[..]) else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(sum, other)| {
        let at = maker[sum.index()].filter(|at| readers[sum.index()] == 1 && maker[other.index()] < Some(*at))?;
        let first = &graph.nodes[at];
        let op = match first.op {
            Op::ConvNorm(norm @ ConvNorm { activation: None, residual: false, .. }) => {
                Op::ConvNorm(ConvNorm { residual: true, ..norm })
            }
            Op::BatchNorm { activation: None, .. } if first.inputs.len() == 3 => first.op.clone(),
            Op::ConvData { .. } if first.inputs.len() == 2 => first.op.clone(),
            _ => return None,
        };
        let inputs = [&first.inputs[..], &[other]].concat();
        let outputs = [&node.outputs[..], &first.outputs[1..]].concat();
        Some((at, Node { op, inputs, outputs, layer: first.layer }))
    })
}

/// The output of the max pooling whose gradient `first` is, if `second` is that of the activation before it.
fn pooled(graph: &Graph, first: &Node, second: &Node) -> Option<ValueId> {
    let (Op::MaxPoolBackward { .. }, &Op::ActivateBackward(activation)) = (&first.op, &second.op) else { return None };
    let forward = |node: &&Node| matches!(node.op, Op::MaxPool(_)) && node.outputs[1] == first.inputs[1];
    let pool = graph.nodes.iter().find(forward)?;
    (in_epilogue(activation) && pool.inputs[0] == second.inputs[1]).then(|| pool.outputs[0])
}

/// Activations that the kernels apply before they write.
fn in_epilogue(activation: Activation) -> bool {
    matches!(activation, Activation::Relu | Activation::Relu6)
}
