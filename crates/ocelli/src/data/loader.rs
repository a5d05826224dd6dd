//! Batches, made by worker threads, delivered in order.

use super::augment::{Key, Source};
use super::prepare::{Preparation, Scale, Window};
use super::stream::{Bytes, Stream};
use super::{Augment, Dataset, LoadOptions, Order, Pca, Pictures, Split, Tta};
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
    /// Which pictures are in which batch; its seed is the augmentation's too.
    pub order: Order,
    /// What is changed at random; the same that the [`Pictures`] were loaded for.
    pub augment: Augment,
    /// Of the colours, for the augmentations that follow them.
    pub pca: Pca,
    /// Threads.
    pub workers: usize,
}

impl Default for TrainingOptions {
    fn default() -> TrainingOptions {
        TrainingOptions { order: Order::default(), augment: Augment::default(), pca: Pca::IMAGENET, workers: 1 }
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
    order: Order,
    augment: Option<Augment>,
    pca: Pca,
    /// What is cut from each canvas where nothing is augmented.
    windows: Vec<Window>,
}

impl Loader {
    /// Training batches: in random order, augmented. With several processes only the share of each batch that is this
    /// one's: mixup and cutmix mix inside it.
    ///
    /// # Errors
    /// One class only; a batch size above the number of pictures; pictures loaded for another augmentation; as
    /// [`Order::check`].
    pub fn training(pictures: &Arc<Pictures>, preparation: &Preparation, options: &TrainingOptions) -> Result<Loader> {
        let data = &pictures.data;
        if !data.has_targets() && data.counts(pictures.split).iter().filter(|&&n| n > 0).count() < 2 {
            return Err(Error::new(format!("{}: pictures of one class only ({})", data.name, data.classes.join(", ")))
                .advice("A classifier needs two classes at least: add a folder with pictures of something else."));
        }
        let (batch, n) = (options.order.batch_size, pictures.len());
        if batch > n {
            return Err(Error::usage(format!("a batch of {batch} of {n} {} pictures", pictures.split))
                .advice(format!("Choose --batch-size {n} or less.")));
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
        let order = Order { batch_size, shuffle: false, ..Order::default() };
        let options = TrainingOptions { order, workers, ..Default::default() };
        Loader::new(pictures, preparation, &options, None)
    }

    fn new(
        pictures: &Arc<Pictures>,
        preparation: &Preparation,
        options: &TrainingOptions,
        augment: Option<Augment>,
    ) -> Result<Loader> {
        options.order.check(&pictures.data, pictures.split)?;
        if augment.is_some_and(|augment| preparation.canvas_size(&augment) != pictures.canvas) {
            return Err(Error::new("the pictures were loaded for another augmentation or preparation")
                .advice("Load the pictures with the augmentation of the loader."));
        }
        let job = Job {
            pictures: Arc::clone(pictures),
            preparation: preparation.clone(),
            scale: Scale::new(preparation),
            order: options.order.clone(),
            augment,
            pca: options.pca,
            windows: vec![Window::centre(pictures.canvas, preparation.size)],
        };
        Ok(Loader { job: Arc::new(job), workers: options.workers.max(1) })
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
        self.len().div_ceil(self.job.order.batch_size)
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
        self.job.batch(positions, Vec::new(), epoch, Vec::new())
    }

    /// What a person should know of the order: what a shuffle buffer takes, and whether it mixes the classes.
    pub fn note(&self) -> Option<String> {
        let Pictures { data, split, usable, kept, .. } = &*self.job.pictures;
        self.job.order.note(data, *split, usable, kept.is_none())
    }

    /// The batches of an epoch from batch `first` on, in an order that (seed, epoch) fix. Workers stop when the iterator is
    /// dropped.
    pub fn epoch(&self, epoch: u64, first: usize) -> Batches {
        let job = &self.job;
        let Pictures { data, split, usable, .. } = &*job.pictures;
        let order: Arc<[usize]> = job.order.of(data, *split, usable, epoch).into();
        let last = self.batches();
        let workers = self.workers.min(last.saturating_sub(first));
        let (mut queues, mut threads, spare) = (Vec::new(), Vec::new(), Spare::default());
        let ahead = ahead(workers, job.batch_bytes());
        let done = &order[..job.order.batch(first, last, order.len()).start];
        let mut files = Stream::of(&job.pictures, &job.order, epoch, done).map(|stream| {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(1)).unzip();
            let (job, order) = (Arc::clone(job), Arc::clone(&order));
            threads.push(std::thread::spawn(move || stream.deal(&job.order, &order, first..last, &senders)));
            receivers.into_iter()
        });
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(ahead);
            let (job, order, spare) = (Arc::clone(job), Arc::clone(&order), Arc::clone(&spare));
            let files = files.as_mut().and_then(Iterator::next);
            threads.push(std::thread::spawn(move || {
                for batch in (first + worker..last).step_by(workers) {
                    let positions = &order[job.order.batch(batch, last, order.len())];
                    let Ok(files) = files.as_ref().map_or(Ok(Vec::new()), Receiver::recv) else { break };
                    let images = spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
                    // Nobody listens any more: the iterator was dropped.
                    if sender.send(job.batch(positions, files, epoch, images)).is_err() {
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
        self.order.batch_size * self.views() * self.preparation.channels * height * width * size_of::<f32>()
    }

    fn views(&self) -> usize {
        if self.augment.is_some() { 1 } else { self.windows.len() }
    }

    /// A batch of an epoch, from `files` as far as they were read; `images` is memory for its pictures, whatever is in it.
    fn batch(&self, positions: &[usize], files: Vec<Bytes>, epoch: u64, mut images: Vec<f32>) -> Result<Batch> {
        let (size, canvas) = (self.preparation.size, self.pictures.canvas);
        let view = self.preparation.channels * size[0] * size[1];
        let length = view * self.views();
        let (data, split) = (&self.pictures.data, self.pictures.split);
        let Job { pictures, preparation, scale, pca, .. } = self;
        let source = Source { pictures, preparation, scale, pca };
        let key = |position: usize| Key { seed: self.order.seed, epoch, sample: position as u64 };
        images.resize(positions.len() * length, 0.0);
        let mut batch = Batch { images, ..Batch::default() };
        let mut files = files.into_iter();
        for &position in positions {
            let file = files.next();
            let out = &mut batch.images[batch.n * length..][..length];
            let written = match &self.augment {
                Some(augment) => augment.write(&source, position, file, key(position), out),
                None => self.pictures.bytes_of(position, file).map(|bytes| {
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
