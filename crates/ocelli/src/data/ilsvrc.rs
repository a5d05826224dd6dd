//! ILSVRC-2012's own layout: training pictures in an archive of archives, one for each synset, or in one of these steps
//! unpacked; validation pictures loose or in an archive, with their classes as numbers in the ground-truth file.

use super::dataset::{Dataset, Item, OpenOptions, Source, Split};
use super::folder::{collect, file_name, list};
use super::{mat, shards};
use crate::words::counted;
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What the ground-truth file's name ends in.
const TRUTH: &str = "validation_ground_truth.txt";
/// The synset lists that are looked for: the 2012 kit's, the CLS-LOC kit's, and one's own.
const SYNSETS: [&str; 3] = ["meta.mat", "map_clsloc.txt", "synsets.txt"];
/// Where both are looked for, below the folder.
const PLACES: [&str; 4] = ["", "data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12"];
/// The archives as they come.
const TRAIN: &str = "ILSVRC2012_img_train.tar";
const VAL: &str = "ILSVRC2012_img_val.tar";

/// Reads the ground truth: the number of a synset, from 1, on each line; line 1 is for picture 1.
///
/// # Errors
/// A line that is no number of a synset, with its line number.
pub fn parse_ground_truth(bytes: &[u8]) -> Result<Vec<u32>> {
    let text = text(bytes)?;
    let number = |(line, text): (usize, &str)| match text.trim().parse::<u32>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::new(format!("line {}: '{}' is not a number from 1", line + 1, short(text)))
            .advice("The ground truth has the number of a synset (its ILSVRC2012_ID) on each line.")),
    };
    text.trim_end().lines().enumerate().map(number).collect()
}

/// Reads a list of synsets: `n02119789 1 kit_fox` on each line; the words are not needed. The numbers are: the ground truth
/// counts in the development kit's order, which is not the order of the names, and a list without them would give wrong
/// classes that nobody sees.
///
/// # Errors
/// A line that is not of this form, a synset or a number that is there twice, with its line number.
pub fn parse_synsets(bytes: &[u8]) -> Result<HashMap<u32, String>> {
    let mut synsets = HashMap::new();
    let mut names = HashSet::new();
    for (line, text) in text(bytes)?.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let mut words = text.split_whitespace();
        let bad = |what: String| {
            Error::new(format!("line {}: {what}", line + 1)).advice(
                "Write a synset and its ILSVRC2012_ID on each line: n02119789 1. The kit's meta.mat, which is read too, has them.",
            )
        };
        let (Some(name), Some(number)) = (words.next(), words.next().and_then(|word| word.parse::<u32>().ok())) else {
            return Err(bad(format!("'{}' is not a synset with its number", short(text))));
        };
        if !names.insert(name) || synsets.insert(number, name.to_owned()).is_some() {
            return Err(bad(format!("the synset {name} or the number {number} is there twice")));
        }
    }
    match synsets.is_empty() {
        true => Err(Error::new("no synsets in the list").advice("Write a synset and its number on each line.")),
        false => Ok(synsets),
    }
}

/// Reads the synsets of the development kit's `meta.mat`: the thousand classes, and what is above them.
///
/// # Errors
/// It is no file of MATLAB's version 5 with an array of structures `synsets`; a synset or a number that is there twice.
pub fn parse_meta(bytes: &[u8]) -> Result<HashMap<u32, String>> {
    let mut synsets = HashMap::new();
    let mut names = HashSet::new();
    for (name, number) in mat::synsets(bytes)? {
        if !names.insert(name.clone()) || synsets.insert(number, name.clone()).is_some() {
            return Err(Error::new(format!("the synset {} or the number {number} is there twice", short(&name)))
                .advice("Unpack the development kit again."));
        }
    }
    Ok(synsets)
}

fn text(bytes: &[u8]) -> Result<&str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| Error::new("not a text in UTF-8").advice("Copy the file again."))
}

/// The beginning of a line for an error.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// Opens a folder if it has a ground-truth file.
pub(super) fn open(root: &Path, options: &OpenOptions) -> Result<Option<Dataset>> {
    let find = |is: &dyn Fn(&str) -> bool| {
        PLACES.iter().find_map(|place| {
            let entries = std::fs::read_dir(root.join(place)).ok()?;
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            paths.into_iter().find(|path| path.is_file() && is(&file_name(path)))
        })
    };
    let Some(truth_path) = find(&|name| name.ends_with(TRUTH)) else {
        if root.join(VAL).is_file() {
            let what = format!("{}: {VAL} without a file whose name ends in {TRUTH}", root.display());
            return Err(Error::new(what).advice(
                "Put ILSVRC2012_validation_ground_truth.txt of the development kit beside it: it has the pictures' classes.",
            ));
        }
        return Ok(None);
    };
    let Some(synset_path) = find(&|name| SYNSETS.contains(&name)) else {
        let what = format!("{}: {} without a list of synsets", root.display(), file_name(&truth_path));
        return Err(Error::new(what).advice(format!(
            "Put {} beside it: the 2012 kit has the first, the CLS-LOC kit the second; docs/commands/data.md tells of the third.",
            SYNSETS.join(" or ")
        )));
    };
    let read = |path: &Path| super::decode::read_bytes(path);
    let truth = parse_ground_truth(&read(&truth_path)?).map_err(|error| error.at(truth_path.display()))?;
    let parse = if synset_path.extension().is_some_and(|end| end == "mat") { parse_meta } else { parse_synsets };
    let synsets = parse(&read(&synset_path)?).map_err(|error| error.at(synset_path.display()))?;
    let mut notes = Vec::new();
    let mut train = training(root, options, &mut notes)?;
    let val = validation(root, options, &mut notes)?;
    if truth.len() != val.len() {
        let [lines, pictures] = [counted(truth.len(), "line"), counted(val.len(), "picture")];
        return Err(Error::new(format!("{}: {lines} for {pictures} to validate with", truth_path.display()))
            .advice("They do not belong together, or one is cut off: copy both again."));
    }
    let classes: BTreeSet<String> = train.iter().map(|(class, _)| class.clone()).collect();
    let mut named = Vec::with_capacity(val.len());
    for (name, source) in val {
        // ILSVRC2012_val_00000001.JPEG is for line 1.
        let digits: String =
            name.chars().rev().skip_while(|c| *c != '.').skip(1).take_while(char::is_ascii_digit).collect();
        let number = digits.chars().rev().collect::<String>().parse::<usize>().unwrap_or(0);
        let Some(&id) = number.checked_sub(1).and_then(|line| truth.get(line)) else {
            return Err(Error::new(format!("{name}: no line of {} is for it", file_name(&truth_path)))
                .advice("Pictures to validate with are called ILSVRC2012_val_00000001.JPEG and so on."));
        };
        let Some(class) = synsets.get(&id) else {
            let place = format!("{}: line {number}: {id}", truth_path.display());
            return Err(Error::new(format!("{place} is not among the numbers of {}", file_name(&synset_path)))
                .advice("The list of synsets is not the ground truth's: take both from one kit."));
        };
        if !classes.contains(class) {
            return Err(Error::new(format!("{name}: no training pictures of its synset {class}"))
                .advice("Copy the training archive of that synset, or take the ground truth's own list of synsets."));
        }
        named.push((number, class.clone(), source));
    }
    named.sort_by_key(|(number, ..)| *number);
    if let Some(twice) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::new(format!("{}: two pictures are number {}", root.display(), twice[0].0))
            .advice("Remove one of them."));
    }
    // By class, then by name: the same order whether the archives are unpacked or not.
    train.sort_by(|a, b| a.0.cmp(&b.0));
    let classes: Vec<String> = classes.into_iter().collect();
    let item = |class: String, source, split| Item {
        label: classes.partition_point(|other| *other < class) as u32,
        source,
        targets: Vec::new(),
        group: None,
        split: Some(split),
    };
    let items = train.into_iter().map(|(class, source)| item(class, source, Split::Train));
    let items: Vec<Item> =
        items.chain(named.into_iter().map(|(_, class, source)| item(class, source, Split::Val))).collect();
    let mut data = Dataset::assemble(root, classes.clone(), Vec::new(), items, options)?;
    data.notes.extend(notes);
    data.notes.push("the challenge's test pictures have no classes: judge with --split val".into());
    Ok(Some(data))
}

/// The training pictures with their synsets: of `ILSVRC2012_img_train.tar`, of `train/SYNSET.tar` or of `train/SYNSET/`.
fn training(root: &Path, options: &OpenOptions, notes: &mut Vec<String>) -> Result<Vec<(String, Source)>> {
    let folder = root.join("train");
    let mut archives: Vec<PathBuf> = [root.join(TRAIN)].into_iter().filter(|path| path.is_file()).collect();
    let mut found = Vec::new();
    if archives.is_empty() && folder.is_dir() {
        archives = shards::in_folder(&folder)?.into_iter().map(|(path, _)| path).collect();
        for class in list(&folder)?.0 {
            let mut files = Vec::new();
            collect(&class, 1, &mut files)?;
            found.extend(files.into_iter().map(|file| (file_name(&class), Source::File(file))));
        }
    }
    for path in archives {
        for (name, source) in shards::pictures(&path, options.skip_bad, notes)? {
            let class = match name.rsplit_once('/') {
                Some((folder, _)) => folder.rsplit('/').next().unwrap_or_default().to_owned(),
                None => file_name(&path),
            };
            found.push((class.strip_suffix(".tar").unwrap_or(&class).to_owned(), source));
        }
    }
    match found.is_empty() {
        true => Err(Error::new(format!("{}: no training pictures", root.display()))
            .advice(format!("Put {TRAIN} there, or its content, archives or folders of synsets, into train."))),
        false => Ok(found),
    }
}

/// The pictures to validate with, by name: of `ILSVRC2012_img_val.tar`, or of `val/`.
fn validation(root: &Path, options: &OpenOptions, notes: &mut Vec<String>) -> Result<Vec<(String, Source)>> {
    let (archive, folder) = (root.join(VAL), root.join("val"));
    if archive.is_file() {
        return shards::pictures(&archive, options.skip_bad, notes);
    }
    let files = if folder.is_dir() { list(&folder)?.1 } else { Vec::new() };
    match files.is_empty() {
        true => Err(Error::new(format!("{}: no pictures to validate with", root.display()))
            .advice(format!("Put {VAL} there, or its pictures into val."))),
        false => Ok(files.into_iter().map(|file| (file_name(&file), Source::File(file))).collect()),
    }
}

#[cfg(test)]
#[path = "ilsvrc_tests.rs"]
mod tests;
