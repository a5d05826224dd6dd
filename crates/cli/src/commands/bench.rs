//! `ocelli bench`: times of networks and convolutions.

use crate::arguments::Globals;
use crate::models::{device, net_or_model};
use crate::text;
use clap::{Args, ValueEnum};
use ocelli::bench::{ConvBench, NetBench};
use ocelli::error::{Error, Result};
use ocelli::exec::{Part, Timing};
use ocelli::net::Resolved;
use serde_json::json;
use std::process::ExitCode;

/// Time a network, each of its layers, or one convolution
#[derive(Args)]
#[command(after_help = "Examples:\n  ocelli bench lenet5 --mode train --batch-size 64 --layers\n  \
    ocelli bench --conv \"n=8 c=64 k=128 h=56 w=56 r=3 s=3 stride=1 pad=1 dilation=1 groups=1\"")]
pub struct Bench {
    /// A zoo name, a .toml file, a run folder, latest, or a .safetensors file
    #[arg(required_unless_present = "conv", conflicts_with = "conv")]
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
        let bench = NetBench::new(&net, tensors, &device, batch);
        let (mode, (ms, timings)) = match self.mode {
            Mode::Infer => ("infer", bench.infer(self.layers)?),
            Mode::Train => ("train", bench.train(self.layers)?),
        };
        let images_per_s = batch as f64 / ms * 1e3;
        let layers = by_layer(&net, &timings);
        if globals.json {
            let mut value = json!({ "schema": 1, "peer": "ocelli", "net": net.name, "mode": mode, "batch": batch,
                "threads": threads, "median_ms": round(ms), "images_per_s": (images_per_s * 10.0).round() / 10.0 });
            if self.layers {
                let layer = |(name, forward, backward): &(String, f64, f64)| json!({ "name": name, "forward_ms": round(*forward), "backward_ms": round(*backward) });
                value["layers"] = layers.iter().map(layer).collect();
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
            let total: f64 = layers.iter().map(|(_, forward, backward)| forward + backward).sum();
            let row = |(name, forward, backward): &(String, f64, f64)| {
                let share = 100.0 * (forward + backward) / total.max(f64::MIN_POSITIVE);
                vec![name.clone(), format!("{forward:.3}"), format!("{backward:.3}"), format!("{share:.1}")]
            };
            let rows: Vec<Vec<String>> = layers.iter().map(row).collect();
            text::print(&format!("\n{}", text::table(&["layer", "forward ms", "backward ms", "share %"], &rows, 1)));
        }
        Ok(())
    }
}

/// Forward and backward time of every layer, in their order; steps without a layer (loss, update) come last.
fn by_layer(net: &Resolved, timings: &[(Part, Timing)]) -> Vec<(String, f64, f64)> {
    let mut rows: Vec<(String, f64, f64)> = net.layers.iter().map(|layer| (layer.name.clone(), 0.0, 0.0)).collect();
    rows.push(("(others)".to_owned(), 0.0, 0.0));
    let others = rows.len() - 1;
    for (part, timing) in timings {
        let row = &mut rows[timing.layer.unwrap_or(others).min(others)];
        *(if *part == Part::Backward { &mut row.2 } else { &mut row.1 }) += timing.ms;
    }
    rows.retain(|(_, forward, backward)| forward + backward > 0.0);
    rows
}

fn time_conv(text: &str, globals: &Globals) -> Result<()> {
    let bench = ConvBench::parse(text)?;
    let times = bench.run(&device(globals))?;
    let all = [
        ("forward", times.forward_ms),
        ("data gradient", times.data_gradient_ms),
        ("weight gradient", times.weight_gradient_ms),
    ];
    if globals.json {
        text::json(&json!({ "schema": 1, "peer": "ocelli", "conv": text, "threads": globals.threads(),
            "forward_ms": round(times.forward_ms), "data_gradient_ms": round(times.data_gradient_ms),
            "weight_gradient_ms": round(times.weight_gradient_ms) }));
        return Ok(());
    }
    let flops = 2.0 * bench.shape.macs() as f64 * bench.n as f64;
    let row =
        |(name, ms): &(&str, f64)| vec![(*name).to_owned(), format!("{ms:.3}"), format!("{:.1}", flops / ms / 1e6)];
    text::print(&text::table(&["", "ms", "GFLOP/s"], &all.iter().map(row).collect::<Vec<_>>(), 1));
    Ok(())
}

fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
