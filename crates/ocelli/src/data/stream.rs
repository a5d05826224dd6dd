//! Archives read from beginning to end: files of pictures are held until they are wanted.

use super::{Dataset, Order, Pictures, Shard, Source, Split};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Bytes that are asked of an archive at a time. A disk that takes 10 ms for a seek and reads 200 MB a second takes 5 ms for
/// them.
const READ: usize = 1 << 20;

/// The bytes of a picture in its archive.
pub(super) type Bytes = Result<Vec<u8>>;

/// Files of pictures, read in one order and taken in another.
pub(super) struct Stream {
    data: Arc<Dataset>,
    split: Split,
    /// Positions in the split in the order in which they are read.
    coming: std::vec::IntoIter<usize>,
    held: HashMap<usize, Bytes>,
    open: Option<(Arc<Shard>, BufReader<File>)>,
}

impl Stream {
    /// The files of an epoch's pictures but those that are `done`; `None` where pictures are in memory or read by their place.
    pub fn of(pictures: &Pictures, order: &Order, epoch: u64, done: &[usize]) -> Option<Stream> {
        let Pictures { data, split, usable, kept, .. } = pictures;
        if order.shuffle_buffer.is_none() || kept.is_some() {
            return None;
        }
        let done: HashSet<usize> = done.iter().copied().collect();
        let mut coming = order.stream(data, *split, usable, epoch);
        coming.retain(|position| !done.contains(position));
        let (data, coming) = (Arc::clone(data), coming.into_iter());
        Some(Stream { data, split: *split, coming, held: HashMap::new(), open: None })
    }

    /// Hands each of the workers in turn the files of its next batch, until nobody wants them any more.
    pub fn deal(
        mut self,
        order: &Order,
        positions: &[usize],
        batches: Range<usize>,
        workers: &[SyncSender<Vec<Bytes>>],
    ) {
        for (batch, worker) in batches.clone().zip(workers.iter().cycle()) {
            let positions = &positions[order.batch(batch, batches.end, positions.len())];
            if worker.send(positions.iter().map(|&position| self.take(position)).collect()).is_err() {
                break;
            }
        }
    }

    /// The file of a picture. Reads on until it has come; what comes before it is held.
    fn take(&mut self, position: usize) -> Bytes {
        while !self.held.contains_key(&position)
            && let Some(next) = self.coming.next()
        {
            let file = self.read(next);
            self.held.insert(next, file);
        }
        let gone = || Err(Error::new("a picture is taken from a stream twice").advice("Please report this."));
        self.held.remove(&position).unwrap_or_else(gone)
    }

    fn read(&mut self, position: usize) -> Bytes {
        let Source::Shard(shard, index) = self.data.source(self.split, position) else {
            return Err(Error::new("a stream of a picture that is in no archive").advice("Please report this."));
        };
        let file = match &mut self.open {
            Some((open, file)) if Arc::ptr_eq(open, shard) => file,
            open => &mut open.insert((Arc::clone(shard), BufReader::with_capacity(READ, shard.open()?))).1,
        };
        shard.read_from(file, *index, u64::MAX)
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
