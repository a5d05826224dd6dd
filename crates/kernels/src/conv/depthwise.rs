//! Depthwise convolution: one filter a channel, so vectors run across channels and there is nothing to broadcast. Groups of
//! four channels and as many filters go the same way: a vector's channels change places within their groups, so that
//! each filter meets each channel of its group in turn.
//!
//! Every output value needs only as many multiply-adds as the kernel has elements, so this is bound by loads. Four
//! neighbouring pixels by two vectors stay in registers, and each tap's weights are loaded once for the four. Where
//! kernel rows have three neighbouring columns, a source pixel is loaded once for all of the four that see it.

use std::ops::Range;

use super::phase::{Phase, Tap};
use super::weight_tile::met;
use super::{Activation, Epilogue, Pixels, PixelsMut, check_output, check_pixels};
use crate::Cpu;
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch, load_part, streams};

/// Pixels of a tile.
const PIXELS: usize = 4;
/// Taps in a table; larger kernels are summed in several passes.
const TAPS: usize = 64;
/// About the values that a task computes: 20 µs of work.
const TASK: usize = 64 << 10;

/// Forward or data gradient of a depthwise convolution, as grids of targets that see the same taps.
pub(super) struct Depthwise {
    source: [usize; 2],
    target: [usize; 2],
    channels: usize,
    /// Channels of a group: 1 or 4.
    each: usize,
    /// Whether the targets are the convolution's inputs.
    turned: bool,
    pub phases: Vec<Phase>,
    taps: usize,
    zeros: Vec<f32>,
}

impl Depthwise {
    /// Whether groups have one channel and one filter, or four of each: the four lanes that a vector can exchange at once.
    pub fn fits(shape: &ConvShape) -> bool {
        shape.groups > 1 && shape.channels == shape.filters && matches!(shape.group_channels(), 1 | 4)
    }

    /// The forward convolution, or, `turned`, its data gradient.
    pub fn new(shape: &ConvShape, turned: bool, phases: Vec<Phase>) -> Depthwise {
        let (channels, each) = (shape.channels, shape.group_channels());
        let (mut source, mut target) = (shape.input, shape.output());
        if turned {
            (source, target) = (target, source);
        }
        let taps = phases.iter().map(|p| p.taps.len()).sum();
        Depthwise { source, target, channels, each, turned, phases, taps, zeros: vec![0.0; channels] }
    }

    pub fn name(&self) -> &'static str {
        if self.each == 1 { "depthwise" } else { "grouped" }
    }

    fn padded_channels(&self) -> usize {
        self.channels.next_multiple_of(LANES)
    }

    /// Packed weights: `[phase][tap][source channel of a group][target channels, rounded up to a vector]`.
    pub fn packed_len(&self) -> usize {
        self.taps * self.each * self.padded_channels()
    }

    pub fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        assert!(packed.len() >= self.packed_len(), "packed weights: {} of {}", packed.len(), self.packed_len());
        let (each, kernel) = (self.each, weights.len() / self.channels / self.each);
        let taps = self.phases.iter().flat_map(|p| &p.taps);
        let rows = taps.flat_map(|tap| (0..each).map(move |source| (tap.kernel, source)));
        for ((tap, source), row) in rows.zip(packed.chunks_mut(self.padded_channels())) {
            row.fill(0.0);
            for (target, row) in row[..self.channels].iter_mut().enumerate() {
                let (inside, group) = (target % each, target - target % each);
                let [filter, channel] = if self.turned { [group + source, inside] } else { [target, source] };
                *row = weights[(filter * each + channel) * kernel + tap];
            }
        }
    }

    /// Computes all targets of `n` pictures.
    pub fn run(&self, cpu: &Cpu, n: usize, source: Pixels, packed: &[f32], epilogue: &Epilogue, target: PixelsMut) {
        let [source_size, target_size] = [self.source, self.target].map(|[h, w]| n * h * w);
        check_pixels("source", source.data.len(), source.stride, source_size, self.channels);
        check_output(&target, epilogue, packed, target_size, self.channels, self.packed_len());
        let stream = self.channels.is_multiple_of(LANES) && streams(target.data.as_ptr(), target_size, target.stride);
        let (target_stride, target) = (target.stride, Shares::new(target.data));
        let mut weights = packed;
        for phase in &self.phases {
            let [rows, columns] = phase.count;
            let band = (TASK / (columns * self.channels).max(1)).clamp(1, rows.max(1));
            let bands = rows.div_ceil(band);
            cpu.pool().run(n * bands, &|task| {
                let (image, first) = (task / bands, task % bands * band);
                dispatch(
                    cpu.isa(),
                    Band {
                        plan: self,
                        phase,
                        image,
                        rows: first..(first + band).min(rows),
                        source: source.data.as_ptr(),
                        source_stride: source.stride,
                        weights,
                        epilogue,
                        target: target.pointer(),
                        target_stride,
                        stream,
                    },
                );
            });
            weights = &weights[phase.taps.len() * self.each * self.padded_channels()..];
        }
    }
}

/// A task: some rows of a phase's grid in one picture.
pub(super) struct Band<'a> {
    pub plan: &'a Depthwise,
    pub phase: &'a Phase,
    pub image: usize,
    pub rows: Range<usize>,
    /// As if every picture were there, of which only what the rows see is read.
    pub source: *const f32,
    pub source_stride: usize,
    pub weights: &'a [f32],
    pub epilogue: &'a Epilogue<'a>,
    /// The same, of which only the rows are written.
    pub target: *mut f32,
    pub target_stride: usize,
    pub stream: bool,
}

/// Some taps of some neighbouring pixels, all channels. Null pointers mean: none.
struct Strip {
    /// Of each tap [`PIXELS`] source pixels; where three columns are read as one, of each kernel row the first.
    rows: [*const f32; TAPS * PIXELS],
    /// Of each kernel row, values from a source pixel to the next: none where zeros are read.
    steps: [usize; TAPS / 3],
    taps: usize,
    weights: *const f32,
    weights_stride: usize,
    /// The first target, and values from it to the next one's.
    target: *mut f32,
    target_step: usize,
    first: bool,
    last: bool,
    /// Whether complete sums are streamed: see [`streams`].
    stream: bool,
    bias: *const f32,
    residual: *const f32,
    residual_step: usize,
    activation: Activation,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut strip = Strip {
            rows: [std::ptr::null(); TAPS * PIXELS],
            steps: [0; TAPS / 3],
            taps: 0,
            weights: self.weights.as_ptr(),
            weights_stride: self.plan.padded_channels(),
            target: self.target,
            target_step: self.phase.step[1] * self.target_stride,
            first: true,
            last: true,
            stream: self.stream,
            bias: self.epilogue.bias.map_or(std::ptr::null(), |b| b.as_ptr()),
            residual: std::ptr::null(),
            residual_step: self.epilogue.residual.map_or(0, |r| self.phase.step[1] * r.stride),
            activation: self.epilogue.activation,
        };
        if self.plan.each == 1 {
            self.rows::<S, 1>(s, &mut strip)
        } else {
            self.rows::<S, 4>(s, &mut strip)
        }
        if self.stream {
            s.fence();
        }
    }
}

impl Phase {
    /// Whether the taps are whole kernel rows of three neighbouring columns.
    pub fn three_columns(&self) -> bool {
        let beside = |a: &Tap, b: &Tap| a.at[0] == b.at[0] && a.at[1] + 1 == b.at[1];
        let (rows, rest) = self.taps.as_chunks::<3>();
        self.taps.len() <= TAPS && rest.is_empty() && rows.iter().all(|[a, b, c]| beside(a, b) && beside(b, c))
    }
}

impl Band<'_> {
    /// With `G` channels a group.
    #[inline(always)]
    fn rows<S: Simd, const G: usize>(&self, s: S, strip: &mut Strip) {
        for row in self.rows.clone() {
            match self.phase.source_step[1] {
                1 if self.phase.three_columns() => self.row::<S, 1, G>(s, row, strip),
                2 if self.phase.three_columns() && G == 1 => self.row::<S, 2, G>(s, row, strip),
                _ => self.row::<S, 0, G>(s, row, strip),
            }
        }
    }

    /// `STEP` is the source step if kernel rows have three columns, else 0.
    #[inline(always)]
    fn row<S: Simd, const STEP: usize, const G: usize>(&self, s: S, row: usize, strip: &mut Strip) {
        let columns = self.phase.count[1];
        // Those whose taps are all inside the picture's columns are four at a time.
        let inside = if STEP > 0 { self.inside() } else { 0..columns };
        let whole = inside.start..inside.end - inside.len() % PIXELS;
        // SAFETY: who made the band checked what it reads and writes; tasks write different rows.
        unsafe {
            for column in 0..whole.start {
                self.strip::<S, 1, G>(s, row, column, strip);
            }
            if STEP > 0 && !whole.is_empty() {
                self.strips_inside::<S, STEP, G>(s, row, whole.clone(), strip);
            } else {
                for column in whole.clone().step_by(PIXELS) {
                    self.strip::<S, PIXELS, G>(s, row, column, strip);
                }
            }
            for column in whole.end..columns {
                self.strip::<S, 1, G>(s, row, column, strip);
            }
        }
    }

    /// The columns whose taps are all inside the picture's.
    fn inside(&self) -> Range<usize> {
        let (step, width) = (self.phase.source_step[1], self.plan.source[1]);
        let mut inside = 0..self.phase.count[1];
        for tap in &self.phase.taps {
            inside = met(inside, step, tap.at[1], width);
        }
        inside.start.min(inside.end)..inside.end
    }

    /// Where pixels from the given one on are written, and what is added to them.
    #[inline(always)]
    fn place(&self, row: usize, column: usize, strip: &mut Strip) {
        let (plan, phase) = (self.plan, self.phase);
        let pixel = (self.image * plan.target[0] + phase.start[0] + row * phase.step[0]) * plan.target[1]
            + phase.start[1]
            + column * phase.step[1];
        strip.target = self.target.wrapping_add(pixel * self.target_stride);
        if let Some(residual) = self.epilogue.residual {
            strip.residual = residual.data.as_ptr().wrapping_add(pixel * residual.stride);
        }
    }

    /// Pixels whose taps are all inside the picture's columns, four at a time.
    ///
    /// # Safety
    /// The columns are as said; source and target are valid for what the row sees.
    #[inline(always)]
    unsafe fn strips_inside<S: Simd, const STEP: usize, const G: usize>(
        &self,
        s: S,
        row: usize,
        columns: Range<usize>,
        strip: &mut Strip,
    ) {
        let (plan, [height, width], column) = (self.plan, self.plan.source, columns.start);
        let kernel_rows = self.phase.taps.len() / 3;
        self.place(row, column, strip);
        (strip.taps, strip.first, strip.last) = (3 * kernel_rows, true, true);
        for r in 0..kernel_rows {
            let [y, x] = self.phase.taps[3 * r].at;
            let y = (row * self.phase.source_step[0]).wrapping_add_signed(y);
            let x = (column * STEP).wrapping_add_signed(x);
            (strip.rows[r], strip.steps[r]) = (plan.zeros.as_ptr(), 0);
            if y < height {
                let pixel = (self.image * height + y) * width + x;
                strip.rows[r] = self.source.wrapping_add(pixel * self.source_stride);
                strip.steps[r] = self.source_stride;
            }
        }
        for _ in columns.step_by(PIXELS) {
            // SAFETY: the addresses are of pixels of `channels` values each.
            unsafe { strip.channels::<S, PIXELS, STEP, G>(s, plan.channels) };
            for r in 0..kernel_rows {
                strip.rows[r] = strip.rows[r].wrapping_add(PIXELS * STEP * strip.steps[r]);
            }
            strip.target = strip.target.wrapping_add(PIXELS * strip.target_step);
            strip.residual = strip.residual.wrapping_add(PIXELS * strip.residual_step);
        }
    }

    #[inline(always)]
    unsafe fn strip<S: Simd, const P: usize, const G: usize>(
        &self,
        s: S,
        row: usize,
        column: usize,
        strip: &mut Strip,
    ) {
        let (plan, phase) = (self.plan, self.phase);
        self.place(row, column, strip);
        let passes = phase.taps.len().div_ceil(TAPS).max(1);
        for pass in 0..passes {
            let taps = &phase.taps[pass * TAPS..((pass + 1) * TAPS).min(phase.taps.len())];
            for (t, tap) in taps.iter().enumerate() {
                for p in 0..P {
                    strip.rows[t * PIXELS + p] = self.address(tap, row, column + p);
                }
            }
            strip.taps = taps.len();
            strip.weights = self.weights.as_ptr().wrapping_add(pass * TAPS * G * strip.weights_stride);
            (strip.first, strip.last) = (pass == 0, pass + 1 == passes);
            // SAFETY: the tables hold addresses of `channels` values each.
            unsafe { strip.channels::<S, P, 0, G>(s, plan.channels) };
        }
    }

    /// The source pixel that the tap meets.
    #[inline(always)]
    fn address(&self, tap: &Tap, row: usize, column: usize) -> *const f32 {
        let [height, width] = self.plan.source;
        let y = (row * self.phase.source_step[0]).wrapping_add_signed(tap.at[0]);
        let x = (column * self.phase.source_step[1]).wrapping_add_signed(tap.at[1]);
        if y < height && x < width {
            let pixel = (self.image * height + y) * width + x;
            self.source.wrapping_add(pixel * self.source_stride)
        } else {
            self.plan.zeros.as_ptr()
        }
    }
}

/// Lane `i` of each `G` neighbouring lanes, in all of them.
#[inline(always)]
pub(super) fn of_group<S: Simd, const G: usize>(s: S, x: S::V, i: usize) -> S::V {
    match (G, i) {
        (4, 0) => s.pick::<0b00_00_00_00>(x),
        (4, 1) => s.pick::<0b01_01_01_01>(x),
        (4, 2) => s.pick::<0b10_10_10_10>(x),
        (4, _) => s.pick::<0b11_11_11_11>(x),
        _ => x,
    }
}

impl Strip {
    #[inline(always)]
    unsafe fn channels<S: Simd, const P: usize, const STEP: usize, const G: usize>(&self, s: S, channels: usize) {
        let mut c = 0;
        // SAFETY: handed on from the caller; the last vector reads and writes only the channels that exist.
        unsafe {
            if S::WIDE && G == 1 {
                while c + 2 * LANES <= channels {
                    self.vectors::<S, P, 2, STEP, G>(s, c, LANES);
                    c += 2 * LANES;
                }
            }
            while c + LANES <= channels {
                self.vectors::<S, P, 1, STEP, G>(s, c, LANES);
                c += LANES;
            }
            if c < channels {
                self.vectors::<S, P, 1, STEP, G>(s, c, channels - c);
            }
        }
    }

    #[inline(always)]
    unsafe fn vectors<S: Simd, const P: usize, const NV: usize, const STEP: usize, const G: usize>(
        &self,
        s: S,
        c: usize,
        lanes: usize,
    ) {
        let mut acc = [[s.zero(); NV]; P];
        // SAFETY: handed on from the caller.
        unsafe {
            if !self.first {
                for p in 0..P {
                    for v in 0..NV {
                        acc[p][v] = s.load_n(self.target.add(p * self.target_step + c + v * LANES).cast_const(), lanes);
                    }
                }
            }
            if STEP > 0 {
                for r in 0..self.taps / 3 {
                    for v in 0..NV {
                        let at = c + v * LANES;
                        let mut w = [[s.zero(); G]; 3];
                        for k in 0..3 {
                            for i in 0..G {
                                w[k][i] = s.load(self.weights.add(((3 * r + k) * G + i) * self.weights_stride + at));
                            }
                        }
                        for j in 0..(P - 1) * STEP + 3 {
                            let x = load_part(s, self.rows[r].add(j * self.steps[r] + at), lanes);
                            for i in 0..G {
                                let x = of_group::<S, G>(s, x, i);
                                for k in 0..3 {
                                    if j >= k && (j - k).is_multiple_of(STEP) && (j - k) / STEP < P {
                                        let p = (j - k) / STEP;
                                        acc[p][v] = s.fma(x, w[k][i], acc[p][v]);
                                    }
                                }
                            }
                        }
                    }
                }
            } else {
                for t in 0..self.taps {
                    for v in 0..NV {
                        let mut w = [s.zero(); G];
                        for i in 0..G {
                            w[i] = s.load(self.weights.add((t * G + i) * self.weights_stride + c + v * LANES));
                        }
                        for p in 0..P {
                            let x = load_part(s, self.rows[t * PIXELS + p].add(c + v * LANES), lanes);
                            for i in 0..G {
                                acc[p][v] = s.fma(of_group::<S, G>(s, x, i), w[i], acc[p][v]);
                            }
                        }
                    }
                }
            }
            // By constant numbers, so that the sums stay in registers until here. P is 1 or 4.
            self.finish(s, 0, c, lanes, acc[0]);
            if P > 1 {
                self.finish(s, 1, c, lanes, acc[P / 4]);
                self.finish(s, 2, c, lanes, acc[P / 2]);
                self.finish(s, 3, c, lanes, acc[P - 1]);
            }
        }
    }

    /// Bias, residual and activation of the sums of pixel `p`, and their way to memory.
    #[inline(always)]
    unsafe fn finish<S: Simd, const NV: usize>(&self, s: S, p: usize, c: usize, lanes: usize, sums: [S::V; NV]) {
        // SAFETY: handed on from the caller.
        unsafe {
            for v in 0..NV {
                let at = c + v * LANES;
                let mut y = sums[v];
                if self.last {
                    if !self.bias.is_null() {
                        y = s.add(y, s.load_n(self.bias.add(at), lanes));
                    }
                    if !self.residual.is_null() {
                        y = s.add(y, s.load_n(self.residual.add(p * self.residual_step + at), lanes));
                    }
                    y = self.activation.apply(s, y);
                }
                let out = self.target.add(p * self.target_step + at);
                if lanes < LANES {
                    s.store_n(out, y, lanes);
                } else if self.stream && self.last {
                    s.stream(out, y);
                } else {
                    s.store(out, y);
                }
            }
        }
    }
}
