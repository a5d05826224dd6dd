//! A trained network: what it is, what it answers, how pictures are prepared for it, and its weights, in one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Preparation};
use crate::formats::{FORMAT_VERSION, NUMERICS_VERSION, check_format, run_folder, weights};
use crate::net::{Net, Resolved};
use crate::{Error, Result, Tensors};

/// A trained network with everything that a prediction needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The network.
    pub net: Net,
    /// Class names, in the order of the outputs; empty for regression.
    pub classes: Vec<String>,
    /// Names of the predicted numbers, in the order of the outputs; empty for classes.
    pub targets: Vec<String>,
    /// Whether each class is answered by itself, so that a picture may have any number of them.
    pub multi_label: bool,
    /// How a picture becomes the network's input.
    pub preparation: Preparation,
    /// What was fitted after training.
    pub calibration: Calibration,
    /// Parameters and running statistics, by PyTorch's names and in its layouts.
    pub tensors: Tensors,
}

/// Answers with a lower probability are 'unsure', unless the model says otherwise.
pub const SURE: f32 = 0.9;

/// How sure a model's answers are taken to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calibration {
    /// What scores are divided by before softmax; 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// For each class the probability below which its answer is unsure; [`SURE`]. Infinite: always.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsure: Vec<f32>,
}

impl Calibration {
    /// What scores are divided by before softmax.
    pub fn temperature(&self) -> f32 {
        self.temperature.unwrap_or(1.0)
    }
    /// Whether an answer is sure.
    pub fn is_sure(&self, class: usize, probability: f32) -> bool {
        probability >= self.unsure.get(class).copied().unwrap_or(SURE)
    }
    fn is_default(&self) -> bool {
        *self == Calibration::default()
    }
    fn check(&self, classes: usize) -> Result<()> {
        let unsure = &self.unsure;
        let good = self.temperature().is_finite()
            && self.temperature() > 0.0
            && (unsure.is_empty() || unsure.len() == classes)
            && unsure.iter().all(|probability| *probability >= 0.0);
        let what = || Error::new(format!("the model's calibration is not one for {classes} classes"));
        good.then_some(()).ok_or_else(what)
    }
}

/// The text that travels in the metadata of a model's file.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    numerics: u32,
    net: String,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    multi_label: bool,
    preparation: Preparation,
    #[serde(default, skip_serializing_if = "Calibration::is_default")]
    calibration: Calibration,
}

impl Model {
    /// Loads a model: a run folder (its best weights), `latest` (the newest run under `root`), or a `.safetensors` file.
    ///
    /// # Errors
    /// There is no such model, the file is damaged or of a newer format, or its tensors do not fit its network.
    pub fn load(name: &str, root: &Path) -> Result<Model> {
        let path = weights_path(name, root)?;
        let (tensors, text) = weights::read(&path)?;
        Model::from_parts(tensors, text).map_err(|error| error.at(path.display()))
    }

    /// A model from the bytes of a `.safetensors` file.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn parse(bytes: &[u8]) -> Result<Model> {
        let (tensors, text) = weights::parse(bytes)?;
        Model::from_parts(tensors, text)
    }

    fn from_parts(tensors: Tensors, text: Option<String>) -> Result<Model> {
        let text = text.ok_or_else(|| {
            Error::new("these weights come without a network")
                .advice("Bare weights can start a training: ocelli train NET --init FILE")
        })?;
        let damaged = |error: toml::de::Error| {
            Error::new(format!("the model's description is damaged: {}", error.message().replace('\n', " ")))
        };
        let table: toml::Table = toml::from_str(&text).map_err(damaged)?;
        if let Some(format) = table.get("format").and_then(|format| format.as_integer()) {
            check_format("model", u32::try_from(format).unwrap_or(u32::MAX))?;
        }
        let header: Header = table.try_into().map_err(damaged)?;
        let net = Net::from_toml(&header.net, "its network")?;
        let Header { classes, targets, multi_label, preparation, calibration, .. } = header;
        calibration.check(classes.len())?;
        if preparation.mean.len() != preparation.channels || preparation.std.len() != preparation.channels {
            return Err(Error::new("the model's preparation has not a mean and a deviation for each channel"));
        }
        if (0..2).any(|i| preparation.size[i] == 0 || preparation.cover[i] < preparation.size[i]) {
            let (size, cover) = (preparation.size, preparation.cover);
            return Err(Error::new(format!("the model's preparation cuts {size:?} pixels out of {cover:?}")));
        }
        let values = preparation.size.iter().try_fold(preparation.channels, |n, side| n.checked_mul(*side));
        if preparation.mean_image.as_ref().is_some_and(|image| Some(image.len()) != values) {
            return Err(Error::new("the model's mean image has not a value for each pixel"));
        }
        let model = Model { net, classes, targets, multi_label, preparation, calibration, tensors };
        let resolved = model.resolve()?;
        weights::check(&model.tensors, &expected(&resolved))?;
        Ok(model)
    }

    /// Writes the model to a `.safetensors` file, atomically.
    ///
    /// # Errors
    /// The file cannot be written, or a weight is not finite.
    pub fn save(&self, path: &Path) -> Result<()> {
        check_finite(&self.tensors)?;
        let header = Header {
            format: FORMAT_VERSION,
            numerics: NUMERICS_VERSION,
            net: self.net.to_toml(),
            classes: self.classes.clone(),
            targets: self.targets.clone(),
            multi_label: self.multi_label,
            preparation: self.preparation.clone(),
            calibration: self.calibration.clone(),
        };
        let text = toml::to_string(&header).map_err(|error| Error::new(format!("model: {error}")))?;
        weights::write(path, self.tensors.iter().map(|(name, tensor)| (name.as_str().into(), tensor)), &text)
    }

    /// Whether it predicts numbers, not classes.
    pub fn is_regression(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Fails where the data has one class a picture and the model answers several, or the other way round.
    ///
    /// # Errors
    /// Names the data.
    pub fn check_labels(&self, data: &Dataset) -> Result<()> {
        if self.is_regression() || data.is_regression() || self.multi_label == data.multi_label {
            return Ok(());
        }
        let name = &data.name;
        Err(match self.multi_label {
            true => Error::usage(format!("{name} has one class a picture, the model answers each class by itself"))
                .advice("Judge it on a list with the column labels."),
            false => Error::usage(format!("{name} has several classes a picture, the model answers one"))
                .advice("Judge it on data with one class a picture."),
        })
    }

    /// The network with its shapes, for the pictures and classes of this model.
    ///
    /// # Errors
    /// The network does not fit them.
    pub fn resolve(&self) -> Result<Resolved> {
        let [height, width] = self.preparation.size;
        let outputs = if self.is_regression() { self.targets.len() } else { self.classes.len() };
        self.net.resolve(Some(outputs), Some([self.preparation.channels, height, width]))
    }
}

/// The file of weights that a name means: a run folder's best weights, `latest`'s, or the file itself.
///
/// # Errors
/// There is no such run or file.
pub fn weights_path(name: &str, root: &Path) -> Result<PathBuf> {
    let path = if name == "latest" { run_folder::latest(root)? } else { PathBuf::from(name) };
    if path.is_file() {
        return Ok(path);
    }
    let best = path.join(run_folder::BEST);
    if best.is_file() {
        return Ok(best);
    }
    if path.join(run_folder::ARGS).is_file() {
        let what = format!("{}: the run has no {} yet", path.display(), run_folder::BEST);
        return Err(Error::new(what).advice(format!("Go on with it: ocelli train --resume {}", path.display())));
    }
    Err(Error::new(format!("{name}: no run folder and no .safetensors file"))
        .advice("Give a run folder, latest or a file; `ocelli runs` lists the runs."))
}

/// Names and shapes of the tensors that a network has.
pub(crate) fn expected(net: &Resolved) -> BTreeMap<String, Vec<usize>> {
    net.parameters().map(|parameter| (parameter.name.clone(), parameter.dims.clone())).collect()
}

/// Fails if a value is NaN or infinite.
pub(crate) fn check_finite(tensors: &Tensors) -> Result<()> {
    match tensors.iter().find(|(_, tensor)| !tensor.data.iter().all(|value| value.is_finite())) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(format!("{name} holds NaN or infinity; such weights are not saved"))
            .advice("Start again with a lower --lr, --warmup-epochs 1 or --clip 1; what was saved before is whole.")),
    }
}
