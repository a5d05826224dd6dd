//! Augmentation: changes of training pictures that keep their class. [`KINDS`] is the one list of them.

mod cut;
mod mix;
mod numbers;
mod pixels;
mod randaugment;

use super::prepare::{Preparation, Scale, Window};
use super::stream::Bytes;
use super::{Pca, Picture, Pictures};
use crate::error::did_you_mean;
use crate::{Error, Result};
use cut::Cut;
use numbers::Numbers;
use ocelli_kernels::math::exp_f64;
use ocelli_kernels::random::{self, Random};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A change that a picture may undergo.
pub struct Kind {
    /// As it is written.
    pub name: &'static str,
    /// The numbers that follow the name, each after a colon.
    pub values: &'static [Value],
    /// What it does, in a sentence.
    pub about: &'static str,
    does: Does,
}

/// A number of a change.
pub struct Value {
    /// What it is.
    pub name: &'static str,
    /// What it may be.
    pub range: [f32; 2],
    /// What it is where it is left out; without one it must be given.
    pub default: Option<f32>,
    /// Whether it is a whole number.
    whole: bool,
}

/// When a change comes, and how: kinds of one stage go in the order of the list.
enum Does {
    /// Chooses which part of the picture is seen, and whether mirrored.
    Cut(fn(&mut Cut, &[f32], &mut Random)),
    /// Changes the bytes of the part.
    Pixels(fn(&mut Picture, &[f32], &mut Random)),
    /// Changes the numbers, after mean and deviation.
    Numbers(fn(&mut Numbers, &[f32], &mut Random)),
    /// Mixes the other picture of a pair into this one; hands back how much of this one is left.
    Mix(fn(&mut mix::Pair, &[f32], &mut Random) -> f32),
}

const fn number(name: &'static str, least: f32, most: f32, default: f32) -> Value {
    Value { name, range: [least, most], default: Some(default), whole: false }
}

/// Larger paddings, shifts and holes than this would leave nothing of the picture.
const PIXELS: Value = Value { name: "pixels", range: [0.0, 1024.0], default: None, whole: true };

const fn kind(name: &'static str, values: &'static [Value], does: Does, about: &'static str) -> Kind {
    Kind { name, values, about, does }
}

/// Every change, in the order in which they are applied, whatever the order in which they are written.
pub const KINDS: [Kind; 16] = [
    kind("flip", &[], Does::Cut(cut::flip), "mirrors left and right, every other time"),
    kind(
        "alternating-flip",
        &[],
        Does::Cut(cut::alternating_flip),
        "mirrors each picture in every second epoch; which, is drawn for each picture",
    ),
    kind(
        "crop",
        &[PIXELS],
        Does::Cut(cut::crop),
        "a random window of the net's size of the covering picture, padded with black by so many pixels on each side",
    ),
    kind(
        "resized-crop",
        &[number("least area", 0.001, 1.0, 0.08)],
        Does::Cut(cut::resized_crop),
        "a part of the whole picture, of a share of its area and 3:4 to 4:3 in shape, scaled to the net's size",
    ),
    kind("shift", &[PIXELS], Does::Cut(cut::shift), "moves by up to so many pixels each way; black comes in"),
    kind(
        "rotate",
        &[Value { name: "degrees", range: [0.0, 180.0], default: None, whole: false }],
        Does::Pixels(pixels::rotate),
        "turns by up to so many degrees either way; black comes in",
    ),
    kind(
        "randaugment",
        &[
            Value { name: "changes", range: [1.0, 14.0], default: Some(2.0), whole: true },
            Value { name: "magnitude", range: [0.0, 30.0], default: Some(9.0), whole: true },
        ],
        Does::Pixels(randaugment::randaugment),
        "so many changes drawn from fourteen, all of one magnitude of 0 to 30",
    ),
    kind(
        "jitter",
        &[
            number("brightness", 0.0, 1.0, 0.4),
            number("contrast", 0.0, 1.0, 0.4),
            number("saturation", 0.0, 1.0, 0.4),
            number("hue", 0.0, 0.5, 0.1),
        ],
        Does::Pixels(pixels::jitter),
        "brightness, contrast and saturation times 1 ± up to so much, hue turned by up to so much of the circle",
    ),
    kind(
        "gray",
        &[number("share", 0.0, 1.0, 0.2)],
        Does::Pixels(pixels::gray),
        "takes the colour of a share of the pictures",
    ),
    kind(
        "blur",
        &[number("share", 0.0, 1.0, 0.5), number("most", 0.1, 20.0, 2.0)],
        Does::Pixels(pixels::blur),
        "blurs a share of the pictures by a Gaussian of 0.1 up to so many pixels",
    ),
    kind(
        "pca",
        &[number("deviation", 0.0, 10.0, 0.1)],
        Does::Numbers(numbers::pca),
        "colour noise along the principal components, times their standard deviations; the picture is then divided by \
         1 + deviation: AlexNet's program",
    ),
    kind(
        "pca-paper",
        &[number("deviation", 0.0, 10.0, 0.1)],
        Does::Numbers(numbers::pca_paper),
        "the same times the eigenvalues, of values in [0, 1], without the division: as AlexNet's paper writes it",
    ),
    kind(
        "erase",
        &[number("share", 0.0, 1.0, 0.25)],
        Does::Numbers(numbers::erase),
        "puts the mean in a random rectangle of a share of the pictures, 2 to 33 % of the area",
    ),
    kind(
        "cutout",
        &[PIXELS],
        Does::Numbers(numbers::cutout),
        "puts the mean in a square of this side around a random place; part of it may lie outside",
    ),
    kind(
        "mixup",
        &[number("alpha", 0.001, 100.0, 0.2)],
        Does::Mix(mix::mixup),
        "adds up pairs of pictures and their classes, in shares drawn from Beta(alpha, alpha)",
    ),
    kind(
        "cutmix",
        &[number("alpha", 0.001, 100.0, 1.0)],
        Does::Mix(mix::cutmix),
        "puts a rectangle of one picture of a pair into the other; its area, from Beta(alpha, alpha), is its class's share",
    ),
];

/// Of these only one can be.
const RIVALS: [[&str; 2]; 3] = [["flip", "alternating-flip"], ["crop", "resized-crop"], ["pca", "pca-paper"]];
/// The most numbers that a kind has.
const MOST: usize = 4;

/// What is done to training pictures, drawn anew for each (seed, epoch, sample). Written `flip,crop:4,erase:0.25`, or
/// `none`; [`KINDS`] lists what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augment {
    /// The numbers of each kind that is on.
    on: [Option<[f32; MOST]>; KINDS.len()],
}

/// What a change depends on, and nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub seed: u64,
    pub epoch: u64,
    pub sample: u64,
}

/// e^x without a mathematics library's bits.
fn exp(x: f64) -> f64 {
    if x > 0.0 { 1.0 / exp_f64(-x) } else { exp_f64(x) }
}

impl Key {
    fn random(&self, purpose: &str) -> Random {
        Random::new(self.seed, random::name(purpose), self.epoch, self.sample)
    }
}

impl Augment {
    /// Whether a kind is on.
    pub fn has(&self, name: &str) -> bool {
        self.steps().any(|(kind, _)| kind.name == name)
    }

    /// Whether windows are cut out of [`Preparation::cover`].
    pub(super) fn cuts(&self) -> bool {
        self.has("crop")
    }

    /// Whether it needs pictures as they are in their files.
    pub(super) fn is_of_the_whole(&self) -> bool {
        self.has("resized-crop")
    }

    /// Whether it follows the principal components of the colours.
    pub fn moves_colours(&self) -> bool {
        self.has("pca") || self.has("pca-paper")
    }

    /// Fails where a change is not for such data, which may have other targets than a class a picture.
    pub(super) fn check(&self, channels: usize, targets: Option<&str>) -> Result<()> {
        for (kind, _) in self.steps() {
            if let (Some(what), Does::Mix(_)) = (targets, &kind.does) {
                return Err(Error::usage(format!("augmentation {} for data with {what}", kind.name))
                    .advice("It mixes the classes of two pictures: leave it out."));
            }
            if channels == 1 && kind.name.starts_with("pca") {
                return Err(Error::usage(format!("augmentation {} for a net with 1 channel", kind.name))
                    .advice("It moves colours: leave it out, or take a net with input = [3, H, W]."));
            }
        }
        Ok(())
    }

    fn steps(&self) -> impl Iterator<Item = (&'static Kind, &[f32])> {
        KINDS.iter().zip(&self.on).filter_map(|(kind, on)| on.as_ref().map(|on| (kind, &on[..kind.values.len()])))
    }

    /// Writes the numbers of one augmented picture, of the bytes of its `file` if they were read.
    pub(super) fn write(
        &self,
        source: &Source,
        position: usize,
        file: Option<Bytes>,
        key: Key,
        out: &mut [f32],
    ) -> Result<()> {
        let &Source { pictures, preparation, scale, pca } = source;
        let size = preparation.size;
        let mut cut = Cut::new(key, pictures.canvas, size);
        let bytes = if self.is_of_the_whole() {
            let whole = pictures.whole(position, file)?;
            cut.canvas = [whole.height, whole.width];
            self.choose(&mut cut);
            let part = cut.scaled(whole)?;
            cut.canvas = size;
            part.pixels.into()
        } else {
            self.choose(&mut cut);
            pictures.bytes_of(position, file)?
        };
        let mut picture = None;
        for (kind, values) in self.steps() {
            if let Does::Pixels(change) = kind.does {
                let part = || cut.window.picture(&bytes, cut.canvas, size, preparation.channels);
                change(picture.get_or_insert_with(part), values, &mut key.random(kind.name));
            }
        }
        match picture {
            Some(picture) => scale.write(&picture.pixels, size, Window::default(), size, out),
            None => scale.write(&bytes, cut.canvas, cut.window, size, out),
        }
        let mut numbers = Numbers { values: out, size, std: &preparation.std, pca };
        for (kind, values) in self.steps() {
            if let Does::Numbers(change) = kind.does {
                change(&mut numbers, values, &mut key.random(kind.name));
            }
        }
        Ok(())
    }

    fn choose(&self, cut: &mut Cut) {
        let mut random = cut.key.random("augment");
        cut.coin = random.below(2) == 1;
        for (kind, values) in self.steps() {
            if let Does::Cut(change) = kind.does {
                change(cut, values, &mut random);
            }
        }
    }
}

/// Where the pictures of a loader come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub pictures: &'a Pictures,
    pub preparation: &'a Preparation,
    pub scale: &'a Scale,
    pub pca: &'a Pca,
}

impl Kind {
    /// How it is written, with every number.
    pub fn form(&self) -> String {
        let values = self.values.iter().map(|value| format!(":{}", value.default.unwrap_or(4.0)));
        std::iter::once(self.name.to_owned()).chain(values).collect()
    }

    fn parse(&self, part: &str, given: &[&str]) -> Result<[f32; MOST]> {
        if given.len() > self.values.len() {
            let most = crate::words::counted(self.values.len(), "number");
            return Err(Error::usage(format!("augmentation '{part}': {} takes {most}", self.name))
                .advice(format!("Write it as {}.", self.form())));
        }
        let mut values = [0.0; MOST];
        for (i, (value, slot)) in self.values.iter().zip(&mut values).enumerate() {
            let [least, most] = value.range;
            let number = match given.get(i) {
                Some(text) => text.parse::<f32>().ok(),
                None => value.default,
            };
            let number = number.filter(|n| (least..=most).contains(n) && (!value.whole || n.fract() == 0.0));
            *slot = number.ok_or_else(|| {
                let whole = if value.whole { "whole number" } else { "number" };
                Error::usage(format!("augmentation '{part}' needs {}: a {whole} from {least} to {most}", value.name))
                    .advice(format!("Write it as {}.", self.form()))
            })?;
        }
        Ok(values)
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
            let mut words = part.split(':');
            let name = words.next().unwrap_or_default();
            let Some(at) = KINDS.iter().position(|kind| kind.name == name) else {
                let meant = did_you_mean(name, KINDS.iter().map(|kind| kind.name));
                let meant = meant.map(|word| format!("Did you mean '{word}'? ")).unwrap_or_default();
                let forms: Vec<String> = KINDS.iter().map(Kind::form).collect();
                return Err(Error::usage(format!("no augmentation is written '{part}'"))
                    .advice(format!("{meant}Choose, with commas between, of {}; or none.", forms.join(", "))));
            };
            augment.on[at] = Some(KINDS[at].parse(part, &words.collect::<Vec<_>>())?);
        }
        match RIVALS.iter().find(|[one, other]| augment.has(one) && augment.has(other)) {
            Some([one, other]) => {
                Err(Error::usage(format!("augmentation with both {one} and {other}")).advice("Choose one of the two."))
            }
            None => Ok(augment),
        }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let part = |(kind, values): (&Kind, &[f32])| {
            let defaults =
                kind.values.iter().zip(values).rev().take_while(|(kind, value)| kind.default == Some(**value));
            let told = values.len() - defaults.count();
            let values = values[..told].iter().map(|value| format!(":{value}"));
            std::iter::once(kind.name.to_owned()).chain(values).collect::<String>()
        };
        let parts: Vec<String> = self.steps().map(part).collect();
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
pub(super) mod tests;
