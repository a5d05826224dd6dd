//! The progress of a training: a live line on a terminal, plain lines elsewhere. All of it goes to stderr.

use crate::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ocelli::Result;
use ocelli::train::{EpochEvent, Event, Listener, Started, StepEvent};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Steps before the time that is left is told: earlier ones are slower.
const SETTLED: u64 = 20;
/// Seconds between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Listens to a run and shows where it is.
pub struct Progress {
    quiet: bool,
    bar: Option<ProgressBar>,
    run: Run,
    last_line: Instant,
}

/// What a run told at its start, and running means.
#[derive(Default)]
struct Run {
    epochs: u64,
    /// Whether there are classes, so that an accuracy means something.
    classes: bool,
    steps: u64,
    steps_per_epoch: u64,
    seen: u64,
    /// Those of them that the running loss is an average of: of this epoch, after a resume.
    averaged: u64,
    images: u64,
    began: Option<Instant>,
    loss: f64,
    accuracy: f64,
}

impl Progress {
    /// A progress line, or nothing if `quiet`.
    pub fn new(quiet: bool) -> Progress {
        let live = !quiet && std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress { quiet, bar, run: Run::default(), last_line: Instant::now() }
    }

    /// Removes the live line.
    pub fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line that stays.
    fn line(&self, line: &str) {
        if !self.quiet {
            self.always(line);
        }
    }

    /// A line that stays and is shown even if progress isn't: a warning.
    fn always(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn started(&mut self, started: &Started) {
        let settings = started.settings;
        let steps = settings.epochs * started.steps_per_epoch;
        self.run = Run {
            epochs: settings.epochs,
            classes: !started.classes.is_empty(),
            steps: settings.max_steps.map_or(steps, |most| most.min(steps)),
            steps_per_epoch: started.steps_per_epoch,
            ..Run::default()
        };
        let parameters = text::count(started.net.parameter_count());
        self.line(&format!(
            "{} ({parameters} parameters): {} to train, {} to choose by, in {}",
            started.net.name,
            text::counted(started.train_images, "picture"),
            text::count(started.val_images as u64),
            started.folder.display()
        ));
        if let Some(step) = started.resumed_at {
            self.line(&format!("going on after step {step}"));
        }
    }

    fn step(&mut self, step: &StepEvent) {
        let run = &mut self.run;
        let began = *run.began.get_or_insert_with(Instant::now);
        run.seen += 1;
        // The first step is where the clock starts, so its pictures don't count.
        run.images += if run.seen > 1 { step.images as u64 } else { 0 };
        run.averaged = if step.batch == 1 { 1 } else { run.averaged + 1 };
        let weight = (1.0 / run.averaged as f64).max(0.02);
        run.loss += weight * (f64::from(step.loss) - run.loss);
        run.accuracy += weight * (f64::from(step.accuracy) - run.accuracy);
        let seconds = began.elapsed().as_secs_f64();
        let rate = run.images as f64 / seconds.max(1e-9);
        let left = (run.seen > SETTLED).then(|| {
            let remaining = run.steps.saturating_sub(step.step);
            text::duration(seconds / (run.seen - 1) as f64 * remaining as f64)
        });
        let left = left.map(|left| format!(", {left} left")).unwrap_or_default();
        let speed = if run.seen > 1 { format!("  {} images/s{left}", text::count(rate as u64)) } else { String::new() };
        let accuracy = match run.classes {
            true => format!("  accuracy {:.1} %", 100.0 * run.accuracy),
            false => String::new(),
        };
        let line = format!(
            "epoch {}/{}  step {}/{}{speed}  loss {:.4}{accuracy}  lr {}",
            step.epoch,
            run.epochs,
            step.batch,
            run.steps_per_epoch,
            run.loss,
            text::number(f64::from(step.lr)),
        );
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None if self.last_line.elapsed() >= PLAIN_EVERY => {
                self.line(&line);
                self.last_line = Instant::now();
            }
            None => {}
        }
    }

    fn epoch(&mut self, epoch: &EpochEvent) {
        let best = if epoch.best { "  best" } else { "" };
        let val = match (epoch.val.absolute_error, &epoch.val.multi_label) {
            (Some(error), _) => format!("validation loss {:.4}, error {error:.4}", epoch.val.loss),
            (None, Some(judged)) => format!(
                "validation loss {:.4}, all right {:.2} %, mAP {:.2} %",
                epoch.val.loss,
                100.0 * epoch.val.top1(),
                100.0 * judged.mean_average_precision()
            ),
            (None, None) => {
                format!("validation loss {:.4}, accuracy {:.2} %", epoch.val.loss, 100.0 * epoch.val.top1())
            }
        };
        self.line(&format!(
            "epoch {}/{}  loss {:.4}  {val}  lr {}  {}{best}",
            epoch.epoch,
            self.run.epochs,
            epoch.train_loss,
            text::number(f64::from(epoch.lr)),
            text::duration(epoch.seconds),
        ));
        self.last_line = Instant::now();
    }
}

impl Listener for Progress {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Started(started) => self.started(started),
            Event::Step(step) => self.step(step),
            Event::Epoch(epoch) => self.epoch(epoch),
            Event::Note(note) => self.line(&format!("note: {note}")),
            Event::Warning { what, advice } => self.always(format!("warning: {what}\n{advice}").trim_end()),
            Event::Checkpoint { .. } | Event::Finished(_) => {}
        }
        Ok(())
    }
}
