//! The graphs of inference and training, and what the facades share.

use super::{Feed, Part, Session, TrainOptions};
use crate::error::{Error, Result};
use crate::graph::lower::{Lowered, lower};
use crate::graph::{Graph, LossKind, Op, ValueId, gradient};
use crate::net::Resolved;
use crate::tensor::Tensors;

/// The forward graph in evaluation mode; its result is the main output.
pub fn inference(net: &Resolved) -> Result<Graph> {
    let Lowered { mut graph, outputs, .. } = lower(net, false)?;
    graph.results = vec![outputs[0].0];
    graph.keep_needed();
    graph.forward_nodes = graph.nodes.len();
    Ok(graph)
}

/// The forward graph in evaluation mode, and the value of each layer.
pub fn layer_outputs(net: &Resolved) -> Result<(Graph, Vec<ValueId>)> {
    let Lowered { mut graph, layers, .. } = lower(net, false)?;
    graph.results = layers.clone();
    graph.forward_nodes = graph.nodes.len();
    Ok((graph, layers))
}

/// A training step as a graph.
pub struct TrainingGraph {
    pub graph: Graph,
    /// The loss of each output, its weight included.
    pub losses: Vec<ValueId>,
    /// How many pictures the main output gets right.
    pub correct: ValueId,
    /// Sum of squares of all gradients, where clipping is on.
    pub square_sum: Option<ValueId>,
}

/// Forward pass, loss, gradients and updates.
///
/// Each parameter is updated as soon as its gradient is complete, so that the gradient's memory is free again; with
/// clipping all gradients must wait for their common norm.
/// With [`TrainOptions::accumulate`] a part has `part` pictures.
pub fn training(net: &Resolved, options: &TrainOptions, part: usize) -> Result<TrainingGraph> {
    if options.loss != LossKind::MeanSquared {
        net.check_logits()?;
    }
    let Lowered { mut graph, outputs, statistics, .. } = lower(net, true)?;
    let (mut losses, mut seeds, mut correct) = (vec![], vec![], None);
    for (i, &(output, weight)) in outputs.iter().enumerate() {
        if i > 0 && weight == 0.0 {
            continue; // It may have any shape, so labels need not fit it.
        }
        let made = graph.push_all(Op::Loss { kind: options.loss.clone(), weight }, &[output])?;
        losses.push(made[0]);
        correct.get_or_insert(made[1]);
        seeds.push((output, made[2]));
    }
    let correct = correct.ok_or_else(|| Error::new(format!("{} has no output", net.name)))?;
    graph.forward_nodes = graph.nodes.len();
    for (op, inputs) in statistics {
        graph.push_all(op, &inputs)?;
    }
    let trained: Vec<_> = net.parameters().filter(|p| p.trainable).collect();
    let values: Vec<ValueId> = trained.iter().filter_map(|p| graph.stored(&p.name)).collect();
    let update = |graph: &mut Graph, value: ValueId, gradient: ValueId, norm: Option<ValueId>| -> Result<()> {
        let Some(parameter) = trained.iter().zip(&values).find(|(_, v)| **v == value).map(|(p, _)| p) else {
            return Ok(());
        };
        let mut inputs = vec![value, gradient];
        inputs.extend(norm);
        for kind in options.optimizer.state() {
            inputs.push(graph.store(format!("{kind}.{}", parameter.name), &parameter.dims));
        }
        let decay = options.weight_decay * parameter.decay;
        let (optimizer, rate, clip) = (options.optimizer, parameter.lr, options.clip);
        let since = parameter.frozen_epochs * options.epoch_steps;
        graph.push_all(Op::Update { optimizer, rate, decay, clip, since }, &inputs).map(|_| ())
    };
    let mut square_sum = None;
    if options.clip.is_none() {
        gradient::append(&mut graph, &seeds, &values, |graph, value, gradient| update(graph, value, gradient, None))?;
    } else {
        let mut gradients = Vec::new();
        gradient::append(&mut graph, &seeds, &values, |graph, value, gradient| {
            let inputs: Vec<ValueId> = std::iter::once(gradient).chain(square_sum).collect();
            square_sum = Some(graph.push(Op::SquareSum, &inputs)?);
            gradients.push((value, gradient));
            Ok(())
        })?;
        for (value, gradient) in gradients {
            update(&mut graph, value, gradient, square_sum)?;
        }
    }
    graph.results = losses.iter().copied().chain([correct]).chain(square_sum).collect();
    if options.accumulate > 1 {
        graph.run_in_parts(part, options.accumulate);
    }
    Ok(TrainingGraph { graph, losses, correct, square_sum })
}

/// Values that are held twice while parameters move into a session: 4 MiB.
const PIECE: usize = 1 << 20;

/// Checks parameters and moves them into a session, in pieces, each given back to the system once it is copied: large
/// networks are hardly larger while they are opened than afterwards.
pub fn move_parameters(net: &Resolved, mut tensors: Tensors, session: &mut dyn Session) -> Result<()> {
    net.check_tensors(&tensors)?;
    for parameter in net.parameters() {
        let mut values = tensors.remove(&parameter.name).map(|tensor| tensor.data).unwrap_or_default();
        while !values.is_empty() {
            let start = values.len().saturating_sub(PIECE);
            session.write(&parameter.name, start, &values[start..])?;
            values.truncate(start);
            values.shrink_to_fit();
        }
    }
    Ok(())
}

/// Fails where `n` pictures do not have the size that the graph reads.
pub fn check_pictures(graph: &Graph, images: &[f32], n: usize) -> Result<()> {
    let pictures = graph.nodes.iter().find_map(|node| if let Op::Pictures(ty) = &node.op { Some(ty) } else { None });
    match pictures {
        Some(ty) if images.len() != n * ty.per_picture() => {
            Err(Error::new(format!("{} values for {n} picture(s) of shape {ty}", images.len()))
                .advice("Prepare the pictures with the preparation stored with the model."))
        }
        _ => Ok(()),
    }
}

/// Runs `n` pictures through a plan made for `batch` at a time and gathers its first result in place of what `all` held.
pub fn run_in_batches(
    session: &mut dyn Session,
    plan: usize,
    graph: &Graph,
    batch: usize,
    images: &[f32],
    n: usize,
    all: &mut Vec<f32>,
) -> Result<()> {
    check_pictures(graph, images, n)?;
    let result = graph.results[0];
    all.clear();
    all.reserve(graph.ty(result).elements(n));
    let picture = images.len() / n.max(1);
    session.run(plan, Part::Constants, 0, &Feed::default())?;
    for chunk in images.chunks((picture * batch).max(1)) {
        let n = chunk.len() / picture;
        session.run(plan, Part::Forward, n, &Feed { images: chunk, ..Feed::default() })?;
        session.fetch_into(plan, result, n, all);
    }
    Ok(())
}
