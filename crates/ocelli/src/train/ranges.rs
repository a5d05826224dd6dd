//! The ranges of the settings.

use super::{ClassWeights, OptimizerName, ScheduleName, Settings};
use crate::exec::part_size;
use crate::{Error, Result};

/// Fails if a setting is out of its range, with the number and the range.
pub(super) fn check(settings: &Settings) -> Result<()> {
    let number = |key: &str, value: f64, good: bool, range: &str| match good && value.is_finite() {
        true => Ok(()),
        false => Err(Error::usage(format!("{key} {value} cannot be")).advice(format!("Choose {range}."))),
    };
    let fraction = |x: f64| (0.0..1.0).contains(&x);
    if settings.batch_size == 0 {
        return Err(Error::usage("a batch of 0 pictures").advice("Choose --batch-size 1 or more."));
    }
    part_size(settings.batch_size, settings.accumulate)?;
    number("epochs", settings.epochs as f64, (1..=1_000_000).contains(&settings.epochs), "1 to 1,000,000")?;
    number("lr", settings.lr(), settings.lr() > 0.0 && settings.lr() <= 1e6, "a number above 0; 0.01 is a common one")?;
    number("momentum", settings.momentum, fraction(settings.momentum), "0 or more, below 1")?;
    number("weight_decay", settings.weight_decay, settings.weight_decay >= 0.0, "0 or more")?;
    let clip = settings.clip.unwrap_or(1.0);
    number("clip", clip, clip > 0.0, "a number above 0, or leave it out")?;
    let ema = settings.ema.unwrap_or(0.5);
    number("ema", ema, ema > 0.0 && ema < 1.0, "a number between 0 and 1; 0.999 is a common one")?;
    let swa = settings.swa.unwrap_or(1);
    number("swa", swa as f64, (1..=settings.epochs).contains(&swa), "an epoch of the run, 1 up to --epochs")?;
    if settings.ema.is_some() && settings.swa.is_some() {
        return Err(Error::usage("ema and swa at once").advice("Choose one average of the weights."));
    }
    number("warmup_epochs", settings.warmup_epochs, settings.warmup_epochs >= 0.0, "0 or more")?;
    number("step_epochs", settings.step_epochs as f64, settings.step_epochs > 0, "1 or more")?;
    number("gamma", settings.gamma, settings.gamma > 0.0 && settings.gamma <= 1.0, "a number above 0, at most 1")?;
    number("min_lr", settings.min_lr, settings.min_lr >= 0.0 && settings.min_lr <= settings.lr(), "0 up to lr")?;
    number("label_smoothing", settings.label_smoothing, fraction(settings.label_smoothing), "0 or more, below 1")?;
    let seconds = settings.max_time.map_or(1.0, |time| time.0);
    number("max_time", seconds, seconds > 0.0, "a time above 0, as 90s or 10m")?;
    let every = settings.checkpoint_every.unwrap_or(1);
    number("checkpoint_every", every as f64, every > 0, "1 or more, or leave it out")?;
    number("workers", settings.workers as f64, (1..=1024).contains(&settings.workers), "1 to 1024")?;
    if settings.schedule == ScheduleName::Multistep && settings.milestones.is_empty() {
        return Err(Error::usage("schedule multistep without milestones")
            .advice("Say after which epochs the rate drops: --milestones 10,15"));
    }
    if !settings.milestones.is_sorted_by(|a, b| a < b) {
        return Err(Error::usage(format!("milestones {:?} do not rise", settings.milestones))
            .advice("Write each epoch once, in order."));
    }
    if settings.warmup_epochs > settings.epochs as f64 {
        let what = format!("{} warm-up epochs in a run of {}", settings.warmup_epochs, settings.epochs);
        return Err(Error::usage(what).advice("Choose a shorter warm-up or more --epochs."));
    }
    if settings.nesterov && (settings.optimizer != OptimizerName::Sgd || settings.momentum == 0.0) {
        return Err(Error::usage("nesterov without sgd's momentum").advice("Use --optimizer sgd --momentum 0.9."));
    }
    if let ClassWeights::Given(weights) = &settings.class_weights
        && !weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
    {
        return Err(Error::usage(format!("class_weights {weights:?}")).advice("Choose weights of 0 or more."));
    }
    Ok(())
}
