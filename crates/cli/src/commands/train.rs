//! `ocelli train`: trains a network, or goes on with a run.

use crate::arguments::{Globals, program};
use crate::models::{Opened, RUNS, device, open_options};
use crate::progress::Progress;
use crate::report;
use crate::text;
use clap::Args;
use ocelli::data::{self, Split};
use ocelli::error::{Error, Result};
use ocelli::train::{self, Audience, Ended, EvaluateOptions, Evaluation, Outcome, Place, Settings};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `ocelli train` does on its own.
const FIRST: &str = "recipes/mnist-10k-lenet5.toml";
const FIRST_RECIPE: &str = include_str!("../../../../recipes/mnist-10k-lenet5.toml");

/// Train a network, or go on with a run
///
/// Without net, data, optimizer, schedule and lr: LeNet-5 on the embedded digits by recipes/mnist-10k-lenet5.toml. With --data FOLDER and no NET: small-colour, a small colour network
/// (see `ocelli summary small-colour`); known sets of 28x28 grey pictures get lenet5.
#[derive(Args)]
#[command(after_help = "Example: your own pictures, a folder for each class\n  \
    ocelli train --data PICTURES --epochs 30 --augment flip,crop:4\n\
    Then: ocelli train --resume latest --epochs 40")]
pub struct Train {
    /// A zoo name (lenet5, small-colour, vgg16, …) or a .toml file
    #[arg(conflicts_with = "resume")]
    net: Option<String>,
    /// Settings from a file: a recipe, or another run's args.toml
    #[arg(long, value_name = "ARGS.toml", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Go on with a run: its folder, or latest
    #[arg(long, value_name = "RUN")]
    resume: Option<String>,
    /// The run's folder [default: runs/NET-DATA-NNN]
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    output: Option<PathBuf>,
    /// Replaces the run that --output holds
    #[arg(long, requires = "output")]
    overwrite: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Settings as flags: each has the key of the same name in args.toml.
#[derive(Args, Serialize)]
pub struct Flags {
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<String>,
    /// A known name (`ocelli data list`), a folder of pictures, or a CSV list [default: mnist-10k]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "is_off")]
    exact: bool,

    /// Passes over the training pictures [default: 20]
    #[arg(long, value_name = "N", help_heading = "How long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    epochs: Option<u64>,
    /// Ends after this many steps
    #[arg(long, value_name = "N", help_heading = "How long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_steps: Option<u64>,
    /// Ends after this time: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", help_heading = "How long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_time: Option<String>,
    /// Ends after this many epochs without progress
    #[arg(long, value_name = "EPOCHS", help_heading = "How long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_patience: Option<u64>,
    /// What chooses the best epoch on the validation pictures: accuracy or loss
    #[arg(long, help_heading = "How long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<String>,
    /// Steps between two checkpoints, besides the one after each epoch
    #[arg(long, value_name = "STEPS", help_heading = "How long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_every: Option<u64>,

    /// Pictures of a step [default: 64]
    #[arg(long, value_name = "N", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<u64>,
    /// Parts that a step runs in, one after the other, so that only one takes memory [default: 1]
    #[arg(long, value_name = "N", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    accumulate: Option<u64>,
    /// sgd, adam, adamw or adadelta [default: sgd]
    #[arg(long, visible_alias = "opt", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    optimizer: Option<String>,
    /// Learning rate [default: 0.01 for sgd, 0.001 for adam and adamw, 1 for adadelta]
    #[arg(long, help_heading = "How it learns", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
    /// Share of the last velocity that sgd keeps [default: 0.9]
    #[arg(long, help_heading = "How it learns", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    momentum: Option<f64>,
    /// Nesterov's form of momentum
    #[arg(long, help_heading = "How it learns")]
    #[serde(skip_serializing_if = "is_off")]
    nesterov: bool,
    /// Decay of the weights [default: 0.0005]
    #[arg(long, help_heading = "How it learns", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_decay: Option<f64>,
    /// Largest norm of all gradients together
    #[arg(long, value_name = "NORM", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clip: Option<f64>,
    /// Judges and saves the moving average of the weights with this decay: 0.999
    #[arg(long, value_name = "DECAY", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ema: Option<f64>,
    /// Judges and saves the mean of the weights at the ends of this epoch and those after it
    #[arg(long, value_name = "FROM_EPOCH", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    swa: Option<u64>,
    /// constant, step, multistep, cosine, one_cycle, linear or plateau [default: constant]
    #[arg(long, visible_alias = "sched", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// Epochs in which the rate rises to its value
    #[arg(long, value_name = "EPOCHS", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    warmup_epochs: Option<f64>,
    /// step: epochs between two drops [default: 10]
    #[arg(long, value_name = "EPOCHS", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    step_epochs: Option<u64>,
    /// multistep: the epochs after which the rate drops: 10,15
    #[arg(long, value_name = "EPOCHS", value_delimiter = ',', help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    milestones: Vec<u64>,
    /// Factor of a drop [default: 0.1]
    #[arg(long, help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    gamma: Option<f64>,
    /// The rate falls no further
    #[arg(long, value_name = "LR", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_lr: Option<f64>,
    /// plateau: epochs without progress before the rate drops [default: 3]
    #[arg(long, value_name = "EPOCHS", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    plateau_patience: Option<u64>,
    /// cross_entropy, bce (any number of classes a picture) or mse [default: follows the data]
    #[arg(long, help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<String>,
    /// Share of the target that goes to all classes alike
    #[arg(long, value_name = "SHARE", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    label_smoothing: Option<f64>,
    /// none, balanced, or a weight for each class: 1,2,0.5
    #[arg(long, value_name = "WEIGHTS", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    class_weights: Option<String>,
    /// Weights to start from: a .safetensors file or a run
    #[arg(long, value_name = "W.safetensors", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<String>,
    /// Starts the last layer anew: for other classes than --init's
    #[arg(long, help_heading = "How it learns")]
    #[serde(skip_serializing_if = "is_off")]
    replace_head: bool,
    /// Leaves the layers before this one, or before this block, as they are
    #[arg(long, value_name = "LAYER", help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Option::is_none")]
    freeze_until: Option<String>,
    /// From which epoch on frozen layers learn too, from this one on: layer4@3,layer3@5
    #[arg(long, value_name = "LAYER@EPOCH", value_delimiter = ',', help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unfreeze: Vec<String>,
    /// Leaves the statistics of batch norm as they are, and uses them in training
    #[arg(long, help_heading = "How it learns")]
    #[serde(skip_serializing_if = "is_off")]
    freeze_bn: bool,
    /// Factors of the rates of some layers or parameters: conv*=0.1,*.bias=2
    #[arg(long, value_name = "PATTERN=FACTOR", value_delimiter = ',', help_heading = "How it learns")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lr_scale: Vec<String>,

    /// The net's input: N or HxW [default: the net's own]
    #[arg(long, value_name = "N|HxW", help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    image_size: Option<String>,
    /// crop, letterbox or stretch [default: crop]
    #[arg(long, help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    resize: Option<String>,
    /// With --resize crop: what the picture covers before the input is cut out [default: size / 0.875]
    #[arg(long, value_name = "N|HxW", help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cover: Option<String>,
    /// none, or with commas between: flip, alternating-flip, crop:P, resized-crop, shift:P, rotate:D, randaugment, jitter,
    /// gray, blur, pca, pca-paper, erase, cutout:P, mixup, cutmix; see docs/augmentation.md and `ocelli data preview`
    /// [default: none]
    #[arg(long, help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    augment: Option<String>,
    /// Whose colours pca follows: measured, imagenet, or a file of `ocelli data pca` [default: measured]
    #[arg(long, value_name = "WHOSE", help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pca: Option<String>,
    /// Subtracted: pixel (a mean of each channel), image (of each pixel), or values in [0, 1] [default: pixel]
    #[arg(long, help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<String>,
    /// Standard deviation of each channel [default: measured]
    #[arg(long, value_delimiter = ',', help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    std: Vec<f64>,
    /// Pictures in file order in every epoch
    #[arg(long, help_heading = "Pictures")]
    #[serde(skip)]
    no_shuffle: bool,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    shuffle: Option<bool>,
    /// Which pictures an epoch has: plain, each once, or balanced, as many of each class [default: plain]
    #[arg(long, help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<String>,
    /// Reads shards from beginning to end into a buffer of so many pictures, and draws from it [default: each picture from its
    /// place, in any order]
    #[arg(long, value_name = "PICTURES", help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    shuffle_buffer: Option<u64>,
    /// Share of the training pictures to choose by, where the data has no val folder [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    val_fraction: Option<f64>,
    /// Leaves out pictures that cannot be read, instead of ending with an error
    #[arg(long, help_heading = "Pictures")]
    #[serde(skip_serializing_if = "is_off")]
    skip_bad: bool,
    /// Threads that read pictures [default: 2]
    #[arg(long, value_name = "N", help_heading = "Pictures")]
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<u64>,
}

fn is_off(flag: &bool) -> bool {
    !flag
}

impl Flags {
    /// The settings that the flags give, by the keys of args.toml.
    pub fn table(&mut self, net: Option<String>, globals: &Globals) -> Result<toml::Table> {
        self.net = net;
        self.seed = globals.seed;
        self.exact = globals.exact;
        self.shuffle = self.no_shuffle.then_some(false);
        toml::Table::try_from(&*self).map_err(|error| Error::usage(error.to_string()))
    }
}

impl Train {
    /// Trains, and reports how good the result is.
    pub fn run(mut self, globals: &Globals) -> Result<ExitCode> {
        let flags = self.flags.table(self.net.take(), globals)?;
        let interrupts = Interrupts::catch()?;
        let mut progress = Progress::new(globals.quiet);
        let audience = Audience { listeners: vec![&mut progress], interrupt: &interrupts.flag };
        let place = Place {
            root: RUNS.into(),
            output: self.output.clone(),
            overwrite: self.overwrite,
            data_dir: globals.data_dir.clone(),
            device: device(globals),
        };
        let outcome = match &self.resume {
            Some(run) => train::resume(run, flags, &place, audience),
            None => train::train(&settings(self.config.as_deref(), flags)?, &place, audience),
        };
        progress.clear();
        // Nothing is left to be saved.
        interrupts.at_once.store(true, Ordering::Relaxed);
        let outcome = outcome?;
        if outcome.ended == Ended::Interrupted {
            let folder = quoted(&outcome.folder);
            eprintln!(
                "Interrupted after {}; the run is saved. Go on with:",
                text::counted(outcome.steps as usize, "step")
            );
            eprintln!("  {} train --resume {folder}", program());
            return Ok(ExitCode::from(130));
        }
        report_outcome(&outcome, globals)
    }
}

/// Flags over the file of --config over the defaults. Without a net, data and a way to train them: the first recipe.
pub fn settings(config: Option<&Path>, flags: toml::Table) -> Result<Settings> {
    let mut layers = Vec::new();
    // The rate and the schedule of a recipe are made for its optimiser, so one of these flags means: the defaults.
    let own_way = ["net", "data", "optimizer", "schedule", "lr"].iter().any(|key| flags.contains_key(*key));
    if config.is_none() && !own_way {
        let recipe = toml::from_str(FIRST_RECIPE).map_err(|error| Error::new(format!("{FIRST}: {error}")))?;
        layers.push((FIRST.to_owned(), recipe));
    }
    if let Some(config) = config {
        layers.push((config.to_string_lossy().into_owned(), Settings::read_layer(config)?));
    }
    layers.push(("the command line".to_owned(), flags));
    let names_net = layers.iter().any(|(_, table)| table.contains_key("net"));
    let mut settings = Settings::merge(layers.iter().map(|(place, table)| (place.as_str(), table.clone())))?;
    let small_and_grey = ["mnist-10k", "mnist", "fashion-mnist"].contains(&settings.data.as_str());
    if !names_net && !small_and_grey {
        settings.net = "small-colour".to_owned();
    }
    Ok(settings)
}

/// What Ctrl-C does: it sets a flag, and ends the program if that is set already.
struct Interrupts {
    flag: Arc<AtomicBool>,
    /// Whether the first Ctrl-C ends the program.
    at_once: Arc<AtomicBool>,
}

impl Interrupts {
    fn catch() -> Result<Interrupts> {
        let interrupts = Interrupts { flag: Arc::default(), at_once: Arc::default() };
        let (flag, at_once) = (interrupts.flag.clone(), interrupts.at_once.clone());
        ctrlc::set_handler(move || {
            if at_once.load(Ordering::Relaxed) || flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!(
                "\nEnding after this step. Ctrl-C again ends at once; what follows the last checkpoint is lost then."
            );
        })
        .map_err(|error| Error::new(format!("Ctrl-C cannot be watched: {error}")))?;
        Ok(interrupts)
    }
}

/// The held-out accuracy, the confusion, where the run is, what to do next.
fn report_outcome(outcome: &Outcome, globals: &Globals) -> Result<ExitCode> {
    let mut opened = Opened::new(&outcome.folder.to_string_lossy())?;
    let (split, held_out) = held_out(&mut opened, outcome, globals)?;
    if globals.json {
        let best = outcome.best.map(|(epoch, value)| json!({ "epoch": epoch, "value": value }));
        let mut line = json!({
            "schema": 1,
            "run": outcome.folder.to_string_lossy(),
            "ended": format!("{:?}", outcome.ended),
            "epochs": outcome.epochs,
            "steps": outcome.steps,
            "seconds": outcome.seconds,
            "best": best,
        });
        line["held_out"] = report::as_json(&held_out, split, &opened.model);
        text::json(&line);
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = format!("{}\n", why(outcome));
    out.push_str(&report::headline(&held_out, &report::pictures(held_out.images, split, true), &opened.model));
    if let Some(multi_label) = &held_out.multi_label {
        out.push_str(&format!("\n{}", report::multi_label(multi_label, &opened.model.classes)));
    }
    if let Some(confusion) = &held_out.confusion {
        out.push_str(&format!("\n{}", report::confusion(confusion, &opened.model.classes)));
    }
    out.push_str(&format!("\nThe run is in {}\nTry next:\n", outcome.folder.display()));
    for command in next_commands(&opened, &outcome.folder) {
        out.push_str(&format!("  {} {command}\n", program()));
    }
    text::print(&out);
    Ok(ExitCode::SUCCESS)
}

fn why(outcome: &Outcome) -> String {
    let (epochs, steps) =
        (text::counted(outcome.epochs as usize, "epoch"), text::counted(outcome.steps as usize, "step"));
    let best = match outcome.best {
        Some((epoch, _)) => format!("; the best was epoch {epoch}"),
        None => String::new(),
    };
    let why = match outcome.ended {
        Ended::NoProgress => ", without progress",
        Ended::MaxSteps => ", the number asked for",
        Ended::MaxTime => ", the time is over",
        Ended::Epochs | Ended::Interrupted => "",
    };
    let seconds = text::duration(outcome.seconds);
    if outcome.epochs == 0 {
        // metrics.csv and curves.png have a row and a point an epoch.
        return format!("{steps} in {seconds}{why}: ended before the first epoch was complete, so there are no curves");
    }
    format!("{epochs}, {steps} in {seconds}{why}{best}")
}

/// How the best weights do on pictures that nothing was chosen by: the test split, or where there is none, the validation
/// split.
fn held_out(opened: &mut Opened, outcome: &Outcome, globals: &Globals) -> Result<(Split, Evaluation)> {
    let settings = opened.settings()?.unwrap_or_default();
    let data = data::open(&settings.data, &open_options(globals, Some(&settings)))?;
    let split = if data.is_empty(Split::Test) { Split::Val } else { Split::Test };
    if let (Split::Val, Some(val)) = (split, &outcome.val) {
        return Ok((split, val.clone()));
    }
    let options = EvaluateOptions {
        device: device(globals),
        batch_size: 64,
        workers: settings.workers,
        skip_bad: settings.skip_bad,
        tta: None,
    };
    Ok((split, train::evaluate(&mut opened.model, data, split, &options)?))
}

/// Three commands that run as printed.
fn next_commands(opened: &Opened, folder: &Path) -> Vec<String> {
    let run = quoted(folder);
    let sample = std::fs::read_dir("samples").ok().and_then(|entries| {
        let mut pictures: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        pictures.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
        pictures.into_iter().min()
    });
    let digits = opened.model.classes.iter().map(String::as_str).eq("0123456789".split("").filter(|c| !c.is_empty()));
    match sample.filter(|_| digits) {
        Some(sample) => vec![
            format!("predict {run} samples"),
            format!("explain {run} {} --method maps --output look", quoted(&sample)),
            format!("val {run}"),
        ],
        None => vec![
            format!("val {run}"),
            format!("explain {run} --method filters --output look"),
            format!("summary {run}"),
        ],
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
