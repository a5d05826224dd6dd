//! Fusion: operations that one kernel computes in one pass over its output.

use crate::graph::{Activation, Graph, Node, Op, ValueId};

/// The graph with activations moved into the convolution or linear layer before them, and, where statistics are fixed,
/// batch norm folded into the convolution before it. A value that anything else reads stays as it is.
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
        let merged = before.and_then(|at| Some((at, merge(&fused.nodes[at], node)?)));
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
        fused.forward_nodes = fused.nodes.len();
    }
    fused
}

/// One node in place of two, where a kernel exists for it.
fn merge(first: &Node, second: &Node) -> Option<Node> {
    let (op, inputs) = match (&first.op, &second.op) {
        (&Op::Conv { window, groups, activation: None }, &Op::Activate(activation)) if in_epilogue(activation) => {
            (Op::Conv { window, groups, activation: Some(activation) }, first.inputs.clone())
        }
        (&Op::ConvNorm { window, groups, bias, eps, activation: None }, &Op::Activate(activation))
            if in_epilogue(activation) =>
        {
            (Op::ConvNorm { window, groups, bias, eps, activation: Some(activation) }, first.inputs.clone())
        }
        (Op::Linear { activation: None }, &Op::Activate(activation)) if in_epilogue(activation) => {
            (Op::Linear { activation: Some(activation) }, first.inputs.clone())
        }
        (&Op::Conv { window, groups, activation: None }, &Op::BatchNormInfer { eps }) => {
            let bias = first.inputs.len() > 2;
            let inputs: Vec<ValueId> = first.inputs.iter().chain(&second.inputs[1..]).copied().collect();
            (Op::ConvNorm { window, groups, bias, eps, activation: None }, inputs)
        }
        _ => return None,
    };
    Some(Node { op, inputs, outputs: second.outputs.clone(), layer: first.layer })
}

/// Activations that the kernels apply before they write.
fn in_epilogue(activation: Activation) -> bool {
    matches!(activation, Activation::Relu | Activation::Relu6)
}
