//! The gradient with respect to the input.

use super::choice::{Pass, pays};
use super::col2im::Col2im;
use super::depthwise::Depthwise;
use super::indirect::{Indirect, WeightSteps};
use super::phase::{Phase, Tap};
use super::planar::{self, Beside, Planar};
use super::rows::Rows;
use super::whole::Whole;
use super::widened::Widened;
use super::winograd::{self, Product};
use super::{Epilogue, Pixels, PixelsMut};
use crate::elementwise::{self, Extent, View, ViewMut};
use crate::geometry::{ConvShape, Window};
use crate::simd::LANES;
use crate::{Cpu, Isa};

/// The data gradient of a convolution of fixed shapes, for any batch size.
pub struct DataGradient {
    algorithm: Algorithm,
}

enum Algorithm {
    Indirect(Indirect),
    Planar(Planar),
    Depthwise(Depthwise),
    Rows(Rows),
    Winograd(Product),
    Col2im(Col2im),
    /// That of a convolution with fewer groups.
    Widened(Widened, Box<DataGradient>),
}

impl DataGradient {
    /// Plans the data gradient of the convolution `shape`; `isa` and `exact` as in [`super::Forward::new`].
    pub fn new(shape: &ConvShape, isa: Isa, exact: bool) -> DataGradient {
        if let (Some(_), Some(plan)) = (Whole::new(shape), Col2im::new(shape)) {
            return DataGradient { algorithm: Algorithm::Col2im(plan) };
        }
        let winograd = |shape: &ConvShape| {
            DataGradient::winograd(shape, isa).filter(|_| !exact && pays(shape, Pass::DataGradient))
        };
        if let Some(winograd) = winograd(shape) {
            return winograd;
        }
        let more = Widened::more_groups(shape).filter(|widened| winograd(&widened.shape()).is_some());
        let joined = Widened::targets(shape, shape.group_channels(), across_channels);
        let weights = weight_steps(shape);
        let indirect = |shape: &ConvShape| {
            Indirect::new(shape.output(), shape.input, groups(shape), phases(shape), weight_steps(shape), isa)
        };
        let wider = joined.map_or(*shape, |widened| widened.shape());
        // The mean of one picture's, and one of many.
        let (one, of_many) = (across_channels(&wider), indirect(&wider).by_position_cycles());
        let elsewhere = one.min((one as f64 * of_many as f64).sqrt() as usize);
        let rows = Rows::new(shape, isa);
        let planar = Planar::new(shape.output(), shape.input, groups(shape), &phases(shape), weights, elsewhere);
        // The rows' estimate counts products alone.
        let planar = planar.filter(|plan| rows.as_ref().is_none_or(|rows| plan.cycles() * 4 < rows.products() * 5));
        let algorithm = if Depthwise::fits(shape) {
            Algorithm::Depthwise(Depthwise::new(shape, true, phases(shape)))
        } else if let Some(plan) = planar.filter(|_| more.is_none()) {
            Algorithm::Planar(plan)
        } else if let Some(widened) = more.or(joined) {
            Algorithm::Widened(widened, Box::new(DataGradient::new(&widened.shape(), isa, exact)))
        } else if let Some(plan) = rows {
            Algorithm::Rows(plan)
        } else {
            Algorithm::Indirect(indirect(shape))
        };
        let col2im = Col2im::new(shape).filter(|plan| {
            plan.pays(|n| match &algorithm {
                Algorithm::Indirect(plan) => plan.cycles(n),
                Algorithm::Rows(plan) => plan.cycles(n),
                _ => 0.0,
            })
        });
        DataGradient { algorithm: col2im.map_or(algorithm, Algorithm::Col2im) }
    }

    /// Winograd's form where it is possible, as [`super::Forward::winograd`].
    pub fn winograd(shape: &ConvShape, isa: Isa) -> Option<DataGradient> {
        let Window { kernel: [kernel, _], dilation, padding, .. } = shape.window;
        let plan = || Product {
            source: shape.output(),
            tiling: winograd::Tiling::new(shape.input, kernel, dilation),
            groups: shape.groups,
            depth: shape.group_filters(),
            width: shape.group_channels(),
            start: [0, 1].map(|i| padding[i] - (dilation[i] * (kernel - 1)) as isize),
            weights: weight_steps(shape),
            turned: true,
            isa,
            zeros: vec![0.0; shape.filters],
        };
        winograd::gradients_fit(shape).then(|| DataGradient { algorithm: Algorithm::Winograd(plan()) })
    }

    /// The name of the kernel that was chosen.
    pub fn kernel(&self) -> &'static str {
        match &self.algorithm {
            Algorithm::Indirect(_) => "indirect",
            Algorithm::Planar(_) => "planar",
            Algorithm::Depthwise(plan) => plan.name(),
            Algorithm::Rows(_) => "rows",
            Algorithm::Winograd(_) => "winograd",
            Algorithm::Col2im(_) => "col2im",
            Algorithm::Widened(..) => "widened",
        }
    }

    /// Values of the packed weights, which lead the scratch memory.
    fn packed_len(&self) -> usize {
        let len = match &self.algorithm {
            Algorithm::Indirect(plan) => plan.packed_len(),
            Algorithm::Planar(plan) => plan.packed_len(),
            Algorithm::Depthwise(plan) => plan.packed_len(),
            Algorithm::Rows(plan) => plan.packed_len(),
            Algorithm::Winograd(_) | Algorithm::Col2im(_) => 0,
            Algorithm::Widened(widened, _) => widened.shape().weights(),
        };
        len.next_multiple_of(LANES)
    }

    /// Values of scratch memory that [`DataGradient::run`] needs.
    pub fn workspace_len(&self, batch: usize, threads: usize) -> usize {
        let packed = self.packed_len();
        match &self.algorithm {
            Algorithm::Indirect(_) | Algorithm::Depthwise(_) => packed,
            Algorithm::Planar(plan) => packed + plan.workspace_len(threads),
            Algorithm::Rows(plan) => packed + plan.workspace_len(threads),
            Algorithm::Winograd(plan) => plan.plain_workspace_len(batch, threads),
            Algorithm::Col2im(plan) => plan.workspace_len(threads),
            Algorithm::Widened(_, wider) => packed + wider.workspace_len(batch, threads),
        }
    }

    /// Writes every element of `dx` (`n · H · W` pixels of all channels) from `dy` (`n · OH · OW` pixels of all filters) and
    /// weights `[filters, channels / groups, rows, columns]`; inputs that no window saw get zeros. `added`, pixels as those of
    /// `dx`, is another gradient of the same input, which is added to this one.
    ///
    /// # Panics
    /// A slice is too short or a stride below the channels: a defect of the plan.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        dy: Pixels,
        weights: &[f32],
        added: Option<Pixels>,
        dx: PixelsMut,
        workspace: &mut [f32],
    ) {
        let epilogue = Epilogue { residual: added, ..Epilogue::default() };
        let needed = self.workspace_len(n, cpu.pool().threads());
        assert!(workspace.len() >= needed, "workspace: {} values of {needed}", workspace.len());
        let (packed, rest) = workspace.split_at_mut(self.packed_len());
        match &self.algorithm {
            Algorithm::Indirect(plan) => {
                plan.pack(cpu, weights, packed);
                plan.run(cpu, n, dy, packed, &epilogue, dx, &mut []);
            }
            Algorithm::Planar(plan) => {
                plan.pack(weights, packed);
                plan.run(cpu, n, dy, packed, &epilogue, dx, rest);
            }
            Algorithm::Depthwise(plan) => {
                plan.pack(weights, packed);
                plan.run(cpu, n, dy, packed, &epilogue, dx);
            }
            Algorithm::Rows(plan) => {
                plan.pack(weights, packed);
                plan.run(cpu, n, dy, packed, PixelsMut { data: &mut *dx.data, ..dx }, rest);
                add(cpu, &plan.shape, n, added, dx);
            }
            Algorithm::Winograd(plan) => plan.run(cpu, n, dy, winograd::Weights::Plain(weights), &epilogue, dx, rest),
            Algorithm::Col2im(plan) => {
                plan.run(cpu, n, dy, weights, PixelsMut { data: &mut *dx.data, ..dx }, rest);
                add(cpu, &plan.shape, n, added, dx);
            }
            Algorithm::Widened(widened, wider) => {
                let expanded = &mut packed[..widened.shape().weights()];
                widened.expand(weights, expanded);
                wider.run(cpu, n, dy, expanded, added, dx, rest);
            }
        }
    }
}

/// Adds another gradient of `n` inputs.
fn add(cpu: &Cpu, shape: &ConvShape, n: usize, added: Option<Pixels>, dx: PixelsMut) {
    let Some(added) = added else { return };
    let extent = Extent { samples: n, pixels: shape.input[0] * shape.input[1], channels: shape.channels };
    let (added, dx) = (View::strided(added.data, added.stride), ViewMut::strided(dx.data, dx.stride));
    elementwise::add(cpu, extent, None, added, false, dx);
}

/// Groups, and a group's source and target channels.
fn groups(shape: &ConvShape) -> [usize; 3] {
    [shape.groups, shape.group_filters(), shape.group_channels()]
}

/// About the cycles of a picture by vectors of channels.
fn across_channels(shape: &ConvShape) -> usize {
    planar::across_channels(&phases(shape), groups(shape), Beside::LookedUp)
}

/// Its sums run over filters, and its outputs are channels.
fn weight_steps(shape: &ConvShape) -> WeightSteps {
    let taps = shape.window.kernel[0] * shape.window.kernel[1];
    WeightSteps {
        group: shape.group_filters() * shape.group_channels() * taps,
        depth: shape.group_channels() * taps,
        width: taps,
        channels: shape.group_filters(),
    }
}

/// Input row i meets kernel row r where i + padding − r · dilation = stride · o for an output row o, and so for columns:
/// for each remainder of i by the stride the same kernel rows meet, and o moves on by one while i moves on by the stride.
fn phases(shape: &ConvShape) -> Vec<Phase> {
    let window = &shape.window;
    let kw = window.kernel[1];
    // The kernel elements that meet remainder `start`, with output offsets; in descending order, so that offsets ascend.
    let met = |axis: usize, start: usize| -> Vec<(isize, usize)> {
        let stride = window.stride[axis] as isize;
        let offset = |tap: usize| start as isize + window.padding[axis] - (tap * window.dilation[axis]) as isize;
        let meets = |&tap: &usize| offset(tap).rem_euclid(stride) == 0;
        (0..window.kernel[axis]).rev().filter(meets).map(|tap| (offset(tap).div_euclid(stride), tap)).collect()
    };
    let mut phases = Vec::new();
    for row in 0..window.stride[0].min(shape.input[0]) {
        for column in 0..window.stride[1].min(shape.input[1]) {
            let (rows, columns) = (met(0, row), met(1, column));
            let taps = rows
                .iter()
                .flat_map(|&(y, r)| columns.iter().map(move |&(x, s)| Tap { at: [y, x], kernel: r * kw + s }));
            let taps: Vec<Tap> = taps.collect();
            phases.push(Phase {
                start: [row, column],
                step: window.stride,
                count: [
                    (shape.input[0] - row).div_ceil(window.stride[0]),
                    (shape.input[1] - column).div_ceil(window.stride[1]),
                ],
                source_step: [1, 1],
                taps,
            });
        }
    }
    phases
}
