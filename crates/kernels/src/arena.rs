//! One block of memory, aligned to cache lines, from which a plan's steps borrow disjoint parts.

use std::alloc::{Layout, alloc_zeroed};
use std::ops::Range;

/// Bytes of a cache line; every span starts on one.
pub const ALIGN: usize = 64;

/// A part of an arena: `len` bytes from `start`, which is a multiple of [`ALIGN`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset in bytes.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Span {
    /// The bytes covered.
    pub fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// Zeroed memory that lives as long as a plan. Pages become resident when they are first written.
#[derive(Default)]
pub struct Arena {
    words: Vec<u64>,
    /// Where the first cache line begins, in words.
    first: usize,
    bytes: usize,
}

/// Most parts that one step may borrow.
pub const MOST_PARTS: usize = 12;

impl Arena {
    /// An arena of at least `bytes` zeroed bytes; none if the system does not give that much memory.
    pub fn new(bytes: usize) -> Option<Arena> {
        let bytes = bytes.checked_next_multiple_of(ALIGN)?;
        // A line more, to begin on a line: allocators write the zeros of memory with a larger alignment than their own
        // themselves, where other zeroed memory comes untouched from the system.
        let n = bytes.checked_add(ALIGN)? / size_of::<u64>();
        let layout = Layout::array::<u64>(n).ok()?;
        // SAFETY: the layout is that of at least one word.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            return None;
        }
        // SAFETY: just allocated with the layout of `n` words, which are initialised to zero.
        let words = unsafe { Vec::from_raw_parts(memory.cast::<u64>(), n, n) };
        let first = words.as_ptr().align_offset(ALIGN);
        ask_for_huge_pages(&words);
        Some(Arena { words, first, bytes })
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the arena holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// A part as `f32`.
    pub fn f32(&self, span: Span) -> &[f32] {
        self.check(span);
        // SAFETY: in bounds and aligned as just checked; every bit pattern is an f32.
        unsafe {
            std::slice::from_raw_parts(
                self.words[self.first..].as_ptr().cast::<u8>().add(span.start).cast(),
                span.len / 4,
            )
        }
    }

    /// A part as `f32`, to write.
    pub fn f32_mut(&mut self, span: Span) -> &mut [f32] {
        self.check(span);
        // SAFETY: as in `f32`, and the borrow of `self` is exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.words[self.first..].as_mut_ptr().cast::<u8>().add(span.start).cast(),
                span.len / 4,
            )
        }
    }

    /// Borrows several parts at once: `reads` shared, `writes` exclusive. Nothing is allocated.
    ///
    /// # Panics
    /// A part is out of bounds or not aligned, a written part overlaps another one, or there are more than
    /// [`MOST_PARTS`] of a kind: a defect of the plan.
    pub fn parts<'a>(&'a mut self, reads: &[Span], writes: &[Span]) -> Parts<'a> {
        assert!(reads.len() <= MOST_PARTS && writes.len() <= MOST_PARTS, "too many parts");
        let base = self.words[self.first..].as_mut_ptr().cast::<u8>();
        let mut parts = Parts { reads: [&[]; MOST_PARTS], writes: core::array::from_fn(|_| Default::default()) };
        for (i, &write) in writes.iter().enumerate() {
            self.check(write);
            let apart = |other: Span| {
                write.len == 0 || other.len == 0 || write.range().end <= other.start || other.range().end <= write.start
            };
            assert!(reads.iter().all(|&r| apart(r)), "a written part overlaps a read one");
            assert!(writes[..i].iter().all(|&w| apart(w)), "two written parts overlap");
            // SAFETY: in bounds, aligned, and disjoint from every other part as just checked.
            parts.writes[i] = unsafe { std::slice::from_raw_parts_mut(base.add(write.start), write.len) };
        }
        for (i, &read) in reads.iter().enumerate() {
            self.check(read);
            // SAFETY: in bounds and aligned; overlaps no written part.
            parts.reads[i] = unsafe { std::slice::from_raw_parts(base.add(read.start), read.len) };
        }
        parts
    }

    /// Gives the memory of a part back to the system, which loses its values: whole pages of it, where the system is Linux.
    pub fn give_back(&mut self, span: Span) {
        self.check(span);
        #[cfg(all(target_os = "linux", not(miri)))]
        {
            /// A multiple of every size that pages have.
            const PAGE: usize = 64 << 10;
            let start = self.words[self.first..].as_mut_ptr() as usize + span.start;
            let (first, end) = (start.next_multiple_of(PAGE), (start + span.len) / PAGE * PAGE);
            if first < end {
                // SAFETY: pages that lie in this exclusively borrowed part alone; they read as zeros from now on, or as before.
                unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_DONTNEED) };
            }
        }
    }

    fn check(&self, span: Span) {
        assert!(span.start.is_multiple_of(ALIGN), "span {span:?} is not aligned");
        assert!(span.start <= self.len() && span.len <= self.len() - span.start, "span {span:?} of {}", self.len());
    }
}

/// Asks Linux to back the memory with pages of 2 MB, as far as it covers whole ones: products walk over more pages of 4 KB
/// than the processor holds addresses of. Nothing else depends on the answer.
#[cfg(all(target_os = "linux", not(miri)))]
fn ask_for_huge_pages(words: &[u64]) {
    const HUGE: usize = 2 << 20;
    let start = words.as_ptr() as usize;
    let (first, end) = (start.next_multiple_of(HUGE), (start + size_of_val(words)) / HUGE * HUGE);
    if first < end {
        // SAFETY: advice on how to back memory that this slice covers; its content stays as it is.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn ask_for_huge_pages(_: &[u64]) {}

/// Parts borrowed by [`Arena::parts`], in the order asked for.
pub struct Parts<'a> {
    reads: [&'a [u8]; MOST_PARTS],
    writes: [&'a mut [u8]; MOST_PARTS],
}

impl<'a> Parts<'a> {
    /// Read part `i` as `f32`.
    pub fn read(&self, i: usize) -> &'a [f32] {
        as_f32(self.reads[i])
    }
    /// Read part `i` as bytes.
    pub fn read_bytes(&self, i: usize) -> &'a [u8] {
        self.reads[i]
    }
    /// Takes written part `i` as `f32`; a second call gives an empty slice.
    pub fn write(&mut self, i: usize) -> &'a mut [f32] {
        let bytes = std::mem::take(&mut self.writes[i]);
        let len = bytes.len() / 4;
        assert!((bytes.as_ptr() as usize).is_multiple_of(4));
        // SAFETY: spans start on cache lines, so the address is aligned; every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) }
    }
    /// Takes written part `i` as bytes; a second call gives an empty slice.
    pub fn write_bytes(&mut self, i: usize) -> &'a mut [u8] {
        std::mem::take(&mut self.writes[i])
    }
}

fn as_f32(bytes: &[u8]) -> &[f32] {
    if bytes.is_empty() {
        return &[];
    }
    assert!((bytes.as_ptr() as usize).is_multiple_of(4));
    // SAFETY: spans start on cache lines, so the address is aligned; every bit pattern is an f32.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_views() {
        let mut arena = Arena::new(256).unwrap();
        arena.f32_mut(Span { start: 64, len: 64 }).fill(2.0);
        let mut parts = arena.parts(&[Span { start: 64, len: 64 }], &[Span { start: 128, len: 12 }]);
        let x = parts.read(0);
        let y = parts.write(0);
        y.iter_mut().zip(x).for_each(|(y, x)| *y = 3.0 * x);
        assert_eq!(arena.f32(Span { start: 128, len: 16 }), [6.0, 6.0, 6.0, 0.0]);
    }

    #[test]
    fn memory_is_zero_and_begins_on_a_cache_line() {
        for bytes in [0, 1, 64, 1000, 1 << 22] {
            let arena = Arena::new(bytes).unwrap();
            assert_eq!(arena.len(), bytes.next_multiple_of(ALIGN));
            let all = arena.f32(Span { start: 0, len: arena.len() });
            assert!((all.as_ptr() as usize).is_multiple_of(ALIGN));
            assert!(all.iter().all(|value| value.to_bits() == 0));
        }
    }

    #[test]
    fn what_lies_beside_a_part_that_is_given_back_stays() {
        let mut arena = Arena::new(1 << 20).unwrap();
        let all = Span { start: 0, len: 1 << 20 };
        arena.f32_mut(all).fill(2.0);
        let part = Span { start: 64, len: (1 << 20) - 128 };
        arena.give_back(part);
        assert_eq!((arena.f32(all)[15], arena.f32(all)[(1 << 18) - 16]), (2.0, 2.0));
        let given = arena.f32(part).iter().filter(|&&value| value == 0.0).count();
        if cfg!(all(target_os = "linux", not(miri))) {
            assert!(given * 4 >= (1 << 20) - (3 << 16), "{given} values");
        }
        arena.f32_mut(part).fill(3.0);
        assert!(arena.f32(part).iter().all(|&value| value == 3.0));
    }

    #[test]
    fn more_than_there_is_is_not_given() {
        // Half of what an address can reach, and what no address can.
        for bytes in [isize::MAX as usize - 4 * ALIGN, isize::MAX as usize, usize::MAX] {
            assert!(Arena::new(bytes).is_none(), "{bytes}");
        }
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn an_overlap_is_refused() {
        Arena::new(256).unwrap().parts(&[Span { start: 64, len: 64 }], &[Span { start: 64, len: 4 }]);
    }

    #[test]
    #[should_panic(expected = "of 256")]
    fn a_part_out_of_bounds_is_refused() {
        Arena::new(256).unwrap().f32(Span { start: 192, len: 128 });
    }
}
