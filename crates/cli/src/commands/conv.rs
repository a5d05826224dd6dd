//! `ocelli conv`: one convolution, worked out.

use crate::arguments::Globals;
use crate::text::{self, number};
use clap::Args;
use ocelli::data;
use ocelli::error::{Error, Result};
use ocelli::explain::named;
use ocelli::explain::planes::Planes;
use ocelli::explain::worked::{Window, Worked, formula, never_seen, terms, work};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One convolution worked out: each channel's intermediate result, their sum, the bias
#[derive(Args)]
#[command(after_help = after_help())]
pub struct Conv {
    /// Numbers as "1 2;3 4" (';' between rows, '|' between channels), or a picture file
    #[arg(long, value_name = "NUMBERS|FILE", allow_hyphen_values = true)]
    input: String,
    /// The filter's numbers, or its name
    #[arg(long, value_name = "NUMBERS|NAME", allow_hyphen_values = true)]
    filter: String,
    /// Added to every sum
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    bias: f64,
    /// Zeros around the input: valid (none), same, full, N, ROWS,COLUMNS or TOP,LEFT,BOTTOM,RIGHT
    #[arg(long, default_value = "valid", allow_hyphen_values = true)]
    padding: String,
    /// Step between two positions of the filter: N or ROWS,COLUMNS
    #[arg(long, default_value = "1", value_parser = text::pair)]
    stride: [usize; 2],
    /// Step between two elements of the filter: N or ROWS,COLUMNS
    #[arg(long, default_value = "1", value_parser = text::pair)]
    dilation: [usize; 2],
    /// Writes one output value out, counted from 0 [default: every value of a small output; of a picture the middle]
    #[arg(long, value_name = "ROW,COLUMN", value_parser = text::place)]
    at: Option<[usize; 2]>,
    /// Also shows convolution as signal processing defines it: with the filter turned by 180 degrees
    #[arg(long)]
    flip: bool,
    /// Writes the output as a PNG; values beyond 0 to 1 are scaled: the smallest black, the largest white
    #[arg(long, value_name = "FILE.png")]
    output: Option<PathBuf>,
}

fn after_help() -> String {
    let names: Vec<String> = named::names().map(|(name, what)| format!("  {name:<18} {what}")).collect();
    format!(
        "Filters with a name:\n{}\n\nExample: the lecture's 4x4 picture and 2x2 filter\n  \
         ocelli conv --input \"1 2 3 4;3 5 6 3;7 8 9 0;3 1 3 6\" --filter \"2 1;-1 2\" --bias 2",
        names.join("\n")
    )
}

/// Outputs of up to this many values are written out whole.
const SMALL: usize = 25;
/// Inputs of up to this many rows and columns are printed, with outputs of up to twice as many.
const PRINTED: usize = 16;

impl Conv {
    /// Works the convolution out and prints it.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        let filter = self.filter()?;
        let input = self.input(&filter)?;
        let window = self.window(&input, &filter)?;
        let worked = work(&input, &filter, self.bias, &window)?;
        let turned = match self.flip {
            true => Some(work(&input, &filter.turned(), self.bias, &window)?),
            false => None,
        };
        if let Some([row, column]) = self.at
            && (row >= worked.output.size[0] || column >= worked.output.size[1])
        {
            let [rows, columns] = worked.output.size;
            return Err(Error::usage(format!("--at {row},{column} lies outside the {rows}x{columns} output"))
                .advice("Rows and columns are counted from 0."));
        }
        if let Some(path) = &self.output {
            if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
                return Err(Error::usage(format!("--output {}: pictures are written as PNG", path.display()))
                    .advice("Give it a name that ends in .png."));
            }
            worked.output.save(path)?;
        }
        if globals.json {
            text::json(&self.as_json(&input, &filter, &worked, turned.as_ref()));
        } else {
            text::print(&self.as_text(&input, &filter, &worked, turned.as_ref()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Typed numbers; or a picture, in colour for filters of three channels, else in grey, with pixels from 0 to 1.
    fn input(&self, filter: &Planes) -> Result<Planes> {
        let path = Path::new(&self.input);
        let has_letters = self.input.chars().any(|c| c.is_ascii_alphabetic());
        let looks_typed = self.input.contains([';', '|'])
            || self.input.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
                && self.input.contains([' ', ',']);
        if path.exists() || has_letters && !looks_typed {
            return Ok(Planes::from(&data::read(path)?.with_channels(if filter.channels == 3 { 3 } else { 1 })));
        }
        Planes::parse(&self.input).map_err(|error| error.at("--input"))
    }

    fn filter(&self) -> Result<Planes> {
        let typed = Planes::parse(&self.filter);
        match self.filter.starts_with(|c: char| c.is_ascii_alphabetic()) {
            true => named::filter(&self.filter),
            false => typed.map_err(|error| error.at("--filter")),
        }
    }

    fn window(&self, input: &Planes, filter: &Planes) -> Result<Window> {
        let mut window = Window { stride: self.stride, dilation: self.dilation, ..Window::new(filter.size) };
        let span = window.span();
        let numbers: Vec<isize> = self.padding.split(',').map_while(|part| part.trim().parse().ok()).collect();
        window.padding = match (self.padding.as_str(), &numbers[..]) {
            ("valid", _) => [0; 4],
            ("full", _) => {
                let [rows, columns] = [span[0] as isize - 1, span[1] as isize - 1];
                [rows, columns, rows, columns]
            }
            ("same", _) => {
                // ceil(N/S) outputs; the odd row or column goes to the bottom and right.
                let total = |i: usize| {
                    let outputs = input.size[i].div_ceil(self.stride[i]);
                    ((outputs - 1) * self.stride[i] + span[i]).saturating_sub(input.size[i]) as isize
                };
                let [rows, columns] = [total(0), total(1)];
                [rows / 2, columns / 2, rows - rows / 2, columns - columns / 2]
            }
            (_, &[all]) => [all; 4],
            (_, &[rows, columns]) => [rows, columns, rows, columns],
            (_, &[top, left, bottom, right]) => [top, left, bottom, right],
            _ => [-1; 4],
        };
        if window.padding.iter().any(|side| !(0..=text::LARGEST as isize).contains(side)) {
            return Err(Error::usage(format!("--padding: '{}' is not possible", self.padding))
                .advice("Use valid, same, full, N, ROWS,COLUMNS or TOP,LEFT,BOTTOM,RIGHT."));
        }
        Ok(window)
    }

    /// The first lines: sizes and how the output's size comes about.
    fn sizes(&self, input: &Planes, filter: &Planes, window: &Window) -> String {
        let mut text = format!(
            "input {}, filter {}, stride {}, padding {}{}\n",
            size(input),
            size(filter),
            both(window.stride),
            sides(window.padding),
            if window.dilation == [1, 1] { String::new() } else { format!(", dilation {}", both(window.dilation)) },
        );
        for (axis, name) in ["rows", "columns"].into_iter().enumerate() {
            text.push_str(&format!("output {name:<8} {}", formula(input.size, window, axis)));
            let unseen = never_seen(input.size, window, axis);
            let one = if unseen == 1 { &name[..name.len() - 1] } else { name };
            text.push_str(&if unseen > 0 { format!("; {unseen} {one} never seen\n") } else { "\n".to_owned() });
        }
        text
    }

    /// Of pictures, what can be said without printing every number.
    fn large_text(&self, input: &Planes, filter: &Planes, worked: &Worked) -> String {
        let mut text = self.sizes(input, filter, &worked.window);
        if input.channels == 1 && Path::new(&self.input).is_file() {
            text.push_str("the picture is read in grey; a filter of 3 channels reads red, green and blue\n");
        }
        let middle = worked.output.size.map(|size| size / 2);
        let mut ranges = vec![("output", &worked.output, 0)];
        if input.channels > 1 {
            ranges.extend((0..input.channels).map(|channel| ("intermediate", &worked.intermediate, channel)));
        }
        for (name, planes, channel) in ranges {
            let values = planes.channel(channel);
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
            let of = if name == "output" { String::new() } else { format!(" {channel}") };
            text.push_str(&format!("{name}{of}: from {} to {}\n", number(low), number(high)));
        }
        text.push_str(&format!("\n{}", self.one_value(input, filter, worked, self.at.unwrap_or(middle))));
        match &self.output {
            Some(path) => text.push_str(&format!("\n{}\n", path.display())),
            None => text.push_str("\nAdd --output FILE.png to see it as a picture.\n"),
        }
        text
    }

    fn as_text(&self, input: &Planes, filter: &Planes, worked: &Worked, turned: Option<&Worked>) -> String {
        let most = |planes: &Planes| planes.size[0].max(planes.size[1]);
        if most(input) > PRINTED || most(&worked.output) > 2 * PRINTED {
            return self.large_text(input, filter, worked);
        }
        let window = &worked.window;
        let mut text = self.sizes(input, filter, window);
        let padded = input.padded(window.padding.map(|side| side.max(0) as usize));
        let input_title = if padded.size == input.size { "input" } else { "padded input" };
        let output_title = match self.bias {
            0.0 => "output".to_owned(),
            bias => format!("output = sum + {}", number(bias)),
        };
        let single = input.channels == 1;
        for channel in 0..input.channels {
            let name = |title: &str| if single { title.to_owned() } else { format!("{title} {channel}") };
            let mut blocks =
                vec![(name(input_title), numbers(&padded, channel)), (name("filter"), numbers(filter, channel))];
            if !single {
                blocks.push((name("intermediate"), numbers(&worked.intermediate, channel)));
            } else if self.bias != 0.0 {
                blocks.push(("sum".to_owned(), numbers(&worked.sum, 0)));
            }
            if single {
                blocks.push((output_title.clone(), numbers(&worked.output, 0)));
            }
            text.push_str(&format!("\n{}", text::side_by_side(&blocks)));
        }
        if !single {
            let mut blocks = vec![("sum of the channels".to_owned(), numbers(&worked.sum, 0))];
            if self.bias != 0.0 {
                blocks.push((output_title, numbers(&worked.output, 0)));
            }
            text.push_str(&format!("\n{}", text::side_by_side(&blocks)));
        }
        text.push('\n');
        let [rows, columns] = worked.output.size;
        let places: Vec<[usize; 2]> = match self.at {
            Some(at) => vec![at],
            None if rows * columns <= SMALL => (0..rows * columns).map(|i| [i / columns, i % columns]).collect(),
            None => vec![[rows / 2, columns / 2]],
        };
        for at in places {
            text.push_str(&self.one_value(input, filter, worked, at));
        }
        if let Some(turned) = turned {
            let blocks = [
                ("as networks compute it".to_owned(), numbers(&worked.output, 0)),
                ("filter, turned".to_owned(), numbers(&filter.turned(), 0)),
                ("as signal processing defines it".to_owned(), numbers(&turned.output, 0)),
            ];
            text.push_str(&format!("\n{}", text::side_by_side(&blocks)));
        }
        text
    }

    /// `output[0,0] = 1*2 + 2*1 + 3*-1 + 5*2 = 11`, with a line for each channel if there are several.
    fn one_value(&self, input: &Planes, filter: &Planes, worked: &Worked, at: [usize; 2]) -> String {
        let products = |channel: usize| {
            let terms = terms(input, filter, &worked.window, channel, at);
            let products: Vec<String> =
                terms.iter().map(|[pixel, weight]| format!("{}*{}", number(*pixel), number(*weight))).collect();
            products.join(" + ")
        };
        let [row, column] = at;
        let result = number(worked.output.at(0, row, column));
        let bias = if self.bias == 0.0 { String::new() } else { format!(" + bias {}", number(self.bias)) };
        if input.channels == 1 {
            return format!("output[{row},{column}] = {}{bias} = {result}\n", products(0));
        }
        let value = |channel: usize| number(worked.intermediate.at(channel, row, column));
        let parts: Vec<String> = (0..input.channels).map(value).collect();
        let mut text = format!("output[{row},{column}] = {}{bias} = {result}\n", parts.join(" + "));
        for channel in 0..input.channels {
            text.push_str(&format!("  channel {channel}: {} = {}\n", products(channel), value(channel)));
        }
        text
    }

    fn as_json(&self, input: &Planes, filter: &Planes, worked: &Worked, turned: Option<&Worked>) -> Value {
        let window = &worked.window;
        let channels = |planes: &Planes| (0..planes.channels).map(|channel| planes.rows(channel)).collect::<Vec<_>>();
        let mut value = json!({
            "schema": 1,
            "input": [input.channels, input.size[0], input.size[1]],
            "filter": channels(filter),
            "stride": window.stride,
            "padding": window.padding,
            "dilation": window.dilation,
            "rows": formula(input.size, window, 0),
            "columns": formula(input.size, window, 1),
            "never_seen": [never_seen(input.size, window, 0), never_seen(input.size, window, 1)],
            "intermediate": channels(&worked.intermediate),
            "sum": worked.sum.rows(0),
            "bias": self.bias,
            "output": worked.output.rows(0),
        });
        if let Some(turned) = turned {
            value["convolution"] = json!(turned.output.rows(0));
        }
        value
    }
}

fn size(planes: &Planes) -> String {
    let [height, width] = planes.size;
    if planes.channels == 1 { format!("{height}x{width}") } else { format!("{height}x{width}x{}", planes.channels) }
}

fn both([rows, columns]: [usize; 2]) -> String {
    if rows == columns { rows.to_string() } else { format!("{rows},{columns}") }
}

fn sides([top, left, bottom, right]: [isize; 4]) -> String {
    match (top == bottom && left == right, top == left) {
        (true, true) => top.to_string(),
        (true, false) => format!("{top},{left}"),
        _ => format!("{top},{left},{bottom},{right} (top, left, bottom, right)"),
    }
}

/// One channel's numbers as aligned lines.
fn numbers(planes: &Planes, channel: usize) -> Vec<String> {
    let rows = planes.channel(channel).chunks(planes.size[1]);
    text::grid(&rows.map(|row| row.iter().map(|value| number(*value)).collect()).collect::<Vec<_>>())
}
