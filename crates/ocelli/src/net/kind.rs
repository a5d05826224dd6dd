//! What a layer kind is: its keys, its shape rule, its parameters, what it costs.

use super::{keys, layers};
use crate::error::did_you_mean;
use crate::graph::ValueId;
use crate::graph::lower::Lowering;
use crate::shape::Shape;
use crate::{Error, Result};
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A layer kind as text: the name of its `type`; its keys are the fields of the struct.
pub trait Keys: Serialize + for<'a> Deserialize<'a> + Any {
    /// The `type` in a network file.
    const TYPE: &'static str;
}

/// What follows from [`Keys`] for any layer kind.
pub trait Text {
    /// The `type` in a network file.
    fn type_name(&self) -> &'static str;
    /// The keys that differ from their defaults.
    fn to_table(&self) -> toml::Table;
    /// The struct itself, to look at its fields: `kind.as_any().downcast_ref::<Conv>()`.
    fn as_any(&self) -> &dyn Any;
}

impl<K: Keys> Text for K {
    fn type_name(&self) -> &'static str {
        K::TYPE
    }
    fn to_table(&self) -> toml::Table {
        // Every field is a number, a word or a list of numbers, and sizes are capped when written.
        toml::Table::try_from(self).expect("keys of a layer are TOML values")
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A kind of layer with its numbers. Shapes are those of one picture; the number of inputs has been checked against
/// [`LayerKind::inputs`] before any other method is called, and the shapes by [`LayerKind::shape`] before the costs.
pub trait LayerKind: Text + fmt::Debug + Send + Sync {
    /// Values that no shape can make good.
    ///
    /// # Errors
    /// Such a value, with its key.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Its numbers besides a window and groups, for the summary: `k 2, alpha 1e-4`.
    fn numbers(&self) -> String {
        String::new()
    }
    /// How many inputs the layer takes.
    fn inputs(&self) -> RangeInclusive<usize> {
        1..=1
    }
    /// The shape that the layer makes from its inputs.
    ///
    /// # Errors
    /// The shapes do not fit; the message has the numbers, the layer's name is put in front by the caller.
    fn shape(&self, inputs: &[Shape]) -> Result<Shape>;
    /// Adds the operations that the layer means and returns its output.
    ///
    /// # Errors
    /// The inputs do not fit an operation.
    fn lower(&self, l: &mut Lowering) -> Result<ValueId>;
    /// Parameters and running statistics for these inputs.
    fn parameters(&self, _inputs: &[Shape]) -> Vec<ParameterRule> {
        Vec::new()
    }
    /// Multiply-adds of one picture, counted as direct convolution; additions of biases are not counted.
    fn macs(&self, _inputs: &[Shape], _output: Shape) -> u64 {
        0
    }
    /// Connections of one picture as LeCun counts them (1989): from inputs, padding included, and biases to outputs.
    /// Layers that work on each value alone have none.
    fn connections(&self, inputs: &[Shape], output: Shape) -> u64 {
        self.macs(inputs, output)
    }
    /// The sliding window for an input of rows and columns `size`, padding resolved, for layers that have one.
    fn window(&self, _size: [usize; 2]) -> Option<Window> {
        None
    }
    /// The window that an output value sees; of windows that differ, the largest, with their smallest step.
    fn field(&self, size: [usize; 2]) -> Option<Window> {
        self.window(size)
    }
    /// Whether each output value depends on the whole input.
    fn sees_everything(&self) -> bool {
        false
    }
    /// The same layer with `"classes"` replaced by the number, or `None` if it does not depend on it.
    ///
    /// # Errors
    /// The number is needed and not known.
    fn with_classes(&self, _classes: Option<usize>) -> Result<Option<Arc<dyn LayerKind>>> {
        Ok(None)
    }
}

impl PartialEq for dyn LayerKind {
    fn eq(&self, other: &dyn LayerKind) -> bool {
        self.type_name() == other.type_name() && self.to_table() == other.to_table()
    }
}

/// What a parameter does in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Filters of a convolution, weights of a linear layer.
    Weight,
    /// What is added to a filter's or unit's sum.
    Bias,
    /// The factor of batch norm (γ, PyTorch's `weight`).
    Scale,
    /// The offset of batch norm (β, PyTorch's `bias`).
    Shift,
    /// Batch norm's running mean; a statistic, not trained.
    RunningMean,
    /// Batch norm's running variance; a statistic, not trained.
    RunningVar,
}

impl Role {
    /// PyTorch's name, the last part of the parameter's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Role::Weight | Role::Scale => "weight",
            Role::Bias | Role::Shift => "bias",
            Role::RunningMean => "running_mean",
            Role::RunningVar => "running_var",
        }
    }
    /// Whether it is a statistic that training measures instead of a parameter that it learns.
    pub fn is_statistic(self) -> bool {
        matches!(self, Role::RunningMean | Role::RunningVar)
    }
}

/// A parameter as its layer kind declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterRule {
    /// What it does.
    pub role: Role,
    /// Sizes in PyTorch's order.
    pub dims: Vec<usize>,
    /// How it starts unless the layer's `init` says otherwise.
    pub init: Init,
}

impl ParameterRule {
    /// A parameter that starts by `init`.
    pub fn new(role: Role, dims: impl Into<Vec<usize>>, init: Init) -> ParameterRule {
        ParameterRule { role, dims: dims.into(), init }
    }
}

/// How a parameter starts. `fan_in` is the number of weights behind one output, `fan_out` (of a convolution) the number
/// of outputs that one input reaches, as PyTorch counts them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in ±limit.
    Uniform {
        /// The largest absolute value.
        limit: f64,
    },
    /// Normal with std √(2/fan_in): keeps the variance of ReLU nets (He et al. 2015). The default of
    /// every weight but those behind an output, which start at N(0, 0.01).
    He,
    /// Normal with std √(2/fan_out): keeps the variance of gradients; torchvision's choice for residual nets.
    HeFanOut,
    /// ±1 for patterns to be near to: ten of 84 values are the digits as pictures of 7x12, others are drawn by chance (LeCun et
    /// al. 1998).
    Codes,
    /// Uniform in ±√(6/(fan_in + fan_out)) (Glorot and Bengio 2010), for tanh and sigmoid.
    Xavier,
    /// Of the first filters, as many as channels of a group, each copies one of them; the others are uniform in ±1/√fan_in. A
    /// deep net so passes on its picture at first (Zagoruyko and Komodakis 2017).
    Dirac,
    /// What makes the patches of the training pictures uncorrelated, with variance 1: an eigenvector of their covariance over
    /// the root of its eigenvalue, for each filter; after one for each of them, their negatives. A layer that reads the
    /// picture starts so in training, and like [`Init::He`] where there are no pictures.
    Whiten,
}

/// Every layer kind: one line each, in the order of the documentation.
pub const KINDS: &[Kind] = &[
    kind::<layers::Conv>(),
    kind::<layers::Pad>(),
    kind::<layers::MaxPool>(),
    kind::<layers::AvgPool>(),
    kind::<layers::AdaptiveAvgPool>(),
    kind::<layers::GlobalAvgPool>(),
    kind::<layers::Subsample>(),
    kind::<layers::Linear>(),
    kind::<layers::Radial>(),
    kind::<layers::Bias>(),
    kind::<layers::Flatten>(),
    kind::<layers::Dropout>(),
    kind::<layers::Relu>(),
    kind::<layers::LeakyRelu>(),
    kind::<layers::Relu6>(),
    kind::<layers::Sigmoid>(),
    kind::<layers::Tanh>(),
    kind::<layers::ScaledTanh>(),
    kind::<layers::Gelu>(),
    kind::<layers::HardSwish>(),
    kind::<layers::BatchNorm>(),
    kind::<layers::Lrn>(),
    kind::<layers::Add>(),
    kind::<layers::Multiply>(),
    kind::<layers::Concat>(),
    kind::<layers::Softmax>(),
];

/// A line of [`KINDS`].
pub struct Kind {
    /// The `type` in a network file.
    pub type_name: &'static str,
    /// The layer's own keys.
    pub keys: fn() -> &'static [&'static str],
    parse: fn(toml::Table) -> Result<Arc<dyn LayerKind>>,
}

const fn kind<K: Keys + LayerKind>() -> Kind {
    Kind { type_name: K::TYPE, keys: keys::fields::<K>, parse: parse::<K> }
}

fn parse<K: Keys + LayerKind>(table: toml::Table) -> Result<Arc<dyn LayerKind>> {
    let kind: K = from_table(table)?;
    kind.check()?;
    Ok(Arc::new(kind))
}

/// Reads a struct from its keys.
///
/// # Errors
/// An unknown key with the one that was probably meant, a missing key, a value that cannot be.
pub(crate) fn from_table<T: for<'a> Deserialize<'a>>(table: toml::Table) -> Result<T> {
    let known = keys::fields::<T>();
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(unknown("key", key, known.iter().copied()));
    }
    toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        let text = error.to_string();
        match text.trim_end().split_once("\nin ") {
            Some((what, key)) => plain(what).at(key),
            None => plain(text.trim_end()),
        }
    })
}

/// Serde's message as two lines, in words that a reader of the file knows.
pub(crate) fn plain(message: &str) -> Error {
    if let Some(key) = message.strip_prefix("missing field ") {
        return Error::new(format!("the key {key} is missing")).advice(format!("Add {} = ….", key.trim_matches('`')));
    }
    match message.split_once(", expected ") {
        Some((what, "a boolean")) => Error::new(what).advice("Use true or false."),
        Some((what, "f64")) => Error::new(what).advice("Use a number."),
        Some((what, expected)) => Error::new(what).advice(format!("Use {expected}.")),
        None => Error::new(message.replace('\n', ", ")),
    }
}

/// `unknown key "fitlers"` with `Did you mean "filters"?`, or the list of what there is.
pub(crate) fn unknown<'a>(what: &str, word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let word: String = word.chars().take(80).collect();
    let advice = match did_you_mean(&word, known.clone()) {
        Some(meant) => format!("Did you mean \"{meant}\"?"),
        None => match known.take(40).collect::<Vec<_>>().join(", ") {
            list if list.is_empty() => format!("There is no {what} here."),
            list => format!("There is: {list}."),
        },
    };
    Error::new(format!("unknown {what} {word:?}")).advice(advice)
}

impl Kind {
    /// The kind of that `type`.
    ///
    /// # Errors
    /// There is none; the message has the nearest name.
    pub fn find(type_name: &str) -> Result<&'static Kind> {
        KINDS.iter().find(|kind| kind.type_name == type_name).ok_or_else(|| {
            unknown("layer type", type_name, KINDS.iter().map(|kind| kind.type_name).chain([super::text::BLOCK]))
        })
    }
    /// A layer of this kind from its keys.
    ///
    /// # Errors
    /// An unknown or missing key, or a value that cannot be.
    pub fn parse(&self, table: toml::Table) -> Result<Arc<dyn LayerKind>> {
        (self.parse)(table)
    }
}
