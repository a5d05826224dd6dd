//! Twenty steps of training beside PyTorch's: the same start, the same batches, the same losses and weights.

mod common;

use common::{Golden, deviation, folder};
use ocelli::Tensors;
use ocelli::data::Batch;
use ocelli::exec::{Device, Loss, Optimizer, TrainOptions, Training};
use ocelli::net::Net;

fn batch(golden: &Golden, step: usize) -> Batch {
    let labels = &golden.integers["labels"];
    let picture = golden.integers["images"].len() / labels.len();
    let indices = golden.integers["indices"][step * 8..(step + 1) * 8].to_vec();
    let pixels = |i: usize| &golden.integers["images"][i * picture..(i + 1) * picture];
    let images = indices.iter().flat_map(|&i| pixels(i)).map(|&byte| (byte as f32 - 128.0) / 64.0).collect();
    let labels = indices.iter().map(|&i| labels[i] as u32).collect();
    Batch { n: 8, images, labels, indices, ..Batch::default() }
}

fn run(golden: &Golden, device: &Device, tolerance: f64) {
    let net = Net::from_toml(&golden.metadata["net"], &golden.name).unwrap().resolve(None, None).unwrap();
    let start: Tensors = golden.under("start.");
    let loss = Loss::CrossEntropy { smoothing: 0.0, class_weights: None };
    let options = TrainOptions {
        weight_decay: golden.number("weight_decay"),
        ..TrainOptions::new(loss, Optimizer::sgd(golden.number("momentum")))
    };
    let mut training = Training::new(&net, start.clone(), &options, device, 8).unwrap();
    for (step, &right) in golden.tensor("losses").data.iter().enumerate() {
        let found = training.step(&batch(golden, step), golden.number("lr"), step as u64).unwrap().loss;
        let off = f64::from((found - right).abs() / right);
        assert!(off < tolerance, "{} step {step}: loss {found} against {right}, off by {off:e}", golden.name);
    }
    let tensors = training.tensors();
    for (name, right) in golden.under("after.") {
        let off = deviation(&tensors[&name].data, &right.data);
        assert!(off < 1e-3, "{}: {name} is off by {off:e} of its RMS after 20 steps", golden.name);
    }
    let logits = training.logits(&batch(golden, 0).images, 8).unwrap();
    let off = deviation(&logits, &golden.tensor("logits").data);
    assert!(off < 1e-3, "{}: logits off by {off:e} of their RMS", golden.name);
}

#[test]
fn twenty_steps_of_training_follow_pytorch() {
    for golden in folder("parity") {
        run(&golden, &Device::cpu(2), 1e-4);
        run(&golden, &Device::cpu(2).exact(true), 2e-5);
    }
}

#[test]
fn the_interpreter_follows_pytorch_too() {
    let golden = folder("parity").into_iter().find(|golden| golden.name == "residual").unwrap();
    run(&golden, &Device::plain(), 2e-5);
}
