//! From a resolved network to its graph.
//!
//! Each layer kind lowers itself (`LayerKind::lower`) through a [`Lowering`], which hands it its inputs and parameters.

use super::{Graph, Op, Spread, Type, ValueId};
use crate::error::{Error, Result};
use crate::net::{Resolved, ResolvedLayer, Role, Source};
use crate::shape::Shape;

/// A network as a graph.
pub struct Lowered {
    /// The forward pass.
    pub graph: Graph,
    /// The pictures that it reads.
    pub pictures: ValueId,
    /// The outputs with their part in the loss, the main one first.
    pub outputs: Vec<(ValueId, f32)>,
    /// The value of each layer.
    pub layers: Vec<ValueId>,
    /// In training: updates of running statistics, to be made only once the loss is known to be finite.
    pub statistics: Vec<(Op, Vec<ValueId>)>,
}

/// Lowers a network. In training, dropout is active, batch norm uses the batch's statistics, and the outputs that exist
/// for training only are there.
///
/// # Errors
/// A layer's inputs do not fit it.
pub fn lower(net: &Resolved, training: bool) -> Result<Lowered> {
    let mut graph = Graph::default();
    let [c, h, w] = net.input;
    let pictures = graph.push(Op::Pictures(Type::maps(c, [h, w])), &[])?;
    for parameter in net.parameters() {
        graph.store(&parameter.name, &parameter.dims);
    }
    let mut layers: Vec<ValueId> = Vec::with_capacity(net.layers.len());
    let mut statistics = Vec::new();
    for (index, layer) in net.layers.iter().enumerate() {
        graph.layer = Some(index);
        let inputs = layer
            .inputs
            .iter()
            .map(|source| match source {
                Source::Input => pictures,
                Source::Layer(i) => layers[*i],
            })
            .collect();
        let mut lowering = Lowering { graph: &mut graph, layer, index, inputs, training, statistics: &mut statistics };
        let value = layer.kind.lower(&mut lowering).map_err(|e| e.at(&layer.name))?;
        if graph.ty(value).sizes(1)[1..] != *layer.shape.dims() {
            let (got, expected) = (graph.ty(value), layer.shape);
            return Err(Error::new(format!("{}: lowered to {got}, its shape rule says {expected}", layer.name)));
        }
        layers.push(value);
    }
    graph.layer = None;
    let main = net.main_output();
    let others = net.outputs.iter().filter(|&o| o != main && (training || !o.training_only));
    let outputs = std::iter::once(main).chain(others).map(|o| (layers[o.layer], o.loss_weight)).collect();
    Ok(Lowered { graph, pictures, outputs, layers, statistics })
}

/// What a layer lowers itself with.
pub struct Lowering<'a> {
    graph: &'a mut Graph,
    layer: &'a ResolvedLayer,
    index: usize,
    inputs: Vec<ValueId>,
    /// Whether the graph is for training.
    pub training: bool,
    statistics: &'a mut Vec<(Op, Vec<ValueId>)>,
}

impl Lowering<'_> {
    /// Input `i` of the layer.
    pub fn input(&self, i: usize) -> ValueId {
        self.inputs[i]
    }
    /// All inputs of the layer.
    pub fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }
    /// Shape of input `i` for one picture.
    pub fn shape(&self, i: usize) -> Shape {
        self.layer.input_shapes[i]
    }
    /// Rows and columns of the first input; `[1, 1]` for a row of values.
    pub fn size(&self) -> [usize; 2] {
        self.shape(0).size().unwrap_or([1, 1])
    }
    /// The layer's parameter of a role.
    pub fn parameter(&self, role: Role) -> Option<ValueId> {
        let parameter = self.layer.parameters.iter().find(|p| p.role == role)?;
        self.graph.stored(&parameter.name)
    }
    /// The parameters of several roles; those that the layer does not have are left out.
    pub fn parameters(&self, roles: &[Role]) -> Vec<ValueId> {
        roles.iter().filter_map(|&role| self.parameter(role)).collect()
    }
    /// Adds an operation on the first input and parameters and returns its first result.
    ///
    /// # Errors
    /// The inputs do not fit.
    pub fn apply(&mut self, op: Op, roles: &[Role]) -> Result<ValueId> {
        let inputs: Vec<ValueId> = std::iter::once(self.input(0)).chain(self.parameters(roles)).collect();
        self.graph.push(op, &inputs)
    }
    /// Adds an operation.
    ///
    /// # Errors
    /// The inputs do not fit.
    pub fn push(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.graph.push_all(op, inputs)
    }
    /// The first input as a row of features, flattened channels first where it is maps.
    ///
    /// # Errors
    /// The input does not fit.
    pub fn features(&mut self) -> Result<ValueId> {
        match self.shape(0) {
            Shape::Flat(_) => Ok(self.input(0)),
            Shape::Map(_) => self.apply(Op::Flatten, &[]),
        }
    }
    /// The layer's weights in the places of a larger array.
    ///
    /// # Errors
    /// The weights do not fit.
    pub fn spread_weight(&mut self, spread: Spread) -> Result<ValueId> {
        let weights = self.parameters(&[Role::Weight]);
        let full = self.graph.push(Op::Spread(spread), &weights)?;
        // Packed weights are kept under this name.
        self.graph.values[full.index()].name = Some(format!("{}.spread", self.layer.name));
        Ok(full)
    }
    /// Whether running statistics stand for the batch's, also in training.
    pub fn frozen_statistics(&self) -> bool {
        self.layer.frozen_statistics
    }
    /// Asks for an update of running statistics after the loss.
    pub fn update_statistics(&mut self, op: Op, inputs: Vec<ValueId>) {
        self.statistics.push((op, inputs));
    }
    /// A number that tells the layers of a network apart, for dropout.
    pub fn key(&self) -> u64 {
        self.index as u64
    }
}
