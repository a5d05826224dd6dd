//! The pictures of a split, ready to be cut and scaled: decoded once and kept where they fit into memory.

use super::prepare::{MeanImage, Scale, Window};
use super::stream::Bytes;
use super::{Augment, Colours, Dataset, Picture, Preparation, Source, Split, decode};
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// Prepared pictures of at most this many bytes are kept; larger sets are decoded anew in every epoch.
const KEEP: usize = 512 << 20;
/// The mean and standard deviation of sets that are not kept are measured on at most this many pictures.
const MEASURE: usize = 4096;

/// How the pictures of a split are loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The augmentation that they are for; it decides the size that is kept.
    pub augment: Augment,
    /// Threads.
    pub workers: usize,
    /// Leaves out pictures that cannot be read.
    pub skip_bad: bool,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { augment: Augment::default(), workers: 1, skip_bad: false }
    }
}

/// The pictures of a split at the size that augmentation cuts its windows from, as bytes.
#[derive(Debug)]
pub struct Pictures {
    pub(super) data: Arc<Dataset>,
    pub(super) split: Split,
    pub(super) canvas: [usize; 2],
    geometry: Preparation,
    pub(super) kept: Option<Vec<u8>>,
    pub(super) skip_bad: bool,
    /// Positions in the split of the pictures that can be read.
    pub(super) usable: Vec<usize>,
    /// Pictures that cannot be read and were left out, in the order of the split.
    pub skipped: Vec<Error>,
}

impl Pictures {
    /// Prepares the pictures of a split. Sets of at most 512 MiB of prepared pictures are decoded here, once; of larger
    /// ones only the heads of files are read here, none in archives, whose list says that they are whole. A picture that turns
    /// out damaged later is an error of its batch, or missing from it with `skip_bad`.
    ///
    /// `preparation` gives the geometry; its mean and standard deviation are not used.
    ///
    /// # Errors
    /// The split is empty; a picture cannot be read and `skip_bad` is false; none can be read.
    pub fn load(
        data: &Arc<Dataset>,
        split: Split,
        preparation: &Preparation,
        options: &LoadOptions,
    ) -> Result<Pictures> {
        Pictures::load_keeping(data, split, preparation, options, KEEP)
    }

    /// As [`Pictures::load`], keeping at most `keep` bytes.
    pub(crate) fn load_keeping(
        data: &Arc<Dataset>,
        split: Split,
        preparation: &Preparation,
        options: &LoadOptions,
        keep: usize,
    ) -> Result<Pictures> {
        let &LoadOptions { augment, workers, skip_bad } = options;
        let n = data.len(split);
        if n == 0 {
            return Err(Error::new(format!("{}: the {split} split has no pictures", data.name)).advice(match split {
                Split::Test => "Use --split val, or add a test folder.",
                _ => "Check the folders with: ocelli data info DATA",
            }));
        }
        let canvas = preparation.canvas_size(&augment);
        let length = canvas[0] * canvas[1] * preparation.channels;
        let mut pictures = Pictures {
            data: Arc::clone(data),
            split,
            canvas,
            geometry: preparation.clone(),
            kept: None,
            skip_bad,
            usable: (0..n).collect(),
            skipped: Vec::new(),
        };
        let bad = if !augment.is_of_the_whole() && n.checked_mul(length).is_some_and(|bytes| bytes <= keep) {
            let mut kept = vec![0; n * length];
            let mut jobs: Vec<(usize, &mut [u8])> = kept.chunks_exact_mut(length).enumerate().collect();
            let bad = in_parallel(&mut jobs, workers, |(position, target)| {
                pictures
                    .decode(*position, None)
                    .map(|pixels| target.copy_from_slice(&pixels))
                    .err()
                    .map(|e| (*position, e))
            });
            pictures.kept = Some(kept);
            bad
        } else {
            in_parallel(&mut pictures.usable.clone(), workers, |position| match data.source(split, *position) {
                Source::Shard(..) => None,
                source => source.size().err().map(|error| (*position, error)),
            })
        };
        if let Some((_, first)) = bad.first()
            && (!skip_bad || bad.len() == n)
        {
            let what = format!("{} of {n} {split} pictures cannot be read; the first: {}", bad.len(), first.what());
            return Err(Error::new(what).advice("`ocelli data check DATA` lists them, --skip-bad leaves them out."));
        }
        // Both in the order of the split.
        pictures.usable.retain(|position| bad.binary_search_by_key(position, |(bad, _)| *bad).is_err());
        let skipped = bad.into_iter().map(|(_, error)| error).collect();
        Ok(Pictures { skipped, ..pictures })
    }

    /// The pictures that can be read.
    pub fn len(&self) -> usize {
        self.usable.len()
    }

    /// Never: a split without pictures is an error.
    pub fn is_empty(&self) -> bool {
        self.usable.is_empty()
    }

    /// Mean and standard deviation of each channel, of values in [0, 1], on `workers` threads. A channel that is the same
    /// everywhere has a standard deviation of 1, so that it can be divided by. Sets that are not kept in memory are
    /// measured on 4,096 pictures spread evenly. The sums are of whole numbers, so that no order changes a bit.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn statistics(&self, workers: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut positions = self.measured();
        let n = positions.len();
        let channels = self.geometry.channels;
        let sums = in_parallel(&mut positions, workers, |position| {
            let sums = self.bytes(*position).map(|pixels| {
                let mut sums = [(0u64, 0u64); 3];
                for pixel in pixels.chunks_exact(channels) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        sum.0 += u64::from(value);
                        sum.1 += u64::from(value) * u64::from(value);
                    }
                }
                sums
            });
            Some(sums)
        });
        let mut total = [(0u64, 0u64); 3];
        for sums in sums {
            for (total, sum) in total.iter_mut().zip(sums?) {
                *total = (total.0 + sum.0, total.1 + sum.1);
            }
        }
        let count = (n * self.canvas[0] * self.canvas[1]) as f64;
        let moments = total[..channels].iter().map(|&(sum, squares)| {
            let mean = sum as f64 / count / 255.0;
            let variance = squares as f64 / count / (255.0 * 255.0) - mean * mean;
            // Below half a grey level the difference of the two terms is rounding, not contrast.
            let std = if variance < 1e-6 { 1.0 } else { variance.sqrt() };
            (mean as f32, std as f32)
        });
        Ok(moments.unzip())
    }

    /// The colours of the pictures that [`Pictures::statistics`] measures.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn colours(&self, workers: usize) -> Result<Colours> {
        let mut all = Colours::default();
        for colours in in_parallel(&mut self.measured(), workers, |position| {
            let mut colours = Colours::default();
            Some(self.bytes(*position).map(|pixels| {
                colours.add(&pixels);
                colours
            }))
        }) {
            all.join(&colours?);
        }
        Ok(all)
    }

    /// The mean of each pixel in the middle, of the pictures that [`Pictures::statistics`] measures: AlexNet's mean image.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn mean_image(&self, workers: usize) -> Result<MeanImage> {
        let (size, channels) = (self.geometry.size, self.geometry.channels);
        let mut positions = self.measured();
        let share = positions.len().div_ceil(workers.max(1)).max(1);
        let mut jobs: Vec<&mut [usize]> = positions.chunks_mut(share).collect();
        let sums = in_parallel(&mut jobs, workers, |positions| {
            let mut sums = vec![0u64; size[0] * size[1] * channels];
            for &position in positions.iter() {
                let bytes = match self.bytes(position) {
                    Ok(bytes) => bytes,
                    Err(error) => return Some(Err(error)),
                };
                let middle = Window::centre(self.canvas, size).picture(&bytes, self.canvas, size, channels);
                sums.iter_mut().zip(middle.pixels).for_each(|(sum, value)| *sum += u64::from(value));
            }
            Some(Ok(sums))
        });
        let mut all = vec![0u64; size[0] * size[1] * channels];
        for sums in sums {
            all.iter_mut().zip(sums?).for_each(|(all, sum)| *all += sum);
        }
        Ok(MeanImage::new(&all, positions.len() as u64, channels))
    }

    /// The numbers of `n` pictures, spread evenly, as they are in evaluation; of all, if there are fewer.
    pub fn some<'a>(
        &'a self,
        preparation: &'a Preparation,
        n: usize,
    ) -> impl Iterator<Item = Result<Vec<f32>>> + use<'a> {
        let (n, size, scale) = (n.min(self.len()), preparation.size, Scale::new(preparation));
        (0..n).map(move |i| {
            let bytes = self.bytes(self.usable[i * self.len() / n])?;
            let mut numbers = vec![0.0; preparation.channels * size[0] * size[1]];
            scale.write(&bytes, self.canvas, Window::centre(self.canvas, size), size, &mut numbers);
            Ok(numbers)
        })
    }

    /// The positions that statistics look at.
    fn measured(&self) -> Vec<usize> {
        let n = self.len().min(if self.kept.is_some() { usize::MAX } else { MEASURE });
        (0..n).map(|i| self.usable[i * self.len() / n]).collect()
    }

    fn bytes(&self, position: usize) -> Result<Cow<'_, [u8]>> {
        self.bytes_of(position, None)
    }

    /// The prepared bytes of the picture at a position of the split, from those of its `file` if they were read.
    pub(super) fn bytes_of(&self, position: usize, file: Option<Bytes>) -> Result<Cow<'_, [u8]>> {
        let length = self.canvas[0] * self.canvas[1] * self.geometry.channels;
        match &self.kept {
            Some(kept) => Ok(kept[position * length..][..length].into()),
            None => Ok(self.decode(position, file)?.into()),
        }
    }

    /// The picture at a position of the split, of its own size.
    pub(super) fn whole(&self, position: usize, file: Option<Bytes>) -> Result<Picture> {
        Ok(self.picture(position, file)?.with_channels(self.geometry.channels))
    }

    fn picture(&self, position: usize, file: Option<Bytes>) -> Result<Picture> {
        let Some(file) = file else { return self.data.picture(self.split, position) };
        decode::decode(&file?).map_err(|error| error.at(self.data.picture_name(self.split, position)))
    }

    fn decode(&self, position: usize, file: Option<Bytes>) -> Result<Vec<u8>> {
        let picture = self.picture(position, file)?;
        let name = || self.data.picture_name(self.split, position);
        Ok(self.geometry.canvas(picture, self.canvas).map_err(|error| error.at(name()))?.pixels)
    }
}

/// What `work` says about each job, without the `None`s, in the order of the jobs.
pub(super) fn in_parallel<J: Send, R: Send>(
    jobs: &mut [J],
    workers: usize,
    work: impl Fn(&mut J) -> Option<R> + Sync,
) -> Vec<R> {
    // Whole ranges: neighbours on a disk are read one after the other.
    let share = jobs.len().div_ceil(workers.max(1)).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .chunks_mut(share)
            .map(|chunk| scope.spawn(move || chunk.iter_mut().filter_map(work).collect::<Vec<R>>()))
            .collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.flatten().collect()
    })
}

#[cfg(test)]
#[path = "pictures_tests.rs"]
mod tests;
