//! Sums over a batch whose bits do not depend on threads: fixed groups of samples, joined by a fixed tree.

/// Samples of a group. Micro-batches and ranks own whole groups.
pub const GROUP: usize = 16;

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

/// The sum of a number a sample, in f64: chains within groups of [`GROUP`], then the tree of [`joins`].
pub(crate) fn sum_samples(count: usize, number: &dyn Fn(usize) -> f64) -> f64 {
    fn tree(groups: std::ops::Range<usize>, count: usize, number: &dyn Fn(usize) -> f64) -> f64 {
        if groups.len() <= 1 {
            return (groups.start * GROUP..count.min(groups.end * GROUP)).map(number).fold(0.0, |sum, x| sum + x);
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
    fn a_workspace_holds_its_numbers_at_any_alignment() {
        let mut space = vec![0.0; f64_room(5) + 1];
        assert_eq!(as_f64(&mut space, 5).len(), 5);
        assert_eq!(as_f64(&mut space[1..], 5).len(), 5);
    }
}
