//! What a training run is: the keys of `args.toml`, their defaults and their ranges.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::values::{ClassWeights, ImageSize, LossName, Mean, Monitor, OptimizerName, PcaName, ScheduleName, Seconds};
use crate::data::{Augment, Resize, Sampling};
use crate::error::did_you_mean;
use crate::formats::{FORMAT_VERSION, check_format, write_atomically};
use crate::{Error, Result};

/// The settings of a run: every flag of `ocelli train` has a key of the same name with `_` for `-`. What is absent has the
/// default that is documented here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Version of this file; 1.
    pub format: u32,
    /// A zoo name or a `.toml` file; `lenet5`.
    pub net: String,
    /// A known name, a folder of pictures or a CSV list; `mnist-10k`.
    pub data: String,
    /// Of initialisation, splits, order, augmentation and dropout; 0.
    pub seed: u64,
    /// Sums as the definitions have them: no Winograd, whose sums differ by rounding; false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,

    /// Passes over the training split; 20.
    pub epochs: u64,
    /// Ends after this many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Ends after this time, in seconds, or as text: `90s`, `10m`, `2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Seconds>,
    /// Pictures of a step; 64.
    pub batch_size: usize,
    /// Parts that a step runs in, one after the other, so that only one takes memory; 1.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: usize,

    /// `sgd`, `adam`, `adamw` or `adadelta`; `sgd`.
    pub optimizer: OptimizerName,
    /// Learning rate; 0.01 for sgd, 0.001 for adam and adamw, 1 for adadelta.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Share of the last velocity that sgd keeps; 0.9.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// Decay of the weights; 0.0005, as AlexNet.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,

    /// Judges and saves the moving average of the weights with this decay, 0.999 or so, in place of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Judges and saves the mean of the weights at the ends of this epoch and those after it, in place of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swa: Option<u64>,

    /// How the learning rate moves: `constant`, `step`, `multistep`, `cosine`, `one_cycle`, `linear` or `plateau`; `constant`.
    pub schedule: ScheduleName,
    /// Epochs, may be a fraction, in which the rate rises to its value; 0. Of `one_cycle` the length of the rise: 0 is
    /// 30 % of all steps.
    pub warmup_epochs: f64,
    /// `step`: epochs between two drops; 10.
    pub step_epochs: u64,
    /// `multistep`: the epochs after which the rate drops.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<u64>,
    /// Factor of a drop; 0.1.
    pub gamma: f64,
    /// The rate falls no further; 0.
    pub min_lr: f64,
    /// `plateau`: epochs without progress that are forgiven; 3.
    pub plateau_patience: u64,
    /// Ends after this many epochs without progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_patience: Option<u64>,
    /// What chooses the best epoch, on the validation split: `accuracy` or `loss`; accuracy where there are classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,

    /// `cross_entropy` for classes, `bce` for any number of classes a picture, `mse` for numbers: follows the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossName>,
    /// Share of the target that goes to all classes alike; 0.
    pub label_smoothing: f64,
    /// `none`, `balanced` (pictures / (classes · pictures of the class)) or a weight a class.
    pub class_weights: ClassWeights,

    /// A side, `HxW` or `[h, w]`; the net's own input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<ImageSize>,
    /// `crop`, `letterbox` or `stretch`; `crop`.
    pub resize: Resize,
    /// For `resize = "crop"`: what the scaled picture covers before the net's size is cut out; size / 0.875, or the size
    /// of the data's pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cover: Option<ImageSize>,
    /// `none`, or names of [`KINDS`](crate::data::KINDS) with their numbers, with commas between; `none`.
    pub augment: Augment,
    /// Whose colours `pca` follows: `measured` on the training split, `imagenet`, or a file of `ocelli data pca`; measured.
    #[serde(skip_serializing_if = "is_default")]
    pub pca: PcaName,
    /// A value a channel, of pixels in [0, 1]; or measured on the training split: `pixel`, one a channel, or `image`, one a
    /// pixel; `pixel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Mean>,
    /// A value a channel; measured on the training split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f32>>,
    /// A new order in every epoch; true.
    pub shuffle: bool,
    /// Which pictures an epoch has: `plain`, each once, or `balanced`, as many of each class; `plain`.
    #[serde(skip_serializing_if = "is_default")]
    pub sampling: Sampling,
    /// Pictures of a buffer that shards are read into, each from beginning to end, and that pictures are drawn from; without
    /// it they are read by their place, in an order of all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle_buffer: Option<usize>,
    /// Share of the training data to choose by, where the data brings no validation split; 0.1.
    pub val_fraction: f64,
    /// Leaves out pictures that cannot be read, else they are an error.
    pub skip_bad: bool,

    /// Weights to start from: a `.safetensors` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Starts the last layer of each output anew, whatever `init` says of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace_head: bool,
    /// Leaves the layers before this one, or before this block, as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_until: Option<String>,
    /// From which epoch on layers before `freeze_until` learn too, each `LAYER@EPOCH`: those from LAYER on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfreeze: Vec<String>,
    /// Batch norm uses its running statistics in training too, and leaves them as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub freeze_bn: bool,
    /// Factors of the rates of some parameters, each `PATTERN=FACTOR`; `*` stands for any letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lr_scale: Vec<String>,
    /// Steps between two checkpoints, besides the one after each epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// Threads that read and augment pictures; 2.
    pub workers: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            format: FORMAT_VERSION,
            net: "lenet5".into(),
            data: "mnist-10k".into(),
            seed: 0,
            exact: false,
            epochs: 20,
            max_steps: None,
            max_time: None,
            batch_size: 64,
            accumulate: 1,
            optimizer: OptimizerName::Sgd,
            lr: None,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
            clip: None,
            ema: None,
            swa: None,
            schedule: ScheduleName::Constant,
            warmup_epochs: 0.0,
            step_epochs: 10,
            milestones: Vec::new(),
            gamma: 0.1,
            min_lr: 0.0,
            plateau_patience: 3,
            stop_patience: None,
            monitor: None,
            loss: None,
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            image_size: None,
            resize: Resize::default(),
            cover: None,
            augment: Augment::default(),
            pca: PcaName::default(),
            mean: None,
            std: None,
            shuffle: true,
            sampling: Sampling::Plain,
            shuffle_buffer: None,
            val_fraction: 0.1,
            skip_bad: false,
            init: None,
            replace_head: false,
            freeze_until: None,
            unfreeze: Vec::new(),
            freeze_bn: false,
            lr_scale: Vec::new(),
            checkpoint_every: None,
            workers: 2,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

/// Keys that may change when a run goes on: they do not change what the run computes.
const FREE: [&str; 5] = ["max_steps", "max_time", "checkpoint_every", "workers", "format"];
/// Keys that may hold a path, which no checkpoint knows.
const PLACES: [&str; 3] = ["net", "data", "init"];

impl Settings {
    /// Puts layers of settings over the defaults, the last on top: a recipe, a `--config` file, the flags. Each comes with
    /// the place that errors name.
    ///
    /// # Errors
    /// An unknown key or a value that cannot be, with the place, the key, and what may be meant.
    pub fn merge<'a>(layers: impl IntoIterator<Item = (&'a str, Table)>) -> Result<Settings> {
        let mut all = Table::new();
        for (place, table) in layers {
            for (key, value) in table {
                // A layer of one key, so that the error can name it.
                let one = Table::from_iter([(key.clone(), value.clone())]);
                one.try_into::<Settings>().map_err(|error| cannot_be(place, &key, &error))?;
                if let ("format", Some(format)) = (key.as_str(), value.as_integer()) {
                    check_format(place, u32::try_from(format).unwrap_or(u32::MAX))?;
                }
                all.insert(key, value);
            }
        }
        let settings: Settings = all.try_into().map_err(|error| cannot_be("settings", "merged", &error))?;
        super::ranges::check(&settings)?;
        Ok(settings)
    }

    /// Reads the keys of a settings file. A net, data or weights that lie beside the file are found there, so that a recipe
    /// or a run folder can be used from anywhere.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML.
    pub fn read_layer(path: &Path) -> Result<Table> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let mut table: Table = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            Error::new(format!("{}, line {line}: {}", path.display(), error.message().replace('\n', " ")))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for key in PLACES.into_iter().chain(["pca"]) {
            if let Some(Value::String(place)) = table.get_mut(key)
                && Path::new(place).is_relative()
                && folder.join(&place).exists()
            {
                *place = folder.join(&place).to_string_lossy().into_owned();
            }
        }
        Ok(table)
    }

    /// The settings as the text of `args.toml`.
    pub fn to_toml(&self) -> String {
        // Strings, numbers and lists of them always have a TOML form.
        toml::to_string(self).unwrap_or_default()
    }

    /// Writes `args.toml`.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| file.write_all(self.to_toml().as_bytes()))
    }

    /// The learning rate: the given one, or the optimiser's default.
    pub fn lr(&self) -> f64 {
        self.lr.unwrap_or(match self.optimizer {
            OptimizerName::Sgd => 0.01,
            OptimizerName::Adam | OptimizerName::AdamW => 0.001,
            OptimizerName::Adadelta => 1.0,
        })
    }

    /// What changes between `self` and `other` that would change the run, as `key: was → is`.
    pub fn changes(&self, other: &Settings) -> Vec<String> {
        changes(&self.table(), &other.table())
    }

    /// What a checkpoint remembers of the settings: everything that changes the run, no paths.
    pub(super) fn remembered(&self) -> Table {
        let mut table = self.table();
        PLACES.iter().for_each(|key| drop(table.remove(*key)));
        table
    }

    /// The keys that change what the run computes.
    fn table(&self) -> Table {
        let mut table: Table = toml::from_str(&self.to_toml()).unwrap_or_default();
        FREE.iter().for_each(|key| drop(table.remove(*key)));
        table
    }
}

/// `key: was → is` for each difference of two tables.
pub(super) fn changes(was: &Table, is: &Table) -> Vec<String> {
    let text = |value: Option<&Value>| value.map_or("not set".to_string(), |value| value.to_string());
    let mut keys: Vec<&String> = was.keys().chain(is.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| was.get(*key) != is.get(*key));
    keys.iter().map(|key| format!("{key}: {} → {}", text(was.get(*key)), text(is.get(*key)))).collect()
}

/// An error of a key, with what may be meant instead: serde lists the words that it knows in backquotes.
fn cannot_be(place: &str, key: &str, error: &toml::de::Error) -> Error {
    // The values' own errors are a line that says what and one that says what to do.
    let (message, advice) = error.message().split_once('\n').unwrap_or((error.message(), ""));
    let advice = advice.replace('\n', " ");
    let unknown_key = message.starts_with("unknown field");
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (found, known) = words.split_first().map_or(("", &[][..]), |(found, known)| (*found, known));
    let what = match unknown_key {
        true => format!("{place}: unknown key {key}"),
        false if message.starts_with("unknown variant") => format!("{place}: {key} '{found}' is unknown"),
        false => {
            let error = Error::usage(format!("{place}: {key}: {message}"));
            return if advice.is_empty() { error } else { error.advice(advice) };
        }
    };
    let error = Error::usage(what);
    match did_you_mean(found, known.iter().copied()) {
        Some(word) => error.advice(format!("Did you mean {word}?")),
        None => error.advice(format!("Choose one of {}.", known.join(", "))),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
