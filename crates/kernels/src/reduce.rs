//! Sums over a batch whose bits do not depend on threads: fixed groups of samples, joined by a fixed tree.

use crate::Cpu;
use crate::pool::Shares;
use crate::real::Real;
use crate::segments;
use crate::tree::{Tree, levels};

/// Samples of a group. Micro-batches and ranks own whole groups.
pub const GROUP: usize = 16;

/// Whether the sums of parts of so many samples join to that of their batch, bit for bit: a part is then the sum below one
/// node of every kernel's tree.
pub const fn is_part(samples: usize) -> bool {
    samples.is_multiple_of(GROUP) && (samples / GROUP).is_power_of_two()
}

/// Sums that wait at once in [`join_part`], of so many parts.
pub fn waiting(parts: usize) -> usize {
    levels(parts.saturating_sub(1))
}

/// Joins the sums over a batch's parts, which come one after the other, `part` counted from 0; each but the last has as many
/// samples, see [`is_part`]. `sum` is the part's; of the last one it becomes the batch's, by the tree that joins segments. The
/// others go to `waiting`, which holds [`waiting`] sums.
///
/// # Panics
/// `waiting` is too short: a defect of the plan.
pub fn join_part(cpu: &Cpu, part: usize, last: bool, sum: &mut [f32], waiting: &mut [f32]) {
    let len = sum.len();
    let mut tree = Tree::after(part);
    let place = if last { tree.place_last() } else { tree.place(0) };
    let highest = place.joins().chain((!last).then_some(place.level)).max();
    assert!(waiting.len() >= highest.map_or(0, |level| (level + 1) * len), "waiting: {} values", waiting.len());
    let (sum, waiting) = (Shares::new(sum), Shares::new(waiting));
    cpu.pool().run_ranges(len, 1, &|range| {
        let of = |level: usize| level * len + range.start;
        // SAFETY: tasks have ranges of their own, of every level.
        unsafe {
            let sum = sum.part(range.start, range.len());
            place.joins().for_each(|level| segments::add(cpu, sum, waiting.part(of(level), range.len())));
            if !last {
                waiting.part(of(place.level), range.len()).copy_from_slice(sum);
            }
        }
    });
}

/// The order in which slots `0..count` are joined into slot 0: within each group of `group` slots one after the other,
/// then the groups by a binary tree. An item `[i, j, end]`: what slot j has gathered from `j..end` is added to what slot
/// i has from `i..j`.
pub(crate) fn joins(count: usize, group: usize) -> impl Iterator<Item = [usize; 3]> {
    let inside =
        (0..count).filter(move |slot| slot % group != 0).map(move |slot| [slot - slot % group, slot, slot + 1]);
    let widths = std::iter::successors(Some(group), |width| Some(width * 2)).take_while(move |&width| width < count);
    let across = widths.flat_map(move |width| {
        (0..count - width).step_by(2 * width).map(move |i| [i, i + width, count.min(i + 2 * width)])
    });
    inside.chain(across)
}

/// The sum of a number a sample: chains within groups of [`GROUP`], then the tree of [`joins`].
pub(crate) fn sum_samples<T: Real>(count: usize, number: &dyn Fn(usize) -> T) -> T {
    fn tree<T: Real>(groups: std::ops::Range<usize>, count: usize, number: &dyn Fn(usize) -> T) -> T {
        if groups.len() <= 1 {
            return (groups.start * GROUP..count.min(groups.end * GROUP)).map(number).fold(T::ZERO, |sum, x| sum + x);
        }
        // The largest power of two under the number of groups goes left.
        let half = groups.start + groups.len().next_power_of_two() / 2;
        tree(groups.start..half, count, number) + tree(half..groups.end, count, number)
    }
    tree(0..count.div_ceil(GROUP), count, number)
}

/// Elements of an `f32` workspace that hold `len` numbers in f64, wherever it starts.
pub(crate) const fn f64_room(len: usize) -> usize {
    2 * len + 1
}

/// The first aligned part of a workspace as `len` numbers in f64.
pub(crate) fn as_f64(workspace: &mut [f32], len: usize) -> &mut [f64] {
    // SAFETY: every bit pattern is an f64.
    let (_, middle, _) = unsafe { workspace.align_to_mut::<f64>() };
    &mut middle[..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_joined_once_and_in_order() {
        for count in 0..70 {
            for group in [1, 3, 16] {
                let mut slots: Vec<Vec<usize>> = (0..count).map(|i| vec![i]).collect();
                for [i, j, end] in joins(count, group) {
                    assert_eq!((slots[i].len(), slots[j].len()), (j - i, end - j));
                    let joined = std::mem::take(&mut slots[j]);
                    slots[i].extend(joined);
                }
                assert_eq!(slots.first().cloned().unwrap_or_default(), (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_sum_of_samples_is_that_of_their_slots() {
        for count in 0..200 {
            let numbers: Vec<f64> = (0..count).map(|i| 1.0 / (i + 1) as f64).collect();
            let mut slots = numbers.clone();
            joins(count, GROUP).for_each(|[i, j, _]| slots[i] += slots[j]);
            assert_eq!(sum_samples(count, &|i| numbers[i]), slots.first().copied().unwrap_or(0.0));
        }
    }

    #[test]
    fn parts_of_whole_groups_join_to_the_sum_of_the_batch() {
        assert_eq!((1..200usize).filter(|&samples| is_part(samples)).collect::<Vec<_>>(), [16, 32, 64, 128]);
        let cpu = Cpu::new(2).unwrap();
        let numbers: Vec<f32> = (0..1000).map(|i| 1.0 / (i + 1) as f32).collect();
        let sum = |samples: &[f32]| [sum_samples(samples.len(), &|i| samples[i]), -samples[0]];
        for count in [1usize, 16, 17, 33, 63, 64, 65, 100, 500, 1000] {
            for part in [16, 32, 64, 128] {
                let mut waiting = vec![f32::NAN; 2 * waiting(count.div_ceil(part))];
                let mut joined = [0.0; 2];
                for (i, samples) in numbers[..count].chunks(part).enumerate() {
                    joined = sum(samples);
                    join_part(&cpu, i, (i + 1) * part >= count, &mut joined, &mut waiting);
                }
                assert_eq!(joined[0], sum(&numbers[..count])[0], "{count} samples in parts of {part}");
            }
        }
    }

    #[test]
    fn a_workspace_holds_its_numbers_at_any_alignment() {
        let mut space = vec![0.0; f64_room(5) + 1];
        assert_eq!(as_f64(&mut space, 5).len(), 5);
        assert_eq!(as_f64(&mut space[1..], 5).len(), 5);
    }
}
