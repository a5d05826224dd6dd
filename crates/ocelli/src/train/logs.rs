//! Listeners that write the run folder's logs: `steps.csv`, `metrics.csv` and TensorBoard events.

use super::RunState;
use super::events::{EpochEvent, Event, Listener};
use crate::Result;
use crate::formats::csv_log::CsvLog;
use crate::formats::run_folder::{METRICS, RunFolder, STEPS};
use crate::formats::tensorboard::EventWriter;

/// Writes all logs of a run folder.
pub(super) struct Logs {
    steps: CsvLog,
    metrics: CsvLog,
    board: EventWriter,
    regression: bool,
}

impl Logs {
    /// Opens the logs at the state of a run: rows of later steps and epochs, from before a crash, are dropped.
    pub fn open(folder: &RunFolder, state: &RunState, regression: bool, multi_label: bool) -> Result<Logs> {
        let columns: &[&str] = match regression {
            false => &[
                "epoch",
                "step",
                "lr",
                "train_loss",
                "train_acc1",
                "val_loss",
                "val_acc1",
                if multi_label { "val_map" } else { "val_acc5" },
                "best",
                "seconds",
            ],
            true => &["epoch", "step", "lr", "train_loss", "val_loss", "val_mae", "best", "seconds"],
        };
        let steps = &["step", "epoch", "loss", "lr", "images_per_s"];
        Ok(Logs {
            steps: CsvLog::open(&folder.file(STEPS), steps, state.step)?,
            metrics: CsvLog::open(&folder.file(METRICS), columns, state.epoch)?,
            board: EventWriter::create(&folder.path, (state.step > 0).then_some(state.step + 1))?,
            regression,
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.steps.flush()?;
        self.metrics.flush()?;
        self.board.flush()
    }

    fn epoch(&mut self, epoch: &EpochEvent) -> Result<()> {
        let mut row = vec![epoch.epoch.to_string(), epoch.step.to_string(), epoch.lr.to_string()];
        let mut curve = |tag: &str, value: f64| {
            row.push(value.to_string());
            self.board.scalar(tag, epoch.step, value as f32)
        };
        curve("train/epoch_loss", epoch.train_loss)?;
        if !self.regression {
            curve("train/acc1", epoch.train_accuracy)?;
        }
        curve("val/loss", epoch.val.loss)?;
        if self.regression {
            curve("val/mae", epoch.val.absolute_error.unwrap_or(f64::NAN))?;
        } else {
            curve("val/acc1", epoch.val.top1())?;
            match &epoch.val.multi_label {
                Some(multi_label) => curve("val/map", multi_label.mean_average_precision())?,
                None => curve("val/acc5", epoch.val.top5())?,
            }
        }
        row.extend([u8::from(epoch.best).to_string(), format!("{:.2}", epoch.seconds)]);
        self.metrics.row(row)
    }
}

impl Listener for Logs {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) => {
                self.board.scalar("train/loss", step.step, step.loss)?;
                self.board.scalar("train/lr", step.step, step.lr)?;
                // Display writes the fewest digits that read back as the same f32.
                let row = [step.step.to_string(), step.epoch.to_string(), step.loss.to_string(), step.lr.to_string()];
                self.steps.row(row.into_iter().chain([format!("{:.1}", step.images_per_s)]))
            }
            Event::Epoch(epoch) => self.epoch(epoch),
            Event::Checkpoint { .. } | Event::Finished(_) => self.flush(),
            Event::Started(_) | Event::Note(_) | Event::Warning { .. } => Ok(()),
        }
    }
}
