//! Numbers and small tables as text.

pub use ocelli::words::{count, counted};

use ocelli::error::Error;
use std::io::{ErrorKind, Write};

/// Writes results to stdout. A reader that went away (`ocelli summary vgg16 | head`) ends the program quietly; results that
/// are lost for another reason, a full disk, are an error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("error: {}", Error::io("stdout", error));
            std::process::exit(1);
        }
    }
}

/// One line to stdout.
pub fn line(text: impl AsRef<str>) {
    print(&format!("{}\n", text.as_ref()));
}

/// One JSON object as a compact line.
pub fn json(value: &serde_json::Value) {
    line(value.to_string());
}

/// A number as a person writes it: whole ones without a point, others with four decimals at most.
pub fn number(value: f64) -> String {
    let text = if value == value.trunc() && value.abs() < 1e15 {
        format!("{value}")
    } else if value.abs() < 1e-3 || value.abs() >= 1e15 {
        format!("{value:.3e}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if text == "-0" { "0".to_owned() } else { text }
}

/// A time in words: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Rows of cells as lines, numbers to the right, columns two spaces apart.
pub fn grid(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        cells.join(" ")
    };
    rows.iter().map(line).collect()
}

/// A table with a header: the first `left` columns to the left, the others to the right.
pub fn table(header: &[&str], rows: &[Vec<String>], left: usize) -> String {
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            let cell = if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            line.push_str(if column > 0 { "  " } else { "" });
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Blocks of lines next to each other, each under its title.
pub fn side_by_side(blocks: &[(String, Vec<String>)]) -> String {
    let height = blocks.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0) + 1;
    let mut lines = vec![String::new(); height];
    for (title, block) in blocks {
        let width = block.iter().chain([title]).map(|line| line.chars().count()).max().unwrap_or(0);
        let empty = String::new();
        for (i, line) in lines.iter_mut().enumerate() {
            let cell = if i == 0 { title } else { block.get(i - 1).unwrap_or(&empty) };
            line.push_str(&format!("{cell:<width$}    "));
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A setting's value without quotes.
pub fn plain_value(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `3`, for flags whose value must be at least 1.
pub fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|value| *value > 0).ok_or_else(|| "a whole number of at least 1 is needed".to_owned())
}

/// Largest batch, stride, dilation and padding: far beyond any use, and sizes computed from them do not overflow.
pub const LARGEST: usize = 1_000_000;

/// `0.9`, a share or a probability.
pub fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}

/// `64`, pictures at a time.
pub fn batch(text: &str) -> Result<usize, String> {
    positive(text)
        .ok()
        .filter(|value| *value <= LARGEST)
        .ok_or_else(|| format!("a whole number from 1 to {} is needed", count(LARGEST as u64)))
}

/// `2` or `2,1` or `2x1`: rows and columns, at least 1 each.
pub fn pair(text: &str) -> Result<[usize; 2], String> {
    let part = |part: &str| match positive(part.trim())? {
        large if large > LARGEST => Err(format!("at most {}", count(LARGEST as u64))),
        value => Ok(value),
    };
    let parts: Vec<usize> = text.split([',', 'x']).map(part).collect::<Result<_, String>>()?;
    match parts[..] {
        [both] => Ok([both, both]),
        [rows, columns] => Ok([rows, columns]),
        _ => Err("one number, or two as ROWS,COLUMNS".to_owned()),
    }
}

/// `1,2`: a place counted from 0.
pub fn place(text: &str) -> Result<[usize; 2], String> {
    let parts: Vec<usize> = text.split(',').map_while(|part| part.trim().parse().ok()).collect();
    match parts[..] {
        [row, column] => Ok([row, column]),
        _ => Err("two numbers counted from 0 are needed, as ROW,COLUMN".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        let written = [27.0, -0.0, 0.5, 1.0 / 3.0, 2.0 / 3000.0, -12345.67891].map(number);
        assert_eq!(written, ["27", "0", "0.5", "0.3333", "6.667e-4", "-12345.6789"]);
        assert_eq!([0, 999, 1000, 61_100_840].map(count), ["0", "999", "1,000", "61,100,840"]);
    }

    #[test]
    fn times_are_told_in_words() {
        assert_eq!([0.44, 59.4, 200.0, 7500.0].map(duration), ["0.4 s", "59 s", "3 min 20 s", "2 h 5 min"]);
    }

    #[test]
    fn pairs_and_places_are_read() {
        assert_eq!(pair("2"), Ok([2, 2]));
        assert_eq!(pair("2,3"), Ok([2, 3]));
        assert_eq!(pair("28x32"), Ok([28, 32]));
        assert!(pair("0").is_err() && pair("1,2,3").is_err());
        assert_eq!(place("0,3"), Ok([0, 3]));
        assert!(place("0").is_err() && place("a,b").is_err());
    }
}
