//! Inference: logits of any number of pictures, and every layer's output of one.

use super::{Device, Feed, Memory, Part, Session, Timing, build};
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::net::Resolved;
use crate::tensor::{Tensor, Tensors};
use std::sync::Arc;

/// A network ready to answer.
pub struct Inference {
    session: Box<dyn Session>,
    plan: usize,
    graph: Arc<Graph>,
    net: Resolved,
    batch: usize,
    inside: Option<(usize, Arc<Graph>, Vec<ValueId>)>,
}

impl Inference {
    /// A network with its parameters; `batch` is the number of pictures computed at a time.
    ///
    /// # Errors
    /// A parameter is missing or of another shape, or there is no memory for such a batch.
    pub fn new(net: &Resolved, tensors: Tensors, device: &Device, batch: usize) -> Result<Inference> {
        let mut session = device.session()?;
        let graph = Arc::new(build::inference(net)?);
        let batch = batch.max(1);
        let plan = session.add(&graph, batch, false)?;
        session.reserve(plan)?;
        build::move_parameters(net, tensors, &mut *session)?;
        Ok(Inference { session, plan, graph, net: net.clone(), batch, inside: None })
    }

    /// The same, taking less memory: weights are kept packed only. [`Inference::activations`] fails after the first answer.
    pub fn only_answers(mut self) -> Inference {
        self.session.settle(self.plan);
        self
    }

    /// The main output before softmax, `[n, outputs]`, for pictures `[n, channels, height, width]`. The result does not
    /// depend on the batch size, bit for bit.
    ///
    /// # Errors
    /// The pictures do not fit the network.
    pub fn logits(&mut self, images: &[f32], n: usize) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        self.logits_into(images, n, &mut logits)?;
        Ok(logits)
    }

    /// As [`Inference::logits`], in place of what `logits` held: with room for them, nothing is allocated.
    ///
    /// # Errors
    /// The pictures do not fit the network.
    pub fn logits_into(&mut self, images: &[f32], n: usize, logits: &mut Vec<f32>) -> Result<()> {
        build::run_in_batches(&mut *self.session, self.plan, &self.graph, self.batch, images, n, logits)
    }

    /// Every layer's output for one picture `[channels, height, width]`, by layer name: `[channels, height, width]` or
    /// `[features]`. Nothing is fused, so each layer's own result is there.
    ///
    /// # Errors
    /// The picture does not fit the network.
    pub fn activations(&mut self, image: &[f32]) -> Result<Tensors> {
        let (plan, graph, outputs) = match &self.inside {
            Some(made) => made.clone(),
            None => {
                let (graph, outputs) = build::layer_outputs(&self.net)?;
                let graph = Arc::new(graph);
                let plan = self.session.add(&graph, 1, true)?;
                self.inside.insert((plan, graph, outputs)).clone()
            }
        };
        build::check_pictures(&graph, image, 1)?;
        let feed = Feed { images: image, ..Feed::default() };
        self.session.run(plan, Part::Constants, 1, &feed)?;
        self.session.run(plan, Part::Forward, 1, &feed)?;
        let mut all = Tensors::new();
        for (layer, &value) in self.net.layers.iter().zip(&outputs) {
            if let Some(data) = self.session.fetch(plan, value, 1) {
                all.insert(layer.name.clone(), Tensor::new(graph.ty(value).sizes(1)[1..].to_vec(), data));
            }
        }
        Ok(all)
    }

    /// Time of each step for one run of `n` pictures.
    ///
    /// # Errors
    /// The pictures do not fit the network.
    pub fn profile(&mut self, images: &[f32], n: usize) -> Result<Vec<Timing>> {
        build::check_pictures(&self.graph, images, n)?;
        let feed = Feed { images, ..Feed::default() };
        self.session.run(self.plan, Part::Constants, n, &feed)?;
        self.session.profile(self.plan, Part::Forward, n, &feed)
    }

    /// Memory in use.
    pub fn memory(&self) -> Memory {
        self.session.memory()
    }
}
