//! What lies where in a tar archive: the headers are read, the files themselves are passed over.

use super::folder::is_picture;
use crate::words::counted;
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use tar::{Archive, EntryType, PaxExtensions};

/// The longest name, and the longest text of a class, in bytes.
const MAX_NAME: u64 = 4096;
const MAX_CLASS: u64 = 256;
/// The member that lists the classes, one a line. WebDataset passes over names of this form.
pub(super) const CLASSES: &str = "__classes__";

/// A picture in an archive, or its list of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name; behind the name of the inner archive and `/` if it is in one.
    pub name: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
    /// What the file `NAME.cls` beside it says.
    pub class: Option<String>,
}

/// Where an archive is damaged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Bytes before it.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// What is in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Pictures and the list of classes, in the archive's order.
    pub members: Vec<Member>,
    /// Why the rest could not be read.
    pub damage: Option<Damage>,
    /// What was left out, in words.
    pub notes: Vec<String>,
}

/// Lists an archive of `length` bytes, and the archives in it (ILSVRC's training pictures are archives in an archive).
/// Links, devices and sparse files are left out. Memory is bounded by the names.
pub fn list_tar(source: &mut (impl Read + Seek), length: u64) -> Contents {
    let mut contents = Contents::default();
    let mut inner = Vec::new();
    walk(source, Part { start: 0, length, prefix: String::new() }, &mut contents, &mut inner);
    // What lies before the damage is whole, inner archives too.
    let damage = contents.damage.take();
    for part in inner {
        if contents.damage.is_none() && damage.as_ref().is_none_or(|damage| part.start < damage.offset) {
            walk(source, part, &mut contents, &mut Vec::new());
        }
    }
    contents.damage = contents.damage.take().or(damage);
    contents.members.sort_by_key(|member| member.offset);
    contents
}

/// An archive in a file.
#[derive(Clone)]
struct Part {
    start: u64,
    length: u64,
    /// Put in front of the names.
    prefix: String,
}

fn walk(source: &mut (impl Read + Seek), part: Part, contents: &mut Contents, inner: &mut Vec<Part>) {
    let first = contents.members.len();
    let mut classes: HashMap<String, String> = HashMap::new();
    let mut links = 0;
    contents.damage = read(source, &part, &mut |file| match file.kind {
        Kind::Other => links += 1,
        Kind::Class(text) => {
            classes.insert(key(&file.name).to_owned(), text);
        }
        Kind::Archive => {
            inner.push(Part { start: part.start + file.offset, length: file.length, prefix: format!("{}/", file.name) })
        }
        Kind::Picture => contents.members.push(Member {
            name: format!("{}{}", part.prefix, file.name),
            offset: part.start + file.offset,
            length: file.length,
            class: None,
        }),
    })
    .err()
    .map(|(offset, what)| Damage { offset: part.start + offset, what });
    let mut seen: HashMap<&str, u64> = HashMap::new();
    let mut twice = None;
    let mut labelled: HashMap<&str, &str> = HashMap::new();
    for member in &contents.members[first..] {
        let bare = &member.name[part.prefix.len()..];
        if let Some(before) = seen.insert(bare, member.offset) {
            twice.get_or_insert((member.offset, format!("'{bare}' is there twice, at {before} and here")));
        }
        if classes.contains_key(key(bare))
            && let Some(before) = labelled.insert(key(bare), bare)
            && before != bare
        {
            let what = format!("one .cls for two pictures, '{before}' and '{bare}'");
            twice.get_or_insert((member.offset, what));
        }
    }
    for member in &mut contents.members[first..] {
        member.class = classes.get(key(&member.name[part.prefix.len()..])).cloned();
    }
    if let Some((offset, what)) = twice {
        // What follows the second one is not trusted either.
        contents.members.retain(|member| member.offset < offset);
        contents.damage = Some(Damage { offset, what });
    }
    // The class of the last picture before the damage may have come behind it.
    if contents.damage.is_some()
        && !classes.is_empty()
        && contents.members[first..].last().is_some_and(|member| member.class.is_none())
    {
        contents.members.pop();
    }
    if links > 0 {
        contents.notes.push(format!("{} left out", counted(links, "link or special file")));
    }
}

/// A file of an archive.
struct File {
    name: String,
    /// From the start of the archive.
    offset: u64,
    length: u64,
    kind: Kind,
}

enum Kind {
    Picture,
    Archive,
    Class(String),
    Other,
}

/// Calls `each` with every file that matters, until the archive ends or something is wrong, with the place of its header.
fn read(source: &mut (impl Read + Seek), part: &Part, each: &mut dyn FnMut(File)) -> Result<(), (u64, String)> {
    let mut window = Window { source, start: part.start, length: part.length, position: 0 };
    let mut magic = [0; 2];
    if window.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
        return Err((0, "compressed with gzip: unpack it first".into()));
    }
    window.position = 0;
    let mut archive = Archive::new(window);
    let mut long_name: Option<String> = None;
    let mut next = 0u64;
    let entries = archive.entries_with_seek().map_err(|error| (0, told(&error)))?;
    for entry in entries.raw(true) {
        let bad = |what: String| (next, what);
        let mut entry = entry.map_err(|error| bad(told(&error)))?;
        let (offset, kind) = (entry.raw_file_position(), entry.header().entry_type());
        let length = entry.header().entry_size().map_err(|error| bad(told(&error)))?;
        let end = offset.checked_add(length).filter(|&end| end <= part.length).ok_or_else(|| {
            bad(format!("{length} bytes are announced, {} are there: cut off", part.length.saturating_sub(offset)))
        })?;
        match kind {
            EntryType::GNULongName => {
                let bytes = text(&mut entry, length, MAX_NAME).map_err(bad)?;
                long_name = Some(clean(bytes.split(|&byte| byte == 0).next().unwrap_or_default()));
            }
            EntryType::XHeader => {
                let bytes = text(&mut entry, length, MAX_NAME + 1024).map_err(bad)?;
                for extension in PaxExtensions::new(&bytes).flatten() {
                    match extension.key() {
                        Ok("path") => long_name = Some(clean(extension.value_bytes())),
                        Ok("size") => return Err(bad("a file beyond 8 GiB, or with two sizes".into())),
                        _ => {}
                    }
                }
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            _ => {
                let name = long_name.take().unwrap_or_else(|| clean(&entry.path_bytes()));
                let name = name.trim_start_matches("./").to_owned();
                if let Some(kind) = sort(&name, kind, part.prefix.is_empty()) {
                    let kind = match kind {
                        Kind::Class(_) => {
                            let bytes = text(&mut entry, length, MAX_CLASS).map_err(bad)?;
                            Kind::Class(clean(bytes.trim_ascii()))
                        }
                        kind => kind,
                    };
                    each(File { name, offset, length, kind });
                }
            }
        }
        next = end.div_ceil(512) * 512;
    }
    // Two blocks of zeros end an archive; a copy that broke off between two files lacks them.
    match next.saturating_add(512) <= part.length || part.length == 0 {
        true => Ok(()),
        false => Err((next, "no end marker: cut off".into())),
    }
}

/// What a file is by its name and type; `None` is passed over.
fn sort(name: &str, kind: EntryType, outer: bool) -> Option<Kind> {
    let file = name.rsplit('/').next().unwrap_or_default();
    let ending = file.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_ascii_lowercase());
    match ending.as_str() {
        _ if kind.is_dir() || file.starts_with('.') => None,
        _ if !matches!(kind, EntryType::Regular | EntryType::Continuous) => Some(Kind::Other),
        "tar" if outer => Some(Kind::Archive),
        "cls" => Some(Kind::Class(String::new())),
        ending if is_picture(ending) || (outer && name == CLASSES) => Some(Kind::Picture),
        _ => None,
    }
}

/// The bytes of a short file.
fn text(entry: &mut impl Read, length: u64, most: u64) -> Result<Vec<u8>, String> {
    if length > most {
        return Err(format!("a name or class of {length} bytes; the limit is {most}"));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    entry.read_to_end(&mut bytes).map_err(|error| told(&error))?;
    Ok(bytes)
}

/// An error on one line: it may hold bytes of the file.
fn told(error: &std::io::Error) -> String {
    clean(error.to_string().as_bytes())
}

/// A name as text on one line.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches('\n').chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What the files of a sample share: the name up to the first dot of its last part.
fn key(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    &name[..name[last..].find('.').map_or(name.len(), |dot| last + dot)]
}

/// A part of a file as a file.
struct Window<'a, R> {
    source: &'a mut R,
    start: u64,
    length: u64,
    position: u64,
}

impl<R: Read + Seek> Read for Window<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.source.seek(SeekFrom::Start(self.start + self.position))?;
        let read = self.source.read(&mut buffer[..most])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R> Seek for Window<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.position = to.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
#[path = "tar_tests.rs"]
pub(super) mod tests;
