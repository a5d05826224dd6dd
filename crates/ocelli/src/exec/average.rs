//! An average of the parameters beside them, in the same session.
//!
//! It is stored under the parameters' names with a prefix, so that a plan for inference uses it when its graph's names have
//! the prefix too. Moving it by a share of the way is plain gradient descent on ½‖a − w‖²: an update with the parameter as
//! gradient, decay −1 and the rate turned round, a − (−share) · (w − a).

use super::{Feed, Optimizer, Part, Session};
use crate::error::Result;
use crate::graph::lower::{Lowered, lower};
use crate::graph::{Graph, Op};
use crate::net::Resolved;
use std::sync::Arc;

/// What stands before a parameter's name in its average's.
pub const PREFIX: &str = "average.";

/// The name of a parameter's average.
pub fn name(parameter: &str) -> String {
    format!("{PREFIX}{parameter}")
}

/// Lets a graph use the averages in place of the parameters.
pub fn rename(graph: &mut Graph) {
    graph.values.iter_mut().filter_map(|value| value.name.as_mut()).for_each(|own| *own = name(own));
}

/// The plans that move the average and measure its statistics.
pub struct Averages {
    moving: usize,
    measuring: usize,
    /// All parameters and running statistics.
    names: Vec<String>,
    /// The running statistics with their sizes.
    statistics: Vec<(String, usize)>,
}

impl Averages {
    /// Adds the plans to a session.
    pub fn add(net: &Resolved, session: &mut dyn Session, batch: usize) -> Result<Averages> {
        let moving = session.add(&Arc::new(moving(net)?), 1, false)?;
        let is_statistic = |p: &&crate::net::Parameter| p.role.is_statistic();
        let statistics: Vec<_> =
            net.parameters().filter(is_statistic).map(|p| (p.name.clone(), p.dims.iter().product())).collect();
        // Without statistics it is never run.
        let measuring = match statistics.is_empty() {
            true => moving,
            false => session.add(&Arc::new(measuring(net)?), batch, false)?,
        };
        Ok(Averages { moving, measuring, names: net.parameters().map(|p| p.name.clone()).collect(), statistics })
    }

    /// a ← a + share · (w − a)
    pub fn move_towards(&self, session: &mut dyn Session, share: f32) -> Result<()> {
        session.run(self.moving, Part::Backward, 1, &Feed { lr: share, ..Feed::default() })
    }

    /// a ← w, to the bit.
    pub fn copy(&self, session: &mut dyn Session) -> Result<()> {
        for parameter in &self.names {
            let values = session.read(parameter).unwrap_or_default();
            session.write(&name(parameter), 0, &values)?;
        }
        Ok(())
    }

    /// Whether the network has running statistics.
    pub fn has_statistics(&self) -> bool {
        !self.statistics.is_empty()
    }

    /// Sums before the first batch.
    pub fn no_sums(&self) -> Sums {
        Sums { batches: 0, sums: self.statistics.iter().map(|(_, size)| vec![0.0; *size]).collect() }
    }

    /// Runs a batch forward with the average and adds its statistics.
    pub fn add_statistics(&self, session: &mut dyn Session, n: usize, feed: &Feed, sums: &mut Sums) -> Result<()> {
        session.run(self.measuring, Part::Forward, n, feed)?;
        session.run(self.measuring, Part::Backward, n, feed)?;
        sums.batches += 1;
        for ((statistic, _), sum) in self.statistics.iter().zip(&mut sums.sums) {
            let values = session.read(&name(statistic)).unwrap_or_default();
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value));
        }
        Ok(())
    }

    /// The batches' means become the average's running statistics.
    pub fn write_statistics(&self, session: &mut dyn Session, sums: &Sums) -> Result<()> {
        if sums.batches == 0 {
            return Ok(());
        }
        for ((statistic, _), sum) in self.statistics.iter().zip(&sums.sums) {
            let means: Vec<f32> = sum.iter().map(|sum| (sum / sums.batches as f64) as f32).collect();
            session.write(&name(statistic), 0, &means)?;
        }
        Ok(())
    }
}

/// Statistics summed over batches.
pub struct Sums {
    batches: usize,
    sums: Vec<Vec<f64>>,
}

/// The graph that moves the average.
fn moving(net: &Resolved) -> Result<Graph> {
    let mut graph = Graph::default();
    let optimizer = Optimizer::sgd(0.0);
    for parameter in net.parameters() {
        let average = graph.store(name(&parameter.name), &parameter.dims);
        let present = graph.store(&parameter.name, &parameter.dims);
        graph.push_all(Op::Update { optimizer, rate: -1.0, decay: -1.0, clip: None, since: 0 }, &[average, present])?;
    }
    Ok(graph)
}

/// The forward pass in training mode with the average, whose running statistics become the batch's.
fn measuring(net: &Resolved) -> Result<Graph> {
    let Lowered { mut graph, statistics, .. } = lower(net, true)?;
    graph.forward_nodes = graph.nodes.len();
    for (op, inputs) in statistics {
        let op = if let Op::RunningStatistics { .. } = op { Op::RunningStatistics { momentum: 1.0 } } else { op };
        graph.push_all(op, &inputs)?;
    }
    rename(&mut graph);
    Ok(graph)
}
