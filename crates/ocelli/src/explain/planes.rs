//! Small stacks of numbers as a person types them: `1 2;3 4` is two rows, `1 2;3 4|5 6;7 8` two channels.

use super::tiles;
use crate::data::Picture;
use crate::error::{Error, Result};
use crate::plot::Canvas;
use crate::words::counted;
use std::path::Path;

/// Channels of rows of numbers, `[channels, height, width]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    /// Channels.
    pub channels: usize,
    /// Rows and columns.
    pub size: [usize; 2],
    /// `channels · height · width` numbers.
    pub data: Vec<f64>,
}

impl Planes {
    /// Zeros.
    pub fn zeros(channels: usize, size: [usize; 2]) -> Planes {
        Planes { channels, size, data: vec![0.0; channels * size[0] * size[1]] }
    }

    /// Reads typed numbers: spaces or commas between columns, `;` between rows, `|` between channels.
    ///
    /// # Errors
    /// Something is no number, rows differ in length, or channels in size.
    pub fn parse(text: &str) -> Result<Planes> {
        let mut data = Vec::new();
        let mut size: Option<[usize; 2]> = None;
        let channels: Vec<&str> = text.trim().trim_end_matches([';', '|']).split('|').collect();
        for (c, channel) in channels.iter().enumerate() {
            let rows: Vec<&str> = channel.trim().trim_end_matches(';').split(';').collect();
            for (y, row) in rows.iter().enumerate() {
                let before = data.len();
                for word in row.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()) {
                    let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
                    let place = || format!("'{word}' in row {} of channel {} is not a number", y + 1, c + 1);
                    data.push(number.ok_or_else(|| Error::usage(place()).advice(HOW_TO_TYPE))?);
                }
                let columns = data.len() - before;
                let [height, width] = *size.get_or_insert([rows.len(), columns]);
                if columns != width || columns == 0 {
                    let columns = counted(columns, "number");
                    let what = format!("row {} of channel {} has {columns}, the first row has {width}", y + 1, c + 1);
                    let what = if width == 0 { "no numbers".to_owned() } else { what };
                    return Err(Error::usage(what).advice(HOW_TO_TYPE));
                }
                if rows.len() != height {
                    let rows = counted(rows.len(), "row");
                    let what = format!("channel {} has {rows}, the first channel has {height}", c + 1);
                    return Err(Error::usage(what).advice(HOW_TO_TYPE));
                }
            }
        }
        Ok(Planes { channels: channels.len(), size: size.unwrap_or_default(), data })
    }

    /// The numbers of one channel, row by row.
    pub fn channel(&self, channel: usize) -> &[f64] {
        let area = self.size[0] * self.size[1];
        &self.data[channel * area..(channel + 1) * area]
    }

    /// One number.
    pub fn at(&self, channel: usize, row: usize, column: usize) -> f64 {
        self.data[(channel * self.size[0] + row) * self.size[1] + column]
    }

    /// The numbers as nested rows, the shape that JSON readers expect.
    pub fn rows(&self, channel: usize) -> Vec<Vec<f64>> {
        self.channel(channel).chunks(self.size[1]).map(<[f64]>::to_vec).collect()
    }

    /// Zeros added around every channel: top, left, bottom, right.
    pub fn padded(&self, padding: [usize; 4]) -> Planes {
        let [top, left, bottom, right] = padding;
        let mut padded = Planes::zeros(self.channels, [self.size[0] + top + bottom, self.size[1] + left + right]);
        let width = padded.size[1];
        for (i, row) in self.data.chunks(self.size[1]).enumerate() {
            let (channel, y) = (i / self.size[0], i % self.size[0]);
            let start = (channel * padded.size[0] + top + y) * width + left;
            padded.data[start..start + row.len()].copy_from_slice(row);
        }
        padded
    }

    /// Writes the first channel as a grey PNG file. Values within 0 to 1 are shown as they are, others scaled: the smallest
    /// black, the largest white.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let values: Vec<f32> = self.channel(0).iter().map(|x| *x as f32).collect();
        let low = values.iter().copied().fold(0.0, f32::min);
        let high = values.iter().copied().fold(f32::MIN, f32::max);
        let high = if low == 0.0 && high <= 1.0 { 1.0 } else { high };
        let picture = tiles::grey(&values, self.size, low, high);
        let mut canvas = Canvas::new(picture.width(), picture.height(), [0; 3]);
        canvas.blit(0, 0, &picture, 1);
        canvas.save(path)
    }

    /// Each channel turned by 180 degrees: convolution as signal processing defines it is the sliding sum with the
    /// turned filter.
    pub fn turned(&self) -> Planes {
        let area = self.size[0] * self.size[1];
        Planes { data: self.data.chunks(area).flat_map(|plane| plane.iter().rev().copied()).collect(), ..*self }
    }
}

impl From<&Picture> for Planes {
    /// A picture's pixels, from 0 (black) to 1 (white).
    fn from(picture: &Picture) -> Planes {
        let Picture { height, width, channels, pixels } = picture;
        let plane =
            |channel: usize| pixels.iter().skip(channel).step_by(*channels).map(|pixel| f64::from(*pixel) / 255.0);
        Planes { channels: *channels, size: [*height, *width], data: (0..*channels).flat_map(plane).collect() }
    }
}

const HOW_TO_TYPE: &str =
    "Type numbers as \"1 2;3 4\": spaces between columns, ';' between rows, '|' between channels.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_channels_are_read_as_typed() {
        let planes = Planes::parse("1 2 3;4 5 6|-1,.5,2e1;0 0 0").unwrap();
        assert_eq!((planes.channels, planes.size), (2, [2, 3]));
        assert_eq!(planes.at(0, 1, 2), 6.0);
        assert_eq!(planes.channel(1), [-1.0, 0.5, 20.0, 0.0, 0.0, 0.0]);
        assert_eq!(
            planes.padded([0, 1, 1, 0]),
            Planes::parse("0 1 2 3;0 4 5 6;0 0 0 0|0 -1 .5 20;0 0 0 0;0 0 0 0").unwrap()
        );
        assert_eq!(planes.turned().channel(0), [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
    }

    #[test]
    fn uneven_rows_and_words_are_named() {
        let what = |text: &str| Planes::parse(text).unwrap_err().what().to_owned();
        assert_eq!(what("1 2;3"), "row 2 of channel 1 has 1 number, the first row has 2");
        assert_eq!(what("1 2;3 x"), "'x' in row 2 of channel 1 is not a number");
        assert_eq!(what("1 2;3 4|1 2"), "channel 2 has 1 row, the first channel has 2");
        assert_eq!(what(""), "no numbers");
    }
}
