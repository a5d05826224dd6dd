//! Several views of a picture, whose answers are averaged when a model is judged or asked.

use super::Picture;
use super::prepare::{Preparation, Resize, Scale, Window};
use crate::{Error, Result};

/// Which views a network sees of each picture at test time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tta {
    /// The prepared picture and its mirror image: 2.
    Flip,
    /// The picture, moved by a pixel up and left, and down and right, and the mirror images: 6.
    Shift,
    /// The four corners and the centre of what the preparation covers, and their mirror images: 10, as AlexNet was judged.
    TenCrop,
    /// The centre of the picture at 1, 8/7 and 9/7 of the net's size (224, 256 and 288), and the mirror images: 6.
    MultiScale,
}

impl std::str::FromStr for Tta {
    type Err = Error;
    fn from_str(text: &str) -> Result<Tta> {
        match text {
            "flip" => Ok(Tta::Flip),
            "shift" => Ok(Tta::Shift),
            "ten-crop" => Ok(Tta::TenCrop),
            "multi-scale" => Ok(Tta::MultiScale),
            _ => Err(Error::usage(format!("no set of views is called '{text}'"))
                .advice("Choose flip, shift, ten-crop or multi-scale.")),
        }
    }
}

/// Windows of one canvas.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Views {
    /// How the canvas is made: its size is the canvas's.
    pub geometry: Preparation,
    /// What is cut out of it.
    pub windows: Vec<Window>,
}

impl Preparation {
    /// The views of a picture.
    ///
    /// # Errors
    /// There is nothing to cut crops from.
    pub(super) fn views(&self, tta: Option<Tta>) -> Result<Vec<Views>> {
        let size = self.size;
        let mirrored = |windows: &[Window]| {
            windows.iter().flat_map(|window| [*window, Window { flip: true, ..*window }]).collect::<Vec<_>>()
        };
        let centre = |canvas| Window::centre(canvas, size);
        let plain = Preparation { mean_image: None, ..self.clone() };
        let at = |canvas: [usize; 2]| Preparation { size: canvas, cover: canvas, ..plain.clone() };
        Ok(match tta {
            None => vec![Views { geometry: plain, windows: vec![Window::default()] }],
            Some(Tta::Flip) => vec![Views { geometry: plain, windows: mirrored(&[Window::default()]) }],
            Some(Tta::Shift) => {
                let moved = [0, 1, -1].map(|by| Window { top: by, left: by, flip: false });
                vec![Views { geometry: plain, windows: mirrored(&moved) }]
            }
            Some(Tta::TenCrop) => {
                let canvas = self.cover;
                if self.resize != Resize::Crop || canvas == size {
                    let what =
                        format!("ten-crop of pictures that are prepared at the net's own {} x {}", size[0], size[1]);
                    return Err(Error::usage(what).advice(
                        "Train with --cover or --augment crop, which leave a border to cut from, or use --tta flip.",
                    ));
                }
                let [bottom, right] = [0, 1].map(|i| (canvas[i] - size[i]) as isize);
                let corner = |top, left| Window { top, left, flip: false };
                let corners =
                    [corner(0, 0), corner(0, right), corner(bottom, 0), corner(bottom, right), centre(canvas)];
                vec![Views { geometry: at(canvas), windows: mirrored(&corners) }]
            }
            Some(Tta::MultiScale) => [7, 8, 9]
                .map(|sevenths| {
                    let canvas = size.map(|side| (2 * side * sevenths + 7) / 14);
                    Views { geometry: at(canvas), windows: mirrored(&[centre(canvas)]) }
                })
                .into(),
        })
    }

    /// The numbers of every view of a picture, `[views, channels, height, width]`, and how many there are.
    ///
    /// # Errors
    /// The picture has no pixels, or there is nothing to cut crops from.
    pub fn numbers_of_views(&self, picture: &Picture, tta: Option<Tta>) -> Result<(usize, Vec<f32>)> {
        let (scale, length) = (Scale::new(self), self.channels * self.size[0] * self.size[1]);
        let (mut n, mut numbers) = (0, Vec::new());
        for Views { geometry, windows } in self.views(tta)? {
            let canvas = geometry.frame(picture.clone())?;
            for window in windows {
                numbers.resize((n + 1) * length, 0.0);
                scale.write(&canvas.pixels, geometry.size, window, self.size, &mut numbers[n * length..]);
                n += 1;
            }
        }
        Ok((n, numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey picture whose value tells the place: 10 · row + column.
    fn placed(height: usize, width: usize) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (10 * y + x) as u8)).collect();
        Picture { height, width, channels: 1, pixels }
    }

    fn seen(preparation: &Preparation, picture: &Picture, tta: Option<Tta>) -> Vec<Vec<u8>> {
        let (n, numbers) = preparation.numbers_of_views(picture, tta).unwrap();
        let views = numbers.chunks(numbers.len() / n);
        views.map(|view| view.iter().map(|value| (255.0 * value).round() as u8).collect()).collect()
    }

    #[test]
    fn ten_crops_are_the_corners_and_the_centre_and_their_mirror_images() {
        let preparation = Preparation::new([2, 2], 1, Resize::Crop).unwrap().covering([4, 4]).unwrap();
        let all = seen(&preparation, &placed(4, 4), Some(Tta::TenCrop));
        let firsts: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let expected: [&[u8]; 10] = [
            &[0, 1, 10, 11],
            &[1, 0, 11, 10],
            &[2, 3, 12, 13],
            &[3, 2, 13, 12],
            &[20, 21, 30, 31],
            &[21, 20, 31, 30],
            &[22, 23, 32, 33],
            &[23, 22, 33, 32],
            &[11, 12, 21, 22],
            &[12, 11, 22, 21],
        ];
        assert_eq!(firsts, expected);
        assert_eq!(seen(&preparation, &placed(4, 4), None), [[11, 12, 21, 22]], "the plain view is the centre");
        assert_eq!(seen(&preparation, &placed(4, 4), Some(Tta::Flip)), [[11, 12, 21, 22], [12, 11, 22, 21]]);
    }

    #[test]
    fn shifts_bring_in_black() {
        let preparation = Preparation::new([2, 2], 1, Resize::Stretch).unwrap();
        let all = seen(&preparation, &placed(2, 2), Some(Tta::Shift));
        assert_eq!(all, [[0, 1, 10, 11], [1, 0, 11, 10], [11, 0, 0, 0], [0, 11, 0, 0], [0, 0, 0, 0], [0; 4]]);
    }

    #[test]
    fn scales_are_whole_sevenths_of_the_nets_size() {
        let preparation = Preparation::new([224, 224], 3, Resize::Crop).unwrap();
        let views = preparation.views(Some(Tta::MultiScale)).unwrap();
        assert_eq!(views.iter().map(|views| views.geometry.size[0]).collect::<Vec<_>>(), [224, 256, 288]);
        assert_eq!(views[2].windows[1], Window { top: 32, left: 32, flip: true });
    }

    #[test]
    fn without_a_border_there_are_no_ten_crops() {
        let preparation = Preparation::new([4, 4], 1, Resize::Crop).unwrap().covering([4, 4]).unwrap();
        let error = preparation.views(Some(Tta::TenCrop)).unwrap_err();
        assert!(error.what().contains("ten-crop of pictures that are prepared at the net's own 4 x 4"), "{error}");
    }
}
