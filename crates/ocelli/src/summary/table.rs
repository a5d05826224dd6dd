//! The table that `ocelli summary` prints.

use super::{Row, Summary};
use crate::shape::{Shape, rows_by_columns, short_pair};
use crate::words::{bytes, count};
use std::fmt;

const HEADINGS: [&str; 9] =
    ["layer", "what", "output", "output size", "parameters", "MACs", "connections", "sees / jump", "memory"];
/// Columns that hold numbers and stand to the right.
const RIGHT: [bool; 9] = [false, false, false, false, true, true, true, true, true];

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [c, h, w] = self.input;
        writeln!(f, "{}, input {} (height x width x channels)\n", self.name, Shape::Map([c, h, w]))?;
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(self.layers.iter().map(cells));
        f.write_str(&aligned(&rows, &RIGHT))?;
        writeln!(f)?;
        if !self.notes.is_empty() {
            self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
            writeln!(f)?;
        }
        let pictures = if self.batch == 1 { "1 picture".to_owned() } else { format!("a batch of {}", self.batch) };
        writeln!(f, "parameters    {} ({})", count(self.parameters), bytes(self.parameters * 4))?;
        writeln!(f, "MACs          {} a picture, multiply and add counted as one", count(self.macs))?;
        writeln!(f, "connections   {}", count(self.connections))?;
        writeln!(f, "activations   {} a picture", bytes(self.activation_bytes))?;
        let part =
            |needed: Option<usize>, what| needed.map_or(String::new(), |n| format!(", {} {what}", bytes(n as u64)));
        let (train, both) =
            (part(self.memory.train, "to train"), part(self.memory.train_and_evaluate, "with evaluation"));
        writeln!(f, "memory        about {} to infer{train}{both}, for {pictures}", bytes(self.memory.infer as u64))?;
        writeln!(f, "              and some 10 MB for the program")
    }
}

fn cells(row: &Row) -> [String; 9] {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let number = |n: u64| if n == 0 { "-".to_owned() } else { count(n) };
    let parameters = match (row.parameters, row.product.as_str()) {
        (0, _) => "-".to_owned(),
        (n, product) => format!("{product} = {}", count(n)),
    };
    let sees = match row.field {
        Some(field) => format!("{} / {}", short_pair(field.size), short_pair(field.jump)),
        None => "all".to_owned(),
    };
    let formula = match row.formulas {
        Some([rows, columns]) if rows == columns => rows.to_string(),
        Some([rows, columns]) => format!("{rows}; {columns}"),
        None => String::new(),
    };
    [
        row.name.clone(),
        what(row),
        row.output.to_string(),
        dash(formula),
        parameters,
        number(row.macs),
        number(row.connections),
        sees,
        bytes(row.activation_bytes),
    ]
}

/// `conv 5x5, stride 2, padding 1`; `lrn 5, k 2, alpha 1e-4`.
pub(super) fn what(row: &Row) -> String {
    let mut text = row.type_name.to_owned();
    if let Some(window) = &row.window {
        if window.kernel != [1, 1] || row.type_name != "pad" {
            text += &format!(" {}", rows_by_columns(window.kernel));
        }
        if window.stride != [1, 1] {
            text += &format!(", stride {}", short_pair(window.stride));
        }
        let [top, left, bottom, right] = window.padding;
        match window.padding {
            [0, 0, 0, 0] => {}
            [p, q, r, s] if p == q && q == r && r == s => text += &format!(", padding {p}"),
            _ => text += &format!(", padding [{top}, {left}, {bottom}, {right}]"),
        }
        if window.dilation != [1, 1] {
            text += &format!(", dilation {}", short_pair(window.dilation));
        }
        if row.groups > 1 {
            text += &format!(", {} groups", row.groups);
        }
    }
    if !row.numbers.is_empty() {
        text += &format!(" {}", row.numbers);
    }
    if !row.inputs.is_empty() {
        text += &format!(" ({})", row.inputs.join(", "));
    }
    text
}

/// Rows of cells as lines, two spaces between columns; `right` says which columns stand to the right.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], right: &[bool; N]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(right) {
            let cell = if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line += &cell;
            line += "  ";
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
