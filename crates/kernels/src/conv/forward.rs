//! Forward convolution.

use super::choice::{Pass, pays};
use super::depthwise::Depthwise;
use super::indirect::{Indirect, WeightSteps};
use super::padded::Padded;
use super::phase::{Phase, Tap};
use super::planar::{self, Beside, Planar};
use super::whole::Whole;
use super::widened::{MOST_LANES, Widened};
use super::winograd::{self, Product};
use super::{Epilogue, Pixels, PixelsMut};
use crate::geometry::ConvShape;
use crate::simd::LANES;
use crate::{Cpu, Isa};

/// A forward convolution of fixed shapes, for any batch size.
pub struct Forward {
    pub(super) algorithm: Algorithm,
}

pub(super) enum Algorithm {
    Indirect(Indirect),
    Planar(Planar),
    Depthwise(Depthwise),
    Winograd(Product),
    Whole(Whole),
    /// A wider convolution. Where columns are joined, outputs with gaps between their pixels take the plain one.
    Widened {
        widened: Widened,
        wider: Box<Forward>,
        plain: Option<Box<Forward>>,
    },
}

impl Forward {
    /// Plans a convolution; `isa` is that of the [`Cpu`] it will run on, and lays the packed weights out. `exact` sums
    /// products as the definition does: no Winograd.
    pub fn new(shape: &ConvShape, isa: Isa, exact: bool) -> Forward {
        if let Some(plan) = Whole::new(shape) {
            return Forward { algorithm: Algorithm::Whole(plan) };
        }
        let winograd =
            |shape: &ConvShape| Forward::winograd(shape, isa).filter(|_| !exact && pays(shape, Pass::Forward));
        if let Some(winograd) = winograd(shape) {
            return winograd;
        }
        if Depthwise::fits(shape) {
            return Forward::plain(shape, isa);
        }
        let more = Widened::more_groups(shape).filter(|widened| winograd(&widened.shape()).is_some());
        let joined = Widened::targets(shape, shape.group_filters(), across_channels);
        let few = Padded::new(shape).and_then(|_| Widened::columns(shape));
        let wider = few.or(joined).map_or(*shape, |widened| widened.shape());
        let (grids, elsewhere) = (phases(shape), across_channels(&wider));
        let planar = Planar::new(shape.input, shape.output(), groups(shape), &grids, weight_steps(shape), elsewhere);
        if let Some(plan) = planar.filter(|_| more.is_none()) {
            return Forward { algorithm: Algorithm::Planar(plan) };
        }
        if let Some(widened) = few.or(more).or(joined) {
            let wider = widened.shape();
            let wider = Box::new(winograd(&wider).unwrap_or_else(|| Forward::plain(&wider, isa)));
            let plain = (widened.columns > 1).then(|| Box::new(Forward::plain(shape, isa)));
            return Forward { algorithm: Algorithm::Widened { widened, wider, plain } };
        }
        Forward::plain(shape, isa)
    }

    /// Without pixels of several columns or groups as one, and without vectors of pixels: a tile of channels.
    pub(super) fn plain(shape: &ConvShape, isa: Isa) -> Forward {
        let algorithm = if Depthwise::fits(shape) {
            Algorithm::Depthwise(Depthwise::new(shape, false, phases(shape)))
        } else {
            let weights = weight_steps(shape);
            let (mut phases, padded) = (phases(shape), Padded::of_group(shape));
            let mut source = shape.input;
            let mut groups = groups(shape);
            if let Some(padded) = &padded {
                phases[0].taps = padded.taps();
                source = padded.size();
                groups[1] = padded.depth();
            }
            let mut plan = Indirect::new(source, shape.output(), groups, phases, weights, isa);
            plan.padded = padded;
            Algorithm::Indirect(plan)
        };
        Forward { algorithm }
    }

    /// Winograd's form where it is possible, whether or not it is the faster one: for `benches/fit`.
    pub fn winograd(shape: &ConvShape, isa: Isa) -> Option<Forward> {
        let [top, left, ..] = shape.window.padding;
        let plan = || Product {
            source: shape.input,
            tiling: winograd::Tiling::outputs(shape),
            groups: shape.groups,
            depth: shape.group_channels(),
            width: shape.group_filters(),
            start: [-top, -left],
            weights: weight_steps(shape),
            turned: false,
            isa,
            zeros: vec![0.0; shape.channels],
        };
        winograd::fits(shape).then(|| Forward { algorithm: Algorithm::Winograd(plan()) })
    }

    /// The name of the kernel that was chosen.
    pub fn kernel(&self) -> &'static str {
        match &self.algorithm {
            Algorithm::Indirect(plan) if plan.padded.is_some() => "padded",
            Algorithm::Indirect(_) => "indirect",
            Algorithm::Planar(_) => "planar",
            Algorithm::Depthwise(plan) => plan.name(),
            Algorithm::Winograd(_) => "winograd",
            Algorithm::Whole(_) => "linear",
            Algorithm::Widened { .. } => "widened",
        }
    }

    /// Values of the packed weights.
    pub fn packed_len(&self) -> usize {
        match &self.algorithm {
            Algorithm::Indirect(plan) => plan.packed_len(),
            Algorithm::Planar(plan) => plan.packed_len(),
            Algorithm::Depthwise(plan) => plan.packed_len(),
            Algorithm::Winograd(plan) => plan.packed_len(),
            Algorithm::Whole(plan) => plan.weights(),
            Algorithm::Widened { widened, wider, plain } => {
                let plain = plain.as_ref().map_or(0, |plain| plain.packed_len());
                widened.shape().weights() + wider.packed_len() + plain
            }
        }
    }

    /// Values of scratch memory that [`Forward::run`] needs.
    pub fn workspace_len(&self, threads: usize) -> usize {
        match &self.algorithm {
            Algorithm::Indirect(plan) => plan.workspace_len(threads),
            Algorithm::Planar(plan) => plan.workspace_len(threads),
            Algorithm::Depthwise(_) => 0,
            Algorithm::Winograd(plan) => plan.workspace_len(threads),
            Algorithm::Whole(plan) => plan.workspace_len(),
            Algorithm::Widened { wider, plain, .. } => {
                let plain = plain.as_ref().map_or(0, |plain| plain.workspace_len(threads));
                plain.max(wider.workspace_len(threads))
            }
        }
    }

    /// Packs weights `[filters, channels / groups, rows, columns]`.
    pub fn pack(&self, cpu: &Cpu, weights: &[f32], packed: &mut [f32]) {
        match &self.algorithm {
            Algorithm::Indirect(plan) => plan.pack(cpu, weights, packed),
            Algorithm::Planar(plan) => plan.pack(weights, packed),
            Algorithm::Depthwise(plan) => plan.pack(weights, packed),
            Algorithm::Winograd(plan) => plan.pack(cpu, weights, packed),
            Algorithm::Whole(plan) => packed[..plan.weights()].copy_from_slice(&weights[..plan.weights()]),
            Algorithm::Widened { widened, wider, plain } => {
                let (packed, rest) = packed.split_at_mut(wider.packed_len());
                let (expanded, rest) = rest.split_at_mut(widened.shape().weights());
                widened.expand(weights, expanded);
                wider.pack(cpu, expanded, packed);
                if let Some(plain) = plain {
                    plain.pack(cpu, weights, rest);
                }
            }
        }
    }

    /// y = activation(x ∗ w + bias + residual) for `n` pictures. `x` has `n · H · W` pixels of all channels, `y` has
    /// `n · OH · OW` pixels of all filters.
    ///
    /// # Panics
    /// A slice is too short or a stride below the channels: a defect of the plan.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        packed: &[f32],
        epilogue: &Epilogue,
        y: PixelsMut,
        workspace: &mut [f32],
    ) {
        match &self.algorithm {
            Algorithm::Indirect(plan) => plan.run(cpu, n, x, packed, epilogue, y, workspace),
            Algorithm::Planar(plan) => plan.run(cpu, n, x, packed, epilogue, y, workspace),
            Algorithm::Depthwise(plan) => plan.run(cpu, n, x, packed, epilogue, y),
            Algorithm::Winograd(plan) => plan.run(cpu, n, x, winograd::Weights::Packed(packed), epilogue, y, workspace),
            Algorithm::Whole(plan) => plan.forward(cpu, n, x, packed, epilogue, y, workspace),
            Algorithm::Widened { wider, plain: None, .. } => wider.run(cpu, n, x, packed, epilogue, y, workspace),
            Algorithm::Widened { widened, wider, plain: Some(plain) } => {
                let filters = widened.from.filters;
                if y.stride != filters || epilogue.residual.is_some_and(|residual| residual.stride != filters) {
                    let packed = &packed[wider.packed_len() + widened.shape().weights()..];
                    return plain.run(cpu, n, x, packed, epilogue, y, workspace);
                }
                let lanes = widened.columns * filters;
                let mut bias = [0.0; MOST_LANES];
                if let Some(given) = epilogue.bias {
                    bias[..lanes].chunks_mut(filters).for_each(|bias| bias.copy_from_slice(&given[..filters]));
                }
                let epilogue = Epilogue {
                    bias: epilogue.bias.is_some().then_some(&bias[..lanes]),
                    residual: epilogue.residual.map(|residual| Pixels { stride: lanes, ..residual }),
                    ..*epilogue
                };
                wider.run(cpu, n, x, packed, &epilogue, PixelsMut { data: y.data, stride: lanes }, workspace);
            }
        }
    }
}

impl Forward {
    /// Values of scratch memory that [`Forward::run_plain`] needs.
    pub fn plain_workspace_len(&self, batch: usize, threads: usize) -> usize {
        match &self.algorithm {
            Algorithm::Winograd(plan) => plan.plain_workspace_len(batch, threads),
            Algorithm::Whole(plan) => plan.workspace_len(),
            _ => self.packed_len().next_multiple_of(LANES) + self.workspace_len(threads),
        }
    }

    /// As [`Forward::run`], with weights `[filters, channels / groups, rows, columns]` that were not packed: for those that
    /// change with every run.
    ///
    /// # Panics
    /// As [`Forward::run`].
    #[allow(clippy::too_many_arguments)]
    pub fn run_plain(
        &self,
        cpu: &Cpu,
        n: usize,
        x: Pixels,
        weights: &[f32],
        epilogue: &Epilogue,
        y: PixelsMut,
        workspace: &mut [f32],
    ) {
        match &self.algorithm {
            Algorithm::Winograd(plan) => {
                plan.run(cpu, n, x, winograd::Weights::Plain(weights), epilogue, y, workspace);
            }
            Algorithm::Whole(plan) => plan.forward(cpu, n, x, weights, epilogue, y, workspace),
            _ => {
                let (packed, workspace) = workspace.split_at_mut(self.packed_len().next_multiple_of(LANES));
                self.pack(cpu, weights, packed);
                self.run(cpu, n, x, packed, epilogue, y, workspace);
            }
        }
    }
}

/// About the cycles of a picture by vectors of channels.
fn across_channels(shape: &ConvShape) -> usize {
    let beside = match Padded::of_group(shape) {
        None => Beside::LookedUp,
        Some(_) if shape.groups == 1 => Beside::Copied,
        Some(_) => Beside::CopiedGroups,
    };
    planar::across_channels(&phases(shape), groups(shape), beside)
}

/// Groups, and a group's source and target channels.
fn groups(shape: &ConvShape) -> [usize; 3] {
    [shape.groups, shape.group_channels(), shape.group_filters()]
}

/// Forward's sums run over channels, and its outputs are filters.
fn weight_steps(shape: &ConvShape) -> WeightSteps {
    let (taps, channels) = (shape.window.kernel[0] * shape.window.kernel[1], shape.group_channels());
    WeightSteps { group: shape.group_filters() * channels * taps, depth: taps, width: channels * taps, channels }
}

/// One grid: output pixel (i, j) reads the source at (i, j) · stride + tap · dilation − padding.
pub(super) fn phases(shape: &ConvShape) -> Vec<Phase> {
    let window = &shape.window;
    let [kh, kw] = window.kernel;
    let offset = |axis: usize, tap: usize| (tap * window.dilation[axis]) as isize - window.padding[axis];
    let tap = |i: usize| Tap { at: [offset(0, i / kw), offset(1, i % kw)], kernel: i };
    let count = shape.output();
    vec![Phase {
        start: [0, 0],
        step: [1, 1],
        count,
        source_step: window.stride,
        taps: (0..kh * kw).map(tap).collect(),
    }]
}
