//! Averages of the weights against sums by hand, and over stops.

use std::fs;

use super::resume_tests::{bits_world, go_on, left, start};
use super::tests::settings;
use super::*;
use crate::formats::checkpoint::{self, Checkpoint};
use crate::formats::run_folder::CHECKPOINT;
use crate::formats::weights;
use crate::{Tensor, Tensors};

/// The checkpoint after so many epochs.
fn after(world: &Path, text: &str, epochs: u64) -> Checkpoint<RunState> {
    let run = world.join(format!("after-{epochs}"));
    start(&settings(world, &format!("{text}\nepochs = {epochs}")), &run, 2, None).unwrap();
    checkpoint::read(&run.join(CHECKPOINT)).unwrap()
}

fn best(run: &Path) -> Tensors {
    weights::read(&run.join(BEST)).unwrap().0
}

fn worst_difference(a: &Tensor, b: &[f64]) -> f64 {
    a.data.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn an_ema_is_what_its_formula_makes_of_the_weights_after_every_step() {
    let world = bits_world();
    let run = |steps: u64, text: &str| {
        let folder = world.path().join(format!("{steps}{}", text.len()));
        start(&settings(world.path(), &format!("max_steps = {steps}\n{text}")), &folder, 2, None).unwrap();
        folder
    };
    let weights_after = |steps: u64| -> Tensors {
        match steps {
            0 => {
                let settings = settings(world.path(), "");
                Task::open(&settings, Net::open(&settings.net).unwrap(), None).unwrap().start(&settings).unwrap()
            }
            _ => checkpoint::read::<RunState>(&run(steps, "").join(CHECKPOINT)).unwrap().tensors,
        }
    };
    let after: Vec<Tensors> = (0..=4).map(weights_after).collect();
    let averaged = best(&run(4, "ema = 0.3"));
    for (name, found) in &averaged {
        let mut mean: Vec<f64> = after[0][name].data.iter().map(|x| f64::from(*x)).collect();
        for step in 1..=4u64 {
            let decay = [2.0 / 11.0, 3.0 / 12.0, 0.3, 0.3][step as usize - 1];
            let now = &after[step as usize][name].data;
            mean.iter_mut().zip(now).for_each(|(mean, now)| *mean = decay * *mean + (1.0 - decay) * f64::from(*now));
        }
        assert!(worst_difference(found, &mean) < 1e-6, "{name}");
    }
    assert!(averaged["fc.weight"] != after[4]["fc.weight"]);
    assert!(averaged["bn.running_mean"] != after[4]["bn.running_mean"], "statistics are averaged too");
}

#[test]
fn swa_is_the_mean_of_the_ends_of_epochs_and_before_its_first_epoch_the_weights() {
    let world = bits_world();
    let plain: Vec<Tensors> = (1..=4).map(|epochs| after(world.path(), "", epochs).tensors).collect();
    let run = world.path().join("swa");
    start(&settings(world.path(), "epochs = 4\nswa = 2"), &run, 2, None).unwrap();
    let saved: Checkpoint<RunState> = checkpoint::read(&run.join(CHECKPOINT)).unwrap();
    assert_eq!(saved.tensors, plain[3], "the weights that learn don't know of the average");
    for (name, tensor) in &plain[3] {
        let found = &saved.optimizer[&format!("average.{name}")];
        let mean = |i: usize| plain[1..4].iter().map(|at| f64::from(at[name].data[i])).sum::<f64>() / 3.0;
        let mean: Vec<f64> = (0..tensor.data.len()).map(mean).collect();
        let off = worst_difference(found, &mean);
        assert_eq!(off < 1e-6, !name.contains("running"), "{name}: {off}: statistics are measured, not averaged");
    }
    let early = world.path().join("early");
    start(&settings(world.path(), "epochs = 4\nswa = 4\nmax_steps = 18"), &early, 2, None).unwrap();
    let saved: Checkpoint<RunState> = checkpoint::read(&early.join(CHECKPOINT)).unwrap();
    for (name, tensor) in &plain[2] {
        assert_eq!(saved.optimizer[&format!("average.{name}")], *tensor, "{name}");
    }
}

#[test]
fn measured_statistics_are_the_mean_of_the_batches_own() {
    use crate::data::Batch;
    use crate::exec::{Loss, Optimizer, TrainOptions, Training};
    let text = "format = 1\nname = \"n\"\ninput = [1, 1, 2]\nclasses = 2\nlayers = [{ type = \"batch_norm\", name = \"bn\" }, { type = \"linear\", units = \"classes\" }]";
    let net = Net::from_toml(text, "n").unwrap().resolve(None, None).unwrap();
    let loss = Loss::CrossEntropy { smoothing: 0.0, class_weights: None };
    let options = TrainOptions { average: true, ..TrainOptions::new(loss, Optimizer::sgd(0.0)) };
    let batch = |images: [f32; 4]| Ok(Batch { n: 2, images: images.to_vec(), labels: vec![0, 1], ..Batch::default() });
    for device in [Device::cpu(2), Device::plain()] {
        let mut training = Training::new(&net, crate::net::initialise(&net, 0), &options, &device, 2).unwrap();
        // Means 1 and 4; unbiased variances 4/3 and 12.
        let batches = [batch([0.0, 0.0, 2.0, 2.0]), batch([1.0, 1.0, 7.0, 7.0])];
        training.measure_statistics(&mut batches.into_iter()).unwrap();
        let averaged = training.averaged();
        assert_eq!(averaged["bn.running_mean"].data, [2.5]);
        assert!((averaged["bn.running_var"].data[0] - (4.0 / 3.0 + 12.0) / 2.0).abs() < 1e-5);
        assert_eq!(training.tensors()["bn.running_mean"].data, [0.0], "those that learn stay");
    }
}

#[test]
fn averages_survive_stops_and_threads_to_the_bit() {
    let world = bits_world();
    for text in ["ema = 0.9", "swa = 2"] {
        let settings = settings(world.path(), text);
        let at = |name: &str| world.path().join(format!("{}-{name}", &text[..3]));
        start(&settings, &at("whole"), 1, None).unwrap();
        let parts = at("parts");
        start(&settings, &parts, 3, Some(2)).unwrap();
        // 6 and 12 are ends of epochs: the interrupt falls into their judging.
        for stop in [6, 9, 12, 15] {
            assert_eq!(go_on(&parts, "", Some(stop)).unwrap().steps, stop);
        }
        go_on(&parts, "", None).unwrap();
        assert_eq!(left(&parts), left(&at("whole")), "{text}");
        let judged = fs::read_to_string(at("whole").join("metrics.csv")).unwrap();
        let plain = world.path().join("plain");
        if !plain.exists() {
            start(&super::tests::settings(world.path(), ""), &plain, 1, None).unwrap();
        }
        assert_ne!(judged, fs::read_to_string(plain.join("metrics.csv")).unwrap(), "the average is what is judged");
        assert!(go_on(&parts, "ema = 0.5", None).is_err(), "an average cannot change in a run");
    }
}

#[test]
fn averages_that_cannot_be_are_refused() {
    let refused = |text: &str| Settings::merge([("test", toml::from_str(text).unwrap())]).unwrap_err().to_string();
    assert!(refused("ema = 1.0").starts_with("ema 1 cannot be\nChoose a number between 0 and 1"));
    assert!(refused("swa = 21").starts_with("swa 21 cannot be"));
    assert!(refused("swa = 2\nema = 0.9").starts_with("ema and swa at once"));
}
