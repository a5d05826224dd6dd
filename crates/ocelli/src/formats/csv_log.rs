//! A CSV file that grows by a row at a time, and forgets rows when a run goes back to its checkpoint.

use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::write_atomically;
use crate::{Error, Result};

/// A CSV file whose first column is a rising number: a step or an epoch.
pub struct CsvLog {
    path: PathBuf,
    writer: csv::Writer<BufWriter<File>>,
}

impl CsvLog {
    /// Opens the log `path`, new with `header` or with the rows up to the number `last` that it has.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, header: &[&str], last: u64) -> Result<CsvLog> {
        let kept = match File::open(path) {
            Ok(file) => rows_until(file, last),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(path, error)),
        };
        write_atomically(path, |file| {
            let mut writer = csv::Writer::from_writer(file);
            writer.write_record(header)?;
            kept.iter().try_for_each(|row| writer.write_record(row))?;
            writer.flush()
        })?;
        let file = OpenOptions::new().append(true).open(path).map_err(|error| Error::io(path, error))?;
        Ok(CsvLog { path: path.to_path_buf(), writer: csv::Writer::from_writer(BufWriter::new(file)) })
    }

    /// Adds a row.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, row: I) -> Result<()> {
        self.writer.write_record(row).map_err(|error| Error::io(&self.path, error.into()))
    }

    /// Hands everything written so far to the system.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| Error::io(&self.path, error))
    }
}

/// The whole rows whose first column is at most `last`. What a killed process left half-written is dropped: a row counts
/// only if it has all columns and the file goes on after it or ends in a line break.
fn rows_until(mut file: File, last: u64) -> Vec<csv::StringRecord> {
    let mut text = String::new();
    let whole = match std::io::Read::read_to_string(&mut file, &mut text) {
        Ok(_) => text.rfind('\n').map_or("", |end| &text[..=end]),
        Err(_) => "",
    };
    let number = |row: &csv::StringRecord| row.get(0).and_then(|first| first.parse::<u64>().ok());
    csv::Reader::from_reader(whole.as_bytes())
        .into_records()
        .map_while(|row| row.ok())
        .take_while(|row| number(row).is_some_and(|number| number <= last))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_after_the_checkpoint_and_half_rows_are_dropped_on_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.csv");
        let mut log = CsvLog::open(&path, &["step", "loss"], 0).unwrap();
        for step in 1..=5 {
            log.row([step.to_string(), format!("{}", 0.1f32 * step as f32)]).unwrap();
        }
        log.flush().unwrap();
        drop(log);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("6,0.");
        std::fs::write(&path, text).unwrap();

        let mut log = CsvLog::open(&path, &["step", "loss"], 3).unwrap();
        log.row(["4".into(), "0.5".into()]).unwrap();
        log.flush().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "step,loss\n1,0.1\n2,0.2\n3,0.3\n4,0.5\n".replace("0.3\n", &format!("{}\n", 0.1f32 * 3.0))
        );
        drop(CsvLog::open(&path, &["step", "loss"], 9).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 5);
    }

    #[test]
    fn a_whole_row_without_a_line_break_may_be_half_a_number_and_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.csv");
        std::fs::write(&path, "step,loss\n1,0.25\n2,0.1").unwrap();
        drop(CsvLog::open(&path, &["step", "loss"], 9).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "step,loss\n1,0.25\n");
    }
}
