//! Gradients of a network's output with respect to its input and parameters: what checks and explanations read.

use super::{Device, Feed, Part, build};
use crate::error::{Error, Result};
use crate::graph::lower::{Lowered, lower};
use crate::graph::{Op, ValueId, gradient};
use crate::net::Resolved;
use crate::tensor::{Tensor, Tensors};
use std::sync::Arc;

/// Output and gradients of a network.
pub struct GradientsOf {
    /// The main output.
    pub output: Tensor,
    /// Gradients by parameter name, and of the pictures as `input`.
    pub tensors: Tensors,
    /// Running statistics after the pass.
    pub after: Tensors,
}

/// Runs pictures `[n, channels, height, width]` forward, and `grad_output` (the gradient of some loss with respect to the
/// main output) backward, in training or evaluation mode.
///
/// # Errors
/// Shapes do not fit, or a layer has no derivative in that mode.
pub fn gradients(
    net: &Resolved,
    tensors: &Tensors,
    input: &Tensor,
    grad_output: &Tensor,
    training: bool,
    device: &Device,
) -> Result<GradientsOf> {
    let Lowered { mut graph, outputs, statistics, pictures, .. } = lower(net, training)?;
    let n = input.dims.first().copied().unwrap_or(0);
    let output = outputs[0].0;
    if n == 0 || grad_output.data.len() != graph.ty(output).elements(n) {
        return Err(Error::new(format!("the gradient {:?} does not fit the output", grad_output.dims)));
    }
    let seed = graph.push(Op::OutputGradient(graph.ty(output).clone()), &[])?;
    graph.forward_nodes = graph.nodes.len();
    for (op, inputs) in statistics {
        graph.push_all(op, &inputs)?;
    }
    let mut named: Vec<(String, ValueId)> = net
        .parameters()
        .filter(|p| p.trainable)
        .filter_map(|p| Some((p.name.clone(), graph.stored(&p.name)?)))
        .collect();
    named.push(("input".to_string(), pictures));
    let wanted: Vec<ValueId> = named.iter().map(|(_, v)| *v).collect();
    let made = gradient::append(&mut graph, &[(output, seed)], &wanted, |_, _, _| Ok(()))?;
    let results: Vec<(String, ValueId)> =
        named.into_iter().filter_map(|(name, v)| Some((name, made.get(v)?))).collect();
    graph.results = std::iter::once(output).chain(results.iter().map(|(_, v)| *v)).collect();

    let graph = Arc::new(graph);
    build::check_pictures(&graph, &input.data, n)?;
    let mut session = device.session()?;
    let plan = session.add(&graph, n, false)?;
    build::move_parameters(net, tensors.clone(), &mut *session)?;
    let feed = Feed { images: &input.data, output_gradient: &grad_output.data, ..Feed::default() };
    for part in [Part::Constants, Part::Forward, Part::Backward] {
        session.run(plan, part, n, &feed)?;
    }
    let mut fetch = |value: ValueId| {
        let data = session.fetch(plan, value, n).unwrap_or_default();
        Tensor::new(graph.ty(value).sizes(n), data)
    };
    let output = fetch(output);
    let tensors = results.into_iter().map(|(name, value)| (name, fetch(value))).collect();
    let buffers = net.parameters().filter(|p| p.role.is_statistic());
    let after =
        buffers.filter_map(|p| Some((p.name.clone(), Tensor::new(p.dims.clone(), session.read(&p.name)?)))).collect();
    Ok(GradientsOf { output, tensors, after })
}
