//! Sizes: what a layer hands on, padding, the output-size arithmetic with errors that teach, receptive fields.
//!
//! Output size = floor((N − F + P) / S) + 1: N the input's rows or columns, F the window's, P the padding of both sides,
//! S the stride.

use crate::{Error, Result};
use ocelli_kernels::geometry::Window;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// Largest number of channels, units, rows or columns.
pub const MAX_SIZE: usize = 1 << 24;
/// Largest kernel, stride, dilation or padding, so that dilation · kernel stays far below any overflow.
pub const MAX_WINDOW: usize = 32_767;
/// Most values that one picture's activation, or a net's parameters together, may have: 8 GiB of `f32`.
pub const MAX_VALUES: u64 = 1 << 31;

/// What a layer hands to the next one, for one picture. Printed as height x width x channels, as the field does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Feature maps: channels, height, width.
    Map([usize; 3]),
    /// A row of values.
    Flat(usize),
}

impl Shape {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }
    /// Whether there is no value; no layer makes such a shape.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Channels of maps, values of a row.
    pub fn channels(&self) -> usize {
        self.dims()[0]
    }
    /// `[channels, height, width]` or `[values]`.
    pub fn dims(&self) -> &[usize] {
        match self {
            Shape::Map(dims) => dims,
            Shape::Flat(n) => std::slice::from_ref(n),
        }
    }
    /// Rows and columns of maps.
    pub fn size(&self) -> Option<[usize; 2]> {
        match self {
            Shape::Map([_, h, w]) => Some([*h, *w]),
            Shape::Flat(_) => None,
        }
    }
    /// Channels, rows and columns, or the error that says where maps end.
    pub fn map(&self) -> Result<[usize; 3]> {
        match self {
            Shape::Map(dims) => Ok(*dims),
            Shape::Flat(n) => Err(Error::new(format!("needs feature maps, but its input is a row of {n} values"))
                .advice("Put it before the first linear or flatten layer.")),
        }
    }
    /// The same shape with other channels (or another number of values).
    pub fn with_channels(&self, channels: usize) -> Shape {
        match *self {
            Shape::Map([_, h, w]) => Shape::Map([channels, h, w]),
            Shape::Flat(_) => Shape::Flat(channels),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Shape::Map([c, h, w]) => write!(f, "{h}x{w}x{c}"),
            Shape::Flat(n) => write!(f, "{n}"),
        }
    }
}

/// Rows and columns that are added around a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// None.
    #[default]
    Valid,
    /// The output has ceil(N/S) rows and columns; the odd pixel goes to the bottom and right.
    Same,
    /// dilation·(kernel − 1) on each side: every overlap of window and picture, however small.
    Full,
    /// The same on all four sides.
    All(usize),
    /// Top and bottom, left and right.
    Pair([usize; 2]),
    /// Top, left, bottom, right.
    Sides([usize; 4]),
}

impl Padding {
    /// Top, left, bottom and right for an input of `size` and a window whose own padding does not matter.
    pub fn resolve(&self, size: [usize; 2], window: &Window) -> [usize; 4] {
        let span = window.span();
        match *self {
            Padding::Valid => [0; 4],
            Padding::All(p) => [p; 4],
            Padding::Pair([h, w]) => [h, w, h, w],
            Padding::Sides(sides) => sides,
            Padding::Full => [span[0] - 1, span[1] - 1, span[0] - 1, span[1] - 1],
            Padding::Same => {
                let total = |i: usize| {
                    let outputs = size[i].div_ceil(window.stride[i]);
                    ((outputs - 1) * window.stride[i] + span[i]).saturating_sub(size[i])
                };
                let [h, w] = [total(0), total(1)];
                [h / 2, w / 2, h - h / 2, w - w / 2]
            }
        }
    }

    /// `window` with this padding for an input of `size`.
    pub fn apply(&self, size: [usize; 2], window: Window) -> Window {
        Window { padding: self.resolve(size, &window).map(|p| p as isize), ..window }
    }
}

impl From<usize> for Padding {
    fn from(all: usize) -> Padding {
        Padding::All(all)
    }
}
impl From<[usize; 2]> for Padding {
    fn from(pair: [usize; 2]) -> Padding {
        Padding::Pair(pair)
    }
}
impl From<[usize; 4]> for Padding {
    fn from(sides: [usize; 4]) -> Padding {
        Padding::Sides(sides)
    }
}

impl Serialize for Padding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Padding::Valid => serializer.serialize_str("valid"),
            Padding::Same => serializer.serialize_str("same"),
            Padding::Full => serializer.serialize_str("full"),
            Padding::All(p) => p.serialize(serializer),
            Padding::Pair(pair) => pair.serialize(serializer),
            Padding::Sides(sides) => sides.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Padding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Padding, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Padding;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(
                    f,
                    "padding as a number up to {MAX_WINDOW}, [height, width], [top, left, bottom, right], \"valid\", \"same\" or \"full\""
                )
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Padding, E> {
                match usize::try_from(n) {
                    Ok(n) if n <= MAX_WINDOW => Ok(Padding::All(n)),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(n), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Padding, E> {
                match word {
                    "valid" => Ok(Padding::Valid),
                    "same" => Ok(Padding::Same),
                    "full" => Ok(Padding::Full),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Padding, A::Error> {
                let mut numbers = Vec::new();
                while let Some(n) = seq.next_element::<i64>()? {
                    match usize::try_from(n) {
                        Ok(n) if n <= MAX_WINDOW && numbers.len() < 4 => numbers.push(n),
                        _ => return Err(de::Error::invalid_value(de::Unexpected::Signed(n), &self)),
                    }
                }
                match *numbers.as_slice() {
                    [h, w] => Ok(Padding::Pair([h, w])),
                    [top, left, bottom, right] => Ok(Padding::Sides([top, left, bottom, right])),
                    _ => Err(de::Error::invalid_length(numbers.len(), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `5x5`, or `3x5` for three rows and five columns.
pub fn rows_by_columns([h, w]: [usize; 2]) -> String {
    format!("{h}x{w}")
}

/// Output-size arithmetic of one dimension, for showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formula {
    /// N: rows or columns of the input.
    pub input: usize,
    /// F: rows or columns that the window spans, dilation included.
    pub span: usize,
    /// Padding at the top or left, and at the bottom or right.
    pub padding: [usize; 2],
    /// S.
    pub stride: usize,
    /// Rows or columns of the output; one more than the rounded formula where `ceil_mode` rounds up.
    pub output: usize,
}

impl Formula {
    /// The rows (`dimension` 0) or columns (1) of a window over an input of `size` giving `output`.
    pub fn new(size: [usize; 2], window: &Window, output: [usize; 2], dimension: usize) -> Formula {
        let side = |i: usize| window.padding[i].max(0) as usize;
        Formula {
            input: size[dimension],
            span: window.span()[dimension],
            padding: [side(dimension), side(dimension + 2)],
            stride: window.stride[dimension],
            output: output[dimension],
        }
    }

    /// N − F + P.
    fn room(&self) -> i64 {
        self.input as i64 - self.span as i64 + self.padding[0] as i64 + self.padding[1] as i64
    }
    /// Whether the strides end exactly at the picture's edge.
    pub fn is_whole(&self) -> bool {
        self.room() % self.stride as i64 == 0
    }
    /// Rows or columns of the picture, padding not counted, that no window ever covers at the bottom or right.
    pub fn never_seen(&self) -> usize {
        let covered = (self.output - 1) * self.stride + self.span;
        (self.input + self.padding[0]).saturating_sub(covered)
    }
}

/// `(28 - 5 + 2*2)/1 + 1 = 28`, `(7 - 3 + 2*0)/3 + 1 = 2.33`: the value before rounding.
impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Formula { input, span, padding: [before, after], stride, .. } = *self;
        let padding = if before == after { format!("2*{before}") } else { format!("{before} + {after}") };
        write!(f, "({input} - {span} + {padding})/{stride} + 1 = ")?;
        if self.room() < 0 || self.is_whole() {
            write!(f, "{}", self.room().div_euclid(stride as i64) + 1)
        } else {
            let value = format!("{:.2}", self.room() as f64 / stride as f64 + 1.0);
            f.write_str(value.trim_end_matches('0'))
        }
    }
}

/// What rounding down leaves out, in words; `None` where both divisions come out even.
pub fn rounding(rows: &Formula, columns: &Formula) -> Option<String> {
    if rows.is_whole() && columns.is_whole() {
        return None;
    }
    let words = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    Some(match (rows.never_seen(), columns.never_seen()) {
        (0, 0) => "only padding is left over".to_owned(),
        (n, 0) => format!("{} at the bottom {} never seen", words(n, "row"), if n == 1 { "is" } else { "are" }),
        (0, n) => format!("{} at the right {} never seen", words(n, "column"), if n == 1 { "is" } else { "are" }),
        (r, c) => format!("{} and {} at the bottom and right are never seen", words(r, "row"), words(c, "column")),
    })
}

/// Output rows and columns of `window` (`kind` says whose: "kernel" or "pooling window") over an input of `size`.
///
/// # Errors
/// The window is larger than the padded input: the formula with the numbers, and which padding or kernel would do.
pub fn output_size(kind: &str, size: [usize; 2], window: &Window) -> Result<[usize; 2]> {
    if let Some(output) = window.output(size) {
        return Ok(output);
    }
    let span = window.span();
    let room: [usize; 2] =
        std::array::from_fn(|i| size[i] + (window.padding[i] + window.padding[i + 2]).max(0) as usize);
    let short = usize::from(span[0] <= room[0]);
    let formula = Formula::new(size, window, [0, 0], short);
    let kernel = rows_by_columns(window.kernel);
    let spans = if window.dilation == [1, 1] {
        String::new()
    } else {
        format!(" with dilation {} spans {} and", short_pair(window.dilation), rows_by_columns(span))
    };
    let largest: [usize; 2] =
        std::array::from_fn(|i| if room[i] == 0 { 0 } else { (room[i] - 1) / window.dilation[i] + 1 });
    let same = if window.stride == [1, 1] && span[0] == span[1] && span[0] % 2 == 1 {
        format!("padding {} (\"same\")", (span[0] - 1) / 2)
    } else {
        "padding \"same\"".to_owned()
    };
    Err(Error::new(format!("{kind} {kernel}{spans} does not fit its {} input: {formula}", rows_by_columns(size)))
        .advice(format!("Use {same} or a kernel of at most {}.", short_pair(largest))))
}

/// `3` for equal numbers, `3x5` for others.
pub fn short_pair(pair: [usize; 2]) -> String {
    if pair[0] == pair[1] { pair[0].to_string() } else { rows_by_columns(pair) }
}

/// The part of the picture that one output value sees, padding included, and how far it moves from one output to the
/// next (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptiveField {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Rows and columns between the fields of neighbouring outputs.
    pub jump: [usize; 2],
    /// Row and column of the picture where the field of output (0, 0) starts; negative in the padding.
    pub start: [isize; 2],
}

impl ReceptiveField {
    /// A pixel of the input sees itself.
    pub const PIXEL: ReceptiveField = ReceptiveField { size: [1, 1], jump: [1, 1], start: [0, 0] };

    /// What a window over such values sees.
    pub fn through(&self, window: &Window) -> ReceptiveField {
        let span = window.span();
        // Strides multiply up beyond any picture only in nets that no picture fits; such numbers just stay large.
        let grow = |i: usize| self.size[i].saturating_add((span[i] - 1).saturating_mul(self.jump[i]));
        let start = |i: usize| self.start[i].saturating_sub(window.padding[i].saturating_mul(self.jump[i] as isize));
        ReceptiveField {
            size: [grow(0), grow(1)],
            jump: std::array::from_fn(|i| self.jump[i].saturating_mul(window.stride[i]).min(isize::MAX as usize)),
            start: [start(0), start(1)],
        }
    }

    /// What a value sees that is made from both.
    pub fn union(&self, other: &ReceptiveField) -> ReceptiveField {
        let start: [isize; 2] = std::array::from_fn(|i| self.start[i].min(other.start[i]));
        let end = |f: &ReceptiveField, i: usize| f.start[i].saturating_add(f.size[i].min(isize::MAX as usize) as isize);
        ReceptiveField {
            size: std::array::from_fn(|i| end(self, i).max(end(other, i)).saturating_sub(start[i]).max(0) as usize),
            jump: std::array::from_fn(|i| self.jump[i].max(other.jump[i])),
            start,
        }
    }
}
