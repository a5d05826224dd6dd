//! Kernels on fixed problems, ready to run again and again.

use ocelli_kernels::Cpu;
use ocelli_kernels::arena::{Arena, Span};
use ocelli_kernels::conv::{Activation, DataGradient, Epilogue, Forward, Pass, Pixels, PixelsMut, WeightGradient};
use ocelli_kernels::elementwise::{Extent, View, ViewMut};
use ocelli_kernels::geometry::{ConvShape, PoolShape, Window};
use ocelli_kernels::linear::{self, LinearShape};
use ocelli_kernels::norm::{self, BatchNorm, BatchNormBackward};
use ocelli_kernels::pooling;

/// Runs a kernel once, on operands that it owns.
pub type Work = Box<dyn FnMut(&Cpu)>;

/// A kernel on a fixed problem.
pub struct Case {
    /// Kernel and problem.
    pub name: String,
    /// Takes the operands; the [`Cpu`] is the one that the work will run on.
    pub prepare: Box<dyn Fn(&Cpu) -> Work>,
}

fn case(name: String, prepare: impl Fn(&Cpu) -> Work + 'static) -> Case {
    Case { name, prepare: Box::new(prepare) }
}

/// A layer's three products.
pub const PASSES: [(Pass, &str); 3] =
    [(Pass::Forward, "forward"), (Pass::DataGradient, "data gradient"), (Pass::WeightGradient, "weight gradient")];

/// Which form of a convolution is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The one that is chosen.
    Chosen,
    /// As the definition sums.
    Direct,
    /// Winograd's, which must be possible.
    Winograd,
}

/// What the benches run.
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    // With Winograd, and as the definition sums.
    let both: &[Form] = &[Form::Chosen, Form::Direct];
    for (forms, n, shape) in [
        (&both[..1], 8, conv(112, 3, 64, 7, 2, 3, 1)),
        (both, 4, conv(56, 64, 64, 3, 1, 1, 1)),
        (&both[..1], 4, conv(56, 64, 128, 3, 2, 1, 1)),
        (&both[..1], 4, conv(28, 256, 64, 1, 1, 0, 1)),
        (both, 4, conv(27, 96, 256, 5, 1, 2, 2)),
        (&both[..1], 64, conv(16, 16, 20, 5, 1, 2, 1)),
        (&both[..1], 4, conv(56, 96, 96, 3, 1, 1, 96)),
    ] {
        for (pass, what) in PASSES {
            for &form in forms {
                let name =
                    format!("conv {what}{}, {}", if form == Form::Direct { " exact" } else { "" }, problem(n, &shape));
                all.push(case(name, move |cpu| convolution(cpu, pass, n, shape, form)));
            }
        }
    }
    let (n, shape) = (8, pool(56, 64));
    all.push(case("max pool forward, n=8 c=64 56x56, 3x3 by 2".into(), move |_| max_pool(n, shape)));
    all.push(case("max pool gradient, n=8 c=64 56x56, 3x3 by 2".into(), move |cpu| max_pool_gradient(cpu, n, shape)));
    all.push(case("average pool forward, n=8 c=64 56x56, 3x3 by 2".into(), move |_| average_pool(n, shape)));
    let extent = Extent { samples: 8, pixels: 56 * 56, channels: 64 };
    all.push(case("batch norm forward, n=8 c=64 56x56".into(), move |_| batch_norm(extent)));
    all.push(case("batch norm gradient, n=8 c=64 56x56".into(), move |cpu| batch_norm_gradient(cpu, extent)));
    for (n, shape) in
        [(1, LinearShape { inputs: 4096, outputs: 1000 }), (64, LinearShape { inputs: 1024, outputs: 512 })]
    {
        for (pass, what) in PASSES {
            let name = format!("linear {what}, n={n} {}→{}", shape.inputs, shape.outputs);
            all.push(case(name, move |_| fully_connected(pass, n, shape)));
        }
    }
    all
}

/// The kernels whose instructions are counted: small problems, because valgrind runs some 50 times slower.
pub fn counted() -> Vec<Case> {
    let wide = conv(14, 64, 64, 3, 1, 1, 1);
    vec![
        case("conv_forward_direct".into(), move |cpu| convolution(cpu, Pass::Forward, 2, wide, Form::Direct)),
        case("conv_weights_winograd".into(), move |cpu| {
            convolution(cpu, Pass::WeightGradient, 2, wide, Form::Winograd)
        }),
        case("max_pool".into(), move |_| max_pool(2, pool(28, 64))),
    ]
}

/// A square input and kernel.
/// A square convolution: side of the input, channels, filters, kernel, stride, padding, groups.
pub fn conv(
    side: usize,
    channels: usize,
    filters: usize,
    kernel: usize,
    stride: usize,
    padding: isize,
    groups: usize,
) -> ConvShape {
    let window = Window { stride: [stride; 2], padding: [padding; 4], ..Window::new([kernel; 2]) };
    ConvShape { input: [side; 2], channels, filters, groups, window }
}

/// As `ocelli bench --conv` takes it.
fn problem(n: usize, shape: &ConvShape) -> String {
    let ConvShape { input: [h, w], channels: c, filters: k, groups, window } = shape;
    let ([r, s], [stride, _], [pad, ..]) = (window.kernel, window.stride, window.padding);
    format!("n={n} c={c} k={k} h={h} w={w} r={r} s={s} stride={stride} pad={pad} groups={groups}")
}

/// Windows of 3x3 with stride 2, as ResNet's.
fn pool(side: usize, channels: usize) -> PoolShape {
    let window = Window { stride: [2; 2], padding: [1; 4], ..Window::new([3; 2]) };
    PoolShape { input: [side; 2], channels, window, ceil_mode: false }
}

/// Numbers between -0.5 and 0.5 that are no pattern to a branch predictor.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
}

fn area([h, w]: [usize; 2]) -> usize {
    h * w
}

/// A pass of a convolution of `n` pictures, ready to run. Forward of one picture takes packed weights, as inference does; else
/// packing them is part of it, as it is of a training step.
pub fn convolution(cpu: &Cpu, pass: Pass, n: usize, shape: ConvShape, form: Form) -> Work {
    let (c, k, threads) = (shape.channels, shape.filters, cpu.pool().threads());
    let (isa, exact, possible) = (cpu.isa(), form == Form::Direct, "a shape that Winograd's form fits");
    let (mut x, mut w) = (numbers(n * c * area(shape.input)), numbers(shape.weights()));
    let mut y = numbers(n * k * area(shape.output()));
    match pass {
        Pass::Forward => {
            let kernel = match form {
                Form::Winograd => Forward::winograd(&shape, isa).expect(possible),
                _ => Forward::new(&shape, isa, exact),
            };
            let (mut space, all) = workspace(kernel.plain_workspace_len(n, threads));
            let mut packed = vec![0.0; if n == 1 { kernel.packed_len() } else { 0 }];
            if n == 1 {
                kernel.pack(cpu, &w, &mut packed);
            }
            Box::new(move |cpu| {
                let (x, y) = (Pixels { data: &x, stride: c }, PixelsMut { data: &mut y, stride: k });
                let space = space.f32_mut(all);
                if n == 1 {
                    kernel.run(cpu, n, x, &packed, &Epilogue::default(), y, space);
                } else {
                    kernel.run_plain(cpu, n, x, &w, &Epilogue::default(), y, space);
                }
            })
        }
        Pass::DataGradient => {
            let kernel = match form {
                Form::Winograd => DataGradient::winograd(&shape, isa).expect(possible),
                _ => DataGradient::new(&shape, isa, exact),
            };
            let (mut space, all) = workspace(kernel.workspace_len(n, threads));
            Box::new(move |cpu| {
                let (dy, dx) = (Pixels { data: &y, stride: k }, PixelsMut { data: &mut x, stride: c });
                kernel.run(cpu, n, dy, &w, None, dx, space.f32_mut(all));
            })
        }
        Pass::WeightGradient => {
            let kernel = match form {
                Form::Winograd => WeightGradient::winograd(&shape, isa).expect(possible),
                _ => WeightGradient::new(&shape, isa, exact),
            };
            let (mut space, all) = workspace(kernel.workspace_len(n, threads));
            let mut db = vec![0.0; k];
            Box::new(move |cpu| {
                let (x, dy) = (Pixels { data: &x, stride: c }, Pixels { data: &y, stride: k });
                kernel.run(cpu, n, x, dy, &mut w, Some(&mut db), space.f32_mut(all));
            })
        }
    }
}

/// Scratch memory as a plan has it, of large pages where the system has them.
fn workspace(values: usize) -> (Arena, Span) {
    let bytes = values * size_of::<f32>();
    (Arena::new(bytes).expect("memory for a workspace"), Span { start: 0, len: bytes })
}

/// With the positions of the maxima, as training needs them.
fn max_pool(n: usize, shape: PoolShape) -> Work {
    let x = numbers(n * shape.channels * area(shape.input));
    let outputs = n * shape.channels * area(shape.output());
    let (mut y, mut indices) = (vec![0.0; outputs], vec![0; outputs * shape.index_bytes()]);
    Box::new(move |cpu| {
        pooling::max_pool(cpu, &shape, n, View::dense(&x), ViewMut::dense(&mut y), Some(&mut indices));
    })
}

fn max_pool_gradient(cpu: &Cpu, n: usize, shape: PoolShape) -> Work {
    let mut x = numbers(n * shape.channels * area(shape.input));
    let outputs = n * shape.channels * area(shape.output());
    let (mut y, mut indices) = (vec![0.0; outputs], vec![0; outputs * shape.index_bytes()]);
    pooling::max_pool(cpu, &shape, n, View::dense(&x), ViewMut::dense(&mut y), Some(&mut indices));
    Box::new(move |cpu| {
        pooling::max_pool_backward(cpu, &shape, n, View::dense(&y), &indices, ViewMut::dense(&mut x));
    })
}

fn average_pool(n: usize, shape: PoolShape) -> Work {
    let x = numbers(n * shape.channels * area(shape.input));
    let mut y = vec![0.0; n * shape.channels * area(shape.output())];
    Box::new(move |cpu| pooling::average_pool(cpu, &shape, true, n, View::dense(&x), ViewMut::dense(&mut y)))
}

fn batch_norm(extent: Extent) -> Work {
    let (x, gamma, beta) = (numbers(extent.elements()), numbers(extent.channels), numbers(extent.channels));
    let (mut y, mut mean, mut inv_std) = (x.clone(), beta.clone(), beta.clone());
    let mut space = vec![0.0; norm::workspace(extent)];
    Box::new(move |cpu| {
        let (x, gamma, beta) = (View::dense(&x), &gamma[..], &beta[..]);
        let input = BatchNorm { extent, x, gamma, beta, eps: 1e-5, residual: None, relu: Some(f32::INFINITY) };
        norm::batch_norm(cpu, &input, ViewMut::dense(&mut y), [&mut mean, &mut inv_std], None, &mut space);
    })
}

fn batch_norm_gradient(_: &Cpu, extent: Extent) -> Work {
    let (x, gamma) = (numbers(extent.elements()), numbers(extent.channels));
    let (dy, mut dx, mean, inv_std) = (x.clone(), x.clone(), gamma.clone(), gamma.clone());
    let (mut dgamma, mut dbeta, mut space) = (gamma.clone(), gamma.clone(), vec![0.0; norm::workspace(extent)]);
    Box::new(move |cpu| {
        let (x, dy, gamma, mean, inv_std) = (View::dense(&x), View::dense(&dy), &gamma[..], &mean[..], &inv_std[..]);
        let input = BatchNormBackward { extent, x, dy, relu: None, gamma, mean, inv_std };
        norm::batch_norm_backward(cpu, &input, ViewMut::dense(&mut dx), [&mut dgamma, &mut dbeta], &mut space);
    })
}

fn fully_connected(pass: Pass, n: usize, shape: LinearShape) -> Work {
    let (mut x, mut y) = (numbers(n * shape.inputs), numbers(n * shape.outputs));
    let (mut w, mut bias) = (numbers(shape.inputs * shape.outputs), numbers(shape.outputs));
    Box::new(move |cpu| match pass {
        Pass::Forward => linear::forward(cpu, &shape, n, &x, &w, Some(&bias), Activation::Relu, &mut y),
        Pass::DataGradient => linear::data_gradient(cpu, &shape, n, &y, &w, &mut x),
        Pass::WeightGradient => linear::weight_gradient(cpu, &shape, n, &x, &y, &mut w, Some(&mut bias)),
    })
}
