//! How fast the convolution kernels are, pass by pass, counted as direct convolution.
//!
//! cargo run --release -p ocelli-kernels --example conv_speed -- [THREADS] ["n=8 c=64 k=128 h=56 w=56 r=3 s=3 stride=1 pad=1 dilation=1 groups=1" ...]
//!
//! Packing is counted. `OCELLI_ISA` chooses the instruction set, `EXACT` leaves Winograd out.

use std::hint::black_box;
use std::time::Instant;

use ocelli_kernels::Cpu;
use ocelli_kernels::conv::{DataGradient, Epilogue, Forward, Pixels, PixelsMut, WeightGradient};
use ocelli_kernels::geometry::{ConvShape, Window};

/// Layers of LeNet-5, the ConvNetJS net, AlexNet, VGG-16, ResNet-18 and -50, and MobileNet-v2.
const LAYERS: &[&str] = &[
    "n=64 c=1 k=6 h=28 w=28 r=5 s=5 pad=2",
    "n=64 c=6 k=16 h=14 w=14 r=5 s=5",
    "n=64 c=3 k=16 h=32 w=32 r=5 s=5 pad=2",
    "n=64 c=16 k=20 h=16 w=16 r=5 s=5 pad=2",
    "n=64 c=20 k=20 h=8 w=8 r=5 s=5 pad=2",
    "n=16 c=3 k=96 h=227 w=227 r=11 s=11 stride=4",
    "n=16 c=96 k=256 h=27 w=27 r=5 s=5 pad=2 groups=2",
    "n=16 c=256 k=384 h=13 w=13 r=3 s=3 pad=1",
    "n=2 c=3 k=64 h=224 w=224 r=3 s=3 pad=1",
    "n=2 c=64 k=64 h=224 w=224 r=3 s=3 pad=1",
    "n=4 c=256 k=256 h=56 w=56 r=3 s=3 pad=1",
    "n=4 c=512 k=512 h=28 w=28 r=3 s=3 pad=1",
    "n=8 c=512 k=512 h=14 w=14 r=3 s=3 pad=1",
    "n=8 c=3 k=64 h=224 w=224 r=7 s=7 stride=2 pad=3",
    "n=8 c=64 k=64 h=56 w=56 r=3 s=3 pad=1",
    "n=8 c=64 k=128 h=56 w=56 r=3 s=3 stride=2 pad=1",
    "n=8 c=64 k=128 h=56 w=56 r=1 s=1 stride=2",
    "n=8 c=512 k=512 h=7 w=7 r=3 s=3 pad=1",
    "n=8 c=256 k=64 h=56 w=56 r=1 s=1",
    "n=8 c=512 k=2048 h=7 w=7 r=1 s=1",
    "n=8 c=32 k=32 h=112 w=112 r=3 s=3 pad=1 groups=32",
    "n=8 c=144 k=144 h=56 w=56 r=3 s=3 stride=2 pad=1 groups=144",
    "n=8 c=384 k=384 h=14 w=14 r=3 s=3 pad=1 groups=384",
    "n=8 c=24 k=144 h=56 w=56 r=1 s=1",
    "n=1 c=64 k=64 h=56 w=56 r=3 s=3 pad=1",
    "n=1 c=512 k=512 h=7 w=7 r=3 s=3 pad=1",
];

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    let threads = args.next_if(|a| a.parse::<usize>().is_ok()).map_or(2, |a| a.parse().expect("a number"));
    let cpu = Cpu::new(threads).unwrap_or_else(|error| panic!("{error}"));
    let given: Vec<String> = args.collect();
    let problems = if given.is_empty() { LAYERS.iter().map(|s| s.to_string()).collect() } else { given };
    println!("{threads} threads, {}; GFLOP/s of forward, data gradient, weight gradient (milliseconds)", cpu.isa());
    let exact = std::env::var_os("EXACT").is_some();
    for problem in problems {
        measure(&cpu, &problem, exact);
    }
}

fn measure(cpu: &Cpu, problem: &str, exact: bool) {
    let value = |key: &str, default: usize| {
        let pairs = problem.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.filter(|(k, _)| *k == key).map(|(_, v)| v.parse().expect("a number")).next_back().unwrap_or(default)
    };
    let (n, c, k) = (value("n", 1), value("c", 1), value("k", 1));
    let window = Window {
        kernel: [value("r", 1), value("s", 1)],
        stride: [value("stride", 1); 2],
        dilation: [value("dilation", 1); 2],
        padding: [value("pad", 0) as isize; 4],
    };
    let shape = ConvShape {
        input: [value("h", 1), value("w", 1)],
        channels: c,
        filters: k,
        groups: value("groups", 1),
        window,
    };
    let [oh, ow] = shape.output();
    let random = |len: usize| (0..len).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect::<Vec<f32>>();
    let (x, w, dy) =
        (random(n * c * shape.input[0] * shape.input[1]), random(shape.weights()), random(n * k * oh * ow));
    let (x_pixels, dy_pixels) = (Pixels { data: &x, stride: c }, Pixels { data: &dy, stride: k });
    let (mut y, mut dx, mut dw, mut db) = (dy.clone(), x.clone(), w.clone(), vec![0.0; k]);
    let threads = cpu.pool().threads();

    let forward = Forward::new(&shape, cpu.isa(), exact);
    let mut packed = vec![0.0; forward.packed_len()];
    let mut space = vec![0.0; forward.workspace_len(n, threads)];
    let forward_time = median(|| {
        forward.pack(cpu, &w, &mut packed);
        let y = PixelsMut { data: &mut y, stride: k };
        forward.run(cpu, n, x_pixels, &packed, &Epilogue::default(), y, &mut space);
    });
    let gradient = DataGradient::new(&shape, cpu.isa(), exact);
    let mut packed = vec![0.0; gradient.packed_len()];
    let mut space = vec![0.0; gradient.workspace_len(n, threads)];
    let data_time = median(|| {
        gradient.pack(cpu, &w, &mut packed);
        gradient.run(cpu, n, dy_pixels, &packed, PixelsMut { data: &mut dx, stride: c }, &mut space);
    });
    let gradient = WeightGradient::new(&shape, cpu.isa(), exact);
    let mut space = vec![0.0; gradient.workspace_len(n, threads)];
    let weight_time = median(|| gradient.run(cpu, n, x_pixels, dy_pixels, &mut dw, Some(&mut db), &mut space));
    black_box((&y, &dx, &dw, &db));
    let speed = |seconds: f64| {
        let flops = 2.0 * (n * shape.macs()) as f64;
        format!("{:5.0} ({:.2})", flops / seconds / 1e9, seconds * 1e3)
    };
    println!("{:15} {:15} {:15} {problem}", speed(forward_time), speed(data_time), speed(weight_time));
}

/// The median of five samples of at least 20 ms, in seconds a call.
fn median(mut call: impl FnMut()) -> f64 {
    call();
    let mut samples: Vec<f64> = (0..5)
        .map(|_| {
            let (start, mut calls) = (Instant::now(), 0);
            while start.elapsed().as_secs_f64() < 0.02 {
                call();
                calls += 1;
            }
            start.elapsed().as_secs_f64() / calls as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[2]
}
