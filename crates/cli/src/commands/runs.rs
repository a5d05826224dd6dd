//! `ocelli runs`: the runs so far.

use crate::arguments::{Globals, program};
use crate::models::RUNS;
use crate::text;
use clap::Args;
use ocelli::Result;
use ocelli::formats::run_folder;
use ocelli::train::Settings;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// List the runs so far: best value, time, the settings that differ
#[derive(Args)]
#[command(after_help = "Example:\n  ocelli runs\n  ocelli runs experiments")]
pub struct Runs {
    /// The folder of the runs
    #[arg(default_value = RUNS)]
    folder: PathBuf,
}

/// A run as its files tell it.
struct Run {
    name: String,
    epochs: u64,
    /// The last step and its loss.
    last: Option<(u64, f64)>,
    /// Epoch and values of the best validation accuracy (or the lowest loss, for regression).
    best: Option<(u64, f64, f64)>,
    seconds: f64,
    settings: toml::Table,
}

impl Runs {
    /// Prints a line for each run, the newest last.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        let runs: Vec<Run> = run_folder::list(&self.folder).iter().map(|path| read(path)).collect();
        let differing = differing(&runs);
        if globals.json {
            for run in &runs {
                let best = run.best.map(
                    |(epoch, accuracy, loss)| json!({ "epoch": epoch, "val_accuracy": accuracy, "val_loss": loss }),
                );
                text::json(&json!({ "schema": 1, "run": run.name, "epochs": run.epochs,
                    "steps": run.last.map(|(step, _)| step), "last_loss": run.last.map(|(_, loss)| loss), "best": best,
                    "seconds": run.seconds, "settings": run.settings }));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if runs.is_empty() {
            text::line(format!("no runs in {} yet; `{} train` makes one", self.folder.display(), program()));
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = runs.iter().map(|run| row(run, &differing)).collect();
        let header = [
            "run",
            "epochs",
            "steps",
            "last loss",
            "val accuracy",
            "val loss",
            "best epoch",
            "time",
            "settings that differ",
        ];
        text::print(&text::table(&header, &rows, 1));
        Ok(ExitCode::SUCCESS)
    }
}

fn row(run: &Run, differing: &[String]) -> Vec<String> {
    let value = |key: &String| Some(format!("{key}={}", text::plain_value(run.settings.get(key)?)));
    let settings: Vec<String> = differing.iter().filter_map(value).collect();
    let (step, last_loss) = match run.last {
        Some((step, loss)) => (text::count(step), format!("{loss:.4}")),
        None => ("0".to_owned(), "-".to_owned()),
    };
    let (epoch, accuracy, loss) = match run.best {
        Some((epoch, accuracy, loss)) => (
            epoch.to_string(),
            if accuracy.is_nan() { "-".to_owned() } else { format!("{:.2} %", 100.0 * accuracy) },
            format!("{loss:.4}"),
        ),
        None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
    };
    vec![
        run.name.clone(),
        run.epochs.to_string(),
        step,
        last_loss,
        accuracy,
        loss,
        epoch,
        if run.epochs > 0 { text::duration(run.seconds) } else { "-".to_owned() },
        settings.join(" "),
    ]
}

/// What a run's files tell; a run that has only just begun, or is damaged, tells less.
fn read(path: &Path) -> Run {
    let settings = Settings::read_layer(&path.join(run_folder::ARGS)).unwrap_or_default();
    let mut run = Run { name: path.display().to_string(), epochs: 0, last: None, best: None, seconds: 0.0, settings };
    run.last = last_step(&path.join(run_folder::STEPS));
    let Ok(mut metrics) = csv::Reader::from_path(path.join(run_folder::METRICS)) else { return run };
    let Ok(header) = metrics.headers().cloned() else { return run };
    let column = |name: &str| header.iter().position(|title| title == name);
    let columns = ["epoch", "val_acc1", "val_loss", "seconds"].map(column);
    for record in metrics.records().flatten() {
        let value = |i: usize| columns[i].and_then(|column| record.get(column)?.parse::<f64>().ok());
        let (accuracy, loss) = (value(1).unwrap_or(f64::NAN), value(2).unwrap_or(f64::NAN));
        run.epochs = value(0).unwrap_or(0.0) as u64;
        run.seconds += value(3).unwrap_or(0.0);
        let better = run.best.is_none_or(|(_, best, least)| accuracy > best || (accuracy.is_nan() && loss < least));
        if better {
            run.best = Some((run.epochs, accuracy, loss));
        }
    }
    run
}

/// Step and loss of the last whole row of `steps.csv`, from the end of the file: a long run has millions of rows.
fn last_step(path: &Path) -> Option<(u64, f64)> {
    const TAIL: u64 = 4096;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = String::new();
    file.read_to_string(&mut tail).ok()?;
    let row = tail[..tail.rfind('\n')?].lines().last()?;
    // step, epoch, loss, lr, images_per_s; the header is no number.
    let mut cells = row.split(',');
    Some((cells.next()?.parse().ok()?, cells.nth(1)?.parse().ok()?))
}

/// Keys that are not the same in all runs; all runs' net and data are in their names.
fn differing(runs: &[Run]) -> Vec<String> {
    let mut keys: Vec<String> = runs.iter().flat_map(|run| run.settings.keys().cloned()).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| {
        let values = || runs.iter().map(|run| run.settings.get(key));
        values().any(|value| value != values().next().flatten()) && key != "net" && key != "data"
    });
    keys
}
