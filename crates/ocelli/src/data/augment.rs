//! Augmentation: small changes of training pictures that keep their class.

use super::prepare::{Preparation, Window};
use crate::error::did_you_mean;
use crate::{Error, Result};
use ocelli_kernels::random::{self, Random};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is done to training pictures, drawn anew for each (seed, epoch, sample). Written `flip,crop:4,shift:2`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augment {
    /// Mirrors left and right, every other time.
    pub flip: bool,
    /// Pads by this many black pixels on every side and takes a random window of the net's size. The window is cut from
    /// [`Preparation::cover`] if the picture is resized by [`Resize::Crop`](super::Resize::Crop): 224 of 256, as AlexNet
    /// (Krizhevsky et al. 2012), 24 of 28 with MNIST, 32 of 32 with CIFAR-10, where only the padding gives room.
    pub crop: Option<usize>,
    /// Moves by up to this many pixels in each direction; black comes in.
    pub shift: usize,
}

/// Larger paddings and shifts than this would leave nothing of the picture.
const MAX: usize = 1024;

impl Augment {
    /// The window for one sample of one epoch.
    pub(super) fn window(&self, preparation: &Preparation, seed: u64, epoch: u64, sample: u64) -> Window {
        let canvas = preparation.canvas_size(self);
        let mut window = Window::centre(canvas, preparation.size);
        let mut random = Random::new(seed, random::name("augment"), epoch, sample);
        window.flip = random.below(2) == 1 && self.flip;
        if let Some(padding) = self.crop {
            let mut start = |i: usize| {
                let room = canvas[i] + 2 * padding - preparation.size[i];
                random.below(room + 1) as isize - padding as isize
            };
            (window.top, window.left) = (start(0), start(1));
        }
        if self.shift > 0 {
            let mut by = || random.below(2 * self.shift + 1) as isize - self.shift as isize;
            (window.top, window.left) = (window.top + by(), window.left + by());
        }
        window
    }
}

impl FromStr for Augment {
    type Err = Error;
    fn from_str(text: &str) -> Result<Augment> {
        let mut augment = Augment::default();
        if text.trim() == "none" {
            return Ok(augment);
        }
        for part in text.split(',').map(str::trim) {
            let (name, value) = part.split_once(':').map_or((part, None), |(name, value)| (name, Some(value)));
            let pixels = || {
                value.and_then(|value| value.parse().ok()).filter(|&pixels| pixels <= MAX).ok_or_else(|| {
                    Error::usage(format!("augmentation '{part}' needs a number of pixels, 0 to {MAX}"))
                        .advice(format!("Write it as {name}:4."))
                })
            };
            match name {
                "flip" if value.is_none() => augment.flip = true,
                "crop" => augment.crop = Some(pixels()?),
                "shift" => augment.shift = pixels()?,
                _ => {
                    let meant = did_you_mean(name, ["flip", "crop", "shift"]);
                    let meant = meant.map(|word| format!("Did you mean '{word}'? ")).unwrap_or_default();
                    return Err(Error::usage(format!("no augmentation is written '{part}'"))
                        .advice(format!("{meant}Choose of flip, crop:P and shift:S, separated by commas, or none.")));
                }
            }
        }
        Ok(augment)
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let flip = self.flip.then(|| "flip".to_string());
        let crop = self.crop.map(|padding| format!("crop:{padding}"));
        let shift = (self.shift > 0).then(|| format!("shift:{}", self.shift));
        let parts: Vec<String> = [flip, crop, shift].into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "none".into() } else { parts.join(",") }.as_str())
    }
}

impl TryFrom<String> for Augment {
    type Error = Error;
    fn try_from(text: String) -> Result<Augment> {
        text.parse()
    }
}

impl From<Augment> for String {
    fn from(augment: Augment) -> String {
        augment.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Resize;
    use super::*;

    #[test]
    fn the_written_form_round_trips_and_slips_are_named() {
        for text in ["none", "flip", "crop:4", "flip,crop:0,shift:2"] {
            assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
        }
        let error = "flop".parse::<Augment>().unwrap_err();
        assert!(error.to_string().contains("Did you mean 'flip'?"), "{error}");
        assert!("crop".parse::<Augment>().unwrap_err().to_string().contains("crop:4"));
        assert!("shift:many".parse::<Augment>().is_err());
    }

    #[test]
    fn windows_reach_every_place_and_depend_on_seed_epoch_and_sample_only() {
        let augment: Augment = "flip,crop:1".parse().unwrap();
        let preparation = Preparation { cover: [4, 4], ..Preparation::new([4, 4], 1, Resize::Crop).unwrap() };
        let mut seen = std::collections::HashSet::new();
        for sample in 0..500 {
            let window = augment.window(&preparation, 1, 2, sample);
            assert_eq!(window, augment.window(&preparation, 1, 2, sample));
            assert!((-1..=1).contains(&window.top) && (-1..=1).contains(&window.left));
            seen.insert((window.top, window.left, window.flip));
        }
        assert_eq!(seen.len(), 3 * 3 * 2);
        let differ = |seed, epoch| {
            (0..100).any(|s| augment.window(&preparation, seed, epoch, s) != augment.window(&preparation, 1, 2, s))
        };
        assert!(differ(2, 2) && differ(1, 3));
    }

    #[test]
    fn crops_of_24_lie_inside_28() {
        let augment: Augment = "crop:0".parse().unwrap();
        let preparation = Preparation { cover: [28, 28], ..Preparation::new([24, 24], 1, Resize::Crop).unwrap() };
        let tops: std::collections::BTreeSet<isize> =
            (0..200).map(|sample| augment.window(&preparation, 0, 0, sample).top).collect();
        assert_eq!(tops, (0..=4).collect());
    }
}
