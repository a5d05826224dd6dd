//! `ocelli data`: data sets, known ones and one's own.

use crate::arguments::Globals;
use crate::text;
use clap::{Args, Subcommand};
use ocelli::Result;
use ocelli::data::{self, Dataset, KNOWN, OpenOptions, Split};
use serde_json::json;
use std::process::ExitCode;

/// List, describe, fetch and check data sets
#[derive(Args)]
#[command(after_help = "Examples:\n  ocelli data list\n  ocelli data info mnist-10k\n  ocelli data check PICTURES")]
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
        /// A known name, a folder of pictures, or a CSV list
        data: String,
    },
}

impl Data {
    /// Runs the action.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        match self.action {
            Action::List => list(globals),
            Action::Info { data } => {
                let data = data::open(
                    &data,
                    &OpenOptions {
                        data_dir: globals.data_dir.clone(),
                        seed: globals.seed.unwrap_or(0),
                        ..Default::default()
                    },
                )?;
                text::print(&info(&data, globals)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(globals: &Globals) {
    let folder = globals.data_dir.clone().unwrap_or_else(data::default_data_dir);
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
    text::line(format!("\nLooked for in {}; also: folders of pictures, CSV lists.", folder.display()));
}

fn info(data: &Dataset, globals: &Globals) -> Result<String> {
    let size = data.one_size()?;
    let lens = Split::ALL.map(|split| data.len(split));
    let counts = Split::ALL.map(|split| data.counts(split));
    if globals.json {
        let value = json!({ "schema": 1, "name": data.name, "classes": data.classes, "targets": data.targets,
            "images": { "train": lens[0], "val": lens[1], "test": lens[2] },
            "counts": { "train": counts[0], "val": counts[1], "test": counts[2] },
            "size": size, "notes": data.notes });
        return Ok(format!("{value}\n"));
    }
    let mut out = format!(
        "{}: {} pictures to train, {} to choose by (val), {} held out (test)\n",
        data.name,
        text::count(lens[0] as u64),
        text::count(lens[1] as u64),
        text::count(lens[2] as u64)
    );
    out.push_str(&match size {
        Some([height, width]) => format!("pictures of {height}x{width} pixels\n"),
        None => "pictures of several sizes\n".to_owned(),
    });
    for note in &data.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    if data.is_regression() {
        out.push_str(&format!("numbers to predict: {}\n", data.targets.join(", ")));
        return Ok(out);
    }
    let row = |(i, class): (usize, &String)| {
        std::iter::once(class.clone()).chain(counts.iter().map(|counts| counts[i].to_string())).collect()
    };
    let rows: Vec<Vec<String>> = data.classes.iter().enumerate().map(row).collect();
    out.push_str(&format!("\n{}", text::table(&["class", "train", "val", "test"], &rows, 1)));
    Ok(out)
}
