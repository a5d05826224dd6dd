//! Networks written in Rust, line by line as in a file.

use super::{Net, Output, text, unroll};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A net that is being written. A layer's method adds it; the methods for keys (`padding`, `name`, …) change the layer
/// added last. Mistakes are reported by [`Builder::build`] in the words of a file's errors.
///
/// ```
/// use ocelli::net::Net;
///
/// let lenet5 = Net::builder("lenet5")
///     .input(1, 28, 28)
///     .classes(10)
///     .conv(6, 5).padding(2).name("conv1")
///     .relu()
///     .max_pool(2)
///     .conv(16, 5).name("conv2")
///     .relu()
///     .max_pool(2)
///     .linear(120).name("fc1")
///     .relu()
///     .linear(84).name("fc2")
///     .relu()
///     .linear_classes().name("fc3")
///     .build()?;
/// assert_eq!(lenet5, Net::zoo("lenet5")?);
/// # Ok::<(), ocelli::Error>(())
/// ```
///
/// Branches name their inputs, and what repeats is a function:
///
/// ```
/// use ocelli::net::{Builder, Net};
///
/// fn residual(net: Builder, name: &str, filters: usize) -> Builder {
///     let (before, bn2) = (net.last_name(), format!("{name}.bn2"));
///     net.conv(filters, 3).padding("same").bias(false).name(&format!("{name}.conv1"))
///         .batch_norm().name(&format!("{name}.bn1"))
///         .relu()
///         .conv(filters, 3).padding("same").bias(false).name(&format!("{name}.conv2"))
///         .batch_norm().name(&bn2)
///         .add(&[&bn2, &before])
///         .relu()
/// }
///
/// let mut net = Net::builder("residual").input(3, 32, 32).conv(16, 3).padding(1).relu();
/// for i in 0..3 {
///     net = residual(net, &format!("layer1.{i}"), 16);
/// }
/// let net = net.global_avg_pool().linear_classes().build()?;
/// assert_eq!(net.resolve(Some(10), None)?.parameter_count(), 448 + 3 * (2 * 2304 + 64) + 170);
/// # Ok::<(), ocelli::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    name: String,
    input: [usize; 3],
    classes: Option<usize>,
    layers: Vec<Table>,
    outputs: Vec<Output>,
    mistake: Option<Error>,
}

impl Net {
    /// Begins a net.
    pub fn builder(name: &str) -> Builder {
        Builder { name: name.to_owned(), input: [0; 3], classes: None, layers: vec![], outputs: vec![], mistake: None }
    }
}

impl Builder {
    /// Channels, height, width of a picture.
    pub fn input(mut self, channels: usize, height: usize, width: usize) -> Builder {
        self.input = [channels, height, width];
        self
    }
    /// The number of classes if the data does not say.
    pub fn classes(mut self, classes: usize) -> Builder {
        self.classes = Some(classes);
        self
    }
    /// An output; without any, the last layer is the output.
    pub fn output(mut self, name: &str, layer: &str, loss_weight: f64, training_only: bool) -> Builder {
        self.outputs.push(Output { name: name.into(), layer: layer.into(), loss_weight, training_only });
        self
    }

    /// A layer of any type, for `set` to give keys to.
    pub fn layer(mut self, type_name: &str) -> Builder {
        self.layers.push(Table::from_iter([("type".to_owned(), Value::from(type_name))]));
        self
    }
    /// Sets a key of the layer added last.
    pub fn set(self, key: &str, value: impl Serialize) -> Builder {
        self.change(|layer| Ok(layer.insert(key.to_owned(), Value::try_from(value)?)))
    }

    /// `filters` filters of `kernel` rows and columns: a number, or `[height, width]`.
    pub fn conv(self, filters: usize, kernel: impl Serialize) -> Builder {
        self.layer("conv").set("filters", filters).set("kernel", kernel)
    }
    /// The maximum under windows of `kernel`.
    pub fn max_pool(self, kernel: impl Serialize) -> Builder {
        self.layer("max_pool").set("kernel", kernel)
    }
    /// The mean under windows of `kernel`.
    pub fn avg_pool(self, kernel: impl Serialize) -> Builder {
        self.layer("avg_pool").set("kernel", kernel)
    }
    /// The mean of each map.
    pub fn global_avg_pool(self) -> Builder {
        self.layer("global_avg_pool")
    }
    /// Zeros around the maps: a number, `[h, w]` or `[top, left, bottom, right]`.
    pub fn pad(self, amount: impl Serialize) -> Builder {
        self.layer("pad").set("amount", amount)
    }
    /// A linear layer.
    pub fn linear(self, units: usize) -> Builder {
        self.layer("linear").set("units", units)
    }
    /// A linear layer with a unit per class.
    pub fn linear_classes(self) -> Builder {
        self.layer("linear").set("units", "classes")
    }
    /// Maps to a row of values.
    pub fn flatten(self) -> Builder {
        self.layer("flatten")
    }
    /// Zeros in training, with probability `rate`.
    pub fn dropout(self, rate: f64) -> Builder {
        self.layer("dropout").set("rate", rate)
    }
    /// max(0, x).
    pub fn relu(self) -> Builder {
        self.layer("relu")
    }
    /// x, or slope·x below zero.
    pub fn leaky_relu(self, slope: f64) -> Builder {
        self.layer("leaky_relu").set("slope", slope)
    }
    /// Batch norm.
    pub fn batch_norm(self) -> Builder {
        self.layer("batch_norm")
    }
    /// Local response normalisation over `size` channels.
    pub fn lrn(self, size: usize) -> Builder {
        self.layer("lrn").set("size", size)
    }
    /// The sum of layers.
    #[allow(clippy::should_implement_trait)] // The layer's name; nobody adds builders with `+`.
    pub fn add(self, inputs: &[&str]) -> Builder {
        self.layer("add").inputs(inputs)
    }
    /// The product of two layers.
    pub fn multiply(self, inputs: &[&str]) -> Builder {
        self.layer("multiply").inputs(inputs)
    }
    /// The channels of layers one after the other.
    pub fn concat(self, inputs: &[&str]) -> Builder {
        self.layer("concat").inputs(inputs)
    }

    /// Names the layer.
    pub fn name(self, name: &str) -> Builder {
        self.set("name", name)
    }
    /// The layers that it reads instead of the one before; `"input"` is the picture.
    pub fn inputs(self, inputs: &[&str]) -> Builder {
        self.set("inputs", inputs)
    }
    /// A number or `[height, width]`.
    pub fn stride(self, stride: impl Serialize) -> Builder {
        self.set("stride", stride)
    }
    /// A number, `[h, w]`, `[top, left, bottom, right]`, `"valid"`, `"same"` or `"full"`.
    pub fn padding(self, padding: impl Serialize) -> Builder {
        self.set("padding", padding)
    }
    /// A number or `[height, width]`.
    pub fn dilation(self, dilation: impl Serialize) -> Builder {
        self.set("dilation", dilation)
    }
    /// The number of groups.
    pub fn groups(self, groups: usize) -> Builder {
        self.set("groups", groups)
    }
    /// Whether the layer has biases.
    pub fn bias(self, bias: bool) -> Builder {
        self.set("bias", bias)
    }
    /// A key of the layer's `init`: `.init("weight", "normal").init("std", 0.01).init("bias", 1.0)`.
    pub fn init(self, key: &str, value: impl Serialize) -> Builder {
        self.set_inside("init", key, value)
    }
    /// The learning rate's factor for `"weight"` or `"bias"`.
    pub fn lr(self, key: &str, factor: f64) -> Builder {
        self.set_inside("lr", key, factor)
    }
    /// Weight decay's factor for `"weight"` or `"bias"`.
    pub fn decay(self, key: &str, factor: f64) -> Builder {
        self.set_inside("decay", key, factor)
    }
    /// Whether training changes the layer.
    pub fn trainable(self, trainable: bool) -> Builder {
        self.set("trainable", trainable)
    }

    /// The name of the layer added last, `input` before the first.
    pub fn last_name(&self) -> String {
        let word = |layer: &Table, key: &str| layer.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(last) = self.layers.last() else { return "input".to_owned() };
        word(last, "name").unwrap_or_else(|| {
            let type_name = word(last, "type").unwrap_or_default();
            let number = self.layers.iter().filter(|layer| word(layer, "type").as_ref() == Some(&type_name)).count();
            format!("{type_name}{number}")
        })
    }

    /// The finished net, checked as a file is.
    ///
    /// # Errors
    /// As [`Net::from_toml`], with the net's name in front.
    pub fn build(self) -> Result<Net> {
        let name = self.name.clone();
        self.finish().map_err(|error| error.at(name))
    }

    fn finish(self) -> Result<Net> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        text::check_name(&self.name)?;
        let layers =
            self.layers.into_iter().enumerate().map(|(i, table)| text::layer(table, i)).collect::<Result<_>>()?;
        let net = Net {
            name: self.name,
            input: self.input,
            classes: self.classes,
            layers,
            blocks: BTreeMap::new(),
            outputs: self.outputs,
        };
        unroll::unroll(&net)?;
        Ok(net)
    }

    fn set_inside(self, table: &str, key: &str, value: impl Serialize) -> Builder {
        self.change(|layer| {
            let value = Value::try_from(value)?;
            let inner = layer.entry(table).or_insert_with(|| Value::Table(Table::new()));
            Ok(inner.as_table_mut().and_then(|inner| inner.insert(key.to_owned(), value)))
        })
    }

    fn change(mut self, change: impl FnOnce(&mut Table) -> Result<Option<Value>, toml::ser::Error>) -> Builder {
        let done = match self.layers.last_mut() {
            Some(layer) => change(layer).map_err(|error| Error::new(error.to_string())),
            None => Err(Error::new("a key is set before the first layer").advice("Add a layer first.")),
        };
        if let Err(error) = done {
            self.mistake.get_or_insert(error);
        }
        self
    }
}
