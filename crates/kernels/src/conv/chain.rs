//! Inverted residual blocks: a pointwise convolution that widens, a depthwise one, a pointwise one that narrows.
//!
//! One after the other, the two wide maps between them go to memory and come back: 112x112x96 is 4.8 MB a picture, which fits
//! no second-level cache. Here a task walks down a picture's rows and keeps the few rows of the wide maps that it is at in
//! memory of its own thread: it widens the source rows that the next output rows see, all but those that it has, takes the
//! depthwise sums of them, and narrows these into the output.
//!
//! Each row goes through the blocks and bands of the three kernels as they are, so the bits are those of one convolution
//! after the other.

use std::ops::Range;
use std::sync::Arc;

use super::depthwise::{Band, Depthwise};
use super::forward::{Algorithm, Forward};
use super::indirect::Indirect;
use super::{Epilogue, Pixels, PixelsMut, check_output, check_pixels, check_weights};
use crate::geometry::ConvShape;
use crate::pool::Shares;
use crate::simd::{Kernel, LANES, Simd, dispatch};
use crate::{Cpu, Isa};

/// Values of a thread's rows of the wide maps: 384 KB of the second-level cache.
const ROOM: usize = 96 << 10;
/// Most tasks a thread where there are few pictures.
const TASKS: usize = 4;

/// A chain of two or three convolutions of fixed shapes, for any batch size.
pub struct Chain {
    /// In their order.
    stages: Vec<Arc<Forward>>,
    shapes: Vec<ConvShape>,
    /// Output rows computed at a time.
    step: usize,
}

impl Chain {
    /// Whether these convolutions are a chain: pointwise or not at all, depthwise, pointwise, each reading the one before.
    pub fn fits(shapes: &[ConvShape]) -> bool {
        let pointwise = |shape: &ConvShape| {
            let window = &shape.window;
            window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0; 4] && shape.groups == 1
        };
        let depthwise = |shape: &ConvShape| Depthwise::fits(shape) && shape.group_channels() == 1;
        let follow = shapes.windows(2).all(|w| w[0].filters == w[1].channels && w[0].output() == w[1].input);
        let kinds = match shapes {
            [filter, project] => depthwise(filter) && pointwise(project),
            [expand, filter, project] => pointwise(expand) && depthwise(filter) && pointwise(project),
            _ => false,
        };
        kinds && follow
    }

    /// Plans a chain of convolutions; `isa` is that of the [`Cpu`] it will run on.
    ///
    /// # Panics
    /// The shapes do not [fit](Chain::fits).
    pub fn new(shapes: &[ConvShape], isa: Isa) -> Chain {
        assert!(Chain::fits(shapes), "not a chain: {shapes:?}");
        let stages = shapes.iter().map(|shape| Arc::new(Forward::plain(shape, isa))).collect();
        let mut chain = Chain { stages, shapes: shapes.to_vec(), step: 1 };
        let fits = |&rows: &usize| chain.wide(rows).iter().sum::<usize>() <= ROOM;
        chain.step = (1..=chain.middle().output()[0]).take_while(fits).last().unwrap_or(1);
        chain
    }

    /// The convolutions, which pack their weights.
    pub fn stages(&self) -> &[Arc<Forward>] {
        &self.stages
    }

    /// What widens, filters depthwise and narrows. The first is absent where the second reads the chain's input.
    fn plans(&self) -> (Option<&Indirect>, &Depthwise, &Indirect) {
        let algorithms = |i: usize| self.stages.get(i).map(|stage| &stage.algorithm);
        match (algorithms(0), algorithms(1), algorithms(2)) {
            (Some(Algorithm::Indirect(a)), Some(Algorithm::Depthwise(b)), Some(Algorithm::Indirect(c))) => {
                (Some(a), b, c)
            }
            (Some(Algorithm::Depthwise(b)), Some(Algorithm::Indirect(c)), None) => (None, b, c),
            _ => unreachable!("a chain of other kernels"),
        }
    }

    /// The depthwise convolution.
    fn middle(&self) -> &ConvShape {
        &self.shapes[self.shapes.len() - 2]
    }

    /// Rows of the depthwise convolution's input that some of its output rows see.
    fn seen(&self, rows: &Range<usize>) -> Range<usize> {
        let (window, height) = (&self.middle().window, self.middle().input[0]);
        let inside = |row: usize| row.saturating_add_signed(-window.padding[0]).min(height);
        let start = inside(rows.start * window.stride[0]);
        start..inside((rows.end - 1) * window.stride[0] + window.span()[0]).max(start)
    }

    /// Values of so many output rows' wide maps: widened, and depthwise.
    fn wide(&self, rows: usize) -> [usize; 2] {
        let (shape, window) = (self.middle(), &self.middle().window);
        let seen = ((rows - 1) * window.stride[0] + window.span()[0]).min(shape.input[0]);
        let widened = if self.shapes.len() == 3 { seen * shape.input[1] * shape.channels } else { 0 };
        [widened, rows * shape.output()[1] * shape.channels].map(|len| len.next_multiple_of(LANES))
    }

    /// Output rows of a task: those with which all threads are ready first. More tasks are shared out more evenly, but each
    /// widens rows that its neighbours widen too.
    fn rows(&self, n: usize, threads: usize) -> usize {
        let (middle, [height, width]) = (self.middle(), self.middle().output());
        let (narrow, filters) = (self.shapes[0].channels, self.shapes[self.shapes.len() - 1].filters);
        let taps: usize = middle.window.kernel.iter().product();
        let most = if threads == 1 { 1 } else { (TASKS * threads).div_ceil(n.max(1)).min(height) };
        let time = |rows: &usize| {
            let [widened, _] = self.wide(*rows);
            // A task's products for a channel of the wide maps.
            let products = widened / middle.channels * narrow + rows * width * (taps + filters);
            (n * height.div_ceil(*rows)).div_ceil(threads) * products
        };
        (1..=most).map(|parts| height.div_ceil(parts)).min_by_key(time).unwrap_or(height)
    }

    /// Values of scratch memory that [`Chain::run`] needs.
    pub fn workspace_len(&self, threads: usize) -> usize {
        threads * self.wide(self.step).iter().sum::<usize>()
    }

    /// The convolutions of `n` pictures one after the other, each with its packed weights and what follows it; only the last
    /// may have a residual.
    ///
    /// # Panics
    /// A slice is too short or a stride below the channels: a defect of the plan.
    pub fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        stages: &[(&[f32], Epilogue)],
        y: PixelsMut,
        workspace: &mut [f32],
    ) {
        let (first, last) = (&self.shapes[0], &self.shapes[self.shapes.len() - 1]);
        let pixels = |[height, width]: [usize; 2]| n * height * width;
        check_pixels("x", x.data.len(), x.stride, pixels(first.input), first.channels);
        assert_eq!(stages.len(), self.shapes.len(), "stages");
        let [before @ .., (weights, epilogue)] = stages else { unreachable!("as many as shapes") };
        check_output(&y, epilogue, weights, pixels(last.input), last.filters, self.stages[before.len()].packed_len());
        for (((weights, epilogue), stage), shape) in before.iter().zip(&self.stages).zip(&self.shapes) {
            assert!(epilogue.residual.is_none(), "a residual inside a chain");
            check_weights(epilogue, weights, shape.filters, stage.packed_len());
        }
        let threads = cpu.pool().threads();
        let needed = self.workspace_len(threads);
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let height = last.input[0];
        let rows = self.rows(n, threads);
        let parts = height.div_ceil(rows);
        let (len, stride) = (needed / threads, y.stride);
        let (y, workspace) = (Shares::new(y.data), Shares::new(workspace));
        cpu.pool().run_on(n * parts, &|task, thread| {
            let (image, start) = (task / parts, task % parts * rows);
            // SAFETY: each thread has a part of its own.
            let own = unsafe { workspace.part(thread * len, len) };
            let (widened, sums) = own.split_at_mut(self.wide(self.step)[0]);
            let rows = start..(start + rows).min(height);
            let y = y.pointer();
            dispatch(cpu.isa(), Task { chain: self, image, rows, x, stages, widened, sums, y, y_stride: stride });
        });
    }
}

/// Some output rows of a picture.
struct Task<'a> {
    chain: &'a Chain,
    image: usize,
    rows: Range<usize>,
    x: Pixels<'a>,
    stages: &'a [(&'a [f32], Epilogue<'a>)],
    /// The thread's rows of the wide maps.
    widened: &'a mut [f32],
    sums: &'a mut [f32],
    y: *mut f32,
    y_stride: usize,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Task { chain, image, x, stages, .. } = self;
        let (expand, depthwise, project) = chain.plans();
        let (shape, [_, columns]) = (chain.middle(), chain.middle().output());
        let ([height, width], channels) = (shape.input, shape.channels);
        let [.., (filters, after_depthwise), (weights, after_project)] = stages else { return };
        let x_pixels = x.data.as_ptr().wrapping_add(image * height * width * x.stride);
        let first = image * project.target[0] * columns;
        let residual = after_project.residual.map(|r| Pixels { data: &r.data[first * r.stride..], ..r });
        let after_project = Epilogue { residual, ..*after_project };
        let y = self.y.wrapping_add(first * self.y_stride);
        let mut held = 0..0;
        for start in self.rows.clone().step_by(chain.step) {
            let rows = start..(start + chain.step).min(self.rows.end);
            let (mut source, mut source_stride) = (x_pixels, x.stride);
            if let (Some(plan), [(weights, epilogue), ..]) = (expand, stages) {
                let (seen, row) = (chain.seen(&rows), width * channels);
                if held.end > seen.start {
                    self.widened.copy_within((seen.start - held.start) * row..(held.end - held.start) * row, 0);
                }
                // As if the whole picture's rows were there.
                let target = self.widened.as_mut_ptr().wrapping_sub(seen.start * row);
                let mut block = plan.block(x_pixels, x.stride, weights, epilogue, target, channels);
                block.pixels = held.end.max(seen.start) * width..seen.end * width;
                s.call(block);
                (source, source_stride, held) = (target, channels, seen);
            }
            let sums = self.sums.as_mut_ptr().wrapping_sub(start * columns * channels);
            s.call(Band {
                plan: depthwise,
                grid: &depthwise.grids[0],
                image: 0,
                rows: rows.clone(),
                source,
                source_stride,
                weights: filters,
                epilogue: after_depthwise,
                target: sums,
                target_stride: channels,
                stream: false,
            });
            let mut block = project.block(sums, channels, weights, &after_project, y, self.y_stride);
            block.pixels = rows.start * columns..rows.end * columns;
            s.call(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Activation;
    use super::super::tests::numbers;
    use super::*;
    use crate::against_reference::common::{cases, cpus_of};
    use crate::geometry::Window;

    /// The last convolution's output of `n` pictures, computed by three kernels and by the chain, with a gap of two values
    /// between the pixels of x, residual and y. NaN stands wherever nothing may be read.
    fn both(cpu: &Cpu, shapes: &[ConvShape], n: usize, step: usize, bias: bool, residual: bool) -> [Vec<f32>; 2] {
        let pixels = |[height, width]: [usize; 2]| n * height * width;
        let (first, last, wide) = (&shapes[0], &shapes[shapes.len() - 1], shapes[shapes.len() - 1].channels);
        let mut chain = Chain::new(shapes, cpu.isa());
        chain.step = step.min(last.input[0]);
        let pack = |forward: &Forward, i: usize| {
            let mut packed = vec![f32::NAN; forward.packed_len()];
            forward.pack(cpu, &numbers(i as u64, shapes[i].weights()), &mut packed);
            packed
        };
        let biases: Vec<Vec<f32>> = (0..3).map(|i| numbers(i + 5, wide + last.filters)).collect();
        let add = numbers(10, pixels(last.input) * (last.filters + 2));
        let add = residual.then_some(Pixels { data: &add, stride: last.filters + 2 });
        let epilogue = |i: usize| {
            let end = i + 1 == shapes.len();
            let (bias, residual) = (bias.then_some(&biases[i][..]), add.filter(|_| end));
            Epilogue { bias, residual, activation: if end { Activation::None } else { Activation::Relu6 } }
        };
        let input = numbers(11, pixels(first.input) * (first.channels + 2));
        let (mut x, mut stride) = (input.clone(), first.channels + 2);
        for (i, shape) in shapes.iter().enumerate() {
            let forward = Forward::new(shape, cpu.isa(), false);
            let out = if i + 1 == shapes.len() { shape.filters + 2 } else { shape.filters };
            let mut y = vec![f32::NAN; pixels(shape.output()) * out];
            let (source, target) = (Pixels { data: &x, stride }, PixelsMut { data: &mut y, stride: out });
            let mut workspace = vec![f32::NAN; forward.workspace_len(cpu.pool().threads())];
            forward.run(cpu, n, source, &pack(&forward, i), &epilogue(i), target, &mut workspace);
            (x, stride) = (y, out);
        }
        let packed: Vec<Vec<f32>> = chain.stages().iter().enumerate().map(|(i, stage)| pack(stage, i)).collect();
        let stages: Vec<(&[f32], Epilogue)> = packed.iter().enumerate().map(|(i, p)| (&p[..], epilogue(i))).collect();
        let mut workspace = vec![f32::NAN; chain.workspace_len(cpu.pool().threads())];
        let mut y = vec![f32::NAN; x.len()];
        let source = Pixels { data: &input, stride: first.channels + 2 };
        chain.run(cpu, n, source, &stages, PixelsMut { data: &mut y, stride: last.filters + 2 }, &mut workspace);
        [x, y]
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    prop_compose! {
        fn any_chain()(
            channels in 1usize..20, wide in 2usize..70, filters in 1usize..40, expands in any::<bool>(),
            input in [1usize..20, 1usize..20], kernel in [1usize..5, 1usize..5], stride in [1usize..4, 1usize..4],
            dilation in [1usize..3, 1usize..3], padding in [-2isize..4, -2isize..4, -2isize..4, -2isize..4],
        ) -> Vec<ConvShape> {
            let pointwise = Window::new([1, 1]);
            let window = Window { kernel, stride, dilation, padding };
            let size = window.output(input).unwrap_or_default();
            let expand = ConvShape { input, channels, filters: wide, groups: 1, window: pointwise };
            let depthwise = ConvShape { input, channels: wide, filters: wide, groups: wide, window };
            let project = ConvShape { input: size, channels: wide, filters, groups: 1, window: pointwise };
            [expand, depthwise, project][usize::from(!expands)..].to_vec()
        }
    }

    proptest! {
        #![proptest_config(cases(256))]
        #[test]
        fn a_chain_gives_the_bits_of_its_convolutions(
            shapes in any_chain(), n in 1usize..4, step in 1usize..8, threads in 1usize..4, bias in any::<bool>(),
            residual in any::<bool>(),
        ) {
            let size = shapes[shapes.len() - 1].input;
            prop_assume!(size[0] > 0 && size[1] > 0 && Chain::fits(&shapes));
            for cpu in cpus_of(threads) {
                let [one_by_one, chained] = both(&cpu, &shapes, n, step, bias, residual);
                prop_assert!(bits(&one_by_one) == bits(&chained), "{} with {threads} threads", cpu.isa());
            }
        }
    }

    #[test]
    fn blocks_of_mobilenet_go_row_by_row() {
        for (size, stride, wide, rows) in [(112, 2, 96, 3), (56, 1, 144, 5), (56, 2, 144, 4), (28, 1, 192, 8)] {
            let window = Window { stride: [stride; 2], padding: [1; 4], ..Window::new([3, 3]) };
            let (pointwise, input) = (Window::new([1, 1]), [size; 2]);
            let expand = ConvShape { input, channels: 24, filters: wide, groups: 1, window: pointwise };
            let depthwise = ConvShape { input, channels: wide, filters: wide, groups: wide, window };
            let input = depthwise.output();
            let project = ConvShape { input, channels: wide, filters: 24, groups: 1, window: pointwise };
            let shapes = [expand, depthwise, project];
            for cpu in cpus_of(2) {
                assert_eq!(Chain::new(&shapes, cpu.isa()).step, rows);
                let [one_by_one, chained] = both(&cpu, &shapes, 1, rows, true, stride == 1);
                assert!(bits(&one_by_one) == bits(&chained), "{size}x{size} on {}", cpu.isa());
            }
        }
    }
}
