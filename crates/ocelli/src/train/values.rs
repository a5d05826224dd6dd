//! The values of settings that are not plain numbers, and how people write them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::data::Pca;
use crate::{Error, Result};

/// The optimisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum OptimizerName {
    Sgd,
    Adam,
    AdamW,
    Adadelta,
}

/// The schedules; see [`super::Schedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ScheduleName {
    Constant,
    Step,
    Multistep,
    Cosine,
    OneCycle,
    Linear,
    Plateau,
}

impl ScheduleName {
    /// Whether the rate of a step depends on how many epochs the run has.
    pub fn depends_on_the_total(self) -> bool {
        matches!(self, ScheduleName::Cosine | ScheduleName::OneCycle | ScheduleName::Linear)
    }
}

/// The losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossName {
    /// Softmax cross-entropy.
    #[serde(rename = "cross_entropy")]
    CrossEntropy,
    /// Mean squared error.
    #[serde(rename = "mse")]
    MeanSquared,
    /// Binary cross-entropy of each class.
    #[serde(rename = "bce")]
    BinaryCrossEntropy,
}

/// What tells a better epoch from a worse one, on the validation split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Monitor {
    /// More is better.
    Accuracy,
    /// Less is better.
    Loss,
}

impl Monitor {
    /// Whether `new` is better than `old`; NaN never is.
    pub fn is_better(self, new: f64, old: f64) -> bool {
        match self {
            Monitor::Accuracy => new > old,
            Monitor::Loss => new < old,
        }
    }
}

/// A time in seconds; written as a number or as `90s`, `10m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "f64")]
pub struct Seconds(pub f64);

impl From<Seconds> for f64 {
    fn from(seconds: Seconds) -> f64 {
        seconds.0
    }
}

impl FromStr for Seconds {
    type Err = Error;
    fn from_str(text: &str) -> Result<Seconds> {
        let (digits, factor) = match text.trim() {
            text if text.ends_with('h') => (&text[..text.len() - 1], 3600.0),
            text if text.ends_with('m') => (&text[..text.len() - 1], 60.0),
            text if text.ends_with('s') => (&text[..text.len() - 1], 1.0),
            text => (text, 1.0),
        };
        let number = digits.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        number
            .map(|number| Seconds(number * factor))
            .ok_or_else(|| Error::usage(format!("'{text}' is not a time")).advice("Write it as 90s, 10m or 2h."))
    }
}

impl TryFrom<Value> for Seconds {
    type Error = Error;
    fn try_from(value: Value) -> Result<Seconds> {
        match value {
            Value::Integer(number) => Ok(Seconds(number as f64)),
            Value::Float(number) => Ok(Seconds(number)),
            Value::String(text) => text.parse(),
            other => Err(Error::usage(format!("{other} is not a time")).advice("Write it as 90s, 10m or 2h.")),
        }
    }
}

/// Height and width; written as a side, as `HxW` or as `[h, w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "[usize; 2]")]
pub struct ImageSize(pub [usize; 2]);

impl From<ImageSize> for [usize; 2] {
    fn from(size: ImageSize) -> [usize; 2] {
        size.0
    }
}

impl FromStr for ImageSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<ImageSize> {
        let side = |text: &str| text.trim().parse::<usize>().ok().filter(|side| *side > 0);
        let sides = match text.split_once(['x', 'X', '×']) {
            Some((height, width)) => side(height).zip(side(width)),
            None => side(text).map(|side| (side, side)),
        };
        sides.map(|(height, width)| ImageSize([height, width])).ok_or_else(|| {
            Error::usage(format!("'{text}' is not an image size")).advice("Write a side, as 224, or HxW, as 240x320.")
        })
    }
}

impl TryFrom<Value> for ImageSize {
    type Error = Error;
    fn try_from(value: Value) -> Result<ImageSize> {
        match value {
            Value::String(text) => text.parse(),
            Value::Array(sides) if sides.len() == 2 => format!("{}x{}", sides[0], sides[1]).parse(),
            other => other.to_string().parse(),
        }
    }
}

/// What is subtracted from pictures; written as `pixel`, `image` or a value a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Mean {
    /// The mean of each channel, measured.
    Pixel,
    /// The mean of each pixel, measured.
    Image,
    /// A value a channel.
    Given(Vec<f32>),
}

impl TryFrom<Value> for Mean {
    type Error = Error;
    fn try_from(value: Value) -> Result<Mean> {
        let wrong = |value: &Value| {
            Error::usage(format!("{value} is not a mean"))
                .advice("Choose pixel, image, or a value a channel with commas between.")
        };
        let words: Vec<String> = match &value {
            Value::String(text) if text == "pixel" => return Ok(Mean::Pixel),
            Value::String(text) if text == "image" => return Ok(Mean::Image),
            Value::String(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
            Value::Array(values) => values.iter().map(Value::to_string).collect(),
            other => vec![other.to_string()],
        };
        let values: Result<Vec<f32>, _> = words.iter().map(|word| word.parse()).collect();
        values.map(Mean::Given).map_err(|_| wrong(&value))
    }
}

impl From<Mean> for Value {
    fn from(mean: Mean) -> Value {
        match mean {
            Mean::Pixel => "pixel".into(),
            Mean::Image => "image".into(),
            Mean::Given(values) => values.into_iter().map(f64::from).collect::<Vec<_>>().into(),
        }
    }
}

/// Whose colours the augmentations `pca` follow; written as `measured`, `imagenet`, a file of `ocelli data pca`, or the
/// eigenvalues and eigenvectors themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum PcaName {
    /// Those of the training split, of as many pictures as mean and deviation are measured on.
    #[default]
    Measured,
    /// [`Pca::IMAGENET`].
    ImageNet,
    /// A file.
    File(String),
    /// These.
    Given(Pca),
}

impl PcaName {
    /// What a file holds in place of its name: settings that hold it need the file no more.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(self) -> Result<PcaName> {
        match self {
            PcaName::File(path) => Pca::read(path.as_ref()).map(PcaName::Given),
            other => Ok(other),
        }
    }
}

impl TryFrom<Value> for PcaName {
    type Error = Error;
    fn try_from(value: Value) -> Result<PcaName> {
        match value {
            Value::String(text) if text == "measured" => Ok(PcaName::Measured),
            Value::String(text) if text == "imagenet" => Ok(PcaName::ImageNet),
            Value::String(path) => Ok(PcaName::File(path)),
            other => {
                Pca::parse(&other.as_table().map(toml::Table::to_string).unwrap_or("it".into())).map(PcaName::Given)
            }
        }
    }
}

impl From<PcaName> for Value {
    fn from(name: PcaName) -> Value {
        match name {
            PcaName::Measured => "measured".into(),
            PcaName::ImageNet => "imagenet".into(),
            PcaName::File(path) => path.into(),
            PcaName::Given(pca) => Value::try_from(pca).unwrap_or("measured".into()),
        }
    }
}

/// Weights of the classes in the loss; written as `none`, `balanced` or a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum ClassWeights {
    /// All count the same.
    None,
    /// Pictures / (classes · pictures of the class), so that every class counts the same in all.
    Balanced,
    /// A weight a class.
    Given(Vec<f32>),
}

impl FromStr for ClassWeights {
    type Err = Error;
    fn from_str(text: &str) -> Result<ClassWeights> {
        match text.trim() {
            "none" => return Ok(ClassWeights::None),
            "balanced" => return Ok(ClassWeights::Balanced),
            _ => {}
        }
        let weights: Result<Vec<f32>, _> = text.split(',').map(|weight| weight.trim().parse()).collect();
        weights.map(ClassWeights::Given).map_err(|_| {
            Error::usage(format!("'{text}' are not class weights"))
                .advice("Choose none, balanced, or a number a class with commas between.")
        })
    }
}

impl TryFrom<Value> for ClassWeights {
    type Error = Error;
    fn try_from(value: Value) -> Result<ClassWeights> {
        match value {
            Value::Array(weights) => weights.iter().map(Value::to_string).collect::<Vec<_>>().join(",").parse(),
            Value::String(text) => text.parse(),
            other => other.to_string().parse(),
        }
    }
}

impl From<ClassWeights> for Value {
    fn from(weights: ClassWeights) -> Value {
        match weights {
            ClassWeights::None => "none".into(),
            ClassWeights::Balanced => "balanced".into(),
            ClassWeights::Given(weights) => weights.into_iter().map(f64::from).collect::<Vec<_>>().into(),
        }
    }
}
