//! CSV lists of pictures: `path,label`, `path,labels` for any number of classes a picture, or numeric targets, with
//! optional `split` and `group`.

use super::dataset::{Dataset, Item, OpenOptions, Source, Split};
use crate::words::counted;
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path};

/// A list as written.
#[derive(Debug, Default, PartialEq)]
pub struct List {
    /// The columns of numeric targets; empty if the list has labels.
    pub targets: Vec<String>,
    /// Whether a picture may have any number of classes: the column is `labels`.
    pub multi_label: bool,
    /// A picture each.
    pub rows: Vec<Row>,
}

/// A line of a list.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// Line of the file, from 1.
    pub line: u64,
    /// The picture, relative to the list's folder or absolute.
    pub path: String,
    /// Class names: one, where the list has the column `label`.
    pub labels: Vec<String>,
    /// A value for each target column.
    pub targets: Vec<f32>,
    /// Where the picture belongs, if the list has the column.
    pub split: Option<Split>,
    /// What stays together, if the list has the column and the line a value.
    pub group: Option<String>,
}

/// What a column holds.
enum Column {
    Path,
    Label,
    Labels,
    Split,
    Group,
    Target,
    Other,
}

/// Reads a CSV list. The first line names the columns: `path`, then `label` (a class name) or `labels` (any number of
/// them with `|` between), beside which other columns are passed over, or, for regression, any columns of numbers;
/// `split` (train, val, test) and `group` are optional. Without such a line
/// there must be two columns, path and label.
///
/// # Errors
/// A fault, with its line number; an empty list; a group that `split` divides.
pub fn parse_csv(bytes: &[u8]) -> Result<List> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(bytes);
    let mut list = List::default();
    let mut columns: Option<Vec<Column>> = None;
    let mut splits: HashMap<String, (Split, u64)> = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            Error::new(format!(
                "line {line}: not CSV in UTF-8: {}",
                error.to_string().lines().next().unwrap_or_default()
            ))
            .advice("Save the list as CSV with commas, in UTF-8.")
        })?;
        // The reader counts from where it passed over empty lines.
        let line = record.position().map_or(0, |at| {
            let empty = bytes[at.byte() as usize..].iter().take_while(|byte| b"\r\n".contains(byte));
            at.line() + empty.filter(|&&byte| byte == b'\n').count() as u64
        });
        let Some(columns) = &columns else {
            let (head, is_head) = heading(&record)?;
            let has_label = head.iter().any(|column| matches!(column, Column::Label | Column::Labels));
            list.multi_label = head.iter().any(|column| matches!(column, Column::Labels));
            let of_targets =
                head.iter().zip(&record).filter(|(column, _)| !has_label && matches!(column, Column::Target));
            list.targets = of_targets.map(|(_, name)| name.to_string()).collect();
            if !is_head {
                list.rows.push(row(&head, &record, line)?);
            }
            columns = Some(head);
            continue;
        };
        let row = row(columns, &record, line)?;
        if let (Some(group), Some(split)) = (&row.group, row.split) {
            let (before, at) = *splits.entry(group.clone()).or_insert((split, line));
            if before != split {
                return Err(Error::new(format!(
                    "line {line}: group '{group}' is in {split}, but in {before} on line {at}"
                ))
                .advice("Keep a group in one split, or the test measures what training has seen."));
            }
        }
        list.rows.push(row);
    }
    if list.rows.is_empty() {
        return Err(Error::new("no pictures in the list").advice("Write a line path,label for each picture."));
    }
    Ok(list)
}

/// The columns, and whether the record names them.
fn heading(record: &csv::StringRecord) -> Result<(Vec<Column>, bool)> {
    let names: Vec<String> = record.iter().map(str::to_lowercase).collect();
    if !names.iter().any(|name| name == "path") {
        if names.len() == 2 {
            return Ok((vec![Column::Path, Column::Label], false));
        }
        return Err(Error::new(format!("line 1: {} columns, and none is called 'path'", names.len()))
            .advice("Begin the list with a line that names the columns: path,label and optionally split,group."));
    }
    if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        return Err(Error::new(format!("line 1: two columns are called '{}'", twice.1)).advice("Rename one."));
    }
    let has = |name: &str| names.iter().any(|other| other == name);
    if has("label") && has("labels") {
        return Err(Error::new("line 1: the columns 'label' and 'labels' at once")
            .advice("Keep label for one class a picture, labels for any number of them."));
    }
    let has_label = has("label") || has("labels");
    let column = |name: &String| match name.as_str() {
        "path" => Column::Path,
        "label" => Column::Label,
        "labels" => Column::Labels,
        "split" => Column::Split,
        "group" => Column::Group,
        _ if has_label => Column::Other,
        _ => Column::Target,
    };
    let columns: Vec<Column> = names.iter().map(column).collect();
    if !columns.iter().any(|column| matches!(column, Column::Label | Column::Labels | Column::Target)) {
        return Err(Error::new("line 1: no column 'label', and none of numbers to learn")
            .advice("Add a column label with class names, or columns of numbers for regression."));
    }
    Ok((columns, true))
}

fn row(columns: &[Column], record: &csv::StringRecord, line: u64) -> Result<Row> {
    if record.len() != columns.len() {
        return Err(Error::new(format!("line {line}: {} fields, the first line has {}", record.len(), columns.len()))
            .advice("Put names with commas into \"quotes\"."));
    }
    let mut row = Row { line, path: String::new(), labels: vec![], targets: vec![], split: None, group: None };
    for (column, field) in columns.iter().zip(record) {
        match column {
            Column::Path => row.path = field.into(),
            Column::Label => {
                row.labels = Some(field).filter(|label| !label.is_empty()).map(String::from).into_iter().collect()
            }
            Column::Labels => row.labels = several(field).map_err(|error| error.at(format!("line {line}")))?,
            Column::Split => {
                row.split = Some(field.parse().map_err(|error: Error| error.at(format!("line {line}")))?);
            }
            Column::Group => row.group = Some(field).filter(|group| !group.is_empty()).map(String::from),
            Column::Target => match field.parse::<f32>() {
                Ok(value) if value.is_finite() => row.targets.push(value),
                _ => {
                    return Err(Error::new(format!("line {line}: '{field}' is not a finite number"))
                        .advice("Write numbers to learn, or name the column of class names 'label'."));
                }
            },
            Column::Other => {}
        }
    }
    let has_label = columns.iter().any(|column| matches!(column, Column::Label));
    if row.path.is_empty() || has_label && row.labels.is_empty() {
        let what = if row.path.is_empty() { "path" } else { "label" };
        return Err(Error::new(format!("line {line}: the {what} is empty")).advice("Fill it in, or remove the line."));
    }
    // A list that somebody else made must not reach out of its folder unseen.
    let climbs = Path::new(&row.path).components().scan(0i32, |depth, part| {
        *depth += match part {
            Component::ParentDir => -1,
            Component::Normal(_) => 1,
            _ => 0,
        };
        Some(*depth)
    });
    if !Path::new(&row.path).is_absolute() && climbs.min() < Some(0) {
        return Err(Error::new(format!("line {line}: '{}' leaves the folder of the list", row.path))
            .advice("Move the list above its pictures, or write absolute paths."));
    }
    Ok(row)
}

/// The class names of a picture; none of an empty field.
fn several(field: &str) -> Result<Vec<String>> {
    let names: Vec<String> = field.split('|').map(|name| name.trim().to_owned()).collect();
    if field.is_empty() {
        return Ok(Vec::new());
    }
    if names.iter().any(String::is_empty) {
        return Err(Error::new(format!("a class without a name in '{field}'"))
            .advice("Write a | between two names only; of a picture without a class leave the field empty."));
    }
    match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        Some((_, twice)) => Err(Error::new(format!("the class '{twice}' twice")).advice("Name each class once.")),
        None => Ok(names),
    }
}

/// Opens a list. Classes are sorted by name, pictures stay in the order of the list.
pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Dataset> {
    let bytes = super::decode::read_bytes(path)?;
    let list = parse_csv(&bytes).map_err(|error| error.at(path.display()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let regression = !list.targets.is_empty();
    let classes: BTreeSet<String> = list.rows.iter().flat_map(|row| row.labels.iter().cloned()).collect();
    if !regression && classes.is_empty() {
        return Err(Error::new(format!("{}: no picture has a class", path.display()))
            .advice("Write class names into the column labels, with | between."));
    }
    let classes: Vec<String> = classes.into_iter().collect();
    let (mut items, mut missing) = (Vec::new(), 0);
    for row in list.rows {
        let file = folder.join(&row.path);
        if !file.is_file() {
            if !options.skip_bad {
                return Err(Error::new(format!(
                    "{}: line {}: there is no file {}",
                    path.display(),
                    row.line,
                    file.display()
                ))
                .advice("Paths are relative to the list. --skip-bad leaves such lines out."));
            }
            missing += 1;
            continue;
        }
        // Sorted, and the labels are among them. Splits are carved by the first one; a picture without any has a number
        // of its own.
        let first = row.labels.iter().min();
        let label = first.map_or(classes.len(), |first| classes.partition_point(|class| class < first)) as u32;
        let has = |class: &String| f32::from(row.labels.contains(class));
        items.push(Item {
            source: Source::File(file),
            label: if regression { 0 } else { label },
            targets: if list.multi_label { classes.iter().map(has).collect() } else { row.targets },
            group: row.group,
            split: row.split,
        });
    }
    if items.is_empty() {
        return Err(Error::new(format!("{}: none of the {missing} pictures is there", path.display()))
            .advice("Paths are relative to the list."));
    }
    let mut data = Dataset::assemble(path, classes, list.targets, items, options)?;
    data.multi_label = list.multi_label;
    if missing > 0 {
        data.notes.push(format!("{} left out because of files that are not there", counted(missing, "line")));
    }
    Ok(data)
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
