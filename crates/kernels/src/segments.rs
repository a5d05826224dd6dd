//! Sums over a batch's pixels with bits that depend on the picture's shape only.
//!
//! The pixels are cut into *segments*: a band of whole rows of one picture, or, of small pictures, a fixed number of
//! whole pictures, about 1000 pixels in all. Inside a segment a sum is one chain; segments join by the tree of
//! [`crate::tree`], first the bands of a picture, then the pictures. A batch of 2B is therefore two batches of B joined,
//! where B is a power of two and holds whole segments.

use std::ops::Range;

use crate::Cpu;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};
use crate::tree::{Tree, levels};

/// Most pixels of a segment. A chain of this length keeps rounding errors small, and a segment's slice of 32 channels
/// (128 KB) in the second-level cache.
const PIXELS: usize = 1024;
/// Most pictures of a segment, so that small batches can still be cut between segments.
const IMAGES: usize = 16;

/// How pictures of a size are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    height: usize,
    /// Pictures of a segment: a power of two, 1 where a picture has several bands.
    images: usize,
    rows: usize,
    bands: usize,
}

/// Some rows of some pictures.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub images: Range<usize>,
    pub rows: Range<usize>,
}

impl Segments {
    pub fn new(size: [usize; 2]) -> Segments {
        Segments::of(size, PIXELS)
    }

    /// With at most `most` pixels, or one row, in a segment.
    pub fn of([height, width]: [usize; 2], most: usize) -> Segments {
        let pixels = height * width;
        let images = if pixels * 2 <= most { (1 << (most / pixels).ilog2()).min(IMAGES) } else { 1 };
        let bands = height.div_ceil((most / width).max(1));
        let rows = height.div_ceil(bands);
        Segments { height, images, rows, bands: height.div_ceil(rows) }
    }

    /// Most pictures of a segment.
    pub fn most_images(&self) -> usize {
        self.images
    }

    /// Most rows of a segment in each of its pictures.
    pub fn most_rows(&self) -> usize {
        self.rows
    }

    /// Segments of `n` pictures.
    pub fn count(&self, n: usize) -> usize {
        self.units(n) * self.bands
    }

    /// Units of `n` pictures: what the upper part of the tree joins.
    pub fn units(&self, n: usize) -> usize {
        n.div_ceil(self.images)
    }

    /// The level of the tree at which a unit arrives.
    fn unit_level(&self) -> usize {
        self.bands.next_power_of_two().ilog2() as usize
    }
}

/// A sum over `n` pictures, in independent parts, each an array of up to `most` values.
pub(crate) struct Reduction {
    pub segments: Segments,
    pub n: usize,
    pub parts: usize,
    pub most: usize,
    /// Values of scratch memory for each thread.
    pub scratch: usize,
    /// Most chunks: they grow with the batch, so that the workspace of a batch holds any smaller one too.
    most_chunks: usize,
    /// Units of a chunk, a power of two; chunks are summed side by side.
    chunk: usize,
    /// Bands of a unit in a chunk, a power of two where they are not all: chunks of one unit may be parts of it.
    bands: usize,
}

impl Reduction {
    /// Cuts the batch into chunks where the parts alone are fewer than `wanted` tasks.
    pub fn new(segments: Segments, n: usize, parts: usize, most: usize, scratch: usize, wanted: usize) -> Reduction {
        let most = most.next_multiple_of(LANES);
        let units = segments.units(n);
        let most_chunks = wanted.div_ceil(parts.max(1)).clamp(1, segments.count(n).max(1));
        let chunk = units.div_ceil(most_chunks).next_power_of_two();
        let bands = match most_chunks / units.max(1) {
            0 | 1 => segments.bands,
            chunks => segments.bands.div_ceil(chunks).next_power_of_two(),
        };
        Reduction { segments, n, parts, most, scratch: scratch.next_multiple_of(LANES), most_chunks, chunk, bands }
    }

    /// Chunks of a unit that is cut.
    fn unit_chunks(&self) -> usize {
        self.segments.bands.div_ceil(self.bands)
    }

    fn chunks(&self) -> usize {
        self.segments.units(self.n).div_ceil(self.chunk) * self.unit_chunks()
    }

    /// Buffers of a task: the levels of its tree and the last sum.
    fn buffers(&self) -> usize {
        self.segments.unit_level() + levels(self.segments.units(self.n)) + 1
    }

    pub fn workspace_len(&self, threads: usize) -> usize {
        let chunks = if self.most_chunks > 1 { self.most_chunks * self.parts * self.most } else { 0 };
        threads * (self.scratch + self.buffers() * self.most) + chunks
    }

    /// `sum(part, segment, scratch, out)` writes a part's sums over a segment, `finish(part, sums)` takes the result.
    pub fn run(
        &self,
        cpu: &Cpu,
        workspace: &mut [f32],
        sum: &(dyn Fn(usize, &Segment, &mut [f32], &mut [f32]) + Sync),
        finish: &(dyn Fn(usize, &[f32]) + Sync),
    ) {
        let threads = cpu.pool().threads();
        let (needed, given) = (self.workspace_len(threads), workspace.len());
        assert!(given >= needed, "workspace: {given} values of {needed}");
        let (chunks, buffers, most) = (self.chunks(), self.buffers(), self.most);
        let a_thread = self.scratch + buffers * most;
        let (own, results) = workspace.split_at_mut(threads * a_thread);
        let (own, results) = (Shares::new(own), Shares::new(results));
        cpu.pool().run_on(self.parts * chunks, &|task, thread| {
            let (part, chunk) = (task / chunks, task % chunks);
            // SAFETY: each thread has a part of its own.
            let (scratch, levels) = unsafe { own.part(thread * a_thread, a_thread) }.split_at_mut(self.scratch);
            let (first, part_of_unit) = (chunk / self.unit_chunks() * self.chunk, chunk % self.unit_chunks());
            let units = first..(first + self.chunk).min(self.segments.units(self.n));
            let bands = part_of_unit * self.bands..((part_of_unit + 1) * self.bands).min(self.segments.bands);
            let mut tree = Tree::default();
            for unit in units.clone() {
                for band in bands.clone() {
                    let Segments { images, rows, height, .. } = self.segments;
                    let segment = Segment {
                        images: unit * images..((unit + 1) * images).min(self.n),
                        rows: band * rows..((band + 1) * rows).min(height),
                    };
                    let unit_ends = band + 1 == bands.end;
                    if unit_ends && unit + 1 == units.end {
                        let join = tree.place_last();
                        let (lower, out) = levels.split_at_mut((buffers - 1) * most);
                        let out = &mut out[..most];
                        sum(part, &segment, scratch, out);
                        join.joins().for_each(|level| add(cpu, out, &lower[level * most..][..most]));
                        if chunks == 1 {
                            finish(part, out);
                        } else {
                            // SAFETY: each task has a result of its own.
                            unsafe { results.part(task * most, most) }.copy_from_slice(out);
                        }
                    } else {
                        let place = tree.place(if unit_ends { self.segments.unit_level() } else { 0 });
                        let (lower, out) = levels.split_at_mut(place.level * most);
                        let out = &mut out[..most];
                        sum(part, &segment, scratch, out);
                        place.joins().for_each(|level| add(cpu, out, &lower[level * most..][..most]));
                    }
                }
            }
        });
        if chunks > 1 {
            self.join_chunks(cpu, chunks, &results, finish);
        }
    }

    /// The upper end of the tree, over the chunks' sums.
    fn join_chunks(&self, cpu: &Cpu, chunks: usize, results: &Shares<f32>, finish: &(dyn Fn(usize, &[f32]) + Sync)) {
        let most = self.most;
        cpu.pool().run(self.parts, &|part| {
            // SAFETY: each part's results belong to one task.
            let results = unsafe { results.part(part * chunks * most, chunks * most) };
            let (mut tree, mut held) = (Tree::default(), [0; 32]);
            let of_unit = self.unit_chunks();
            let unit_level = of_unit.next_power_of_two().ilog2() as usize;
            for chunk in 0..chunks {
                let last = chunk + 1 == chunks;
                let unit_ends = (chunk + 1) % of_unit == 0;
                let place = if last { tree.place_last() } else { tree.place(if unit_ends { unit_level } else { 0 }) };
                let (before, sum) = results.split_at_mut(chunk * most);
                let sum = &mut sum[..most];
                place.joins().for_each(|level| add(cpu, sum, &before[held[level] * most..][..most]));
                held[place.level] = chunk;
                if last {
                    finish(part, sum);
                }
            }
        });
    }
}

/// `sum += other`
pub(crate) fn add(cpu: &Cpu, sum: &mut [f32], other: &[f32]) {
    struct Add<'a>(&'a mut [f32], &'a [f32]);
    impl Kernel for Add<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            assert_eq!(self.0.len(), self.1.len());
            let whole = self.0.len() / LANES * LANES;
            for i in (0..whole).step_by(LANES) {
                // SAFETY: in bounds of both slices.
                unsafe {
                    let p = self.0.as_mut_ptr().add(i);
                    s.store(p, s.add(s.load(p), s.load(self.1.as_ptr().add(i))));
                }
            }
            self.0[whole..].iter_mut().zip(&self.1[whole..]).for_each(|(a, b)| *a += b);
        }
    }
    dispatch(cpu.isa(), Add(sum, other));
}
