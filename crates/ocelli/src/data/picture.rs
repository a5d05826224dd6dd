//! Pictures of unsigned bytes.

/// A picture in memory: rows from the top, pixels from the left, channels last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `height * width * channels` values.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// The picture with `channels` channels: grey is repeated, colour becomes luma (ITU-R BT.601:
    /// 0.299 R + 0.587 G + 0.114 B), in integers.
    pub fn with_channels(self, channels: usize) -> Picture {
        let pixels = match (self.channels, channels) {
            (1, 3) => self.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            (3, 1) => self.pixels.chunks_exact(3).map(|rgb| luma([rgb[0], rgb[1], rgb[2]])).collect(),
            _ => return self,
        };
        Picture { channels, pixels, ..self }
    }

    /// The negative: dark becomes light.
    pub fn inverted(mut self) -> Picture {
        for value in &mut self.pixels {
            *value = 255 - *value;
        }
        self
    }

    /// The part of `height` × `width` in the middle; an odd rest is larger at the bottom and right.
    pub(super) fn centre(self, [height, width]: [usize; 2]) -> Picture {
        if [self.height, self.width] == [height, width] {
            return self;
        }
        let corner = [(self.height - height) / 2, (self.width - width) / 2];
        self.part(corner, [height, width])
    }

    /// The part of `height` × `width` that begins at `top` and `left`.
    pub(super) fn part(self, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Picture {
        let row = self.width * self.channels;
        let pixels = (top..top + height)
            .flat_map(|y| &self.pixels[y * row + left * self.channels..][..width * self.channels])
            .copied()
            .collect();
        Picture { height, width, pixels, ..self }
    }
}

/// ITU-R BT.601, rounded.
pub(super) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue) + 500) / 1000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_and_colour_convert() {
        let grey = Picture { height: 1, width: 2, channels: 1, pixels: vec![10, 200] };
        let colour = grey.clone().with_channels(3);
        assert_eq!(colour.pixels, [10, 10, 10, 200, 200, 200]);
        assert_eq!(colour.with_channels(1), grey);
        let primaries = Picture { height: 1, width: 3, channels: 3, pixels: vec![255, 0, 0, 0, 255, 0, 0, 0, 255] };
        assert_eq!(primaries.with_channels(1).pixels, [76, 150, 29]);
    }

    #[test]
    fn the_centre_keeps_the_middle() {
        let picture = Picture { height: 3, width: 4, channels: 1, pixels: (0..12).collect() };
        assert_eq!(picture.clone().centre([1, 2]).pixels, [5, 6]);
        assert_eq!(picture.centre([2, 3]).pixels, [0, 1, 2, 4, 5, 6]);
    }
}
