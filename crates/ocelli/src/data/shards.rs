//! Shards: tar archives of pictures, as WebDataset writes them and as ILSVRC's training pictures come.
//!
//! An archive is listed once; the list is kept beside it as `NAME.tar.index` and made anew when the archive's size or time
//! changes. Pictures are then read by their place, in any order, or one after the other by a `Stream`: the order of an epoch is
//! known before, whatever the number of workers, and training resumes in the middle of it.

use super::dataset::{Dataset, Item, OpenOptions, Source, Split};
use super::folder::{file_name, list};
use super::tar::{CLASSES, Damage, Member, list_tar};
use crate::formats::write_atomically;
use crate::words::counted;
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// The first field of an index.
const FORMAT: &str = "ocelli shard index 1";
/// Most shards that a pattern stands for, most bytes of a list of classes and of a picture.
const MAX_SHARDS: usize = 100_000;
const MAX_CLASSES: u64 = 1 << 24;
const MAX_PICTURE: u64 = 1 << 30;

/// An archive whose pictures can be read one by one.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    /// All names, one after the other.
    names: String,
    places: Vec<Place>,
}

/// Where a picture lies. 24 bytes, so that a million of them are few.
#[derive(Debug)]
struct Place {
    offset: u64,
    length: u64,
    /// Where its name ends in the names.
    name: usize,
}

impl Shard {
    pub(super) fn new(path: &Path, members: &[Member]) -> Shard {
        let mut shard = Shard { path: path.into(), names: String::new(), places: Vec::with_capacity(members.len()) };
        for member in members {
            shard.names.push_str(&member.name);
            shard.places.push(Place { offset: member.offset, length: member.length, name: shard.names.len() });
        }
        shard
    }

    /// The archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of a picture inside the archive.
    pub fn name(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.places[before].name);
        &self.names[start..self.places[index].name]
    }

    /// The bytes of a picture in its archive.
    pub(super) fn length(&self, index: usize) -> u64 {
        self.places[index].length
    }

    /// The bytes of a picture, or the first of them, at most `most`. The archive is opened for each: a thousand archives
    /// would be more open files than most systems allow.
    pub(super) fn read(&self, index: usize, most: u64) -> Result<Vec<u8>> {
        self.read_from(&mut self.open()?, index, most)
    }

    /// Opens the archive.
    pub(super) fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| Error::io(&self.path, error))
    }

    /// As [`Shard::read`] of the open archive, from wherever it was read to.
    pub(super) fn read_from(&self, file: &mut (impl Read + Seek), index: usize, most: u64) -> Result<Vec<u8>> {
        let place = &self.places[index];
        let at = |error: std::io::Error| {
            let place = format!("{}: '{}' at byte {}", self.path.display(), self.name(index), place.offset);
            Error::new(format!("{place}: {error}"))
                .advice("If the archive was changed while it was read, start again; else copy it again.")
        };
        if place.length > MAX_PICTURE {
            return Err(at(std::io::Error::other(format!("{} bytes; the limit is 1 GiB", place.length))));
        }
        // Relative to where it is, so that a buffered reader keeps what it has read ahead.
        let position = file.stream_position().map_err(at)?;
        file.seek_relative(place.offset.wrapping_sub(position) as i64).map_err(at)?;
        let mut bytes = vec![0; place.length.min(most) as usize];
        file.read_exact(&mut bytes).map_err(at)?;
        Ok(bytes)
    }
}

/// The archives that `spec` means: a `.tar` file, or a pattern `train-{0000..0011}.tar`. `None` if it is neither.
///
/// # Errors
/// A pattern that is none, or means too many.
pub(super) fn pattern(spec: &str) -> Result<Option<Vec<PathBuf>>> {
    if !spec.ends_with(".tar") || !spec.contains('{') {
        return Ok(Path::new(spec).is_file().then(|| vec![spec.into()]).filter(|_| spec.ends_with(".tar")));
    }
    let bad = |what: &str| {
        Error::usage(format!("{spec}: {what}")).advice("Write a range of numbers in braces: 'train-{0000..0011}.tar'.")
    };
    let mut names = vec![String::new()];
    let mut rest = spec;
    while let Some((before, after)) = rest.split_once('{') {
        let (range, after) = after.split_once('}').ok_or_else(|| bad("a brace is not closed"))?;
        let (first, last) = range.split_once("..").ok_or_else(|| bad("no range in the braces"))?;
        let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let (Some(from), Some(to)) = (number(first), number(last)) else { return Err(bad("not a range of numbers")) };
        if to < from || (to - from).saturating_add(1).saturating_mul(names.len()) > MAX_SHARDS {
            return Err(bad(&format!("from {from} to {to}: 1 to {} archives can be", MAX_SHARDS)));
        }
        let width = first.len();
        let more = names.iter().flat_map(|name| (from..=to).map(move |n| format!("{name}{before}{n:0width$}")));
        names = more.collect();
        rest = after;
    }
    Ok(Some(names.into_iter().map(|name| format!("{name}{rest}").into()).collect()))
}

/// The archives of a folder, and of the folders train, val and test in it, with the split that a folder or a name
/// (`train-0000.tar`) says.
pub(super) fn in_folder(root: &Path) -> Result<Vec<(PathBuf, Option<Split>)>> {
    let mut found: Vec<(PathBuf, Option<Split>)> = Vec::new();
    let archives = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| !file_name(path).starts_with('.') && path.extension().is_some_and(|end| end == "tar"));
        paths.sort();
        Ok(paths)
    };
    found.extend(archives(root)?.into_iter().map(|path| (path.clone(), split_of(&path))));
    for folder in list(root)?.0 {
        if let Ok(split) = file_name(&folder).parse::<Split>() {
            found.extend(archives(&folder)?.into_iter().map(|path| (path, Some(split))));
        }
    }
    Ok(found)
}

/// `train-0000.tar`, `val.tar`: the split that an archive's name begins with.
pub(super) fn split_of(path: &Path) -> Option<Split> {
    let name = file_name(path);
    name.split(|c: char| !c.is_ascii_alphabetic()).next().and_then(|word| word.parse().ok())
}

/// Opens archives as a data set.
pub(super) fn open(root: &Path, shards: Vec<(PathBuf, Option<Split>)>, options: &OpenOptions) -> Result<Dataset> {
    let mut notes = Vec::new();
    let mut pictures: Vec<(Arc<Shard>, usize, Label, Option<Split>)> = Vec::new();
    let mut list: Option<(PathBuf, Vec<String>)> = None;
    let mut without_list: Option<PathBuf> = None;
    for (path, split) in shards {
        let mut members = members(&path, options.skip_bad, &mut notes)?;
        let own = members.iter().position(|member| member.name == CLASSES).map(|at| members.remove(at));
        let shard = Arc::new(Shard::new(&path, &members));
        match own.map(|own| class_list(&path, &own)).transpose()? {
            Some(own) => match &list {
                Some((first, list)) if *list != own => return Err(disagree(first, list, &path, &own)),
                Some(_) => {}
                None => list = Some((path.clone(), own)),
            },
            None if !members.is_empty() => without_list = without_list.or(Some(path.clone())),
            None => {}
        }
        for (index, member) in members.iter().enumerate() {
            pictures.push((Arc::clone(&shard), index, label(member, &path)?, split));
        }
    }
    if pictures.is_empty() {
        return Err(Error::new(format!("{}: no pictures in the archives", root.display()))
            .advice("An archive holds pictures, each with its class in NAME.cls beside it or as its folder."));
    }
    if let (Some((with, list)), Some(without)) = (&list, &without_list) {
        return Err(disagree(with, list, without, &[]));
    }
    let list = list.map(|(_, list)| list);
    let place = |(shard, index, ..): &(Arc<Shard>, usize, Label, Option<Split>)| {
        format!("{}: '{}'", shard.path.display(), shard.name(*index))
    };
    // Names of the pictures' classes; a number counts in the list if there is one.
    let mut names = BTreeSet::new();
    for picture in &pictures {
        match (&picture.2, &list) {
            (Label::Number(n), Some(list)) if *n >= list.len() => {
                return Err(Error::new(format!("{}: class {n}, but the list has {}", place(picture), list.len()))
                    .advice("Classes are counted from 0; make the archives again."));
            }
            (Label::Name(name), Some(list)) if !list.contains(name) => {
                return Err(Error::new(format!("{}: class '{name}' is not in the list of classes", place(picture)))
                    .advice("Make the archives again with all classes in their list."));
            }
            (Label::Number(n), None) => names.insert((*n, n.to_string())),
            (Label::Name(name), None) => names.insert((usize::MAX, name.clone())),
            _ => false,
        };
    }
    let classes = list.unwrap_or_else(|| names.into_iter().map(|(_, name)| name).collect());
    let numbers: HashMap<&str, u32> = classes.iter().zip(0..).map(|(name, n)| (name.as_str(), n)).collect();
    let listed = without_list.is_none();
    let item = |(shard, index, label, split): (Arc<Shard>, usize, Label, Option<Split>)| Item {
        label: match &label {
            Label::Number(n) if listed => *n as u32,
            Label::Number(n) => numbers[n.to_string().as_str()],
            Label::Name(name) => numbers[name.as_str()],
        },
        source: Source::Shard(shard, index),
        targets: Vec::new(),
        group: None,
        split,
    };
    let items = pictures.into_iter().map(item).collect();
    let mut data = Dataset::assemble(root, classes, Vec::new(), items, options)?;
    data.notes.extend(notes);
    Ok(data)
}

/// The pictures of an archive with their names, whatever their classes.
pub(super) fn pictures(path: &Path, skip_bad: bool, notes: &mut Vec<String>) -> Result<Vec<(String, Source)>> {
    let mut members = members(path, skip_bad, notes)?;
    members.retain(|member| member.name != CLASSES);
    let shard = Arc::new(Shard::new(path, &members));
    let source = |(index, member): (usize, Member)| (member.name, Source::Shard(Arc::clone(&shard), index));
    Ok(members.into_iter().enumerate().map(source).collect())
}

/// What a picture's class is called.
enum Label {
    Number(usize),
    Name(String),
}

/// The class of a picture: its `.cls`, else its folder, else the archive that it lies in alone with its kind.
fn label(member: &Member, shard: &Path) -> Result<Label> {
    if let Some(class) = &member.class {
        return Ok(class.parse().map_or(Label::Name(class.clone()), Label::Number)).and_then(|label| match &label {
            Label::Name(name) if name.is_empty() => {
                Err(Error::new(format!("{}: '{}': an empty .cls", shard.display(), member.name))
                    .advice("Write the number or the name of the class into it."))
            }
            _ => Ok(label),
        });
    }
    let folder = match member.name.rsplit_once('/') {
        Some((folder, _)) => folder.rsplit('/').next().unwrap_or_default().to_owned(),
        None => shard.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let class = folder.strip_suffix(".tar").unwrap_or(&folder);
    // train-0000.tar is one of many, n01440764.tar holds a class.
    let is_one_of_many = folder.ends_with(".tar")
        && (class.rsplit(['-', '_']).next().is_some_and(|end| end.bytes().all(|byte| byte.is_ascii_digit()))
            || class.parse::<Split>().is_ok());
    if is_one_of_many || class.is_empty() || class == "." {
        return Err(Error::new(format!("{}: '{}' has no class", shard.display(), member.name))
            .advice("Put NAME.cls with the class beside NAME.jpg, or the picture into a folder of its class."));
    }
    Ok(Label::Name(class.to_owned()))
}

fn class_list(path: &Path, member: &Member) -> Result<Vec<String>> {
    let bad = |what: &str| {
        Error::new(format!("{}: {CLASSES} at byte {}: {what}", path.display(), member.offset))
            .advice("It holds a name of a class on each line, no name twice; make the archive again.")
    };
    if member.length > MAX_CLASSES {
        return Err(bad(&format!("{} bytes; the limit is {MAX_CLASSES}", member.length)));
    }
    let bytes = Shard::new(path, std::slice::from_ref(member)).read(0, MAX_CLASSES)?;
    let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
    let classes: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    let mut seen = BTreeSet::new();
    match classes.iter().find(|class| class.is_empty() || !seen.insert(class.as_str())) {
        Some(class) => Err(bad(&format!("the class '{class}' is empty or there twice"))),
        None => Ok(classes),
    }
}

fn disagree(first: &Path, list: &[String], second: &Path, other: &[String]) -> Error {
    let [first, second] = [first, second].map(|path| path.display());
    let what = match list.iter().zip(other).position(|(a, b)| a != b) {
        _ if other.is_empty() => format!("{first} lists {}, {second} has no list", counted(list.len(), "class")),
        Some(at) => format!("class {at} is '{}' in {first} and '{}' in {second}", list[at], other[at]),
        None => format!("{first} lists {}, {second} {}", counted(list.len(), "class"), other.len()),
    };
    Error::new(format!("the archives disagree on the classes: {what}"))
        .advice("They come from two runs of packing: give those of one, or pack all again.")
}

/// The members of an archive: from its index, else by listing it, and writing the index.
fn members(path: &Path, skip_bad: bool, notes: &mut Vec<String>) -> Result<Vec<Member>> {
    let state = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if !state.is_file() {
        return Err(Error::new(format!("{}: not a plain file", path.display())).advice("Give a .tar archive."));
    }
    let time = state.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let stamp = Stamp { size: state.len(), time: time.as_nanos() };
    let index = path.with_extension("tar.index");
    // An index of another time, another format or with an error is made anew.
    let limit = state.len().saturating_mul(8).max(1 << 16);
    if let Ok(file) = File::open(&index)
        && file.metadata().is_ok_and(|data| data.is_file() && data.len() <= limit)
        && let Ok(members) = parse_index(BufReader::new(file), &stamp)
    {
        return Ok(members);
    }
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let contents = list_tar(&mut file, stamp.size);
    notes.extend(contents.notes.iter().map(|note| format!("{}: {note}", file_name(path))));
    if let Some(Damage { offset, what }) = contents.damage {
        let whole = counted(contents.members.iter().filter(|member| member.name != CLASSES).count(), "picture");
        let error = format!("{}: damaged at byte {offset}: {what}", path.display());
        if !skip_bad {
            return Err(Error::new(format!("{error}; {whole} before it"))
                .advice("Copy the archive again; `ocelli train --skip-bad` uses what comes before the damage."));
        }
        notes.push(format!("{error}: the rest of it is left out, {whole} before it are used"));
        return Ok(contents.members);
    }
    let written = write_atomically(&index, |file| write_index(file, &stamp, &contents.members));
    if written.is_err() {
        notes.push(format!("{}: cannot be written, so the archive is listed each time", index.display()));
    }
    Ok(contents.members)
}

/// By what an index knows that its archive is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970 when it was last changed.
    pub time: u128,
}

fn write_index(file: &mut dyn std::io::Write, stamp: &Stamp, members: &[Member]) -> std::io::Result<()> {
    let mut csv = csv::WriterBuilder::new().flexible(true).from_writer(file);
    csv.write_record([FORMAT, &stamp.size.to_string(), &stamp.time.to_string(), &members.len().to_string()])?;
    for member in members {
        let (offset, length) = (member.offset.to_string(), member.length.to_string());
        let class = member.class.as_ref().map(|class| format!("={class}")).unwrap_or_default();
        csv.write_record([&member.name, &offset, &length, &class])?;
    }
    csv.flush()
}

/// Reads the index of an archive in the state `stamp`: CSV; a line with the format, size, time and number of members, then
/// name, offset, length and `=CLASS` of each.
///
/// # Errors
/// It is of another state or format, or says what cannot be.
pub fn parse_index(source: impl Read, stamp: &Stamp) -> Result<Vec<Member>> {
    let bad = |what: &str| Error::new(format!("not an index: {what}"));
    let mut csv = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(source);
    let mut records = csv.records();
    let head = records.next().ok_or_else(|| bad("empty"))?.map_err(|error| bad(&error.to_string()))?;
    let right = [FORMAT, &stamp.size.to_string(), &stamp.time.to_string()];
    if head.len() != 4 || !head.iter().zip(right).all(|(a, b)| a == b) {
        return Err(bad("of another archive, or older than it"));
    }
    let mut members: Vec<Member> = Vec::new();
    for record in records {
        let record = record.map_err(|error| bad(&error.to_string()))?;
        let &[name, offset, length, class] = &record.iter().collect::<Vec<_>>()[..] else {
            return Err(bad("not four fields"));
        };
        let (Ok(offset), Ok(length)) = (offset.parse::<u64>(), length.parse::<u64>()) else {
            return Err(bad("not numbers"));
        };
        let before = members.last().map_or(0, |member| member.offset + member.length);
        // In the archive's order and inside it, so that nothing is read twice or beyond.
        if offset < before || offset.checked_add(length).is_none_or(|end| end > stamp.size) || name.is_empty() {
            return Err(bad("a member outside of the archive"));
        }
        let class = class.strip_prefix('=').map(str::to_owned);
        members.push(Member { name: name.into(), offset, length, class });
    }
    match head[3] == members.len().to_string() {
        true => Ok(members),
        false => Err(bad("cut off")),
    }
}

#[cfg(test)]
#[path = "shards_tests.rs"]
pub(super) mod tests;
