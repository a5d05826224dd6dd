//! Fits the costs by which Winograd's form is chosen, `crates/kernels/src/conv/choice.rs`.
//!
//!     cargo run --release --package ocelli-benches --bin fit [-- --write]
//!
//! Times both forms of many convolutions in turn on two threads, takes the fastest of some runs of each, and fits what the
//! parts of Winograd's form cost, in multiply-adds of the direct form, by least squares of the relative error. Prints what was
//! measured and estimated; `--write` puts the costs into the source. Other costs choose other kernels, whose roundings
//! differ: then raise `NUMERICS_VERSION`.

use std::path::Path;
use std::time::Instant;

use ocelli_benches::{Form, PASSES, conv, convolution};
use ocelli_kernels::Cpu;
use ocelli_kernels::conv::{PICTURES, Pass, work};
use ocelli_kernels::geometry::ConvShape;

const RUNS: usize = 8;
/// Multiply-adds of a problem, at most: what takes about 20 ms.
const MOST: usize = 3 << 30;
/// Parts of Winograd's form, as [`work`] counts them.
const PARTS: usize = 4;

/// A problem's work, and Winograd's time by that of the direct form.
struct Sample {
    name: String,
    work: [f64; 1 + PARTS],
    /// The work by whose estimates, multiplied, the form is chosen.
    decides: Vec<[f64; 1 + PARTS]>,
    ratio: f64,
}

fn main() -> Result<(), String> {
    let write = std::env::args().any(|argument| argument == "--write");
    let cpu = Cpu::new(2)?;
    // Of forward and data gradient, and of the weight gradient, each for kernels of 3 and of 5.
    let sample = |n: usize, (side, channels, filters, kernel): Problem, groups: usize, (pass, what): (Pass, &str)| {
        let shape = conv(side, channels, filters, kernel, 1, (kernel / 2) as isize, groups);
        let of = if groups > 1 { format!(", {groups} groups") } else { String::new() };
        let name = format!("{kernel}x{kernel} {channels}→{filters}{of} at {side}x{side}, {n}, {what}");
        let counts = if pass == Pass::Forward { &PICTURES[..] } else { &PICTURES[1..] };
        let decides = counts.iter().map(|&n| work(&shape, pass, n)).collect();
        let place = [usize::from(pass == Pass::WeightGradient), usize::from(kernel == 5)];
        (place, Sample { name, work: work(&shape, pass, n), decides, ratio: ratio(&cpu, n, pass, shape) })
    };
    let mut samples: [[Vec<Sample>; 2]; 2] = Default::default();
    for problem in problems() {
        for pass in PASSES {
            for &n in if pass.0 == Pass::Forward { &PICTURES[..] } else { &PICTURES[1..] } {
                let ([a, b], sample) = sample(n, problem, 1, pass);
                samples[a][b].push(sample);
            }
        }
    }
    let costs @ [product, weights] = samples.each_ref().map(|kernels| kernels.each_ref().map(|samples| fit(samples)));
    for &(problem, groups) in &GROUPED {
        for pass in PASSES {
            let ([a, b], sample) = sample(PICTURES[1], problem, groups, pass);
            samples[a][b].push(sample);
        }
    }
    // Mean logarithm of the factor of time that the choice costs.
    let (mut lost, mut count) = (0.0, 0);
    for [a, b] in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        for Sample { name, work, decides, ratio } in &samples[a][b] {
            let chosen = decides.iter().map(|work| estimate(work, costs[a][b])).product::<f64>() < 1.0;
            let right = chosen == (*ratio < 1.0);
            lost += if right { 0.0 } else { ratio.ln().abs() };
            count += 1;
            let mark = if right { "" } else { "  other choice" };
            println!("{name:48} {ratio:5.2} estimated {:5.2}{mark}", estimate(work, costs[a][b]));
        }
    }
    println!("time lost by the choice: {:.1} %\n", 100.0 * (lost / f64::from(count)).exp_m1());
    let text = format!(
        "/// Forward and data gradient, for kernels of 3 and of 5.\n{}/// Weight gradient.\n{}",
        table("PRODUCT", product),
        table("WEIGHTS", weights)
    );
    print!("{text}");
    if write { save(&text) } else { Ok(()) }
}

/// Side, channels, filters, kernel.
type Problem = (usize, usize, usize, usize);

/// Problems with several groups.
const GROUPED: [(Problem, usize); 6] = [
    ((27, 96, 256, 5), 2),
    ((14, 128, 128, 5), 2),
    ((13, 384, 384, 3), 2),
    ((13, 384, 256, 3), 2),
    ((28, 128, 128, 3), 2),
    ((14, 256, 256, 3), 4),
];

fn problems() -> Vec<Problem> {
    let pairs = [
        (16, 16),
        (16, 64),
        (24, 64),
        (64, 24),
        (48, 48),
        (32, 32),
        (32, 64),
        (64, 64),
        (64, 128),
        (96, 96),
        (128, 128),
        (256, 256),
        (512, 512),
    ];
    let three = [6, 7, 8, 13, 14, 16, 28, 56].into_iter().flat_map(|side| pairs.map(|(c, k)| (side, c, k, 3)));
    let pairs = [(16, 32), (24, 64), (32, 64), (48, 128), (64, 64), (96, 256)];
    let five = [8, 13, 14, 16, 27, 28].into_iter().flat_map(|side| pairs.map(|(c, k)| (side, c, k, 5)));
    let small = |&(side, c, k, kernel): &Problem| PICTURES[1] * (side * kernel).pow(2) * c * k < MOST;
    three.chain(five).filter(small).collect()
}

/// Winograd's time by the direct form's, each the fastest of some runs in turn.
fn ratio(cpu: &Cpu, n: usize, pass: Pass, shape: ConvShape) -> f64 {
    let mut forms = [Form::Winograd, Form::Direct].map(|form| convolution(cpu, pass, n, shape, form));
    let mut best = [f64::INFINITY; 2];
    for run in 0..=RUNS {
        for (form, best) in forms.iter_mut().zip(&mut best) {
            let start = Instant::now();
            form(cpu);
            if run > 0 {
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
    }
    best[0] / best[1]
}

fn estimate(work: &[f64; 1 + PARTS], costs: [f64; PARTS]) -> f64 {
    costs.iter().zip(&work[1..]).map(|(cost, count)| cost * count).sum::<f64>() / work[0]
}

/// Least squares of the relative errors over costs that are not negative, one cost at a time until nothing moves.
fn fit(samples: &[Sample]) -> [f64; PARTS] {
    let mut costs = [1.0, 100.0, 100.0, 100.0];
    for _ in 0..20_000 {
        for part in 0..PARTS {
            let share = |sample: &Sample| sample.work[1 + part] / sample.work[0] / sample.ratio;
            let rest =
                |sample: &Sample| 1.0 - estimate(&sample.work, costs) / sample.ratio + costs[part] * share(sample);
            let above: f64 = samples.iter().map(|sample| share(sample) * rest(sample)).sum();
            let below: f64 = samples.iter().map(|sample| share(sample).powi(2)).sum();
            costs[part] = (above / below).max(0.0);
        }
    }
    costs
}

fn table(name: &str, kernels: [[f64; PARTS]; 2]) -> String {
    let row = |[product, source, target, weights]: [f64; PARTS]| {
        format!(
            "    Costs {{ product: {product:.2}, source: {source:.1}, target: {target:.1}, weights: {weights:.1} }},\n"
        )
    };
    format!("const {name}: [Costs; 2] = [\n{}];\n", kernels.map(row).concat())
}

fn save(text: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/kernels/src/conv/choice.rs");
    let source = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (begin, end) = ("// fit: begin\n", "// fit: end\n");
    let marks = source.find(begin).zip(source.find(end)).ok_or("choice.rs has no marks")?;
    let source = format!("{}{begin}{text}{}", &source[..marks.0], &source[marks.1..]);
    std::fs::write(&path, source).map_err(|error| format!("{}: {error}", path.display()))
}
