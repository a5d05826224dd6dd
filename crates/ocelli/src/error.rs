//! One error type: a line that says what and where with the numbers, and a line that says what to do.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

/// Why something failed, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    what: String,
    advice: Option<String>,
    usage: bool,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error; `what` names the file, layer or flag and the numbers, in one line.
    pub fn new(what: impl Into<String>) -> Error {
        Error { what: what.into(), advice: None, usage: false }
    }
    /// A wrong use: a flag, a name or a value that cannot be meant. The command line exits with 2.
    pub fn usage(what: impl Into<String>) -> Error {
        Error { usage: true, ..Error::new(what) }
    }
    /// The same error as a wrong use.
    pub fn into_usage(self) -> Error {
        Error { usage: true, ..self }
    }
    /// A file that cannot be read or written.
    pub fn io(path: impl AsRef<Path>, error: std::io::Error) -> Error {
        let advice = match error.kind() {
            ErrorKind::NotFound => "Check the path; a relative one starts at the current folder.",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "Change its permissions, or use another place."
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "Free some space, or use another disk; what was written before is whole."
            }
            ErrorKind::IsADirectory => "A folder stands in the place of this file: remove it, or use another place.",
            _ => "Check the path and the disk.",
        };
        Error::new(format!("{}: {error}", path.as_ref().display())).advice(advice)
    }
    /// Adds the line that says what to do.
    pub fn advice(self, advice: impl Into<String>) -> Error {
        Error { advice: Some(advice.into()), ..self }
    }
    /// Adds another way out to the line that says what to do.
    pub fn or_advice(self, other: impl fmt::Display) -> Error {
        let advice = self.advice.iter().map(|advice| format!("{advice} ")).chain([other.to_string()]).collect();
        Error { advice: Some(advice), ..self }
    }
    /// Puts the place in front: `place: what`.
    pub fn at(self, place: impl fmt::Display) -> Error {
        Error { what: format!("{place}: {}", self.what), ..self }
    }
    /// The first line.
    pub fn what(&self) -> &str {
        &self.what
    }
    /// Whether the command was used wrongly.
    pub fn is_usage(&self) -> bool {
        self.usage
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.advice {
            Some(advice) => write!(f, "\n{advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The candidate closest to `word`, if it is close enough to be a slip of the keyboard.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements that turn `a` into `b` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        assert_eq!(did_you_mean("fitlers", ["filters", "kernel"]), Some("filters"));
        assert_eq!(did_you_mean("lenet-5", ["lenet5", "vgg16"]), Some("lenet5"));
        assert_eq!(did_you_mean("banana", ["filters", "kernel"]), None);
    }

    #[test]
    fn an_error_is_two_lines() {
        let error = Error::new("kernel 5x5 does not fit").at("conv2").advice("Use padding 2.");
        assert_eq!(error.to_string(), "conv2: kernel 5x5 does not fit\nUse padding 2.");
    }
}
