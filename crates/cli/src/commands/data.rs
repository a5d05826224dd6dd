//! `ocelli data`: data sets, known ones and one's own.

use super::colours::{Components, Sheet};
use crate::arguments::Globals;
use crate::models::open_options;
use crate::text;
use clap::{Args, Subcommand};
use ocelli::data::{self, Dataset, KNOWN, Order, Split};
use ocelli::error::{Error, Result};
use ocelli::plot;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// List, describe, fetch, check and pack data sets
#[derive(Args)]
#[command(after_help = "Examples:\n  ocelli data list\n  ocelli data info mnist-10k\n  ocelli data check PICTURES\n  \
    ocelli data pack PICTURES --output SHARDS")]
pub struct Data {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// The data sets that ocelli knows, and which of them are here
    List,
    /// Classes, splits, sizes
    Info {
        /// A known name, a folder of pictures, a CSV list, or shards
        data: String,
    },
    /// Fetch a known data set, checked by SHA-256; a download that stopped goes on
    Get {
        /// A known name
        name: String,
    },
    Pca(Components),
    Preview(Box<Sheet>),
    Order(Epoch),
    /// Look for damaged files, duplicates, leakage between the splits; exit code 1 if the data needs care
    Check {
        /// A known name, a folder of pictures, a CSV list, or shards
        data: String,
    },
    /// Write a data set as tar archives (shards), as WebDataset reads them: all of them or nothing
    Pack {
        /// A known name, a folder of pictures, a CSV list of classes, or shards
        data: String,
        /// The folder to make
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
        /// Megabytes of an archive, at most
        #[arg(long, value_name = "MB", default_value = "256", value_parser = text::positive)]
        shard_size: usize,
    },
    /// The best top-5 errors of the ImageNet challenge, 2010 to 2017, and a person's
    IlsvrcResults {
        /// Draws them into this PNG file
        #[arg(long, short, value_name = "F.png")]
        output: Option<PathBuf>,
    },
}

/// The training pictures in the order of an epoch, as `ocelli train` reads them
#[derive(Args)]
struct Epoch {
    /// A known name, a folder of pictures, a CSV list, or shards
    data: String,
    /// The epoch, from 1
    #[arg(long, value_name = "N", default_value = "1", value_parser = text::positive)]
    epoch: usize,
    /// Reads shards from beginning to end into a buffer of so many pictures, and draws from it
    #[arg(long, value_name = "PICTURES")]
    shuffle_buffer: Option<usize>,
    /// Pictures of a step, of all processes together
    #[arg(long, value_name = "N", default_value = "64")]
    batch_size: usize,
    /// The pictures of this process, from 0
    #[arg(long, value_name = "R", default_value = "0")]
    rank: usize,
    /// Processes that share the pictures
    #[arg(long, value_name = "N", default_value = "1")]
    world_size: usize,
}

impl Epoch {
    /// Prints a name a line.
    fn run(self, globals: &Globals) -> Result<()> {
        let data = open(&self.data, globals)?;
        let Epoch { shuffle_buffer, batch_size, rank, world_size, .. } = self;
        let seed = globals.seed.unwrap_or(0);
        let order = Order { seed, shuffle_buffer, batch_size, rank, world_size, ..Order::default() };
        order.check(&data, Split::Train)?;
        let all: Vec<usize> = (0..data.len(Split::Train)).collect();
        let order = order.of(&data, Split::Train, &all, self.epoch as u64 - 1);
        let names: Vec<String> = order.into_iter().map(|position| data.picture_name(Split::Train, position)).collect();
        match globals.json {
            true => text::json(&json!({ "schema": 1, "epoch": self.epoch, "rank": rank, "pictures": names })),
            false => text::print(&names.iter().map(|name| format!("{name}\n")).collect::<String>()),
        }
        Ok(())
    }
}

/// Findings of one kind that are listed; the JSON has all.
const LISTED: usize = 10;

impl Data {
    /// Runs the action.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        match self.action {
            Action::List => list(globals),
            Action::Info { data } => text::print(&info(&open(&data, globals)?, globals)?),
            Action::Get { name } => {
                let known = data::known(&name).ok_or_else(|| data::not_known(&name))?;
                let folder = known.get(&folder(globals), !globals.quiet && std::io::stderr().is_terminal())?;
                text::line(format!("{name} is in {}", folder.display()));
            }
            Action::Pack { data, output, shard_size } => {
                let data = open(&data, globals)?;
                text::print(&notes(&data.notes, &[]));
                let bytes = (shard_size as u64).saturating_mul(1_000_000);
                let packed = data::pack(&data, &output, bytes, globals.seed.unwrap_or(0))?;
                text::line(format!("{}: {packed}", output.display()));
            }
            Action::IlsvrcResults { output } => ilsvrc_results(output.as_deref(), globals)?,
            Action::Pca(components) => components.run(globals)?,
            Action::Preview(sheet) => sheet.run(globals)?,
            Action::Order(epoch) => epoch.run(globals)?,
            Action::Check { data } => return check(&open(&data, globals)?, globals),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn open(data: &str, globals: &Globals) -> Result<Dataset> {
    data::open(data, &open_options(globals, None))
}

fn folder(globals: &Globals) -> PathBuf {
    globals.data_dir.clone().unwrap_or_else(data::default_data_dir)
}

/// Damaged files, leaks and contradictions are a failure, so that scripts can stop there.
fn check(data: &Dataset, globals: &Globals) -> Result<ExitCode> {
    let report = data::check(data, globals.threads())?;
    let twins = || report.duplicates.iter().chain(&report.near_duplicates);
    let (damaged, leaks) = (report.corrupt.len(), twins().filter(|twins| twins.leak).count());
    let conflicts = twins().filter(|twins| twins.conflict).count();
    if globals.json {
        let mut value = serde_json::to_value(&report).map_err(|error| Error::new(error.to_string()))?;
        value["schema"] = 1.into();
        text::json(&value);
    } else {
        text::print(&check_text(data, &report));
    }
    if damaged + leaks + conflicts == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::new(format!(
        "{}: damaged pictures: {damaged}, pairs in two splits: {leaks}, pairs of two classes: {conflicts}",
        data.name
    ))
    .advice("Replace or remove one of each; training leaves unreadable ones out with --skip-bad."))
}

fn notes(notes: &[String], warnings: &[[String; 2]]) -> String {
    let notes = notes.iter().map(|note| format!("note: {note}\n"));
    notes.chain(warnings.iter().map(|[what, advice]| format!("warning: {what}\n{advice}\n"))).collect()
}

fn check_text(data: &Dataset, report: &data::Report) -> String {
    let mut out = format!("{}: {} looked at\n", data.name, text::counted(report.pictures, "picture"));
    let sizes: Vec<String> =
        report.sizes.iter().take(5).map(|([height, width], n)| format!("{height}x{width} ({n})")).collect();
    out.push_str(&format!("sizes: {}{}\n", sizes.join(", "), if report.sizes.len() > 5 { ", ..." } else { "" }));
    out.push_str(&notes(&report.notes, &report.warnings));
    out.push_str(&format!("damaged: {}\n", report.corrupt.len()));
    for corrupt in report.corrupt.iter().take(LISTED) {
        out.push_str(&format!("  {} ({}): {}\n", corrupt.picture, corrupt.split, corrupt.error.replace('\n', " ")));
    }
    for (name, twins) in [("the same pixels", &report.duplicates), ("nearly the same", &report.near_duplicates)] {
        let leaks = twins.iter().filter(|twins| twins.leak).count();
        out.push_str(&format!("{name}: {}, {leaks} of them in two splits\n", text::counted(twins.len(), "pair")));
        for data::Twins { first, second, leak, conflict } in twins.iter().take(LISTED) {
            let leak = if *leak { "  leak" } else { "" };
            let conflict = if *conflict { "  classes differ" } else { "" };
            let one = |twin: &data::Twin| format!("{} ({}, {})", twin.picture, twin.split, twin.class);
            out.push_str(&format!("  {} = {}{leak}{conflict}\n", one(first), one(second)));
        }
    }
    let row = |count: &data::ClassCount| {
        std::iter::once(count.class.clone())
            .chain([count.train, count.val, count.test].map(|n| n.to_string()))
            .collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = report.classes.iter().map(row).collect();
    out.push_str(&format!("\n{}", text::table(&["class", "train", "val", "test"], &rows, 1)));
    out
}

fn ilsvrc_results(output: Option<&Path>, globals: &Globals) -> Result<()> {
    let results = plot::ilsvrc_results()?;
    if let Some(path) = output {
        plot::ilsvrc(&results).save(path)?;
    }
    if globals.json {
        for result in &results {
            text::json(&json!({ "schema": 1, "year": result.year, "who": result.who, "top5_error": result.top5_error,
                "extra_data": result.has_extra_data() }));
        }
        return Ok(());
    }
    let row = |result: &plot::IlsvrcResult| {
        let year = result.year.map_or("-".into(), |year| year.to_string());
        vec![year, result.who.clone(), result.top5_error.to_string(), result.extra_data.clone().unwrap_or("-".into())]
    };
    let rows: Vec<_> = results.iter().map(row).collect();
    text::print(&text::table(&["year", "who", "top-5 error in %", "extra data"], &rows, 2));
    Ok(())
}

fn list(globals: &Globals) {
    let folder = folder(globals);
    let place = |known: &data::Known| match known.files.is_empty() {
        true => Some("inside ocelli".to_owned()),
        false => known.find(&folder).map(|path| path.display().to_string()),
    };
    if globals.json {
        for known in KNOWN {
            text::json(&json!({ "schema": 1, "name": known.name, "about": known.about, "found": place(known) }));
        }
        return;
    }
    let row = |known: &data::Known| {
        vec![known.name.to_owned(), known.about.to_owned(), place(known).unwrap_or_else(|| "not here".into())]
    };
    text::print(&text::table(&["name", "what", "where"], &KNOWN.iter().map(row).collect::<Vec<_>>(), 3));
    text::line(format!("\nLooked for in {}; also: folders of pictures, CSV lists, shards.", folder.display()));
}

fn info(data: &Dataset, globals: &Globals) -> Result<String> {
    let size = data.one_size()?;
    let lens = Split::ALL.map(|split| data.len(split));
    let counts = Split::ALL.map(|split| data.counts(split));
    if globals.json {
        let value = json!({ "schema": 1, "name": data.name, "classes": data.classes, "targets": data.targets, "multi_label": data.multi_label,
            "images": { "train": lens[0], "val": lens[1], "test": lens[2] },
            "counts": { "train": counts[0], "val": counts[1], "test": counts[2] },
            "size": size, "notes": data.notes, "warnings": data.warnings() });
        return Ok(format!("{value}\n"));
    }
    let mut out = format!(
        "{}: {} to train, {} to choose by (val), {} held out (test)\n",
        data.name,
        text::counted(lens[0], "picture"),
        text::count(lens[1] as u64),
        text::count(lens[2] as u64)
    );
    out.push_str(&match size {
        Some([height, width]) => format!("pictures of {height}x{width} pixels\n"),
        None => "pictures of several sizes\n".to_owned(),
    });
    out.push_str(&notes(&data.notes, &data.warnings()));
    if data.is_regression() {
        out.push_str(&format!("numbers to predict: {}\n", data.targets.join(", ")));
        return Ok(out);
    }
    if data.multi_label {
        out.push_str("any number of classes a picture\n");
    }
    let row = |(i, class): (usize, &String)| {
        std::iter::once(class.clone()).chain(counts.iter().map(|counts| counts[i].to_string())).collect()
    };
    let rows: Vec<Vec<String>> = data.classes.iter().enumerate().map(row).collect();
    out.push_str(&format!("\n{}", text::table(&["class", "train", "val", "test"], &rows, 1)));
    Ok(out)
}
