//! `ocelli data pca` and `ocelli data preview`: the colours of a data set, and what a network will see of it.

use crate::arguments::Globals;
use crate::models::open_options;
use crate::text;
use clap::Args;
use ocelli::data::{self, Augment, Colours, OpenOptions, Pca, Preparation, Resize, Split};
use ocelli::error::{Error, Result};
use ocelli::explain::preview::{Preview, preview};
use ocelli::formats::write_atomically;
use ocelli::train::ImageSize;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Principal components of the colours of all training pictures, exact, in one pass
#[derive(Args)]
#[command(after_help = "Example:\n  ocelli data pca PICTURES -o colours.toml\n  \
    ocelli train --data PICTURES --augment pca --pca colours.toml")]
pub struct Components {
    /// A known name, a folder of pictures, or a CSV list
    data: String,
    /// A file for `ocelli train --pca`
    #[arg(long, short, value_name = "FILE.toml")]
    output: Option<PathBuf>,
    /// Leaves out pictures that cannot be read, instead of ending with an error
    #[arg(long)]
    skip_bad: bool,
}

impl Components {
    /// Measures and prints.
    pub fn run(&self, globals: &Globals) -> Result<()> {
        let options = OpenOptions { skip_bad: self.skip_bad, ..open_options(globals, None) };
        let data = data::open(&self.data, &options)?;
        let colours = Colours::measure(&data, Split::Train, globals.threads(), self.skip_bad)?;
        let pca = colours.pca();
        if let Some(path) = &self.output {
            write_atomically(path, |file| file.write_all(pca.to_toml().as_bytes()))?;
        }
        if globals.json {
            text::json(&json!({ "schema": 1, "data": data.name, "pixels": colours.pixels, "mean": colours.mean(),
                "covariance": colours.covariance(), "eigenvalues": pca.eigenvalues, "eigenvectors": pca.eigenvectors }));
            return Ok(());
        }
        let pictures = text::counted(data.len(Split::Train), "picture");
        let mut out = format!("{}: {} pixels of {pictures} (train)\n", data.name, text::count(colours.pixels));
        let [red, green, blue] = colours.mean().map(|mean| format!("{mean:.4}"));
        out.push_str(&format!("mean of red, green, blue, in [0, 1]: {red}, {green}, {blue}\n\n"));
        let rows: Vec<Vec<String>> = (0..3)
            .map(|i| {
                let value = pca.eigenvalues[i];
                let deviation = format!("{:.2}", 255.0 * value.sqrt());
                let parts = pca.eigenvectors[i].map(|part| format!("{part:.4}"));
                [vec![format!("{}", i + 1), format!("{value:.6}"), deviation], parts.into()].concat()
            })
            .collect();
        let head = ["component", "eigenvalue", "deviation of 255", "red", "green", "blue"];
        out.push_str(&text::table(&head, &rows, 0));
        if let Some(path) = &self.output {
            out.push_str(&format!("\n{}\n", path.display()));
        }
        text::print(&out);
        Ok(())
    }
}

/// A contact sheet of what a network will see: each row an original, as evaluated, and as trained on
#[derive(Args)]
#[command(
    after_help = "Example:\n  ocelli data preview PICTURES --image-size 224 --augment flip,crop:0,pca -o sheet.png"
)]
pub struct Sheet {
    /// A known name, a folder of pictures, or a CSV list
    data: String,
    /// As for `ocelli train`
    #[arg(long, default_value = "none")]
    augment: Augment,
    /// The net's input: N or HxW [default: the pictures' size if all have one, else 224]
    #[arg(long, value_name = "N|HxW")]
    image_size: Option<ImageSize>,
    /// crop, letterbox or stretch
    #[arg(long, default_value = "crop")]
    resize: Resize,
    /// With --resize crop: what the picture covers before the input is cut out [default: size / 0.875]
    #[arg(long, value_name = "N|HxW")]
    cover: Option<ImageSize>,
    /// Whose colours pca follows: measured, imagenet, or a file of `ocelli data pca`
    #[arg(long, value_name = "WHOSE", default_value = "measured")]
    pca: String,
    /// Rows
    #[arg(long, value_name = "N", default_value = "6", value_parser = text::positive)]
    pictures: usize,
    /// Columns of augmented pictures
    #[arg(long, value_name = "N", default_value = "6", value_parser = text::positive)]
    epochs: usize,
    /// Leaves out pictures that cannot be read, instead of ending with an error
    #[arg(long)]
    skip_bad: bool,
    /// The picture
    #[arg(long, short, value_name = "FILE.png", default_value = "preview.png")]
    output: PathBuf,
}

/// More rows or columns would make a picture that nobody can open.
const MOST_TILES: usize = 2_000;

impl Sheet {
    /// Draws and writes.
    pub fn run(&self, globals: &Globals) -> Result<()> {
        if self.pictures.saturating_mul(self.epochs) > MOST_TILES {
            return Err(Error::usage(format!("{} pictures in {} epochs", self.pictures, self.epochs))
                .advice(format!("Choose --pictures and --epochs for at most {MOST_TILES} small pictures.")));
        }
        let options = OpenOptions { skip_bad: self.skip_bad, ..open_options(globals, None) };
        let data = Arc::new(data::open(&self.data, &options)?);
        let size = match self.image_size {
            Some(size) => size.0,
            None => data.one_size()?.unwrap_or([224, 224]),
        };
        // The first that can be read; that none can is said where they are loaded.
        let first = (0..data.len(Split::Train)).find_map(|i| data.picture(Split::Train, i).ok());
        let channels = first.map_or(3, |picture| picture.channels);
        let mut preparation = Preparation::for_data(&data, size, channels, self.resize, &self.augment)?;
        if let Some(cover) = self.cover {
            preparation = preparation.covering(cover.0)?;
        }
        let pca = match self.pca.as_str() {
            "measured" => None,
            "imagenet" => Some(Pca::IMAGENET),
            path => Some(Pca::read(path.as_ref())?),
        };
        let seed = globals.seed.unwrap_or(0);
        let (augment, workers, skip_bad) = (self.augment, globals.threads(), self.skip_bad);
        let (pictures, epochs) = (self.pictures, self.epochs as u64);
        let options = Preview { pictures, epochs, seed, augment, pca, workers, skip_bad };
        preview(&data, preparation, &options)?.save(&self.output)?;
        text::line(self.output.display().to_string());
        Ok(())
    }
}
