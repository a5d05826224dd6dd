//! Times of networks and of single convolutions, measured as the comparison with other frameworks measures them: half a
//! second of warm-up, two rounds at least, then the median of samples of at least 50 ms.

use crate::data::{
    Augment, Batch, Dataset, LoadOptions, Loader, Order, Pictures, Preparation, Resize, Split, TrainingOptions,
};
use crate::error::{Error, Result};
use crate::exec::{Device, Inference, Loss, Optimizer, Part, Timing, TrainOptions, Training};
use crate::net::{Resolved, ResolvedLayer, initialise};
use crate::tensor::Tensors;
use ocelli_kernels::arena::{ALIGN, Arena, Span};
use ocelli_kernels::conv::{DataGradient, Epilogue, Forward, Pixels, PixelsMut, WeightGradient};
use ocelli_kernels::geometry::{ConvShape, Window};
use ocelli_kernels::random::{self, Random};
use std::sync::Arc;
use std::time::Instant;

/// Samples behind a median.
const SAMPLES: usize = 7;

/// The median time of `step` in milliseconds.
///
/// # Errors
/// The first error of `step`.
pub fn median_ms(step: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 2 || start.elapsed().as_secs_f64() < 0.5 {
        step()?;
        rounds += 1;
    }
    let round = start.elapsed().as_secs_f64() / f64::from(rounds);
    let each = (0.05 / round).ceil().max(1.0) as usize;
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let start = Instant::now();
        for _ in 0..each {
            step()?;
        }
        samples.push(start.elapsed().as_secs_f64() * 1e3 / each as f64);
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[SAMPLES / 2])
}

/// Training pictures a second that `workers` threads read, decode, scale and cut into random windows of `size`, none of them
/// kept in memory; after a pass that brings the files into the system's memory, a pass is timed.
///
/// # Errors
/// The data cannot be read.
pub fn loading(data: &Arc<Dataset>, size: [usize; 2], workers: usize) -> Result<f64> {
    let augment: Augment = "flip,crop:0".parse()?;
    let preparation = Preparation::for_data(data, size, 3, Resize::Crop, &augment)?;
    let options = LoadOptions { augment, workers, ..Default::default() };
    let pictures = Arc::new(Pictures::load_keeping(data, Split::Train, &preparation, &options, 0)?);
    let order = Order { batch_size: pictures.len().min(64), ..Order::default() };
    let options = TrainingOptions { order, augment, workers, ..TrainingOptions::default() };
    let loader = Loader::training(&pictures, &preparation, &options)?;
    let pass = |epoch| -> Result<usize> {
        let (mut batches, mut n) = (loader.epoch(epoch, 0), 0);
        while let Some(batch) = batches.next().transpose()? {
            n += batch.n;
            batches.recycle(batch);
        }
        Ok(n)
    };
    pass(0)?;
    let start = Instant::now();
    let n = pass(1)?;
    Ok(n as f64 / start.elapsed().as_secs_f64())
}

fn normal(n: usize, stream: u64) -> Vec<f32> {
    let mut random = Random::new(0, random::name("bench"), stream, 0);
    (0..n).map(|_| random.normal() as f32).collect()
}

/// What [`NetBench::train`] does: cross-entropy, and SGD with momentum 0.9 and decay 0.0005.
pub fn train_options() -> TrainOptions {
    let loss = Loss::CrossEntropy { smoothing: 0.0, class_weights: None };
    TrainOptions { weight_decay: 5e-4, ..TrainOptions::new(loss, Optimizer::sgd(0.9)) }
}

/// A network on random pictures and, unless given, random parameters.
pub struct NetBench<'a> {
    net: &'a Resolved,
    tensors: Tensors,
    device: &'a Device,
    n: usize,
}

impl<'a> NetBench<'a> {
    /// A network for batches of `n` pictures.
    pub fn new(net: &'a Resolved, tensors: Option<Tensors>, device: &'a Device, n: usize) -> NetBench<'a> {
        NetBench { net, tensors: tensors.unwrap_or_else(|| initialise(net, 0)), device, n }
    }

    /// Random pictures; made after the network has found its memory, which is more than theirs.
    fn pictures(net: &Resolved, n: usize) -> Batch {
        let images = normal(n * net.input.iter().product::<usize>(), 0);
        let labels = (0..n as u32).map(|i| i * 7 % net.classes as u32).collect();
        Batch { n, images, labels, ..Batch::default() }
    }

    /// The median time to answer one batch, and each layer's share of one run if `layers`.
    ///
    /// # Errors
    /// The network cannot be run.
    pub fn infer(self, layers: bool) -> Result<(f64, Vec<(Part, Timing)>)> {
        let mut inference = Inference::new(self.net, self.tensors, self.device, self.n)?.only_answers();
        let Batch { n, images, .. } = &Self::pictures(self.net, self.n);
        let ms = median_ms(&mut || inference.logits(images, *n).map(drop))?;
        let timings = if layers { inference.profile(images, *n)? } else { Vec::new() };
        Ok((ms, timings.into_iter().map(|timing| (Part::Forward, timing)).collect()))
    }

    /// The same for a training step: forward, cross-entropy, backward, SGD with rate 0.01, momentum 0.9 and decay 0.0005,
    /// dropout and batch norm as in training.
    ///
    /// # Errors
    /// The network cannot be trained.
    pub fn train(self, layers: bool) -> Result<(f64, Vec<(Part, Timing)>)> {
        let options = train_options();
        let mut training = Training::new(self.net, self.tensors, &options, self.device, self.n)?;
        let batch = Self::pictures(self.net, self.n);
        let mut step = 0;
        let ms = median_ms(&mut || {
            step += 1;
            let result = training.step(&batch, 0.01, step)?;
            match result.finite {
                true => Ok(()),
                // Such a step leaves out its second half, and would be timed too short.
                false => Err(Error::new(format!("{}: the loss of random pictures is not finite", self.net.name))
                    .advice("Time a network whose initialisation keeps the activations small.")),
            }
        })?;
        Ok((ms, if layers { training.profile(&batch, 0.01)? } else { Vec::new() }))
    }
}

/// One layer's share of a run, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct LayerTimes {
    /// The layer, or `(others)`: loss and update.
    pub name: String,
    /// Multiply-adds of the batch in one pass, counted as direct convolution.
    pub macs: u64,
    /// Forward, packing of weights included.
    pub forward: f64,
    /// The gradient of a convolution's or linear layer's input.
    pub data_gradient: f64,
    /// The gradient of its weights.
    pub weight_gradient: f64,
    /// Everything else of the backward pass.
    pub other: f64,
    /// The kernels that were chosen for the passes that have a choice, in their order.
    pub kernels: Vec<&'static str>,
}

impl LayerTimes {
    /// Milliseconds in all.
    pub fn total(&self) -> f64 {
        self.forward + self.data_gradient + self.weight_gradient + self.other
    }

    /// Operations a second over the passes that multiply, in units of 10⁹, counted as direct convolution: two a
    /// multiply-add. `None` where nothing is multiplied.
    pub fn gflops(&self) -> Option<f64> {
        let passes = [self.forward, self.data_gradient, self.weight_gradient];
        let count = passes.iter().filter(|&&ms| ms > 0.0).count() as f64;
        (self.macs > 0 && count > 0.0).then(|| 2.0 * self.macs as f64 * count / passes.iter().sum::<f64>() / 1e6)
    }
}

/// The times of all layers with a share, in their order; steps without a layer come last.
pub fn by_layer(net: &Resolved, batch: usize, timings: &[(Part, Timing)]) -> Vec<LayerTimes> {
    let row = |name: &str, macs| LayerTimes { name: name.to_owned(), macs, ..LayerTimes::default() };
    let macs = |layer: &ResolvedLayer| batch as u64 * layer.kind.macs(&layer.input_shapes, layer.shape);
    let mut rows: Vec<LayerTimes> = net.layers.iter().map(|layer| row(&layer.name, macs(layer))).collect();
    rows.push(row("(others)", 0));
    let others = rows.len() - 1;
    for (part, timing) in timings {
        let row = &mut rows[timing.layer.unwrap_or(others).min(others)];
        let time = match timing.step {
            _ if *part == Part::Forward => &mut row.forward,
            step if step.ends_with("data gradient") => &mut row.data_gradient,
            step if step.ends_with("weight gradient") => &mut row.weight_gradient,
            _ => &mut row.other,
        };
        *time += timing.ms;
        row.kernels.extend(timing.kernel);
    }
    // A chain's time stands at its last layer, so what the layers before it multiply does too.
    let mut before = 0;
    for row in &mut rows {
        if row.kernels.contains(&"chain") {
            row.macs += before;
        }
        before = if row.total() > 0.0 { 0 } else { before + row.macs };
    }
    rows.retain(|row| row.total() > 0.0);
    rows
}

/// The peak of multiply-adds on registers, in 10⁹ operations a second: what `threads` threads reach together.
///
/// # Errors
/// `OCELLI_ISA` names what this processor does not have.
pub fn peak_gflops(threads: usize) -> Result<f64> {
    Ok(ocelli_kernels::peak(&open_cpu(threads)?) / 1e9)
}

fn open_cpu(threads: usize) -> Result<ocelli_kernels::Cpu> {
    ocelli_kernels::Cpu::new(threads)
        .map_err(|what| Error::usage(what).advice("Unset OCELLI_ISA to use the fastest instruction set."))
}

/// A convolution to time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvBench {
    /// Pictures.
    pub n: usize,
    /// Its shapes.
    pub shape: ConvShape,
}

/// Median times of a convolution in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct ConvTimes {
    /// Output from input and weights.
    pub forward_ms: f64,
    /// Gradient of the input.
    pub data_gradient_ms: f64,
    /// Gradient of the weights.
    pub weight_gradient_ms: f64,
    /// The kernels that were chosen for the three.
    pub kernels: [&'static str; 3],
}

impl ConvBench {
    /// Reads `n=8 c=64 k=128 h=56 w=56 r=3 s=3 stride=1 pad=1 dilation=1 groups=1`; the last four may be absent.
    ///
    /// # Errors
    /// A key is unknown, missing or no number, or the sizes do not fit.
    pub fn parse(text: &str) -> Result<ConvBench> {
        const KEYS: [&str; 11] = ["n", "c", "k", "h", "w", "r", "s", "stride", "pad", "dilation", "groups"];
        const EXAMPLE: &str = "For example: \"n=8 c=64 k=128 h=56 w=56 r=3 s=3 stride=1 pad=1 dilation=1 groups=1\"";
        let wrong = |what: String| Error::usage(what).advice(EXAMPLE);
        let mut values = [None, None, None, None, None, None, None, Some(1), Some(0), Some(1), Some(1)];
        for word in text.split_whitespace() {
            let pair = word.split_once('=').and_then(|(key, value)| {
                let place = KEYS.iter().position(|known| *known == key)?;
                Some((place, value.parse::<usize>().ok().filter(|value| *value <= 1 << 16)?))
            });
            let (place, value) = pair.ok_or_else(|| wrong(format!("--conv: '{word}' is not possible")))?;
            values[place] = Some(value);
        }
        if let Some(place) = values.iter().position(Option::is_none) {
            return Err(wrong(format!("--conv: {}= is missing", KEYS[place])));
        }
        let [n, c, k, h, w, r, s, stride, pad, dilation, groups] = values.map(Option::unwrap_or_default);
        if [n, c, k, h, w, r, s, stride, dilation, groups].contains(&0) {
            return Err(wrong("--conv: only pad may be 0".to_owned()));
        }
        if c % groups != 0 || k % groups != 0 {
            return Err(wrong(format!("--conv: {c} channels and {k} filters do not divide into {groups} groups")));
        }
        let window =
            Window { kernel: [r, s], stride: [stride; 2], dilation: [dilation; 2], padding: [pad as isize; 4] };
        if window.output([h, w]).is_none() {
            return Err(wrong(format!("--conv: a {r}x{s} filter does not fit {h}x{w} with padding {pad}")));
        }
        Ok(ConvBench { n, shape: ConvShape { input: [h, w], channels: c, filters: k, groups, window } })
    }

    /// Times all three products, from weights in PyTorch's layout and channels-last activations; packing the weights counts.
    ///
    /// # Errors
    /// `OCELLI_ISA` names what this processor does not have.
    pub fn run(&self, device: &Device) -> Result<ConvTimes> {
        let threads = device.threads;
        let cpu = open_cpu(threads)?;
        let ConvBench { n, shape } = *self;
        let [oh, ow] = shape.output();
        let (channels, filters) = (shape.channels, shape.filters);
        let forward = Forward::new(&shape, cpu.isa(), device.exact);
        let data = DataGradient::new(&shape, cpu.isa(), device.exact);
        let weight = WeightGradient::new(&shape, cpu.isa(), device.exact);
        let workspace =
            [forward.plain_workspace_len(n, threads), data.workspace_len(n, threads), weight.workspace_len(n, threads)];
        // One block of memory, as a plan has it.
        let (inputs, outputs) = (n * shape.input[0] * shape.input[1] * channels, n * oh * ow * filters);
        let mut end = 0;
        let lens = [
            inputs,
            shape.weights(),
            outputs,
            inputs,
            shape.weights(),
            outputs,
            workspace.into_iter().fold(0, usize::max),
        ];
        let [x, w, dy, dx, dw, y, workspace] = lens.map(|floats| {
            let span = Span { start: end, len: floats * size_of::<f32>() };
            end = span.range().end.next_multiple_of(ALIGN);
            span
        });
        let mut memory = Arena::new(end).ok_or_else(|| {
            Error::new(format!("{end} bytes of memory are not to be had")).advice("Take fewer pictures.")
        })?;
        for (stream, span) in [(1, x), (2, dy), (3, w)] {
            memory.f32_mut(span).copy_from_slice(&normal(span.len / size_of::<f32>(), stream));
        }
        let forward_ms = median_ms(&mut || {
            let mut parts = memory.parts(&[x, w], &[y, workspace]);
            let target = PixelsMut { data: parts.write(0), stride: filters };
            let source = Pixels { data: parts.read(0), stride: channels };
            forward.run_plain(&cpu, n, source, parts.read(1), &Epilogue::default(), target, parts.write(1));
            Ok(())
        })?;
        let data_gradient_ms = median_ms(&mut || {
            let mut parts = memory.parts(&[dy, w], &[dx, workspace]);
            let target = PixelsMut { data: parts.write(0), stride: channels };
            let gradient = Pixels { data: parts.read(0), stride: filters };
            data.run(&cpu, n, gradient, parts.read(1), None, target, parts.write(1));
            Ok(())
        })?;
        let weight_gradient_ms = median_ms(&mut || {
            let mut parts = memory.parts(&[x, dy], &[dw, workspace]);
            let source = Pixels { data: parts.read(0), stride: channels };
            let gradient = Pixels { data: parts.read(1), stride: filters };
            weight.run(&cpu, n, source, gradient, parts.write(0), None, parts.write(1));
            Ok(())
        })?;
        let kernels = [forward.kernel(), data.kernel(), weight.kernel()];
        Ok(ConvTimes { forward_ms, data_gradient_ms, weight_gradient_ms, kernels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_add_up_and_count_as_direct_convolution() {
        let net = crate::net::Net::open("lenet5").unwrap().resolve(None, None).unwrap();
        let at = |layer: Option<usize>, step, kernel, ms| Timing { layer, step, kernel, ms };
        let conv1 = Some(net.layers.iter().position(|layer| layer.name == "conv1").unwrap());
        let timings = [
            (Part::Forward, at(conv1, "pack", None, 1.0)),
            (Part::Forward, at(conv1, "conv", Some("padded"), 2.0)),
            (Part::Forward, at(None, "loss", None, 5.0)),
            (Part::Backward, at(conv1, "conv weight gradient", Some("tiles"), 3.0)),
            (Part::Backward, at(conv1, "activation gradient", None, 4.0)),
        ];
        let rows = by_layer(&net, 10, &timings);
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["conv1", "(others)"]);
        let LayerTimes { forward, data_gradient, weight_gradient, other, kernels, .. } = &rows[0];
        assert_eq!([*forward, *data_gradient, *weight_gradient, *other], [3.0, 0.0, 3.0, 4.0]);
        assert_eq!(kernels[..], ["padded", "tiles"]);
        // 10 pictures of 6 filters of 5x5x1 at 28x28 places, twice, in 6 ms.
        let flops = 2.0 * 10.0 * f64::from(6 * 25 * 28 * 28) * 2.0;
        assert_eq!((rows[0].gflops(), rows[1].gflops()), (Some(flops / 6.0 / 1e6), None));
    }

    #[test]
    fn a_chain_counts_what_its_layers_multiply() {
        let net = crate::net::Net::open("mobilenet_v2").unwrap().resolve(None, None).unwrap();
        let timings: Vec<(Part, Timing)> = net
            .layers
            .iter()
            .enumerate()
            .filter_map(|(i, layer)| {
                let kernel = match layer.name.as_str() {
                    "features.0.0" | "features.3.conv.0.0" => "indirect",
                    "features.1.conv.1" | "features.2.conv.2" => "chain",
                    _ => return None,
                };
                Some((Part::Forward, Timing { layer: Some(i), step: "conv", kernel: Some(kernel), ms: 1.0 }))
            })
            .collect();
        let macs: Vec<u64> = by_layer(&net, 1, &timings).iter().map(|row| row.macs).collect();
        let pixels = 112 * 112;
        let first = pixels * 32 * (9 + 16);
        let second = pixels * 16 * 96 + pixels / 4 * 96 * (9 + 24);
        assert_eq!(macs, [pixels * 32 * 27, first, second, pixels / 4 * 24 * 144]);
    }

    #[test]
    fn a_convolution_is_read_from_one_line() {
        let line = "n=8 c=64 k=128 h=56 w=28 r=3 s=5 stride=2 pad=1 dilation=1 groups=2";
        let ConvBench { n, shape } = ConvBench::parse(line).unwrap();
        assert_eq!((n, shape.channels, shape.filters, shape.input, shape.groups), (8, 64, 128, [56, 28], 2));
        assert_eq!((shape.window.kernel, shape.output()), ([3, 5], [28, 13]));
        let error = |text: &str| ConvBench::parse(text).unwrap_err().what().to_owned();
        assert_eq!(error("n=1 c=x"), "--conv: 'c=x' is not possible");
        assert_eq!(error("n=1 c=3 k=4 h=5 w=5 r=3"), "--conv: s= is missing");
        assert_eq!(error("n=1 c=3 k=4 h=2 w=5 r=3 s=3"), "--conv: a 3x3 filter does not fit 2x5 with padding 0");
        assert_eq!(
            error("n=1 c=3 k=4 h=5 w=5 r=3 s=3 groups=2"),
            "--conv: 3 channels and 4 filters do not divide into 2 groups"
        );
    }
}
