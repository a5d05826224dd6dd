//! What is wrong with a data set: damaged files, pictures that are there twice, leakage between splits.

use super::pictures::in_parallel;
use super::{Dataset, Picture, Preparation, Resize, Split};
use crate::Result;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// Hashes of near duplicates differ in at most this many of 64 bits.
const NEAR_BITS: u32 = 3;
/// Thumbnails of near duplicates differ by at most this share of their own contrast.
const NEAR_SHARE: f32 = 0.05;
/// A picture is compared with at most this many others that share a quarter of its hash.
const MAX_COMPARED: usize = 500;

/// What [`check`] found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Pictures looked at.
    pub pictures: usize,
    /// Pictures that cannot be read.
    pub corrupt: Vec<Corrupt>,
    /// Pictures with the same pixels, each with the first of them.
    pub duplicates: Vec<Twins>,
    /// Pictures that look the same: scaled, compressed anew, a little brighter.
    pub near_duplicates: Vec<Twins>,
    /// Height and width with their number of pictures, the most frequent first.
    pub sizes: Vec<([usize; 2], usize)>,
    /// Pictures of each class in train, val and test.
    pub classes: Vec<ClassCount>,
    /// What was said when the data was opened: carved splits, what was left out.
    pub notes: Vec<String>,
    /// What looks wrong, each with what to do: classes that a split lacks.
    pub warnings: Vec<[String; 2]>,
}

/// A picture that cannot be read.
#[derive(Debug, Serialize)]
pub struct Corrupt {
    /// Its name.
    pub picture: String,
    /// Its split.
    pub split: Split,
    /// Why.
    pub error: String,
}

/// One of two pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Twin {
    /// Its name.
    pub picture: String,
    /// Its split.
    pub split: Split,
    /// Its class; empty for regression.
    pub class: String,
}

/// Two pictures that are the same or look so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Twins {
    /// The one that comes first.
    pub first: Twin,
    /// The other.
    pub second: Twin,
    /// They are in different splits: what is tested was trained on.
    pub leak: bool,
    /// They have different classes: one of them is wrong.
    pub conflict: bool,
}

/// Pictures of a class.
#[derive(Debug, PartialEq, Serialize)]
pub struct ClassCount {
    /// Its name.
    pub class: String,
    /// To train.
    pub train: usize,
    /// To choose by.
    pub val: usize,
    /// Held out.
    pub test: usize,
}

/// What is kept of a picture to compare it.
struct Print {
    split: Split,
    position: usize,
    size: [usize; 2],
    /// SHA-256 of size and pixels.
    pixels: [u8; 32],
    /// A bit for each two neighbours of a 9 x 8 thumbnail: the left one is lighter (dHash).
    hash: u64,
    /// 16 x 16, minus its mean, and the mean distance from it.
    thumbnail: Vec<i16>,
    contrast: f32,
}

/// Reads every picture, on `workers` threads. Duplicates have the same pixels, whatever the file format. Near duplicates
/// have difference hashes (Krawetz, "Kind of like that", 2013) that differ in 3 of 64 bits at most and thumbnails that
/// differ little; pictures of one colour are left out of them.
///
/// # Errors
/// None for pictures that cannot be read: they are part of the report.
pub fn check(data: &Dataset, workers: usize) -> Result<Report> {
    let (print, grid) =
        (Preparation::new([16, 16], 1, Resize::Stretch)?, Preparation::new([8, 9], 1, Resize::Stretch)?);
    let mut jobs: Vec<(Split, usize)> =
        Split::ALL.into_iter().flat_map(|split| (0..data.len(split)).map(move |position| (split, position))).collect();
    let looked = in_parallel(&mut jobs, workers, |&mut (split, position)| {
        let look = || look(data.picture(split, position)?, split, position, &print, &grid);
        Some(look().map_err(|error| Corrupt {
            picture: data.picture_name(split, position),
            split,
            error: error.what().into(),
        }))
    });
    let (mut prints, mut corrupt) = (Vec::new(), Vec::new());
    for result in looked {
        match result {
            Ok(print) => prints.push(print),
            Err(bad) => corrupt.push(bad),
        }
    }
    let mut sizes: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    for print in &prints {
        *sizes.entry(print.size).or_default() += 1;
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    let counts = Split::ALL.map(|split| data.counts(split));
    let count = |(i, class): (usize, &String)| ClassCount {
        class: class.clone(),
        train: counts[0][i],
        val: counts[1][i],
        test: counts[2][i],
    };
    Ok(Report {
        pictures: jobs.len(),
        corrupt,
        duplicates: duplicates(data, &prints),
        near_duplicates: near_duplicates(data, &prints),
        sizes,
        classes: data.classes.iter().enumerate().map(count).collect(),
        notes: data.notes.clone(),
        warnings: data.warnings(),
    })
}

fn look(picture: Picture, split: Split, position: usize, print: &Preparation, grid: &Preparation) -> Result<Print> {
    let size = [picture.height, picture.width];
    // One channel, so that grey stored as colour is the same picture.
    let grey = picture.pixels.chunks_exact(3).all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2]);
    let picture = if picture.channels == 3 && grey { picture.with_channels(1) } else { picture };
    let mut hash = Sha256::new();
    hash.update(format!("{size:?} {}", picture.channels));
    hash.update(&picture.pixels);
    let picture = picture.with_channels(1);
    let small = print.frame(picture.clone())?.pixels;
    let mean = (small.iter().map(|&value| i32::from(value)).sum::<i32>() / small.len() as i32) as i16;
    let thumbnail: Vec<i16> = small.iter().map(|&value| i16::from(value) - mean).collect();
    let contrast = thumbnail.iter().map(|value| f32::from(value.abs())).sum::<f32>() / thumbnail.len() as f32;
    let cells = grid.frame(picture)?.pixels;
    let bits = cells.chunks_exact(9).flat_map(|row| row.windows(2).map(|pair| u64::from(pair[0] > pair[1])));
    let hash_bits = bits.fold(0, |hash, bit| hash << 1 | bit);
    Ok(Print { split, position, size, pixels: hash.finalize().into(), hash: hash_bits, thumbnail, contrast })
}

fn twins(data: &Dataset, first: &Print, second: &Print) -> Twins {
    let twin = |print: &Print| Twin {
        picture: data.picture_name(print.split, print.position),
        split: print.split,
        class: data.class_text(print.split, print.position),
    };
    let (first, second) = (twin(first), twin(second));
    Twins { leak: first.split != second.split, conflict: first.class != second.class, first, second }
}

fn duplicates(data: &Dataset, prints: &[Print]) -> Vec<Twins> {
    let mut first: HashMap<[u8; 32], &Print> = HashMap::new();
    let mut found = Vec::new();
    for print in prints {
        match first.get(&print.pixels) {
            Some(before) => found.push(twins(data, before, print)),
            None => {
                first.insert(print.pixels, print);
            }
        }
    }
    found
}

fn near_duplicates(data: &Dataset, prints: &[Print]) -> Vec<Twins> {
    let differ = |a: &Print, b: &Print| {
        let sum: f32 = a.thumbnail.iter().zip(&b.thumbnail).map(|(x, y)| f32::from((x - y).abs())).sum();
        sum / a.thumbnail.len() as f32 / a.contrast.min(b.contrast)
    };
    let near = |a: &Print, b: &Print| {
        (a.hash ^ b.hash).count_ones() <= NEAR_BITS && a.pixels != b.pixels && differ(a, b) <= NEAR_SHARE
    };
    // Hashes that differ in three bits share one of their four quarters.
    let mut buckets: HashMap<(usize, u16), Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (index, print) in prints.iter().enumerate().filter(|(_, print)| print.contrast >= 1.0) {
        let mut others: Vec<usize> = Vec::new();
        for quarter in 0..4 {
            let bucket = buckets.entry((quarter, (print.hash >> (16 * quarter)) as u16)).or_default();
            others.extend(bucket.iter().rev().take(MAX_COMPARED).filter(|&&other| near(&prints[other], print)));
            bucket.push(index);
        }
        others.sort_unstable();
        others.dedup();
        found.extend(others.into_iter().map(|other| twins(data, &prints[other], print)));
    }
    found
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
