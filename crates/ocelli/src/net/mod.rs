//! A network as data: layers, blocks, text form, zoo, initialisation.
//!
//! A [`Net`] is what a file says; [`Net::resolve`] unrolls its blocks, puts the layers in order and gives every layer its
//! shapes and parameters.

mod builder;
mod check;
mod init;
pub mod keys;
pub mod kind;
pub mod layers;
mod resolve;
mod text;
mod unroll;
mod zoo;

pub use builder::Builder;
pub use init::initialise;
pub use kind::{Init, LayerKind, Role};
pub use resolve::{Parameter, Resolved, ResolvedLayer, ResolvedOutput, Source};

use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of the file format that this program writes, and the newest that it reads.
pub const FORMAT: i64 = 1;

/// A network as its file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    /// What it is called, and what its runs are named after.
    pub name: String,
    /// Channels, height, width of a picture.
    pub input: [usize; 3],
    /// Number of classes if the data does not say.
    pub classes: Option<usize>,
    /// Layers and uses of blocks, in the order of the file.
    pub layers: Vec<Layer>,
    /// Groups of layers that `block` layers repeat.
    pub blocks: BTreeMap<String, Block>,
    /// What the net answers; the last layer if there is none.
    pub outputs: Vec<Output>,
}

/// One entry of a net's `layers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name; unnamed layers are called by their type and a running number.
    pub name: Option<String>,
    /// What it does.
    pub content: Content,
    /// Names of the layers it reads; the layer before if there is none.
    pub inputs: Vec<String>,
    /// How its parameters start and learn.
    pub settings: Settings,
}

/// What a layer does.
#[derive(Clone, Debug)]
pub enum Content {
    /// A layer of a kind.
    Kind(Arc<dyn LayerKind>),
    /// The layers of a block.
    Block(BlockUse),
}

impl PartialEq for Content {
    fn eq(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Kind(a), Content::Kind(b)) => **a == **b,
            (Content::Block(a), Content::Block(b)) => a == b,
            _ => false,
        }
    }
}

/// A group of layers as text, with `$parameters` in the place of values and `$input` for the block's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The layers' keys and values.
    pub layers: Vec<toml::Table>,
}

/// A place where a block's layers go.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockUse {
    /// The block's name.
    pub block: String,
    /// How many times, one after the other, as NAME.0, NAME.1, …; without it once, as NAME.
    pub repeat: Option<usize>,
    /// The number of the first where not 0, for a row that begins with another block: NAME.1, NAME.2, ….
    pub first: usize,
    /// Values for the block's `$parameters`.
    pub parameters: toml::Table,
}

/// How a layer's parameters start and learn, where the file says so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The start of weights and biases.
    pub init: Option<InitKeys>,
    /// Factors of the learning rate.
    pub lr: Option<Factors>,
    /// Factors of weight decay.
    pub decay: Option<Factors>,
    /// Whether training changes the layer; it does if this is absent.
    pub trainable: Option<bool>,
}

/// `init = { weight = "normal", std = 0.01, bias = 1 }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitKeys {
    /// A rule (`he`, `he_fan_out`, `xavier`, `normal`, `uniform`) or a value for all weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<WeightInit>,
    /// Standard deviation of `normal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// Largest absolute value of `uniform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The value of all biases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
}

/// The start of weights in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WeightInit {
    /// A rule's name.
    Rule(String),
    /// One value for all.
    Value(f64),
}

/// Factors for weights and biases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factors {
    /// For weights, and the scale of batch norm; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// For biases, and the shift of batch norm; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
}

/// A value that the net answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// What it is called.
    pub name: String,
    /// The layer that makes it.
    pub layer: String,
    /// Its part in the loss.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub loss_weight: f64,
    /// Whether only training uses it, like GoogLeNet's side branches.
    #[serde(default, skip_serializing_if = "keys::is_default")]
    pub training_only: bool,
}

fn one() -> f64 {
    1.0
}

fn is_one(x: &f64) -> bool {
    *x == 1.0
}

impl Net {
    /// Reads a net from its text; `place` (a file name) is put in front of errors. Blocks are unrolled once to check
    /// names and connections; shapes are checked by [`Net::resolve`], which knows the pictures.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown key or layer type, a missing key, a value that cannot be, a name used twice, an
    /// input that does not exist, a cycle, a newer format.
    pub fn from_toml(text: &str, place: &str) -> Result<Net> {
        let net = text::read(text).map_err(|error| error.at(place))?;
        unroll::unroll(&net).map_err(|error| error.at(place))?;
        Ok(net)
    }

    /// The net as text that [`Net::from_toml`] reads back as the same net.
    pub fn to_toml(&self) -> String {
        text::write(self)
    }

    /// Unrolls blocks, orders the layers, and works out shapes and parameters. `classes` and `input` come from the data
    /// and go before what the file says.
    ///
    /// # Errors
    /// Shapes that do not fit, with the layer's name and the numbers; more values than can be; classes that disagree.
    pub fn resolve(&self, classes: Option<usize>, input: Option<[usize; 3]>) -> Result<Resolved> {
        resolve::resolve(self, classes, input)
    }
}

#[cfg(test)]
mod tests;

/// The Rust samples of the layers' pages, run as tests.
#[cfg(doctest)]
mod pages {
    macro_rules! pages {
        ($($name:ident)*) => {$(
            #[doc = include_str!(concat!("../../../../docs/layers/", stringify!($name), ".md"))]
            #[allow(non_camel_case_types)]
            pub struct $name;
        )*};
    }
    pages! {
        conv pad max_pool avg_pool global_avg_pool linear flatten dropout relu leaky_relu relu6 sigmoid tanh gelu hard_swish
        batch_norm lrn add multiply concat softmax adaptive_avg_pool
        bias radial scaled_tanh subsample
    }
}
