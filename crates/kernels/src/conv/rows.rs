//! The data gradient of few channels, by whole kernel rows.
//!
//! A pixel of `dx` has too few channels to fill a vector, but those that a kernel row touches lie side by side: 5 columns
//! of 6 channels are 30 values. So the pixels of an output row are each taken to the values that they add to a row of `dx`,
//! summed over filters and over the kernel rows that meet it, and these runs of values are added up where they overlap.
//! They are laid into as many copies of the row as overlap, so that nothing is read back: pixel i into copy i modulo
//! copies. Of LeNet-5's second convolution 15 -> 79, of 5x5 3->16 13 -> 88 (GFLOP/s of one core).

use std::ops::Range;

use super::padded::Padded;
use super::tile::{self, Ahead, MOST_PIXELS, Next, Output, Tile};
use super::{Pixels, PixelsMut, check_pixels};
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, store_part};
use crate::{Cpu, Isa};

/// Most channels: more fill vectors of channels well.
const MOST: usize = 2 * LANES - 1;
/// Cycles to pack a weight, which one thread does.
const PACK: usize = 6;
/// Rows of `dx` of a task.
const BAND: usize = 8;

#[derive(Debug)]
pub(super) struct Rows {
    pub shape: ConvShape,
    output: [usize; 2],
    /// The kernel rows that meet a row of the padded input, by its remainder by the stride.
    met: Vec<Vec<usize>>,
    /// Copies of a row: as many as runs of values overlap.
    copies: usize,
    /// Values of a copy.
    copy_len: usize,
    /// Where the first column of `dx` is in a copy.
    first: usize,
    /// Where in the copies each output column's run begins.
    runs: Vec<usize>,
    wide: bool,
}

impl Rows {
    /// For shapes of few channels whose kernel rows lie side by side; of some more where the outputs are so much fewer than
    /// the inputs, for lack of padding, that taking them to the inputs is less work than looking them up from there.
    pub fn new(shape: &ConvShape, isa: Isa) -> Option<Rows> {
        // Of fewer than 4 pixels in a row a tile's sums wait for each other; then tiles of several pictures' pixels may be faster.
        let [[kh, kw], [height, width]] = [shape.window.kernel, shape.output()];
        let in_rows = height * width.max(4) * kh * (kw * shape.channels).next_multiple_of(LANES);
        let narrow = 2 * height * width * kh * kw * shape.channels.next_multiple_of(LANES) < in_rows;
        if shape.channels > MOST || narrow || !Padded::whole_rows(shape) {
            return None;
        }
        let window = &shape.window;
        let meets = |row: usize, phase: usize| row * window.dilation[0] % window.stride[0] == phase;
        let met = (0..window.stride[0]).map(|phase| (0..window.kernel[0]).filter(|&row| meets(row, phase)).collect());
        let (output, [kernel, stride], left) =
            (shape.output(), [window.kernel[1], window.stride[1]], window.padding[1]);
        // Columns before the first pixel's run, and before the first column of `dx`, in a copy.
        let [before, columns] = [left.min(0), left.max(0)].map(isize::unsigned_abs);
        let copies = kernel.div_ceil(stride);
        let written = before + (output[1] - 1) * stride + kernel;
        let copy_len = written.max(columns + shape.input[1]) * shape.channels + LANES;
        let run = |column: usize| column % copies * copy_len + (before + column * stride) * shape.channels;
        let rows = Rows {
            shape: *shape,
            output,
            met: met.collect(),
            copies,
            copy_len,
            first: columns * shape.channels,
            runs: (0..output[1]).map(run).collect(),
            wide: isa == Isa::Avx512,
        };
        let looked_up =
            shape.input[0] * shape.input[1] * shape.channels.next_multiple_of(LANES) * shape.filters / LANES / 2
                * (window.kernel[0] * window.kernel[1]).div_ceil(window.stride[0] * window.stride[1]);
        (Padded::new(shape).is_some() || rows.products() * 10 < looked_up * 7).then_some(rows)
    }

    /// About the cycles of `n` pictures and of packing their weights.
    pub fn cycles(&self, n: usize) -> f64 {
        (n * self.products() + PACK * self.packed_len()) as f64
    }

    /// About the cycles of a picture's products.
    pub fn products(&self) -> usize {
        let pixels = self.output[0] * self.output[1];
        pixels * self.shape.window.kernel[0] * self.padded_width() * self.shape.filters / LANES / 2
    }

    /// Values of a kernel row.
    fn width(&self) -> usize {
        self.shape.window.kernel[1] * self.shape.channels
    }

    fn padded_width(&self) -> usize {
        self.width().next_multiple_of(LANES)
    }

    /// Where a phase's weights start.
    fn phase_start(&self, phase: usize) -> usize {
        let rows: usize = self.met[..phase].iter().map(Vec::len).sum();
        rows * self.shape.filters * self.padded_width()
    }

    /// Packed weights: `[phase][panel][kernel row][filter][lanes of the panel]`.
    pub fn packed_len(&self) -> usize {
        self.phase_start(self.met.len())
    }

    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let ([kh, kw], channels, filters) = (self.shape.window.kernel, self.shape.channels, self.shape.filters);
        let panel = tile::panel(self.wide, self.width());
        let mut out = packed.iter_mut();
        for met in &self.met {
            for start in (0..self.padded_width()).step_by(panel) {
                let lanes = start..(start + panel).min(self.padded_width());
                for (row, filter) in met.iter().flat_map(|&row| (0..filters).map(move |filter| (row, filter))) {
                    let (mut column, mut channel) = (start / channels, start % channels);
                    for (_, out) in lanes.clone().zip(&mut out) {
                        let at = ((filter * channels + channel) * kh + row) * kw + column;
                        *out = if column < kw { weights[at] } else { 0.0 };
                        (channel, column) =
                            if channel + 1 == channels { (0, column + 1) } else { (channel + 1, column) };
                    }
                }
            }
        }
    }

    pub fn workspace_len(&self, threads: usize) -> usize {
        threads * self.copies * self.copy_len
    }

    /// As [`super::DataGradient::run`].
    pub fn run(&self, cpu: &Cpu, n: usize, dy: Pixels, packed: &[f32], dx: PixelsMut, workspace: &mut [f32]) {
        let [height, width] = self.shape.input;
        check_pixels("dy", dy.data.len(), dy.stride, n * self.output[0] * self.output[1], self.shape.filters);
        check_pixels("dx", dx.data.len(), dx.stride, n * height * width, self.shape.channels);
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let needed = self.workspace_len(cpu.pool().threads());
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let (bands, len) = (height.div_ceil(BAND), self.copies * self.copy_len);
        let (workspace, target, stride) = (Shares::new(workspace), Shares::new(dx.data), dx.stride);
        cpu.pool().run_on(n * bands, &|task, thread| {
            let (image, first) = (task / bands, task % bands * BAND);
            // SAFETY: each thread has a part of its own.
            let copies = unsafe { workspace.part(thread * len, len) };
            let rows = first..(first + BAND).min(height);
            dispatch(cpu.isa(), Band { plan: self, dy, packed, target: &target, stride, copies, image, rows });
        });
    }
}

/// A task: some rows of a picture's `dx`.
struct Band<'a> {
    plan: &'a Rows,
    dy: Pixels<'a>,
    packed: &'a [f32],
    target: &'a Shares<f32>,
    stride: usize,
    copies: &'a mut [f32],
    image: usize,
    rows: Range<usize>,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (plan, rows) = (self.plan, self.rows.clone());
        // Between the runs, and beside them, nothing is written: it stays zero for all rows.
        self.copies.fill(0.0);
        let copies = self.copies.as_mut_ptr();
        let window = &plan.shape.window;
        let (stride, dilation) = (window.stride[0] as isize, window.dilation[0] as isize);
        for row in rows {
            let padded = row as isize + window.padding[0];
            let phase = padded.rem_euclid(stride) as usize;
            let met = &plan.met[phase];
            // The output row that a kernel row connects with this one; it falls as the kernel row rises.
            let output = |tap: usize| (padded - met[tap] as isize * dilation) / stride;
            let above = (0..met.len()).take_while(|&tap| padded - met[tap] as isize * dilation >= 0).count();
            let first = (0..above).take_while(|&tap| output(tap) >= plan.output[0] as isize).count();
            // SAFETY: `Rows::run` checked that dy, dx, weights and copies cover what the plan says; tasks write different
            // rows, threads different copies.
            unsafe {
                if first < above {
                    let step = if first + 1 < above { output(first + 1) - output(first) } else { 0 };
                    self.runs(s, copies, phase, first..above, output(first) as usize, step);
                }
                self.add_up(s, copies, row, first < above);
            }
        }
    }
}

impl Band<'_> {
    /// Lays the runs of an output row's pixels into the copies.
    #[inline(always)]
    unsafe fn runs<S: Simd>(&self, s: S, copies: *mut f32, phase: usize, taps: Range<usize>, row: usize, step: isize) {
        let plan = self.plan;
        let ([height, width], filters) = (plan.output, plan.shape.filters);
        let pixels = self.dy.data.as_ptr().wrapping_add((self.image * height + row) * width * self.dy.stride);
        let panel = tile::panel(S::WIDE, plan.width());
        let tiles = width.div_ceil(tile::pixels(S::WIDE, plan.width()));
        let mut rows = [std::ptr::null::<f32>(); MOST_PIXELS];
        for t in 0..tiles {
            let (first, end) = (t * width / tiles, (t + 1) * width / tiles);
            for (i, pixel) in rows.iter_mut().enumerate() {
                *pixel = pixels.wrapping_add((first + i) * self.dy.stride);
            }
            for start in (0..plan.width()).step_by(panel) {
                let lanes = panel.min(plan.padded_width() - start);
                let weights = plan.phase_start(phase) + (plan.met[phase].len() * start + taps.start * lanes) * filters;
                let tile = Tile {
                    rows: rows.as_ptr(),
                    positions: taps.len(),
                    step: Some(step * (width * self.dy.stride) as isize),
                    depth: filters,
                    weights: self.packed.as_ptr().wrapping_add(weights),
                    ahead: Ahead::NOTHING,
                    next: Next::NOTHING,
                    targets: plan.runs[first..end].as_ptr(),
                    output: Output::of_sums(
                        copies.wrapping_add(start),
                        1,
                        LANES - (lanes - (plan.width() - start).min(lanes)),
                    ),
                };
                // SAFETY: handed on from the caller.
                unsafe { tile::run(s, end - first, lanes / LANES, &tile) }
            }
        }
    }

    /// Writes a row of `dx`: the sum of the copies, or zeros where no window met it.
    #[inline(always)]
    unsafe fn add_up<S: Simd>(&self, s: S, copies: *const f32, row: usize, met: bool) {
        let plan = self.plan;
        let ([height, width], channels) = (plan.shape.input, plan.shape.channels);
        let (count, len, first) = (plan.copies, plan.copy_len, plan.first);
        let out = self.target.pointer().wrapping_add((self.image * height + row) * width * self.stride);
        let (runs, run) = if self.stride == channels { (1, width * channels) } else { (width, channels) };
        for r in 0..runs {
            for i in (0..run).step_by(LANES) {
                let mut sum = s.zero();
                // SAFETY: handed on from the caller; copies have a vector more than they need.
                unsafe {
                    if met {
                        for copy in 0..count {
                            sum = s.add(sum, s.load(copies.add(copy * len + first + r * run + i)));
                        }
                    }
                    store_part(s, out.add(r * self.stride + i), sum, LANES.min(run - i));
                }
            }
        }
    }
}
