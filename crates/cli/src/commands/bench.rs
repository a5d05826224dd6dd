//! `ocelli bench`: times of networks and convolutions.

use crate::arguments::Globals;
use crate::models::{device, net_or_model, open_options};
use crate::text;
use clap::{Args, ValueEnum};
use ocelli::bench::{self, ConvBench, LayerTimes, NetBench};
use ocelli::data;
use ocelli::error::{Error, Result};
use ocelli::exec::{self, Work};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;

/// Time a network, each of its layers, one convolution, or the loader
#[derive(Args)]
#[command(after_help = "Examples:\n  ocelli bench lenet5 --mode train --batch-size 64 --layers\n  \
    ocelli bench --conv \"n=8 c=64 k=128 h=56 w=56 r=3 s=3 stride=1 pad=1 dilation=1 groups=1\"")]
pub struct Bench {
    /// A zoo name, a .toml file, a run folder, latest, or a .safetensors file
    #[arg(required_unless_present_any = ["conv", "data"], conflicts_with = "conv")]
    net: Option<String>,
    /// Answers, or training steps: forward, cross-entropy, backward, SGD
    #[arg(long, default_value = "infer", conflicts_with = "conv")]
    mode: Mode,
    /// Pictures at a time
    #[arg(long, value_name = "B", default_value = "1", value_parser = text::batch, conflicts_with = "conv")]
    batch_size: usize,
    /// Also each layer's time in one run
    #[arg(long, conflicts_with = "conv")]
    layers: bool,
    /// One convolution: n pictures, c channels, k filters, h x w pixels, r x s filters
    #[arg(long, value_name = "SHAPE")]
    conv: Option<String>,
    /// The loader alone: training pictures of this data, cut at random and mirrored, none kept in memory
    #[arg(long, value_name = "DATA", conflicts_with_all = ["conv", "net", "mode", "batch_size", "layers"])]
    data: Option<String>,
    /// Height and width of what the loader cuts
    #[arg(long, value_name = "N|HxW", default_value = "227", requires = "data", value_parser = text::pair)]
    image_size: [usize; 2],
}

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Infer,
    Train,
}

impl Bench {
    /// Measures and prints the medians.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        if let Some(data) = &self.data {
            time_loader(data, self.image_size, globals)?;
            return Ok(ExitCode::SUCCESS);
        }
        match (&self.conv, &self.net) {
            (Some(conv), _) => time_conv(conv, globals)?,
            (None, Some(net)) => self.time_net(net, globals)?,
            (None, None) => return Err(Error::usage("nothing to time").advice("Name a net, or use --conv.")),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn time_net(&self, name: &str, globals: &Globals) -> Result<()> {
        let (net, tensors) = net_or_model(name)?;
        let (device, batch, threads) = (device(globals), self.batch_size, globals.threads());
        let options = bench::train_options();
        let work = if self.mode == Mode::Train { Work::Train(&options) } else { Work::Infer };
        let memory = exec::memory(&net, work, &device, batch)?.bytes();
        let bench = NetBench::new(&net, tensors, &device, batch);
        let (mode, (ms, timings)) = match self.mode {
            Mode::Infer => ("infer", bench.infer(self.layers)?),
            Mode::Train => ("train", bench.train(self.layers)?),
        };
        let layers = bench::by_layer(&net, batch, &timings);
        let images_per_s = batch as f64 / ms * 1e3;
        if globals.json {
            let mut value = json!({ "schema": 1, "peer": "ocelli", "net": net.name, "mode": mode, "batch": batch,
                "threads": threads, "median_ms": round(ms), "images_per_s": (images_per_s * 10.0).round() / 10.0 });
            if self.layers {
                let peak = bench::peak_gflops(threads)?;
                value["peak_gflops"] = json!(round(peak));
                value["layers"] = layers.iter().map(|layer| as_json(layer, peak)).collect();
                value["memory_bytes"] = json!(memory);
            }
            text::json(&value);
            return Ok(());
        }
        let what = if self.mode == Mode::Train { "a training step" } else { "an answer" };
        text::line(format!(
            "{}: {what} of {} takes {ms:.3} ms on {}, {} images/s",
            net.name,
            text::counted(batch, "picture"),
            text::counted(threads, "thread"),
            text::count(images_per_s as u64)
        ));
        if self.layers {
            let peak = bench::peak_gflops(threads)?;
            text::print(&format!("\n{}", layer_table(&layers, peak)));
            text::line(format!(
                "\nThe peak is {peak:.0} GFLOP/s of multiply-adds on {}. GFLOP/s count a layer as direct convolution, so \
                 Winograd's kernels\npass the peak. Memory: {}.",
                text::counted(threads, "thread"),
                ocelli::words::bytes(memory as u64)
            ));
        }
        Ok(())
    }
}

fn layer_table(layers: &[LayerTimes], peak: f64) -> String {
    let total: f64 = layers.iter().map(LayerTimes::total).sum();
    let ms = |ms: f64| if ms > 0.0 { format!("{ms:.3}") } else { String::new() };
    let row = |layer: &LayerTimes| {
        let share = 100.0 * layer.total() / total.max(f64::MIN_POSITIVE);
        let gflops = layer.gflops();
        vec![
            layer.name.clone(),
            layer.kernels.join(", "),
            ms(layer.forward),
            ms(layer.data_gradient),
            ms(layer.weight_gradient),
            ms(layer.other),
            format!("{share:.1}"),
            gflops.map(|gflops| format!("{gflops:.1}")).unwrap_or_default(),
            gflops.map(|gflops| format!("{:.0}", 100.0 * gflops / peak)).unwrap_or_default(),
        ]
    };
    let header =
        ["layer", "kernels", "forward ms", "data grad.", "weight grad.", "other", "share %", "GFLOP/s", "peak %"];
    text::table(&header, &layers.iter().map(row).collect::<Vec<_>>(), 2)
}

fn as_json(layer: &LayerTimes, peak: f64) -> serde_json::Value {
    json!({ "name": layer.name, "forward_ms": round(layer.forward), "data_gradient_ms": round(layer.data_gradient),
        "weight_gradient_ms": round(layer.weight_gradient), "other_ms": round(layer.other),
        "gflops": layer.gflops().map(round), "peak_share": layer.gflops().map(|gflops| round(gflops / peak)),
        "kernels": layer.kernels })
}

fn time_conv(text: &str, globals: &Globals) -> Result<()> {
    let bench = ConvBench::parse(text)?;
    let times = bench.run(&device(globals))?;
    let [forward, data, weight] = times.kernels;
    let all = [
        ("forward", forward, times.forward_ms),
        ("data gradient", data, times.data_gradient_ms),
        ("weight gradient", weight, times.weight_gradient_ms),
    ];
    if globals.json {
        text::json(&json!({ "schema": 1, "peer": "ocelli", "conv": text, "threads": globals.threads(),
            "forward_ms": round(times.forward_ms), "data_gradient_ms": round(times.data_gradient_ms),
            "weight_gradient_ms": round(times.weight_gradient_ms), "kernels": times.kernels }));
        return Ok(());
    }
    let flops = 2.0 * bench.shape.macs() as f64 * bench.n as f64;
    let row = |(name, kernel, ms): &(&str, &str, f64)| {
        vec![(*name).to_owned(), (*kernel).to_owned(), format!("{ms:.3}"), format!("{:.1}", flops / ms / 1e6)]
    };
    text::print(&text::table(&["", "kernel", "ms", "GFLOP/s"], &all.iter().map(row).collect::<Vec<_>>(), 2));
    Ok(())
}

fn time_loader(name: &str, size: [usize; 2], globals: &Globals) -> Result<()> {
    let data = Arc::new(data::open(name, &open_options(globals, None))?);
    let threads = globals.threads();
    let images_per_s = (bench::loading(&data, size, threads)? * 10.0).round() / 10.0;
    if globals.json {
        text::json(&json!({ "schema": 1, "peer": "ocelli", "mode": "load", "data": data.name, "size": size,
            "threads": threads, "images_per_s": images_per_s }));
        return Ok(());
    }
    text::line(format!(
        "{}: {images_per_s} pictures/s read, decoded, scaled and cut to {}x{} on {}",
        data.name,
        size[0],
        size[1],
        text::counted(threads, "thread")
    ));
    Ok(())
}

fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
