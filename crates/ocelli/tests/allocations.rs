//! After the first, a training step and an inference allocate nothing and start no thread. A test of its own process:
//! the allocator counts for all threads.

use ocelli::data::Batch;
use ocelli::exec::{Device, Inference, Loss, Optimizer, TrainOptions, Training};
use ocelli::net::{Net, Resolved, initialise};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const THREADS: usize = 2;
const BATCH: usize = 5;

/// Batch norm, shortcuts, a step between stages and dropout.
const RESIDUAL: &str = r#"
    { type = "conv", filters = 8, kernel = 3, padding = 1, bias = false },
    { type = "batch_norm" },
    { type = "relu", name = "stem" },
    { type = "conv", filters = 8, kernel = 3, padding = 1, bias = false },
    { type = "batch_norm", name = "branch" },
    { type = "add", inputs = ["branch", "stem"] },
    { type = "relu" },
    { type = "max_pool", name = "stage", kernel = 3, stride = 2, padding = 1 },
    { type = "conv", filters = 16, kernel = 3, stride = 2, padding = 1, bias = false },
    { type = "batch_norm", name = "down" },
    { type = "conv", filters = 16, kernel = 1, stride = 2, bias = false, inputs = ["stage"] },
    { type = "batch_norm", name = "shortcut" },
    { type = "add", inputs = ["down", "shortcut"] },
    { type = "relu" },
    { type = "global_avg_pool" },
    { type = "dropout", rate = 0.5 },
    { type = "linear", units = "classes" },
"#;

/// Wide enough for Winograd's convolutions, depthwise convolutions, local response normalisation, average pooling.
const WIDE: &str = r#"
    { type = "conv", filters = 64, kernel = 3, padding = 1 },
    { type = "relu" },
    { type = "lrn", size = 5 },
    { type = "conv", filters = 64, kernel = 3, padding = 1 },
    { type = "leaky_relu", slope = 0.1 },
    { type = "conv", filters = 64, kernel = 3, padding = 1, groups = 64 },
    { type = "batch_norm" },
    { type = "relu6" },
    { type = "conv", filters = 96, kernel = 5, padding = 2 },
    { type = "gelu" },
    { type = "avg_pool", kernel = 2 },
    { type = "conv", filters = 32, kernel = 1 },
    { type = "linear", units = 40 },
    { type = "tanh" },
    { type = "dropout", rate = 0.2 },
    { type = "linear", units = "classes" },
"#;

/// In inference one kernel: maps of 524 KB between two convolutions.
const INVERTED: &str = r#"
    { type = "conv", name = "a", filters = 32, kernel = 3, padding = 1 },
    { type = "conv", name = "b", filters = 32, kernel = 3, groups = 32, padding = 1 },
    { type = "batch_norm", name = "bn" },
    { type = "relu6" },
    { type = "conv", name = "c", filters = 4, kernel = 1 },
    { type = "batch_norm", name = "cn" },
    { type = "max_pool", kernel = 8 },
    { type = "linear", units = "classes" },
"#;

fn nets() -> [(&'static str, Resolved); 4] {
    let written = |size: usize, layers: &str| {
        let text =
            format!("format = 1\nname = \"t\"\ninput = [3, {size}, {size}]\nclasses = 4\nlayers = [\n{layers}\n]\n");
        Net::from_toml(&text, "t.toml").unwrap().resolve(None, None).unwrap()
    };
    let lenet5 = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    [
        ("lenet5", lenet5),
        ("residual", written(14, RESIDUAL)),
        ("wide", written(14, WIDE)),
        ("inverted", written(64, INVERTED)),
    ]
}

fn options() -> [TrainOptions; 4] {
    let cross_entropy = Loss::CrossEntropy { smoothing: 0.0, class_weights: None };
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    let adam = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    let plain = TrainOptions { weight_decay: 5e-4, ..TrainOptions::new(cross_entropy, sgd) };
    [
        TrainOptions { optimizer: adam, clip: Some(1.0), ..plain.clone() },
        TrainOptions { loss: Loss::MeanSquared, ..plain.clone() },
        TrainOptions { loss: Loss::BinaryCrossEntropy, ..plain.clone() },
        plain,
    ]
}

/// `n` pictures with what any loss wants of them.
fn batch(net: &Resolved, n: usize) -> Batch {
    let values = |count: usize| (0..count).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect::<Vec<f32>>();
    let labels = (0..n).map(|i| (i % net.classes) as u32).collect();
    let images = values(n * net.input.iter().product::<usize>());
    Batch { n, images, labels, targets: values(n * net.classes), ..Batch::default() }
}

/// Threads of this process where the system tells them.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Waits until every worker has begun to run, which allocates, and has nothing to do: seen from the name that it gives
/// itself and from its state, where the system tells them.
fn wait_for_workers() {
    let idle = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, state) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some(name.starts_with("ocelli-") && state.starts_with('S'))
    };
    for _ in 0..1000 {
        std::thread::sleep(Duration::from_millis(10));
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
        if tasks.flatten().filter_map(idle).filter(|&idle| idle).count() == THREADS - 1 {
            return;
        }
    }
    panic!("the workers do not come to rest");
}

/// Fails if the second to fourth call of `work` allocate, free or leave other threads than the first one left.
fn assert_steady(what: &str, mut work: impl FnMut()) {
    work();
    wait_for_workers();
    let before = threads();
    let region = Region::new(ALLOCATOR);
    (0..3).for_each(|_| work());
    let used = region.change();
    let calls = [used.allocations, used.reallocations, used.deallocations];
    assert_eq!(calls, [0; 3], "{what}: allocations, reallocations, deallocations; {} bytes", used.bytes_allocated);
    assert_eq!(threads(), before, "{what}: threads");
}

/// One test: a second one beside it would be counted too.
#[test]
fn a_step_after_the_first_allocates_nothing_and_starts_no_thread() {
    let region = Region::new(ALLOCATOR);
    let outside = threads();
    let (net, device) = (&nets()[0].1, Device::cpu(THREADS));
    let training = Training::new(net, initialise(net, 0), &options()[0], &device, BATCH).unwrap();
    assert!(region.change().allocations > 0, "the allocator counts");
    assert_eq!(threads(), outside.map(|n| n + THREADS - 1), "the threads are counted");
    drop(training);

    let lenet5 = &nets()[0].1;
    let in_parts = TrainOptions { accumulate: 2, ..options()[3].clone() };
    let mut training = Training::new(lenet5, initialise(lenet5, 0), &in_parts, &Device::cpu(THREADS), 32).unwrap();
    let whole = Batch { targets: vec![], ..batch(lenet5, 32) };
    assert_steady("training in parts", || assert!(training.step(&whole, 0.001, 0).unwrap().finite));
    drop(training);

    for (name, net) in nets() {
        for exact in [false, true] {
            let device = Device::cpu(THREADS).exact(exact);
            for options in options() {
                let mut training = Training::new(&net, initialise(&net, 0), &options, &device, BATCH).unwrap();
                let mut batches = [batch(&net, BATCH), batch(&net, BATCH - 2)];
                if !options.loss.has_targets() {
                    batches.iter_mut().for_each(|batch| batch.targets.clear());
                }
                let mut step = 0;
                assert_steady(&format!("training {name}, exact {exact}, {options:?}"), || {
                    for batch in &batches {
                        assert!(training.step(batch, 0.001, step).unwrap().finite);
                        step += 1;
                    }
                });
            }
            // One full batch and a part of one: more pictures than are computed at a time.
            let (pictures, n) = (batch(&net, BATCH + 2).images, BATCH + 2);
            let mut inference = Inference::new(&net, initialise(&net, 0), &device, BATCH).unwrap();
            let mut logits = Vec::new();
            assert_steady(&format!("inference of {name}, exact {exact}"), || {
                inference.logits_into(&pictures, n, &mut logits).unwrap();
            });
            assert_eq!(logits, inference.logits(&pictures, n).unwrap(), "{name}");
        }
    }
}
