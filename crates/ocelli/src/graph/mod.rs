//! What a network means: primitive operations in order, each value with an element type and a shape.
//!
//! Layers lower to this graph ([`lower`]), and [`gradient`] turns a forward graph into one that also computes gradients.
//! Shapes are written as PyTorch writes them, `[batch, channels, height, width]` or `[batch, features]`; how values lie in
//! memory is a backend's business. The batch is symbolic: a graph is made once and run with any number of pictures.

mod conv;
pub mod gradient;
pub mod lower;
mod op;

pub use conv::{ConvNorm, conv_shape};
pub use ocelli_kernels::elementwise::Activation;
pub use ocelli_kernels::layout::Border;
pub use ocelli_kernels::lrn::Lrn;
pub use op::{LossKind, Op, Pool, Spread, is_channel_factor};

use crate::error::Error;
use crate::error::Result;

/// An element type. The CPU backend and the plain interpreter run `F32` (the interpreter also computes it in `f64`);
/// the others are names that imported networks and quantised ones need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// bfloat16.
    Bf16,
    /// 8-bit integer.
    I8,
    /// 8-bit unsigned integer: positions inside a pooling window.
    U8,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// Truth value.
    Bool,
}

/// One size of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The number of pictures, known when the graph runs.
    Batch,
    /// A fixed size.
    Fixed(usize),
}

/// Element type and shape of a value; rank 0 to 6.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub element: ElementType,
    /// Sizes, outermost first.
    pub dims: Vec<Dim>,
}

impl Type {
    /// `f32` feature maps `[batch, channels, height, width]`.
    pub fn maps(channels: usize, [height, width]: [usize; 2]) -> Type {
        Type::batch(&[channels, height, width])
    }
    /// `f32` features `[batch, features]`.
    pub fn features(features: usize) -> Type {
        Type::batch(&[features])
    }
    /// `f32` with a batch in front of `sizes`.
    pub fn batch(sizes: &[usize]) -> Type {
        let dims = std::iter::once(Dim::Batch).chain(sizes.iter().map(|&n| Dim::Fixed(n))).collect();
        Type { element: ElementType::F32, dims }
    }
    /// `f32` of a fixed shape: a parameter.
    pub fn fixed(sizes: &[usize]) -> Type {
        Type { element: ElementType::F32, dims: sizes.iter().map(|&n| Dim::Fixed(n)).collect() }
    }
    /// The sizes for a batch of `n`.
    pub fn sizes(&self, n: usize) -> Vec<usize> {
        self.sizes_of(n).collect()
    }
    fn sizes_of(&self, n: usize) -> impl Iterator<Item = usize> {
        self.dims.iter().map(move |d| if let Dim::Fixed(size) = d { *size } else { n })
    }
    /// Elements for a batch of `n`.
    pub fn elements(&self, n: usize) -> usize {
        self.sizes_of(n).product()
    }
    /// Elements of one picture (of the whole value, where it has no batch).
    pub fn per_picture(&self) -> usize {
        self.elements(1)
    }
    /// Channels, height and width of `[batch, channels, height, width]`, where the value is that.
    pub fn map_sizes(&self) -> Option<(usize, [usize; 2])> {
        match self.dims[..] {
            [Dim::Batch, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => Some((c, [h, w])),
            _ => None,
        }
    }
    /// As [`Type::map_sizes`], where nothing else will do.
    ///
    /// # Errors
    /// The value is not `[batch, channels, height, width]`.
    pub fn as_maps(&self) -> Result<(usize, [usize; 2])> {
        let error = || Error::new(format!("feature maps [batch, channels, height, width] are needed here, not {self}"));
        self.map_sizes().ok_or_else(error)
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let sizes: Vec<String> = self
            .dims
            .iter()
            .map(|d| if let Dim::Fixed(size) = d { size.to_string() } else { "batch".to_string() })
            .collect();
        write!(f, "[{}]", sizes.join(", "))
    }
}

/// A value of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A value: what it holds and what it is called.
#[derive(Clone, Debug)]
pub struct Value {
    /// Element type and shape.
    pub ty: Type,
    /// A parameter's or an optimiser state's name.
    pub name: Option<String>,
}

/// An operation with its inputs and outputs.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// What it reads, in the order that [`Op`] documents.
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub outputs: Vec<ValueId>,
    /// The layer it belongs to, for messages and for time per layer.
    pub layer: Option<usize>,
}

/// Primitive operations in an order in which they can run.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All values; [`ValueId`] counts them.
    pub values: Vec<Value>,
    /// The operations.
    pub nodes: Vec<Node>,
    /// Parameters and state that live across runs, in the order of their creation.
    pub stored: Vec<ValueId>,
    /// Values that a caller reads after a run.
    pub results: Vec<ValueId>,
    /// Nodes before this one are the forward pass with its loss; the others run only when the loss is finite.
    pub forward_nodes: usize,
    /// The layer that new nodes belong to.
    pub layer: Option<usize>,
}

impl Graph {
    /// A value that lives across runs.
    pub fn store(&mut self, name: impl Into<String>, dims: &[usize]) -> ValueId {
        let id = self.value(Type::fixed(dims), Some(name.into()));
        self.stored.push(id);
        id
    }

    /// The stored value of a name.
    pub fn stored(&self, name: &str) -> Option<ValueId> {
        self.stored.iter().copied().find(|v| self.values[v.index()].name.as_deref() == Some(name))
    }

    /// Adds an operation and returns its first output.
    ///
    /// # Errors
    /// The inputs do not fit the operation.
    pub fn push(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        self.push_all(op, inputs).map(|outputs| outputs[0])
    }

    /// Adds an operation and returns its outputs.
    ///
    /// # Errors
    /// The inputs do not fit the operation.
    pub fn push_all(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let types: Vec<&Type> = inputs.iter().map(|v| self.ty(*v)).collect();
        let made = op.outputs(&types)?;
        let outputs: Vec<ValueId> = made.into_iter().map(|ty| self.value(ty, None)).collect();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), layer: self.layer });
        Ok(outputs)
    }

    /// Drops the operations of a forward pass that no result depends on, like branches that only training has.
    pub fn keep_needed(&mut self) {
        let mut needed = vec![false; self.values.len()];
        self.results.iter().for_each(|v| needed[v.index()] = true);
        let kept = |node: &Node, needed: &[bool]| {
            matches!(node.op, Op::Pictures(_)) || node.outputs.iter().any(|v| needed[v.index()])
        };
        for node in self.nodes.iter().rev() {
            if kept(node, &needed) {
                node.inputs.iter().for_each(|v| needed[v.index()] = true);
            }
        }
        self.nodes.retain(|node| kept(node, &needed));
    }

    /// Type of a value.
    pub fn ty(&self, value: ValueId) -> &Type {
        &self.values[value.index()].ty
    }

    /// For each value, the nodes that read it.
    pub fn consumers(&self) -> Vec<Vec<usize>> {
        let mut consumers = vec![Vec::new(); self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                consumers[input.index()].push(i);
            }
        }
        consumers
    }

    /// Lets a batch run in up to `parts` parts of `part` pictures: wherever gradients sum over the batch, the parts' sums
    /// join. What reads them runs after the last part.
    pub(crate) fn run_in_parts(&mut self, part: usize, parts: usize) {
        let read: Vec<bool> = self.consumers().iter().map(|readers| !readers.is_empty()).collect();
        let mut joined: Vec<ValueId> = (0..self.values.len() as u32).map(ValueId).collect();
        let has_batch = |graph: &Graph, value: &ValueId| graph.ty(*value).dims.contains(&Dim::Batch);
        let backward = self.nodes.split_off(self.forward_nodes);
        for mut node in backward {
            node.inputs.iter_mut().for_each(|value| *value = joined[value.index()]);
            let sums = node.inputs.iter().any(|value| has_batch(self, value));
            let layer = node.layer;
            let made = node.outputs.iter().filter(|value| sums && read[value.index()] && !has_batch(self, value));
            let made: Vec<ValueId> = made.copied().collect();
            self.nodes.push(node);
            for value in made {
                let ty = self.ty(value).clone();
                let sizes = [ocelli_kernels::reduce::waiting(parts), ty.per_picture()];
                let waiting = self.store(format!("waiting.{}", value.index()), &sizes);
                joined[value.index()] = self.value(ty, None);
                let (inputs, outputs) = (vec![value, waiting], vec![joined[value.index()]]);
                self.nodes.push(Node { op: Op::JoinParts { part }, inputs, outputs, layer });
            }
        }
    }

    pub(crate) fn value(&mut self, ty: Type, name: Option<String>) -> ValueId {
        self.values.push(Value { ty, name });
        ValueId(self.values.len() as u32 - 1)
    }
}
