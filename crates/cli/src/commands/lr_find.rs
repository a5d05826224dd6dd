//! `ocelli lr-find`: which learning rate to begin with.

use super::train::Flags;
use crate::arguments::Globals;
use crate::models::{RUNS, device};
use crate::text;
use clap::Args;
use ocelli::error::{Error, Result};
use ocelli::plot;
use ocelli::train::{self, LrRange, LrStep, Place, Settings};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// Find a learning rate: a short training whose rate rises with every step
///
/// Takes what `ocelli train` takes, trains from the start for --steps steps, saves nothing but the curve, and tells the rate
/// at which the smoothed loss falls fastest.
#[derive(Args)]
#[command(after_help = "Example: the rate for a net on your own pictures\n  \
    ocelli lr-find resnet18 --data PICTURES --curve rates.png")]
pub struct LrFind {
    /// A zoo name (lenet5, small-colour, vgg16, …) or a .toml file
    net: Option<String>,
    /// Settings from a file: a recipe, or another run's args.toml
    #[arg(long, value_name = "ARGS.toml")]
    config: Option<PathBuf>,
    /// The first rate
    #[arg(long, value_name = "LR", default_value = "1e-6")]
    from: f64,
    /// The last rate
    #[arg(long, value_name = "LR", default_value = "10")]
    to: f64,
    /// Steps from one to the other
    #[arg(long, value_name = "N", default_value = "100", value_parser = text::positive)]
    steps: usize,
    /// Where the curve is drawn
    #[arg(long, value_name = "FILE.png", default_value = "lr-find.png")]
    curve: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

impl LrFind {
    /// Runs the test and tells the rate.
    pub fn run(mut self, globals: &Globals) -> Result<ExitCode> {
        let flags = self.flags.table(self.net.take(), globals)?;
        let settings: Settings = super::train::settings(self.config.as_deref(), flags)?;
        let place = Place {
            root: RUNS.into(),
            data_dir: globals.data_dir.clone(),
            device: device(globals),
            ..Place::default()
        };
        let range = LrRange { from: self.from, to: self.to, steps: self.steps };
        let steps = train::lr_find(&settings, &place, range, &AtomicBool::new(false))?;
        let told = train::steepest(&steps);
        let points: Vec<_> = steps.iter().map(|step| [step.rate, step.loss, step.smooth]).collect();
        plot::lr_curve(&points, told).save(&self.curve)?;
        let Some(rate) = told else {
            return Err(Error::new(format!("the loss hardly falls at any rate from {} to {}", self.from, self.to))
                .advice(format!(
                    "Look at {}; try more --steps, or check labels with `ocelli data check`.",
                    self.curve.display()
                )));
        };
        let lowest = steps.iter().min_by(|a, b| a.smooth.total_cmp(&b.smooth)).copied();
        let lowest = lowest.unwrap_or(LrStep { rate, loss: f64::NAN, smooth: f64::NAN });
        if globals.json {
            let all: Vec<_> = steps.iter().map(|step| json!([step.rate, step.loss, step.smooth])).collect();
            text::json(&json!({
                "schema": 1,
                "lr": rate,
                "rule": "steepest",
                "lowest": { "lr": lowest.rate, "loss": lowest.smooth },
                "steps": all,
            }));
            return Ok(ExitCode::SUCCESS);
        }
        let end = match steps.len() < self.steps {
            true => format!(", and four times that after {} steps", steps.len()),
            false => String::new(),
        };
        text::print(&format!(
            "lr {rate:.2e}: there the smoothed loss falls fastest\n\
             It is lowest, {:.3}, at {:.2e}{end}.\n\
             The curve: {}\n",
            lowest.smooth,
            lowest.rate,
            self.curve.display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}
