//! The fixed tree by which partial sums over a batch are joined.
//!
//! Segments of a reduction are leaves, numbered by their place in the batch. Two neighbours of equal size join, as in a
//! binary counter: leaf i arrives, and each trailing one bit of i is a join. The shape of the tree depends on the number
//! of leaves only, so any aligned run of 2^k leaves can be summed elsewhere, by another thread or another machine, and
//! the result is the same bit for bit.

/// Occupied levels of the counter; level k holds the sum of 2^k leaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tree {
    occupied: u32,
}

/// Where a new partial sum goes: it takes up the levels of `join`, lowest first, and then is stored at `level`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub join: u32,
    pub level: usize,
}

impl Tree {
    /// A tree in which so many leaves have been placed, one by one.
    pub fn after(leaves: usize) -> Tree {
        Tree { occupied: leaves as u32 }
    }

    /// Places the sum of the next 2^`level` leaves. Fewer leaves may stand for them at the end of a run (see
    /// [`Tree::place_last`]): lower levels that are still occupied are joined first.
    pub fn place(&mut self, level: usize) -> Place {
        let below = self.occupied & ((1 << level) - 1);
        let carry = (self.occupied >> level).trailing_ones();
        let join = below | (((1 << carry) - 1) << level);
        let level = level + carry as usize;
        self.occupied = self.occupied & !join | 1 << level;
        Place { join, level }
    }

    /// Places the last sum: joins everything that is left.
    pub fn place_last(&mut self) -> Place {
        let join = std::mem::take(&mut self.occupied);
        Place { join, level: 0 }
    }
}

impl Place {
    /// The levels to join, lowest first.
    #[inline(always)]
    pub fn joins(self) -> impl Iterator<Item = usize> {
        let mut left = self.join;
        std::iter::from_fn(move || {
            let level = left.trailing_zeros();
            (left != 0).then(|| {
                left &= left - 1;
                level as usize
            })
        })
    }
}

/// Levels that a tree over `leaves` leaves may occupy.
pub(crate) fn levels(leaves: usize) -> usize {
    leaves.max(1).ilog2() as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums the leaves `range` as strings, to see the brackets.
    fn sum(leaves: &[String], level: usize) -> String {
        let mut tree = Tree::default();
        let mut stack = vec![String::new(); 32];
        for (i, leaf) in leaves.iter().enumerate() {
            let last = i + 1 == leaves.len();
            assert_eq!(tree.occupied, Tree::after(i << level).occupied);
            let place = if last { tree.place_last() } else { tree.place(level) };
            let joined = place.joins().fold(leaf.clone(), |sum, level| format!("({}{sum})", stack[level]));
            stack[place.level] = joined;
        }
        stack.swap_remove(0)
    }

    #[test]
    fn an_aligned_run_of_leaves_may_be_summed_elsewhere() {
        for n in 1..=40usize {
            let leaves: Vec<String> = (0..n).map(|i| format!("{i}.")).collect();
            let whole = sum(&leaves, 0);
            for k in 0..=5 {
                let runs: Vec<String> = leaves.chunks(1 << k).map(|run| sum(run, 0)).collect();
                assert_eq!(sum(&runs, k), whole, "{n} leaves in runs of 2^{k}");
            }
        }
        assert_eq!(sum(&["a".into(), "b".into(), "c".into()], 0), "((ab)c)");
    }
}
