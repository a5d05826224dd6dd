//! The memory that a process really takes, against what the plan told. A process for each test: what others take would be
//! counted, and what an allocator keeps of what they freed.
#![cfg(target_os = "linux")]

use ocelli::bench::train_options;
use ocelli::data::Batch;
use ocelli::exec::{Device, Inference, Training, Work, memory};
use ocelli::formats::weights;
use ocelli::net::{Net, Resolved, initialise};
use std::process::Command;

/// A line of `/proc/self/status` in bytes: `VmRSS` is what is resident, `VmHWM` the most that ever was.
fn status(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Runs `test` in a process of its own: this program again, with only the test of that name.
fn alone(name: &str, test: fn()) {
    if std::env::var_os("OCELLI_TEST_ALONE").is_some() {
        return test();
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    let ran = program.args(["--exact", name]).env("OCELLI_TEST_ALONE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn opening_a_large_network_takes_hardly_more_than_its_inference() {
    alone("opening_a_large_network_takes_hardly_more_than_its_inference", opening);
}

#[test]
fn answers_take_what_was_told() {
    alone("answers_take_what_was_told", answering);
}

#[test]
fn training_takes_what_was_told_and_evaluating_as_much_more_as_was_told() {
    alone("training_takes_what_was_told_and_evaluating_as_much_more_as_was_told", training);
}

fn opening() {
    let text = "format = 1\nname = \"wide\"\ninput = [1, 64, 64]\nclasses = 10\nlayers = [\n\
        { type = \"conv\", filters = 4, kernel = 3, padding = 1 },\n\
        { type = \"linear\", units = 2048 },\n\
        { type = \"linear\", units = \"classes\" },\n]\n";
    let net = Net::from_toml(text, "wide.toml").unwrap().resolve(None, None).unwrap();
    let device = Device::cpu(1);
    let told = memory(&net, Work::Infer, &device, 1).unwrap().bytes();
    assert!(told > 130_000_000, "a layer of 33,554,432 weights");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.safetensors");
    // Begin with the resident memory that there is before the weights.
    let before = status("VmRSS");
    {
        let tensors = initialise(&net, 0);
        weights::write(&path, tensors.iter().map(|(name, tensor)| (name.as_str().into(), tensor)), "").unwrap();
    }
    let (tensors, _) = weights::read(&path).unwrap();
    let mut inference = Inference::new(&net, tensors, &device, 1).unwrap();
    inference.logits(&[0.5; 64 * 64], 1).unwrap();
    let taken = status("VmHWM") - before;
    assert!(taken < told + told / 4, "{taken} bytes at the most, {told} told");
}

/// Packed weights, which only evaluation has, are a seventh of what training with evaluation takes; the gradients of the linear
/// layer are never in memory.
fn narrow() -> Resolved {
    let text = "format = 1\nname = \"narrow\"\ninput = [3, 32, 32]\nclasses = 10\nlayers = [\n\
        { type = \"conv\", filters = 128, kernel = 3, padding = 1 },\n{ type = \"relu\" },\n\
        { type = \"conv\", filters = 384, kernel = 3, padding = 1 },\n{ type = \"relu\" },\n\
        { type = \"conv\", filters = 512, kernel = 3, padding = 1 },\n{ type = \"relu\" },\n\
        { type = \"max_pool\", kernel = 4 },\n\
        { type = \"linear\", units = 64 },\n\
        { type = \"linear\", units = \"classes\" },\n]\n";
    Net::from_toml(text, "narrow.toml").unwrap().resolve(None, None).unwrap()
}

/// Within 10 %.
fn check(taken: usize, told: usize) {
    println!("{taken} bytes resident, {told} told");
    assert!(taken.abs_diff(told) < told / 10, "{taken} bytes resident, {told} told");
}

fn answering() {
    let (net, device, n) = (narrow(), Device::cpu(1), 1);
    let told = memory(&net, Work::Infer, &device, n).unwrap().bytes();
    let images = vec![0.5; n * 3 * 32 * 32];
    let before = status("VmRSS");
    let mut inference = Inference::new(&net, initialise(&net, 0), &device, n).unwrap().only_answers();
    inference.logits(&images, n).unwrap();
    check(status("VmRSS") - before, told);
}

fn training() {
    let (net, device, options, n) = (narrow(), Device::cpu(1), train_options(), 1);
    let told = [Work::Train(&options), Work::TrainAndEvaluate(&options)]
        .map(|work| memory(&net, work, &device, n).unwrap().bytes());
    assert!(told[1] > told[0] + told[0] / 8, "{told:?}: the packed weights make a difference");
    let batch = Batch { n, images: vec![0.5; n * 3 * 32 * 32], labels: vec![1; n], ..Batch::default() };
    let before = status("VmRSS");
    let mut training = Training::new(&net, initialise(&net, 0), &options, &device, n).unwrap();
    training.step(&batch, 0.01, 0).unwrap();
    check(status("VmRSS") - before, told[0]);
    training.logits(&batch.images, n).unwrap();
    check(status("VmRSS") - before, told[1]);
}
