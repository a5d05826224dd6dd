//! Which pictures an epoch has, and in which order.

use super::{Dataset, Source, Split};
use crate::words::{bytes, counted};
use crate::{Error, Result};
use ocelli_kernels::random::{self, Random};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Pictures whose sums are joined first (ARCHITECTURE.md, "The same bits"); a share of a batch has whole groups of them.
const GROUP: usize = 16;

/// Which pictures an epoch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Each once.
    #[default]
    Plain,
    /// As many of each class, and as many in all as there are: those of rare classes more than once, of frequent ones a
    /// part, the next part in the next epoch.
    Balanced,
}

/// By what the order of an epoch is drawn, and which part of it a process has.
#[derive(Clone, Debug)]
pub struct Order {
    /// Of the random numbers.
    pub seed: u64,
    /// A new random order in every epoch; else the order of the files.
    pub shuffle: bool,
    /// Which pictures an epoch has.
    pub sampling: Sampling,
    /// Shards come in random order, each is read from beginning to end, and the next picture is drawn from the first so many
    /// that are not drawn yet. `None`: each order is as likely as any other, and pictures are read by their place.
    pub shuffle_buffer: Option<usize>,
    /// Pictures of a batch, the shares of all processes together.
    pub batch_size: usize,
    /// Whose share of every batch it is, counted from 0: whole groups of 16 pictures.
    pub rank: usize,
    /// How many processes there are.
    pub world_size: usize,
}

impl Default for Order {
    fn default() -> Order {
        let (sampling, shuffle_buffer) = (Sampling::Plain, None);
        Order { seed: 0, shuffle: true, sampling, shuffle_buffer, batch_size: 64, rank: 0, world_size: 1 }
    }
}

impl Order {
    /// Fails where there is no such order of the pictures of a split.
    ///
    /// # Errors
    /// A batch or a buffer of 0; a buffer for pictures that are not in archives, not shuffled or balanced; balanced pictures
    /// without a class each, or not shuffled; a rank that is not below `world_size`, or more processes than groups in a batch.
    pub fn check(&self, data: &Dataset, split: Split) -> Result<()> {
        let refused = |what: &str, advice: &str| Err(Error::usage(what).advice(advice));
        let &Order { shuffle, batch_size, rank, world_size, .. } = self;
        if batch_size == 0 {
            return refused("a batch of 0 pictures", "Choose --batch-size 1 or more.");
        }
        let balanced = self.sampling == Sampling::Balanced;
        if balanced && (data.has_targets() || !shuffle) {
            let why = match (shuffle, data.multi_label) {
                (true, true) => "pictures of several classes each",
                (true, false) => "numbers in place of classes",
                (false, _) => "pictures in file order",
            };
            return refused(&format!("sampling balanced of {why}"), "Leave one of the two out.");
        }
        match self.shuffle_buffer {
            Some(0) => return refused("a shuffle buffer of 0 pictures", "Choose --shuffle-buffer 1 or more."),
            Some(_) if balanced || !shuffle => {
                let with = if balanced { "with sampling balanced" } else { "for pictures in file order" };
                return refused(&format!("a shuffle buffer {with}"), "Leave one of the two out.");
            }
            Some(_) => {
                let in_shards = |position| matches!(data.source(split, position), Source::Shard(..));
                if let Some(other) = (0..data.len(split)).find(|position| !in_shards(*position)) {
                    let name = data.picture_name(split, other);
                    let what = format!("{}: a shuffle buffer, but {name} is in no tar archive", data.name);
                    let advice =
                        "Leave --shuffle-buffer out, or make shards first: ocelli data pack DATA --output SHARDS";
                    return refused(&what, advice);
                }
            }
            None => {}
        }
        if rank >= world_size {
            let advice = "Ranks count from 0: choose --rank below --world-size.";
            return refused(&format!("rank {rank} of {world_size} processes"), advice);
        }
        let batch = batch_size.min(data.len(split));
        if batch.div_ceil(GROUP) < world_size {
            let batch = counted(batch, "picture");
            let what = format!("a batch of {batch} for {world_size} processes, each with whole groups of {GROUP}");
            return refused(&what, "Choose a larger --batch-size or a smaller --world-size.");
        }
        Ok(())
    }

    /// The pictures of this process in the order of an epoch, counted from 0, as positions in the split; `usable` are those
    /// that there are, in the order of the split.
    pub fn of(&self, data: &Dataset, split: Split, usable: &[usize], epoch: u64) -> Vec<usize> {
        if let Some(size) = self.shuffle_buffer {
            let mut stream = self.stream(data, split, usable, epoch);
            let mut random = Random::new(self.seed, random::name("shuffle buffer"), epoch, self.rank as u64);
            // What is drawn goes to the front, so that the buffer is what lies behind it.
            for drawn in 0..stream.len() {
                let held = size.min(stream.len() - drawn);
                stream.swap(drawn, drawn + random.below(held));
            }
            return stream;
        }
        let mut order = match self.sampling {
            Sampling::Plain => usable.to_vec(),
            Sampling::Balanced => self.balanced(data, split, usable, epoch),
        };
        if self.shuffle {
            Random::new(self.seed, random::name("order"), epoch, 0).shuffle(&mut order);
        }
        order.chunks(self.batch_size.max(1)).flat_map(|batch| &batch[self.share(batch.len())]).copied().collect()
    }

    /// The pictures of this process as they lie in their archives, which are in random order. The processes have one part of
    /// them after the other, each as long as its shares of all batches.
    pub(super) fn stream(&self, data: &Dataset, split: Split, usable: &[usize], epoch: u64) -> Vec<usize> {
        let mut numbers = HashMap::new();
        let mut shards: Vec<Vec<(usize, usize)>> = Vec::new();
        for &position in usable {
            if let Source::Shard(shard, index) = data.source(split, position) {
                let number = *numbers.entry(Arc::as_ptr(shard)).or_insert(shards.len());
                shards.resize_with(shards.len().max(number + 1), Vec::new);
                shards[number].push((*index, position));
            }
        }
        Random::new(self.seed, random::name("shards"), epoch, 0).shuffle(&mut shards);
        shards.iter_mut().for_each(|shard| shard.sort_unstable());
        let share = self.share(usable.len());
        let stream = shards.into_iter().flatten().map(|(_, position)| position);
        stream.skip(share.start).take(share.len()).collect()
    }

    /// Which part of this process's order, of `length`, is in a batch of `batches`; none after the last.
    pub(super) fn batch(&self, batch: usize, batches: usize, length: usize) -> Range<usize> {
        let share = self.share(self.batch_size).len();
        let start = |batch: usize| if batch < batches { batch * share } else { length };
        start(batch)..start(batch + 1)
    }

    /// The part of so many pictures that is this process's, if each has one after the other, as long as its shares of all
    /// their batches.
    fn share(&self, pictures: usize) -> Range<usize> {
        let (batch, ranks) = (self.batch_size.max(1), self.world_size.max(1));
        let of_batch = |n: usize, rank: usize| (n.div_ceil(GROUP) * rank / ranks * GROUP).min(n);
        let before = |rank| pictures / batch * of_batch(batch, rank) + of_batch(pictures % batch, rank);
        before(self.rank)..before(self.rank + 1)
    }

    /// What a person should know of a shuffle buffer: its memory where files are `held`, and whether it mixes the classes.
    pub(super) fn note(&self, data: &Dataset, split: Split, usable: &[usize], held: bool) -> Option<String> {
        let size = self.shuffle_buffer?.min(usable.len());
        let stream = self.stream(data, split, usable, 0);
        let length = |&position: &usize| match data.source(split, position) {
            Source::Shard(shard, index) => shard.length(*index) as f64,
            _ => 0.0,
        };
        let mean = stream.iter().map(length).sum::<f64>() / stream.len().max(1) as f64;
        let memory = if held { bytes((size as f64 * mean) as u64) } else { "nothing: all are in memory".into() };
        let classes = |some: &[usize]| some.iter().map(|&at| data.label(split, at)).collect::<HashSet<_>>().len();
        let (first, all) = (classes(&stream[..size.min(stream.len())]), classes(&stream));
        let mut note = format!("a shuffle buffer of {} takes {memory}", counted(size, "picture"));
        if 2 * first < all.min(size) {
            note +=
                &format!(", and begins with {first} of {all} classes: mix the archives first, by `ocelli data pack`");
        }
        Some(note)
    }

    /// As many positions of each class that has some. A class's pictures pass in an order of their own, pass after pass; each
    /// epoch takes the next of them.
    fn balanced(&self, data: &Dataset, split: Split, usable: &[usize], epoch: u64) -> Vec<usize> {
        let mut classes = vec![Vec::new(); data.classes.len()];
        usable.iter().for_each(|&position| classes[data.label(split, position) as usize].push(position));
        classes.retain(|class| !class.is_empty());
        let (all, count) = (usable.len(), classes.len().max(1));
        let mut order = Vec::with_capacity(all);
        for (i, class) in classes.iter().enumerate() {
            let share = all / count + usize::from(i < all % count);
            let first = epoch as usize * share;
            for pass in first / class.len()..(first + share).div_ceil(class.len()) {
                let mut passing = class.clone();
                Random::new(self.seed, random::name("balanced"), pass as u64, i as u64).shuffle(&mut passing);
                let start = pass * class.len();
                let taken = first.max(start) - start..(first + share).min(start + class.len()) - start;
                order.extend_from_slice(&passing[taken]);
            }
        }
        order
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
