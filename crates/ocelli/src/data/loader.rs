//! Batches, made by worker threads, delivered in order.

use super::augment::{Key, Source};
use super::order::{Order, Sampling};
use super::prepare::{Preparation, Scale, Window};
use super::{Augment, Dataset, LoadOptions, Pca, Pictures, Split, Tta};
use crate::{Error, Result};
pub use ocelli_kernels::loss::Mixed;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Batches that wait for each worker, besides the one that it makes.
const AHEAD: usize = 2;
/// Bytes of pictures that all batches which are made or wait may take before fewer of them wait. Three batches of AlexNet's
/// 128 take 238 MB: up to four workers are not held back.
const AHEAD_BYTES: usize = 1 << 30;
/// Pictures whose sums are joined first (ARCHITECTURE.md, "The same bits"); a part of a batch has whole groups of them.
const GROUP: usize = 16;

/// Prepared pictures with what is to be learnt of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The number of pictures; the last batch of an epoch may be smaller.
    pub n: usize,
    /// `[n, channels, height, width]`; with several [views](Loader::views), `[n, views, channels, height, width]`.
    pub images: Vec<f32>,
    /// A class each; empty where there are targets.
    pub labels: Vec<u32>,
    /// For each picture another class with its share of the target, of which the label has the rest; empty where nothing
    /// is mixed.
    pub mixed: Vec<Mixed>,
    /// `[n, targets]` numbers, or `[n, classes]` with 1 for each class of a picture; empty for one class a picture.
    pub targets: Vec<f32>,
    /// Positions in the split.
    pub indices: Vec<usize>,
    /// Pictures that could not be read and were left out.
    pub skipped: Vec<Error>,
}

/// How training batches are made.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// Pictures of a batch.
    pub batch_size: usize,
    /// Of the order and the augmentation.
    pub seed: u64,
    /// A new random order in every epoch; else the order of the files.
    pub shuffle: bool,
    /// Which pictures an epoch has.
    pub sampling: Sampling,
    /// What is changed at random; the same that the [`Pictures`] were loaded for.
    pub augment: Augment,
    /// Of the colours, for the augmentations that follow them.
    pub pca: Pca,
    /// Threads.
    pub workers: usize,
}

impl Default for TrainingOptions {
    fn default() -> TrainingOptions {
        TrainingOptions {
            batch_size: 64,
            seed: 0,
            shuffle: true,
            sampling: Sampling::Plain,
            augment: Augment::default(),
            pca: Pca::IMAGENET,
            workers: 1,
        }
    }
}

/// Makes batches of the pictures of a split.
pub struct Loader {
    job: Arc<Job>,
    workers: usize,
}

struct Job {
    pictures: Arc<Pictures>,
    preparation: Preparation,
    scale: Scale,
    batch_size: usize,
    seed: u64,
    order: Order,
    augment: Option<Augment>,
    pca: Pca,
    part: [usize; 2],
    /// What is cut from each canvas where nothing is augmented.
    windows: Vec<Window>,
}

impl Loader {
    /// Training batches: in random order, augmented.
    ///
    /// # Errors
    /// One class only; a batch size of 0 or above the number of pictures; pictures loaded for another augmentation.
    pub fn training(pictures: &Arc<Pictures>, preparation: &Preparation, options: &TrainingOptions) -> Result<Loader> {
        let data = &pictures.data;
        if !data.has_targets() && data.counts(pictures.split).iter().filter(|&&n| n > 0).count() < 2 {
            return Err(Error::new(format!("{}: pictures of one class only ({})", data.name, data.classes.join(", ")))
                .advice("A classifier needs two classes at least: add a folder with pictures of something else."));
        }
        if options.batch_size > pictures.len() {
            let (batch, n) = (options.batch_size, pictures.len());
            return Err(Error::usage(format!("a batch of {batch} of {n} {} pictures", pictures.split))
                .advice(format!("Choose --batch-size {n} or less.")));
        }
        if options.sampling == Sampling::Balanced && (data.has_targets() || !options.shuffle) {
            let why = match (options.shuffle, data.multi_label) {
                (true, true) => "pictures of several classes each",
                (true, false) => "numbers in place of classes",
                (false, _) => "pictures in file order",
            };
            return Err(Error::usage(format!("sampling balanced of {why}")).advice("Leave one of the two out."));
        }
        options.augment.check(preparation.channels, data.other_targets())?;
        Loader::new(pictures, preparation, options, Some(options.augment))
    }

    /// Batches to evaluate: all pictures in file order, not augmented.
    ///
    /// # Errors
    /// A batch size of 0.
    pub fn evaluation(
        pictures: &Arc<Pictures>,
        preparation: &Preparation,
        batch_size: usize,
        workers: usize,
    ) -> Result<Loader> {
        let options = TrainingOptions { batch_size, shuffle: false, workers, ..Default::default() };
        Loader::new(pictures, preparation, &options, None)
    }

    fn new(
        pictures: &Arc<Pictures>,
        preparation: &Preparation,
        options: &TrainingOptions,
        augment: Option<Augment>,
    ) -> Result<Loader> {
        if options.batch_size == 0 {
            return Err(Error::usage("a batch of 0 pictures").advice("Choose --batch-size 1 or more."));
        }
        if augment.is_some_and(|augment| preparation.canvas_size(&augment) != pictures.canvas) {
            return Err(Error::new("the pictures were loaded for another augmentation or preparation")
                .advice("Load the pictures with the augmentation of the loader."));
        }
        let job = Job {
            pictures: Arc::clone(pictures),
            preparation: preparation.clone(),
            scale: Scale::new(preparation),
            batch_size: options.batch_size,
            seed: options.seed,
            order: Order { sampling: options.sampling, shuffle: options.shuffle, seed: options.seed },
            augment,
            pca: options.pca,
            part: [0, 1],
            windows: vec![Window::centre(pictures.canvas, preparation.size)],
        };
        Ok(Loader { job: Arc::new(job), workers: options.workers.max(1) })
    }

    /// Only the share of every batch that belongs to the process `rank` of `ranks`, counted from 0: whole groups of 16
    /// pictures. All shares together are the batch, in its order; one may be empty. Mixup and cutmix mix inside a share.
    pub fn part(mut self, rank: usize, ranks: usize) -> Loader {
        // Not shared with a worker before an epoch begins.
        if let Some(job) = Arc::get_mut(&mut self.job) {
            job.part = [rank, ranks.max(1)];
        }
        self
    }

    /// Batches of several views of each picture, which lie side by side: a loader for each canvas that they are cut from.
    /// All give the same pictures, in file order.
    ///
    /// # Errors
    /// As [`Pictures::load`] and [`Loader::evaluation`]; there is nothing to cut crops from.
    pub fn with_views(
        data: &Arc<Dataset>,
        split: Split,
        preparation: &Preparation,
        tta: Option<Tta>,
        batch_size: usize,
        load: &LoadOptions,
    ) -> Result<Vec<Loader>> {
        let one = |views: super::views::Views| {
            let pictures = Arc::new(Pictures::load(data, split, &views.geometry, load)?);
            let batch_size = batch_size.min(pictures.len());
            let mut loader = Loader::evaluation(&pictures, preparation, batch_size, load.workers)?;
            if let Some(job) = Arc::get_mut(&mut loader.job) {
                job.windows = views.windows;
            }
            Ok(loader)
        };
        preparation.views(tta)?.into_iter().map(one).collect()
    }

    /// Views of each picture in a batch.
    pub fn views(&self) -> usize {
        self.job.views()
    }

    /// Pictures of an epoch.
    pub fn len(&self) -> usize {
        self.job.pictures.len()
    }

    /// Never: a split without pictures is an error.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Batches of an epoch, the last of them perhaps smaller.
    pub fn batches(&self) -> usize {
        self.len().div_ceil(self.job.batch_size)
    }

    /// Whether a picture may have any number of classes.
    pub fn is_multi_label(&self) -> bool {
        self.job.pictures.data.multi_label
    }

    /// The split that is read.
    pub fn split(&self) -> Split {
        self.job.pictures.split
    }

    /// The pictures at these positions as they are in an epoch, in one batch of at most the loader's size.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn look(&self, positions: &[usize], epoch: u64) -> Result<Batch> {
        self.job.batch(positions, 0, epoch, Vec::new())
    }

    /// The batches of an epoch from batch `first` on, in an order that (seed, epoch) fix. Workers stop when the iterator is
    /// dropped.
    pub fn epoch(&self, epoch: u64, first: usize) -> Batches {
        let order: Arc<[usize]> = self.job.order.of(&self.job.pictures, epoch).into();
        let last = self.batches();
        let workers = self.workers.min(last.saturating_sub(first));
        let (mut queues, mut threads, spare) = (Vec::new(), Vec::new(), Spare::default());
        let ahead = ahead(workers, self.job.batch_bytes());
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(ahead);
            let (job, order, spare) = (Arc::clone(&self.job), Arc::clone(&order), Arc::clone(&spare));
            threads.push(std::thread::spawn(move || {
                for batch in (first + worker..last).step_by(workers) {
                    let images = spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
                    // Nobody listens any more: the iterator was dropped.
                    if sender.send(job.batch(&order, batch, epoch, images)).is_err() {
                        break;
                    }
                }
            }));
            queues.push(receiver);
        }
        Batches { queues, threads, spare, next: 0, left: last.saturating_sub(first) }
    }
}

/// Batches of so many bytes that wait for each of the workers: a worker has one more in its hands.
fn ahead(workers: usize, bytes: usize) -> usize {
    (AHEAD_BYTES / workers.saturating_mul(bytes).max(1)).saturating_sub(1).min(AHEAD)
}

impl Job {
    /// Bytes of a whole batch's pictures.
    fn batch_bytes(&self) -> usize {
        let [height, width] = self.preparation.size;
        self.batch_size * self.views() * self.preparation.channels * height * width * size_of::<f32>()
    }

    fn views(&self) -> usize {
        if self.augment.is_some() { 1 } else { self.windows.len() }
    }

    /// A batch of an epoch; `images` is memory for its pictures, whatever is in it.
    fn batch(&self, order: &[usize], batch: usize, epoch: u64, mut images: Vec<f32>) -> Result<Batch> {
        let start = batch * self.batch_size;
        let positions = &order[start..order.len().min(start + self.batch_size)];
        let [rank, ranks] = self.part;
        let cut = |rank: usize| (positions.len().div_ceil(GROUP) * rank / ranks * GROUP).min(positions.len());
        let positions = &positions[cut(rank)..cut(rank + 1)];
        let (size, canvas) = (self.preparation.size, self.pictures.canvas);
        let view = self.preparation.channels * size[0] * size[1];
        let length = view * self.views();
        let (data, split) = (&self.pictures.data, self.pictures.split);
        let Job { pictures, preparation, scale, pca, seed, .. } = self;
        let source = Source { pictures, preparation, scale, pca };
        let key = |position: usize| Key { seed: *seed, epoch, sample: position as u64 };
        images.resize(positions.len() * length, 0.0);
        let mut batch = Batch { images, ..Batch::default() };
        for &position in positions {
            let out = &mut batch.images[batch.n * length..][..length];
            let written = match &self.augment {
                Some(augment) => augment.write(&source, position, key(position), out),
                None => self.pictures.bytes(position).map(|bytes| {
                    let views = self.windows.iter().zip(out.chunks_exact_mut(view));
                    views.for_each(|(window, out)| self.scale.write(&bytes, canvas, *window, size, out));
                }),
            };
            match written {
                Ok(()) => {}
                Err(error) if self.pictures.skip_bad => {
                    batch.skipped.push(error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            batch.n += 1;
            batch.indices.push(position);
            if data.has_targets() {
                batch.targets.extend(data.target(split, position));
            } else {
                batch.labels.push(data.label(split, position));
            }
        }
        batch.images.truncate(batch.n * length);
        if let Some(augment) = &self.augment {
            augment.mix(&mut batch, size, key);
        }
        match batch.skipped.first() {
            Some(error) if batch.n == 0 => Err(error.clone().at("no picture of a batch can be read; the first")),
            _ => Ok(batch),
        }
    }
}

/// The pictures' memory of batches that were used.
type Spare = Arc<Mutex<Vec<Vec<f32>>>>;

/// The batches of an epoch, in order.
pub struct Batches {
    /// A queue for each worker; batches come from them in turn.
    queues: Vec<Receiver<Result<Batch>>>,
    threads: Vec<JoinHandle<()>>,
    spare: Spare,
    next: usize,
    left: usize,
}

impl Batches {
    /// Takes a batch that is no longer needed, for its memory: new pages for every batch cost a sixth of the loader's time.
    pub fn recycle(&self, batch: Batch) {
        if let Ok(mut spare) = self.spare.lock() {
            spare.push(batch.images);
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.left == 0 {
            return None;
        }
        let queue = &self.queues[self.next];
        self.next = (self.next + 1) % self.queues.len();
        self.left -= 1;
        // A worker that ended without its batch has panicked, which would be a defect of this library.
        Some(queue.recv().unwrap_or_else(|_| Err(Error::new("a data worker stopped").advice("Please report this."))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A panic has been reported by next().
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
