//! From settings to everything that the loop needs: data, network, preparation, loss, optimiser.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::transfer::{self, Stage};
use super::whiten;
use super::{ClassWeights, LossName, Mean, Monitor, OptimizerName, PcaName, RunState, Settings};
use crate::data::{
    self, Dataset, LoadOptions, Loader, OpenOptions, Order, Pca, Pictures, Preparation, Split, TrainingOptions,
};
use crate::exec::{Loss, Optimizer, TrainOptions};
use crate::formats::weights;
use crate::model::{Calibration, Model, expected, weights_path};
use crate::net::{Net, Resolved, initialise};
use crate::words::counted;
use crate::{Error, Result, Tensors};

/// What is to be trained, on what.
pub(super) struct Task {
    pub data: Arc<Dataset>,
    pub net: Resolved,
    /// What learns from later epochs on.
    pub stages: Vec<Stage>,
    pub train: Loader,
    pub val: Loader,
    /// The training pictures.
    pub pictures: Arc<Pictures>,
    /// What the best weights are saved with; without tensors yet.
    pub model: Model,
    pub options: TrainOptions,
    pub monitor: Monitor,
    /// SHA-256 of the list of pictures, classes and splits.
    pub fingerprint: String,
    /// What a person should know about the data.
    pub notes: Vec<String>,
}

impl Task {
    /// Opens the data and fits the network to it.
    ///
    /// # Errors
    /// The data cannot be read, the network doesn't fit it, or a setting doesn't fit them.
    pub fn open(settings: &Settings, net: Net, data_dir: Option<PathBuf>) -> Result<Task> {
        let Settings { seed, val_fraction, skip_bad, workers, augment, .. } = *settings;
        let opening = OpenOptions { data_dir, val_fraction, seed, skip_bad, judged_whole: false };
        let data = Arc::new(data::open(&settings.data, &opening)?);
        let regression = data.is_regression();
        let outputs = if regression { data.targets.len() } else { data.classes.len() };
        let size = settings.image_size.map_or([net.input[1], net.input[2]], |size| size.0);
        let channels = net.input[0];
        let mut resolved = net.resolve(Some(outputs), Some([channels, size[0], size[1]]))?;
        let (stages, of_start) = transfer::prepare(&mut resolved, settings)?;
        let mut options = options(settings, &data)?;
        let monitor = match settings.monitor {
            Some(Monitor::Accuracy) if regression => {
                return Err(Error::usage("monitor accuracy for data with numbers").advice("Use --monitor loss."));
            }
            Some(monitor) => monitor,
            None if regression => Monitor::Loss,
            None => Monitor::Accuracy,
        };

        let mut preparation = Preparation::for_data(&data, size, channels, settings.resize, &augment)?;
        if let Some(cover) = settings.cover {
            preparation = preparation.covering(cover.0)?;
        }
        let pictures =
            Arc::new(Pictures::load(&data, Split::Train, &preparation, &LoadOptions { augment, workers, skip_bad })?);
        if settings.mean == Some(Mean::Image) {
            preparation.mean_image = Some(pictures.mean_image(workers)?);
        }
        let given = settings.mean.clone().and_then(|mean| if let Mean::Given(mean) = mean { Some(mean) } else { None });
        let preparation = match (given, settings.std.clone()) {
            (Some(mean), Some(std)) => preparation.with_statistics(mean, std)?,
            (mean, std) => {
                let (own_mean, own_std) = pictures.statistics(workers)?;
                preparation.with_statistics(mean.unwrap_or(own_mean), std.unwrap_or(own_std))?
            }
        };
        let pca = match settings.pca.clone().read()? {
            PcaName::Given(pca) => pca,
            PcaName::Measured if augment.moves_colours() && channels == 3 => pictures.colours(workers)?.pca(),
            _ => Pca::IMAGENET,
        };
        let Settings { batch_size, shuffle, sampling, shuffle_buffer, .. } = *settings;
        let order = Order { seed, shuffle, sampling, shuffle_buffer, batch_size, ..Order::default() };
        let train = Loader::training(&pictures, &preparation, &TrainingOptions { order, augment, pca, workers })?;
        options.epoch_steps = train.batches() as u64;
        let plain = LoadOptions { workers, skip_bad, ..Default::default() };
        let chosen = Pictures::load(&data, Split::Val, &preparation, &plain)?;
        let skipped: Vec<_> = pictures.skipped.iter().chain(&chosen.skipped).map(|error| error.what().into()).collect();
        let val = Loader::evaluation(&Arc::new(chosen), &preparation, batch_size, workers)?;
        let (classes, targets) = (data.classes.clone(), data.targets.clone());
        let calibration = Calibration::default();
        let multi_label = data.multi_label;
        let model = Model { net, classes, targets, multi_label, preparation, calibration, tensors: Tensors::new() };
        let fingerprint = hex(&Sha256::digest(data.split_csv().as_bytes()));
        let mut notes = data.notes.clone();
        notes.extend(of_start);
        notes.extend(train.note());
        if settings.accumulate > 1 && resolved.parameters().any(|parameter| parameter.role.is_statistic()) {
            let part = batch_size / settings.accumulate;
            notes.push(format!(
                "batch norm sums over parts of {part} pictures, so the weights are not those of whole batches"
            ));
        }
        if let Some(first) = skipped.first() {
            let (pictures, first): (String, &String) = (counted(skipped.len(), "picture"), first);
            notes.push(format!("{pictures} left out because of --skip-bad; the first: {first}"));
        }
        Ok(Task { data, net: resolved, stages, train, val, pictures, model, options, monitor, fingerprint, notes })
    }

    /// The network as it learns when a run is in `state`: after the last step, not before the next.
    pub fn net_at(&self, state: &RunState) -> &Resolved {
        let epoch = state.epoch + u64::from(state.batch > 0);
        self.stages.iter().rev().find(|(from, _)| *from <= epoch).map_or(&self.net, |(_, net)| net)
    }

    /// The weights to start from: those of `--init`, or random ones.
    pub fn start(&self, settings: &Settings) -> Result<Tensors> {
        let Some(init) = &settings.init else {
            let mut tensors = initialise(&self.net, settings.seed);
            whiten::start(&self.net, &self.pictures, &self.model.preparation, &mut tensors)?;
            return Ok(tensors);
        };
        let path = weights_path(init, &PathBuf::new())?;
        let (mut tensors, _) = weights::read(&path)?;
        let fits =
            |tensors: &Tensors| weights::check(tensors, &expected(&self.net)).map_err(|error| error.at(path.display()));
        if settings.replace_head {
            tensors = transfer::with_new_head(&self.net, tensors, settings.seed);
        } else if let Err(error) = fits(&tensors) {
            return match fits(&transfer::with_new_head(&self.net, tensors, settings.seed)) {
                Ok(()) => Err(error.advice("All else fits: --replace-head starts the last layer anew.")),
                Err(_) => Err(error),
            };
        }
        fits(&tensors)?;
        Ok(tensors)
    }
}

/// The loss and the optimiser.
fn options(settings: &Settings, data: &Dataset) -> Result<TrainOptions> {
    let own = match (data.is_regression(), data.multi_label) {
        (true, _) => LossName::MeanSquared,
        (_, true) => LossName::BinaryCrossEntropy,
        _ => LossName::CrossEntropy,
    };
    let what = data.other_targets().unwrap_or("classes");
    if own != LossName::CrossEntropy && (settings.class_weights != ClassWeights::None || settings.label_smoothing > 0.0)
    {
        let what = format!("class_weights or label_smoothing for {}, which has {what}", data.name);
        return Err(Error::usage(what).advice("Leave them out: they are for one class a picture."));
    }
    if let Some(other) = settings.loss.filter(|loss| *loss != own) {
        let name = |loss: LossName| match loss {
            LossName::CrossEntropy => ("cross_entropy", "a list with the column label"),
            LossName::BinaryCrossEntropy => ("bce", "a list with the column labels"),
            LossName::MeanSquared => ("mse", "a list with numbers in place of labels"),
        };
        return Err(Error::usage(format!("loss {} for {}, which has {what}", name(other).0, data.name))
            .advice(format!("Use --loss {}, or {}.", name(own).0, name(other).1)));
    }
    let loss = match own {
        LossName::CrossEntropy => Loss::CrossEntropy {
            smoothing: settings.label_smoothing as f32,
            class_weights: class_weights(&settings.class_weights, data)?,
        },
        LossName::BinaryCrossEntropy => Loss::BinaryCrossEntropy,
        LossName::MeanSquared => Loss::MeanSquared,
    };
    let optimizer = match settings.optimizer {
        OptimizerName::Sgd => Optimizer::Sgd { momentum: settings.momentum as f32, nesterov: settings.nesterov },
        OptimizerName::Adam => Optimizer::adam(),
        OptimizerName::AdamW => Optimizer::adamw(),
        OptimizerName::Adadelta => Optimizer::adadelta(),
    };
    let clip = settings.clip.map(|clip| clip as f32);
    Ok(TrainOptions {
        weight_decay: settings.weight_decay as f32,
        clip,
        seed: settings.seed,
        average: settings.ema.is_some() || settings.swa.is_some(),
        accumulate: settings.accumulate,
        ..TrainOptions::new(loss, optimizer)
    })
}

fn class_weights(weights: &ClassWeights, data: &Dataset) -> Result<Option<Vec<f32>>> {
    match weights {
        ClassWeights::None => Ok(None),
        ClassWeights::Balanced => {
            let counts = data.counts(Split::Train);
            let pictures: usize = counts.iter().sum();
            // A class without pictures never meets its weight.
            let weight = |count: &usize| pictures as f32 / (counts.len() * (*count).max(1)) as f32;
            Ok(Some(counts.iter().map(weight).collect()))
        }
        ClassWeights::Given(weights) if weights.len() == data.classes.len() => Ok(Some(weights.clone())),
        ClassWeights::Given(weights) => {
            let (given, classes) = (weights.len(), data.classes.len());
            Err(Error::usage(format!("{given} class weights for {classes} classes"))
                .advice(format!("Give one for each of: {}.", data.classes.join(", "))))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
