//! Going on with a run.

use std::path::Path;
use std::time::Instant;

use toml::Table;

use super::Settings;
use super::settings::changes;
use super::setup::Task;
use super::{Audience, Event, Outcome, Place, RunState, Session, describe};
use crate::exec::Training;
use crate::formats::checkpoint::{self, Checkpoint};
use crate::formats::run_folder::{ARGS, BEST, CHECKPOINT, NET, RunFolder};
use crate::formats::{NUMERICS_VERSION, weights};
use crate::model::expected;
use crate::net::Net;
use crate::{Error, Result};

/// Goes on with the run `name` (a run folder, or `latest` under the place's root) from its last checkpoint, to the same
/// bits as if it had never stopped. A run without a checkpoint starts again; a finished one only tells its outcome.
/// `flags` are settings given anew: limits and `workers` may change, `epochs` too if the schedule doesn't depend on it.
///
/// # Errors
/// There is no such run, a setting or the data has changed, or the checkpoint is damaged or newer than this program.
pub fn resume(name: &str, flags: Table, place: &Place, mut audience: Audience) -> Result<Outcome> {
    let started = Instant::now();
    let folder = RunFolder::open(name, &place.root)?;
    let args = folder.file(ARGS);
    let was = layers(&args, &[])?;
    let settings = layers(&args, &[("the command line", flags)])?;
    let path = folder.file(CHECKPOINT);
    let saved: Option<Checkpoint<RunState>> = match path.exists() {
        true => Some(checkpoint::read(&path).map_err(|error| instead(&folder, error))?),
        false => None,
    };
    check_unchanged(&folder, &was, &settings, saved.as_ref())?;
    // The run's own copy: the file that it was started from may have changed.
    let net = Net::open(&folder.file(NET).to_string_lossy())?;
    let task = Task::open(&settings, net, place.data_dir.clone())?;
    let start = match &saved {
        Some(saved) => {
            if saved.state.data != task.fingerprint {
                return Err(Error::new(format!("{}: its pictures, classes or splits have changed", settings.data))
                    .advice(format!("Compare with {}/split.csv, or start a new run.", folder.path.display())));
            }
            weights::check(&saved.tensors, &expected(&task.net)).map_err(|error| error.at(path.display()))?;
            saved.tensors.clone()
        }
        None => task.start(&settings)?,
    };
    let net = saved.as_ref().map_or(&task.net, |saved| task.net_at(&saved.state));
    let mut training = Training::new(net, start, &task.options, &place.device(&settings), settings.batch_size)?;
    let settings = describe(&folder, &settings, &task)?;
    let mut state = RunState::new(task.fingerprint.clone(), settings.remembered());
    let mut resumed_at = None;
    if let Some(saved) = saved {
        training.restore(&saved.tensors, &saved.optimizer).map_err(|error| error.at(path.display()))?;
        if saved.numerics != NUMERICS_VERSION {
            let (was, is) = (saved.numerics, NUMERICS_VERSION);
            let what = format!("the checkpoint is of numerics version {was}, this ocelli has {is}");
            let advice = "The run goes on, but not to the bits that it would have had.".to_string();
            for listener in &mut audience.listeners {
                listener.event(&Event::Warning { what: what.clone(), advice: advice.clone() })?;
            }
        }
        state = RunState { settings: state.settings, ..saved.state };
        resumed_at = Some(state.step);
    }
    Session { settings: &settings, task, training, folder, place, started }.run(state, resumed_at, audience)
}

/// An error of a checkpoint, with what can still be used of its run: the best weights, if they are whole.
fn instead(folder: &RunFolder, error: Error) -> Error {
    let best = folder.file(BEST);
    match weights::read(&best) {
        Ok(_) => error.or_advice(format!(
            "Or start a new run from its best weights: ocelli train --config {} --init {}",
            folder.file(ARGS).display(),
            best.display()
        )),
        Err(_) => error,
    }
}

fn layers(args: &Path, flags: &[(&str, Table)]) -> Result<Settings> {
    let place = args.display().to_string();
    let base = [(place.as_str(), Settings::read_layer(args)?)];
    Settings::merge(base.into_iter().chain(flags.iter().cloned()))
}

/// Fails if a setting differs that the run depends on, either from `args.toml` or from what the checkpoint remembers.
fn check_unchanged(
    folder: &RunFolder,
    was: &Settings,
    is: &Settings,
    saved: Option<&Checkpoint<RunState>>,
) -> Result<()> {
    let mut changed = was.changes(is);
    if let Some(saved) = saved {
        changed.extend(changes(&saved.state.settings, &is.remembered()));
        changed.sort();
        changed.dedup();
    }
    if !is.schedule.depends_on_the_total() {
        changed.retain(|change| !change.starts_with("epochs:"));
    }
    if changed.is_empty() {
        return Ok(());
    }
    let run = folder.path.display();
    let only_epochs = changed.iter().all(|change| change.starts_with("epochs:"));
    let why = if only_epochs { ", on which its schedule depends" } else { "" };
    let what = format!("{run}: --resume with changed settings{why} ({})", changed.join(", "));
    let best = folder.file(BEST);
    Err(Error::usage(what).advice(format!(
        "Leave the change out, or start a new run from these weights: ocelli train --config {run}/{ARGS} --init {}",
        best.display()
    )))
}
