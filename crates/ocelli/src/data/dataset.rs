//! A data set: pictures with labels or targets, in three splits.

use super::{Picture, Shard, decode, folder, ilsvrc, known, list, shards, split};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part of the data: train to fit, val to choose by, test to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The weights are fitted to these.
    Train,
    /// The best epoch is chosen by these.
    Val,
    /// Read once, at the end.
    Test,
}

impl Split {
    /// All three.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        ["train", "val", "test"][self as usize]
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Split {
    type Err = Error;
    /// Also takes `valid` and `validation`.
    fn from_str(text: &str) -> Result<Split> {
        match text {
            "train" => Ok(Split::Train),
            "val" | "valid" | "validation" => Ok(Split::Val),
            "test" => Ok(Split::Test),
            _ => Err(Error::usage(format!("no split is called '{text}'")).advice("Choose train, val or test.")),
        }
    }
}

/// Where a picture comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A picture of a file of many.
    Memory(Arc<Block>, usize),
    /// A picture of a tar archive.
    Shard(Arc<Shard>, usize),
}

impl Source {
    /// Height and width, orientation not applied: of a file or a member of an archive, its first bytes say.
    ///
    /// # Errors
    /// It cannot be read, or is no picture.
    pub(super) fn size(&self) -> Result<[usize; 2]> {
        match self {
            Source::Memory(block, _) => Ok([block.size[0], block.size[1]]),
            Source::File(path) => {
                decode::size(|most| decode::first_bytes(path, most)).map_err(|e| e.at(path.display()))
            }
            Source::Shard(shard, index) => decode::size(|most| shard.read(*index, most))
                .map_err(|error| error.at(format!("{}/{}", shard.path().display(), shard.name(*index)))),
        }
    }
}

/// Pictures of one size in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// What the pictures are called together; picture 3 is `name#3`.
    pub name: String,
    /// Height, width and channels.
    pub size: [usize; 3],
    /// `[n, height, width, channels]`.
    pub pixels: Vec<u8>,
}

impl Block {
    /// The pixels of a picture.
    pub fn picture(&self, index: usize) -> &[u8] {
        let length = self.size.iter().product::<usize>();
        &self.pixels[index * length..][..length]
    }
}

/// A picture with what is to be learnt of it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub source: Source,
    /// Position in the classes; 0 for regression.
    pub label: u32,
    /// Values for regression; of several classes a picture 1 for each that it has, else 0.
    pub targets: Vec<f32>,
    /// Items of one group stay in one split.
    pub group: Option<String>,
    /// Where the data says that it belongs.
    pub split: Option<Split>,
}

/// How a data set is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where known data sets lie, each in a folder of its name; by default `OCELLI_DATA`, else `~/.cache/ocelli`.
    pub data_dir: Option<PathBuf>,
    /// The share of the training data that becomes the validation split where the data has none.
    pub val_fraction: f64,
    /// Of the carved splits.
    pub seed: u64,
    /// Leaves out what a CSV list names and is not there; see also [`Pictures::load`](super::Pictures::load).
    pub skip_bad: bool,
    /// Data without any splits is for judging a model that never saw it: all of it is the test split.
    pub judged_whole: bool,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions { data_dir: None, val_fraction: 0.1, seed: 0, skip_bad: false, judged_whole: false }
    }
}

/// Pictures with labels or targets, in three splits.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The known name, or the name of the folder or list.
    pub name: String,
    /// Class names, in the order of the labels; empty for regression.
    pub classes: Vec<String>,
    /// The columns of the targets; empty for classification.
    pub targets: Vec<String>,
    /// Whether a picture may have any number of the classes, not one.
    pub multi_label: bool,
    /// What a person should know: which splits were carved, what was left out.
    pub notes: Vec<String>,
    root: PathBuf,
    items: Vec<Item>,
    splits: [Vec<usize>; 3],
}

/// Opens a known data set (see [`known()`]), a folder of pictures (`train|val|test/CLASS/…` or `CLASS/…`), a folder of IDX
/// or CIFAR-10 files, a CSV list, tar archives (a folder of them, one, or a pattern `train-{0000..0011}.tar`), or
/// ILSVRC-2012 as it comes.
///
/// # Errors
/// Nothing of that name, no pictures, damaged files, a split without enough pictures to carve another from.
pub fn open(spec: &str, options: &OpenOptions) -> Result<Dataset> {
    let fraction = options.val_fraction;
    if !(fraction > 0.0 && fraction < 0.9) {
        return Err(Error::usage(format!("a validation fraction of {fraction}"))
            .advice("Choose --val-fraction above 0 and below 0.9; the default is 0.1."));
    }
    if let Some(known) = known::known(spec) {
        return known.open(options);
    }
    let path = Path::new(spec);
    if path.is_dir() {
        if let Some(data) = known::open_binary(path, options)? {
            return Ok(data);
        }
        if let Some(data) = ilsvrc::open(path, options)? {
            return Ok(data);
        }
        let archives = shards::in_folder(path)?;
        // Beside class folders lies the archive that they were unpacked from.
        return match archives.is_empty() || folder::has_classes(path)? {
            true => folder::open(path, options),
            false => shards::open(path, archives, options),
        };
    }
    if let Some(archives) = shards::pattern(spec)? {
        let archives = archives.into_iter().map(|archive| (archive.clone(), shards::split_of(&archive)));
        return shards::open(path, archives.collect(), options);
    }
    if path.is_file() {
        return list::open(path, options);
    }
    Err(known::not_known(spec))
}

impl Dataset {
    /// Puts items into their splits; carves those that are missing.
    pub(super) fn assemble(
        root: &Path,
        classes: Vec<String>,
        targets: Vec<String>,
        items: Vec<Item>,
        options: &OpenOptions,
    ) -> Result<Dataset> {
        let name = root.file_stem().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
        let mut data = Dataset {
            name,
            classes,
            targets,
            multi_label: false,
            notes: Vec::new(),
            root: root.into(),
            items,
            splits: Default::default(),
        };
        (data.splits, data.notes) = split::divide(&data.items, options).map_err(|error| error.at(root.display()))?;
        Ok(data)
    }

    /// The number of pictures of a split.
    pub fn len(&self, split: Split) -> usize {
        self.splits[split as usize].len()
    }

    /// Whether a split has no pictures.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Whether numbers are learnt, not classes.
    pub fn is_regression(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Whether pictures have a row of targets, not a label.
    pub fn has_targets(&self) -> bool {
        self.other_targets().is_some()
    }

    /// What pictures have in place of one class each, in words.
    pub(crate) fn other_targets(&self) -> Option<&'static str> {
        match (self.is_regression(), self.multi_label) {
            (true, _) => Some("numbers to predict"),
            (_, true) => Some("several classes a picture"),
            _ => None,
        }
    }

    /// The label of a picture: its position in `classes`.
    pub fn label(&self, split: Split, position: usize) -> u32 {
        self.item(split, position).label
    }

    /// The name of a picture's class, or the names of all with `|` between; empty for regression.
    pub fn class_text(&self, split: Split, position: usize) -> String {
        let item = self.item(split, position);
        if !self.multi_label {
            return self.classes.get(item.label as usize).cloned().unwrap_or_default();
        }
        let own = self.classes.iter().zip(&item.targets).filter(|(_, target)| **target > 0.0);
        own.map(|(class, _)| class.as_str()).collect::<Vec<_>>().join("|")
    }

    /// The targets of a picture: numbers for regression; of several classes a picture 1 for each that it has, else 0.
    pub fn target(&self, split: Split, position: usize) -> &[f32] {
        &self.item(split, position).targets
    }

    /// Where a picture comes from.
    pub fn source(&self, split: Split, position: usize) -> &Source {
        &self.item(split, position).source
    }

    /// What a picture is called: its path below the folder or list, with `/`, or the file that holds it and its number.
    pub fn picture_name(&self, split: Split, position: usize) -> String {
        let relative = |path: &Path| {
            let parts = path.strip_prefix(self.base()).unwrap_or(path).components();
            parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
        };
        match self.source(split, position) {
            Source::Memory(block, index) => format!("{}#{index}", block.name),
            Source::File(path) => relative(path),
            Source::Shard(shard, index) => format!("{}/{}", relative(shard.path()), shard.name(*index)),
        }
    }

    /// Reads and decodes a picture.
    ///
    /// # Errors
    /// The file cannot be read or decoded; it is named.
    pub fn picture(&self, split: Split, position: usize) -> Result<Picture> {
        match self.source(split, position) {
            Source::File(path) => decode::read(path),
            Source::Shard(shard, index) => decode::decode(&shard.read(*index, u64::MAX)?)
                .map_err(|error| error.at(self.picture_name(split, position))),
            Source::Memory(block, index) => {
                let [height, width, channels] = block.size;
                Ok(Picture { height, width, channels, pixels: block.picture(*index).to_vec() })
            }
        }
    }

    /// Pictures of each class in a split, in the order of the classes.
    pub fn counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &item in &self.splits[split as usize] {
            let item = &self.items[item];
            if self.multi_label {
                counts.iter_mut().zip(&item.targets).for_each(|(count, target)| *count += *target as usize);
            } else if let Some(count) = counts.get_mut(item.label as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// Renumbers the labels to a model's classes, matched by name, so that position does not matter.
    ///
    /// # Errors
    /// The data has a class that the model does not know.
    pub fn match_classes(&mut self, model: &[String]) -> Result<()> {
        let mut place = Vec::new();
        for class in &self.classes {
            let Some(at) = model.iter().position(|other| other == class) else {
                let list = |names: &[String]| match names {
                    [start @ .., last] if start.len() < 12 => {
                        format!("{}{last}", start.iter().map(|n| format!("{n}, ")).collect::<String>())
                    }
                    _ => format!("{}, … ({} in all)", names[..12].join(", "), names.len()),
                };
                return Err(Error::new(format!("{}: the model does not know the class '{class}'", self.name))
                    .advice(format!("Rename or remove it; the model knows: {}.", list(model))));
            };
            place.push(at as u32);
        }
        if self.is_regression() || model.is_empty() {
            return Ok(());
        }
        for item in &mut self.items {
            // A picture without a class has the number after the last.
            item.label = place.get(item.label as usize).copied().unwrap_or(model.len() as u32);
            if self.multi_label {
                let own = std::mem::replace(&mut item.targets, vec![0.0; model.len()]);
                place.iter().zip(own).for_each(|(at, target)| item.targets[*at as usize] = target);
            }
        }
        self.classes = model.to_vec();
        Ok(())
    }

    /// The text of `split.csv`: picture, label and split of every picture.
    pub fn split_csv(&self) -> String {
        let mut csv = csv::Writer::from_writer(Vec::new());
        let mut write = |fields: [&str; 3]| csv.write_record(fields).is_ok();
        let mut good = write(["picture", "label", "split"]);
        for split in Split::ALL {
            for position in 0..self.len(split) {
                let label = self.class_text(split, position);
                good &= write([&self.picture_name(split, position), &label, split.name()]);
            }
        }
        debug_assert!(good, "memory takes every record");
        String::from_utf8(csv.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    /// Height and width of the pictures, if all have the same: looked up for in-memory sets, else judged by up to 64
    /// pictures spread over the training split (or the first split that has any).
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn one_size(&self) -> Result<Option<[usize; 2]>> {
        let Some(split) = Split::ALL.into_iter().find(|&split| !self.is_empty(split)) else { return Ok(None) };
        let (n, looks) = (self.len(split), self.len(split).min(64));
        let mut found = None;
        for look in 0..looks {
            // Pictures that cannot be read are reported where they are loaded, where they may be skipped.
            let Ok(size) = self.source(split, look * n / looks).size() else { continue };
            if *found.get_or_insert(size) != size {
                return Ok(None);
            }
        }
        Ok(found)
    }

    pub(super) fn item(&self, split: Split, position: usize) -> &Item {
        &self.items[self.splits[split as usize][position]]
    }

    /// The folder that names are relative to.
    fn base(&self) -> &Path {
        if self.root.is_file() { self.root.parent().unwrap_or(&self.root) } else { &self.root }
    }

    /// What looks wrong, and what to do about it: classes that a split lacks.
    pub fn warnings(&self) -> Vec<[String; 2]> {
        let warning = |split: Split| {
            let counts = self.counts(split);
            let missing: Vec<&str> =
                self.classes.iter().zip(counts).filter(|(_, n)| *n == 0).map(|(class, _)| class.as_str()).collect();
            let advice = match split {
                Split::Train => "They can't be learnt: add pictures to train, or remove the classes.",
                Split::Val => {
                    "The best epoch is chosen without them: add pictures to val, or remove it so that one is carved."
                }
                Split::Test => "How well they are known is not measured: add pictures to test.",
            };
            let warns = !missing.is_empty() && !self.is_empty(split);
            warns.then(|| [format!("the {split} split has no pictures of: {}", missing.join(", ")), advice.to_owned()])
        };
        Split::ALL.into_iter().filter_map(warning).collect()
    }
}
