//! Which pictures an epoch has, and in which order.

use super::Pictures;
use ocelli_kernels::random::{self, Random};
use serde::{Deserialize, Serialize};

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

/// By what an epoch's order is drawn.
pub(super) struct Order {
    pub sampling: Sampling,
    pub shuffle: bool,
    pub seed: u64,
}

impl Order {
    /// The positions of the split in the order of an epoch.
    pub fn of(&self, pictures: &Pictures, epoch: u64) -> Vec<usize> {
        let mut order = match self.sampling {
            Sampling::Plain => pictures.usable.clone(),
            Sampling::Balanced => self.balanced(pictures, epoch),
        };
        if self.shuffle {
            Random::new(self.seed, random::name("order"), epoch, 0).shuffle(&mut order);
        }
        order
    }

    /// As many positions of each class that has some. A class's pictures pass in an order of their own, pass after pass; each
    /// epoch takes the next of them.
    fn balanced(&self, pictures: &Pictures, epoch: u64) -> Vec<usize> {
        let (data, split) = (&pictures.data, pictures.split);
        let mut classes = vec![Vec::new(); data.classes.len()];
        pictures.usable.iter().for_each(|&position| classes[data.label(split, position) as usize].push(position));
        classes.retain(|class| !class.is_empty());
        let (all, count) = (pictures.len(), classes.len().max(1));
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
