//! Shapes and parameters of every layer, for given pictures and classes.

use super::kind::ParameterRule;
use super::unroll::{Unrolled, unroll};
use super::{Factors, Init, InitKeys, LayerKind, Net, Role, Settings, WeightInit};
use crate::shape::{MAX_SIZE, MAX_VALUES, Shape};
use crate::words::counted;
use crate::{Error, Result};
use std::sync::Arc;

/// A net with everything worked out: blocks unrolled, names unique, layers in an order that can be computed.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The net's name.
    pub name: String,
    /// Channels, height, width of a picture.
    pub input: [usize; 3],
    /// Values of the main output: classes, or numbers that a regression predicts.
    pub classes: usize,
    /// Each after its inputs.
    pub layers: Vec<ResolvedLayer>,
    /// At least one that is not for training only; the first such is the main one.
    pub outputs: Vec<ResolvedOutput>,
}

/// A layer with its shapes and parameters.
#[derive(Clone, Debug)]
pub struct ResolvedLayer {
    /// Unique, with the names of its blocks: `layer2.0.conv1`.
    pub name: String,
    /// What it does; `"classes"` has become a number.
    pub kind: Arc<dyn LayerKind>,
    /// Where its inputs come from.
    pub inputs: Vec<Source>,
    /// Their shapes.
    pub input_shapes: Vec<Shape>,
    /// What it makes.
    pub shape: Shape,
    /// Its parameters and running statistics.
    pub parameters: Vec<Parameter>,
    /// Whether only outputs that are for training only depend on it.
    pub training_only: bool,
    /// Whether training uses its running statistics in place of the batch's and leaves them as they are.
    pub frozen_statistics: bool,
}

/// Where a layer's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The picture.
    Input,
    /// An earlier layer.
    Layer(usize),
}

/// An output and its layer.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedOutput {
    /// What it is called.
    pub name: String,
    /// Which of [`Resolved::layers`] makes it.
    pub layer: usize,
    /// Its part in the loss.
    pub loss_weight: f32,
    /// Whether only training uses it.
    pub training_only: bool,
}

/// A parameter or running statistic.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// PyTorch's name: `conv1.weight`.
    pub name: String,
    /// Sizes in PyTorch's order.
    pub dims: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// How it starts.
    pub init: Init,
    /// Factor of the learning rate.
    pub lr: f32,
    /// Factor of weight decay.
    pub decay: f32,
    /// Whether the optimiser changes it; never for running statistics, which training still measures.
    pub trainable: bool,
    /// Epochs before the optimiser began to change it; 0.
    pub frozen_epochs: u64,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }
    /// Whether there is none; no layer makes such a parameter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Resolved {
    /// All parameters and running statistics, in the order of the layers.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.layers.iter().flat_map(|layer| &layer.parameters)
    }
    /// How many values training learns; running statistics are not counted.
    pub fn parameter_count(&self) -> u64 {
        self.parameters().filter(|p| !p.role.is_statistic()).map(|p| p.len() as u64).sum()
    }
    /// The layer of that name.
    pub fn layer(&self, name: &str) -> Option<&ResolvedLayer> {
        self.layers.iter().find(|layer| layer.name == name)
    }
    /// The output that predictions come from.
    pub fn main_output(&self) -> &ResolvedOutput {
        // `resolve` refuses nets whose outputs are all for training only.
        self.outputs.iter().find(|output| !output.training_only).unwrap_or(&self.outputs[0])
    }
    /// The shape that a source has.
    pub fn source_shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => Shape::Map(self.input),
            Source::Layer(layer) => self.layers[layer].shape,
        }
    }
}

pub(super) fn resolve(net: &Net, classes: Option<usize>, input: Option<[usize; 3]>) -> Result<Resolved> {
    let input = input.unwrap_or(net.input);
    if input.iter().any(|n| !(1..=MAX_SIZE).contains(n)) || product(&input).is_none() {
        return Err(Error::new(format!(
            "a picture of {} channels and {}x{} pixels cannot be",
            input[0], input[1], input[2]
        ))
        .advice(format!("Use sizes from 1 to {MAX_SIZE} with at most {MAX_VALUES} values.")));
    }
    if classes.is_some_and(|n| !(1..=MAX_SIZE).contains(&n)) {
        return Err(Error::new(format!("{} classes cannot be", classes.unwrap_or(0)))
            .advice(format!("Use 1 to {MAX_SIZE} classes.")));
    }
    let (unrolled, outputs) = unroll(net)?;
    let default_start: Vec<bool> =
        unrolled.iter().map(|layer| layer.settings.init.as_ref().is_none_or(|init| init.weight.is_none())).collect();
    let mut layers: Vec<ResolvedLayer> = Vec::with_capacity(unrolled.len());
    let mut values = 0;
    for layer in unrolled {
        let name = layer.name.clone();
        let layer = resolve_layer(layer, classes.or(net.classes), input, &layers).map_err(|error| error.at(name))?;
        for parameter in &layer.parameters {
            // Each product is within MAX_VALUES, so that the sum of many still cannot overflow.
            values += parameter.len() as u64;
        }
        if values > MAX_VALUES {
            return Err(Error::new(format!(
                "{}: the net has more than {MAX_VALUES} parameters up to here",
                layer.name
            ))
            .advice("Use fewer filters or units, or pool before the linear layer."));
        }
        layers.push(layer);
    }
    let outputs: Vec<ResolvedOutput> = outputs
        .into_iter()
        .map(|(output, layer)| ResolvedOutput {
            name: output.name,
            layer,
            loss_weight: output.loss_weight as f32,
            training_only: output.training_only,
        })
        .collect();
    for output in outputs.iter().filter(|output| output.loss_weight > 0.0) {
        check_classes(&layers[output.layer], classes, net.classes)?;
    }
    for output in &outputs {
        start_scores_small(output.layer, &mut layers, &default_start);
    }
    let mut needed: Vec<usize> = outputs.iter().filter(|output| !output.training_only).map(|o| o.layer).collect();
    while let Some(layer) = needed.pop() {
        if std::mem::take(&mut layers[layer].training_only) {
            let sources = layers[layer].inputs.iter();
            needed.extend(sources.filter_map(|source| if let Source::Layer(i) = source { Some(*i) } else { None }));
        }
    }
    let mut resolved = Resolved { name: net.name.clone(), input, classes: 0, layers, outputs };
    resolved.classes = resolved.layers[resolved.main_output().layer].shape.len();
    Ok(resolved)
}

/// The weights behind an output start at N(0, 0.01), as those of AlexNet (Krizhevsky et al. 2012), where the file doesn't say
/// otherwise. The scores are then near 0 and the first loss near ln(classes), the loss of guessing; He's rule keeps the
/// scale of the values that come in, which pooling and unnormalised pictures make large. Layers without parameters
/// between the weights and the output (a global average) are passed over.
fn start_scores_small(output: usize, layers: &mut [ResolvedLayer], default_start: &[bool]) {
    let mut at = output;
    while layers[at].parameters.is_empty() {
        match layers[at].inputs[..] {
            [Source::Layer(before)] => at = before,
            _ => return,
        }
    }
    for parameter in layers[at].parameters.iter_mut().filter(|p| default_start[at] && p.init == Init::He) {
        parameter.init = Init::Normal { std: 0.01 };
    }
}

/// The output has as many values as there are classes.
fn check_classes(layer: &ResolvedLayer, data: Option<usize>, file: Option<usize>) -> Result<()> {
    let (classes, whose) = match (data, file) {
        (Some(n), _) => (n, "the data has"),
        (None, Some(n)) => (n, "the net's file says"),
        (None, None) => return Ok(()),
    };
    if layer.shape.len() == classes {
        return Ok(());
    }
    let advice = match layer.shape {
        Shape::Flat(_) => {
            format!("Write units = \"classes\" in {}, which follows the data, or units = {classes}.", layer.name)
        }
        Shape::Map(_) => "End the net in a linear layer with units = \"classes\".".to_owned(),
    };
    let (values, classes) = (counted(layer.shape.len(), "value"), counted(classes, "class"));
    Err(Error::new(format!("{}: the net ends in {values}, but {whose} {classes}", layer.name)).advice(advice))
}

fn resolve_layer(
    layer: Unrolled,
    classes: Option<usize>,
    input: [usize; 3],
    before: &[ResolvedLayer],
) -> Result<ResolvedLayer> {
    let kind = layer.kind.with_classes(classes)?.unwrap_or(layer.kind);
    kind.check()?;
    let input_shapes: Vec<Shape> = layer
        .inputs
        .iter()
        .map(|source| match *source {
            Source::Input => Shape::Map(input),
            Source::Layer(i) => before[i].shape,
        })
        .collect();
    let shape = kind.shape(&input_shapes)?;
    if product(shape.dims()).is_none() {
        return Err(Error::new(format!("an output of {shape} has more than {MAX_VALUES} values"))
            .advice("Use fewer filters, or a larger stride."));
    }
    let rules = kind.parameters(&input_shapes);
    check_settings(&layer.settings, &rules, kind.type_name())?;
    let parameters = rules
        .into_iter()
        .map(|rule| parameter(&layer.name, rule, &layer.settings))
        .collect::<Result<Vec<Parameter>>>()?;
    for parameter in parameters.iter().filter(|parameter| parameter.init == Init::Whiten) {
        check_whiten(&parameter.dims, &layer.inputs, input)?;
    }
    Ok(ResolvedLayer {
        name: layer.name,
        kind,
        inputs: layer.inputs,
        input_shapes,
        shape,
        parameters,
        training_only: true,
        frozen_statistics: false,
    })
}

/// Patches of the picture are whitened, by as many filters as they have directions, and the opposite ones.
fn check_whiten(dims: &[usize], inputs: &[Source], input: [usize; 3]) -> Result<()> {
    let patch: usize = dims[1..].iter().product();
    if inputs != [Source::Input] || dims[1] != input[0] {
        return Err(Error::new(
            "init: weight = \"whiten\" is for a convolution that reads the picture, all its channels",
        )
        .advice("Use it in the first layer, or another rule, for example \"he\"."));
    }
    if dims[0] > 2 * patch || dims[2] > input[1] || dims[3] > input[2] {
        let (filters, channels, height, width) = (dims[0], dims[1], dims[2], dims[3]);
        return Err(Error::new(format!(
            "init: weight = \"whiten\" of {filters} filters, where patches of {height}x{width}x{channels} have {} directions",
            2 * patch
        ))
        .advice(format!("Use at most {} filters, and a kernel no larger than the picture.", 2 * patch)));
    }
    Ok(())
}

/// The product of sizes, if it is at most [`MAX_VALUES`].
fn product(dims: &[usize]) -> Option<u64> {
    let product = dims.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64))?;
    (product <= MAX_VALUES && usize::try_from(product).is_ok()).then_some(product)
}

fn parameter(layer: &str, rule: ParameterRule, settings: &Settings) -> Result<Parameter> {
    let name = format!("{layer}.{}", rule.role.suffix());
    if product(&rule.dims).is_none() {
        let dims: Vec<String> = rule.dims.iter().map(usize::to_string).collect();
        return Err(Error::new(format!(
            "{} of {} has more than {MAX_VALUES} values",
            rule.role.suffix(),
            dims.join("x")
        ))
        .advice("Use fewer filters or units, or pool before the linear layer."));
    }
    let factor = |factors: &Option<Factors>, key: &str| -> Result<f32> {
        let Some(factors) = factors else { return Ok(1.0) };
        let factor = if rule.role.suffix() == "weight" { factors.weight } else { factors.bias }.unwrap_or(1.0);
        if factor.is_finite() && factor >= 0.0 {
            return Ok(factor as f32);
        }
        Err(Error::new(format!("{key}: {factor} is not a factor")).advice("Use a number from 0 up."))
    };
    let statistic = rule.role.is_statistic();
    Ok(Parameter {
        init: start(&rule, settings.init.as_ref())?,
        lr: factor(&settings.lr, "lr")?,
        decay: factor(&settings.decay, "decay")?,
        trainable: !statistic && settings.trainable.unwrap_or(true),
        frozen_epochs: 0,
        role: rule.role,
        dims: rule.dims,
        name,
    })
}

/// Settings for parameters that the layer does not have are slips.
fn check_settings(settings: &Settings, rules: &[ParameterRule], type_name: &str) -> Result<()> {
    let Settings { init, lr, decay, trainable } = settings;
    let has = |suffix: &str| rules.iter().any(|rule| rule.role.suffix() == suffix);
    let any = init.is_some() || lr.is_some() || decay.is_some() || trainable.is_some();
    if any && rules.is_empty() {
        return Err(Error::new(format!("{type_name} has no parameters for init, lr, decay or trainable"))
            .advice("Remove these keys."));
    }
    let bias = |factors: &Option<Factors>| factors.as_ref().is_some_and(|f| f.bias.is_some());
    if !has("bias") && (bias(lr) || bias(decay) || init.as_ref().is_some_and(|init| init.bias.is_some())) {
        return Err(Error::new("a bias is set in init, lr or decay, but the layer has none")
            .advice("Remove it, or use bias = true."));
    }
    Ok(())
}

/// How a parameter starts: the layer's `init`, else its kind's rule.
fn start(rule: &ParameterRule, keys: Option<&InitKeys>) -> Result<Init> {
    let Some(keys) = keys else { return Ok(rule.init) };
    let number = |key: &str, value: f64| {
        let error = || {
            Error::new(format!("init: {key} = {value} cannot be"))
                .advice("Use a finite number, from 0 up for std and limit.")
        };
        (value.is_finite() && (value >= 0.0 || matches!(key, "weight" | "bias"))).then_some(value).ok_or_else(error)
    };
    if rule.role.is_statistic() {
        return Ok(rule.init);
    }
    if rule.role.suffix() == "bias" {
        return Ok(keys.bias.map(|value| number("bias", value)).transpose()?.map_or(rule.init, Init::Constant));
    }
    let needs = |key: &str, value: Option<f64>, name: &str| match value {
        Some(value) => number(key, value),
        None => Err(Error::new(format!("init: weight = {name:?} needs `{key}`"))
            .advice(format!("For example init = {{ weight = {name:?}, {key} = 0.01 }}."))),
    };
    let spare = |used: &str| match (keys.std, keys.limit) {
        (Some(_), _) if used != "std" => {
            Err(Error::new("init: std belongs to weight = \"normal\"").advice("Remove `std`."))
        }
        (_, Some(_)) if used != "limit" => {
            Err(Error::new("init: limit belongs to weight = \"uniform\"").advice("Remove `limit`."))
        }
        _ => Ok(()),
    };
    let (init, used) = match &keys.weight {
        None => (rule.init, ""),
        Some(WeightInit::Value(value)) => (Init::Constant(number("weight", *value)?), ""),
        Some(WeightInit::Rule(name)) => match name.as_str() {
            "normal" => (Init::Normal { std: needs("std", keys.std, name)? }, "std"),
            "uniform" => (Init::Uniform { limit: needs("limit", keys.limit, name)? }, "limit"),
            "he" => (Init::He, ""),
            "he_fan_out" => (Init::HeFanOut, ""),
            "xavier" => (Init::Xavier, ""),
            "dirac" | "whiten" if rule.dims.len() != 4 => {
                return Err(Error::new(format!("init: weight = {name:?} is for convolutions"))
                    .advice("Use another rule, for example \"he\"."));
            }
            "dirac" => (Init::Dirac, ""),
            "whiten" => (Init::Whiten, ""),
            _ => {
                let known = ["he", "he_fan_out", "xavier", "normal", "uniform", "dirac", "whiten"];
                return Err(super::kind::unknown("init", name, known.into_iter()));
            }
        },
    };
    spare(used)?;
    Ok(init)
}
