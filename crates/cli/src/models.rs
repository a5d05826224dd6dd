//! Networks and models by the names that a person types.

use crate::arguments::Globals;
use ocelli::Result;
use ocelli::data::{OpenOptions, Picture, Preparation, read};
use ocelli::exec::{Device, Inference};
use ocelli::formats::run_folder;
use ocelli::model::{Model, weights_path};
use ocelli::net::{Net, Resolved};
use ocelli::tensor::Tensors;
use ocelli::train::Settings;
use std::path::{Path, PathBuf};

/// Where runs lie.
pub const RUNS: &str = "runs";

/// A model ready to answer, and the run that it comes from.
pub struct Opened {
    /// Network, classes, preparation, weights.
    pub model: Model,
    /// The network with its shapes.
    pub net: Resolved,
    /// The run folder, unless the model is a file elsewhere.
    pub run: Option<PathBuf>,
}

impl Opened {
    /// Opens a run folder, `latest` or a file.
    pub fn new(name: &str) -> Result<Opened> {
        let model = Model::load(name, Path::new(RUNS))?;
        let net = model.resolve()?;
        let weights = weights_path(name, Path::new(RUNS))?;
        let folder = weights.parent().filter(|folder| folder.join(run_folder::ARGS).is_file());
        Ok(Opened { net, run: folder.map(Path::to_path_buf), model })
    }

    /// The engine on this model, into which its weights move.
    pub fn inference(&mut self, globals: &Globals) -> Result<Inference> {
        Inference::new(&self.net, std::mem::take(&mut self.model.tensors), &device(globals), 1)
    }

    /// The settings of the run that the model comes from.
    pub fn settings(&self) -> Result<Option<Settings>> {
        match &self.run {
            Some(run) => {
                let place = run.join(run_folder::ARGS);
                let layer = Settings::read_layer(&place)?;
                Settings::merge([(place.to_string_lossy().as_ref(), layer)]).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The name of an output.
    pub fn class(&self, class: usize) -> String {
        self.model.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
    }
}

/// A network of the zoo or of a `.toml` file with its own input and classes; or a model, with its weights.
pub fn net_or_model(name: &str) -> Result<(Resolved, Option<Tensors>)> {
    let path = Path::new(name);
    if name == "latest" || path.is_dir() || path.extension().is_some_and(|ending| ending == "safetensors") {
        let Opened { model, net, .. } = Opened::new(name)?;
        return Ok((net, Some(model.tensors)));
    }
    Ok((Net::open(name)?.resolve(None, None)?, None))
}

/// What computes.
pub fn device(globals: &Globals) -> Device {
    Device::cpu(globals.threads()).exact(globals.exact)
}

/// How data is opened: with the splits of the run whose settings these are, or by itself.
pub fn open_options(globals: &Globals, settings: Option<&Settings>) -> OpenOptions {
    let data_dir = globals.data_dir.clone();
    match settings {
        Some(Settings { val_fraction, seed, skip_bad, .. }) => {
            let (val_fraction, seed, skip_bad) = (*val_fraction, *seed, *skip_bad);
            OpenOptions { data_dir, val_fraction, seed, skip_bad, judged_whole: false }
        }
        None => OpenOptions { data_dir, seed: globals.seed.unwrap_or(0), ..OpenOptions::default() },
    }
}

/// A picture file with a model's channels.
pub fn picture(preparation: &Preparation, path: &Path, invert: bool) -> Result<Picture> {
    let picture = read(path)?.with_channels(preparation.channels);
    Ok(if invert { picture.inverted() } else { picture })
}

/// A picture file as the net sees it: the framed picture, and its numbers.
pub fn prepare(preparation: &Preparation, path: &Path, invert: bool) -> Result<(Picture, Vec<f32>)> {
    let picture = picture(preparation, path, invert)?;
    Ok((preparation.frame(picture.clone())?, preparation.numbers(picture)?))
}
