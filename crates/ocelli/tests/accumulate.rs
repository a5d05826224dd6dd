//! A batch in parts gives the bits of the whole.

use ocelli::data::{Batch, Mixed};
use ocelli::exec::{Device, Loss, Optimizer, TrainOptions, Training, part_size};
use ocelli::net::{Net, Resolved, initialise};
use ocelli_kernels::random::{Random, name};

/// Winograd's convolutions of both sizes, plain and depthwise ones, groups, LRN, dropout, a sum, two outputs. A stride cuts
/// the maps so small that a segment of the sums has 16 pictures.
const MIXED: &str = r#"
    format = 1
    name = "mixed"
    input = [3, 20, 20]
    classes = 4
    layers = [
      { type = "conv", name = "first", filters = 64, kernel = 5, padding = 2 },
      { type = "relu" },
      { type = "lrn", name = "lrn", size = 5 },
      { type = "conv", name = "wide", filters = 64, kernel = 3, padding = 1 },
      { type = "relu", name = "relu" },
      { type = "conv", name = "five", filters = 64, kernel = 5, padding = 2 },
      { type = "max_pool", kernel = 2, name = "pool" },
      { type = "conv", name = "depth", filters = 64, kernel = 3, padding = 1, groups = 64 },
      { type = "add", inputs = ["depth", "pool"] },
      { type = "dropout", rate = 0.4, name = "drop" },
      { type = "linear", name = "side", inputs = ["lrn"], units = "classes" },
      { type = "conv", name = "last", inputs = ["drop"], filters = 20, kernel = 3, stride = 2, groups = 4 },
      { type = "relu" },
      { type = "linear", name = "hidden", units = 70 },
      { type = "dropout", rate = 0.5 },
      { type = "linear", name = "out", units = "classes" },
    ]
    outputs = [
      { name = "out", layer = "out" },
      { name = "side", layer = "side", loss_weight = 0.3 },
    ]
"#;

fn batch(net: &Resolved, n: usize, step: u64, mixes: bool) -> Batch {
    let mut random = Random::new(step, name("accumulate"), 0, 0);
    let images = (0..n * net.input.iter().product::<usize>()).map(|_| random.normal() as f32).collect();
    let labels: Vec<u32> = (0..n).map(|_| random.below(net.classes) as u32).collect();
    let mixed = labels.iter().map(|&label| Mixed { label: (label + 1) % net.classes as u32, share: 0.25 });
    let mixed = mixed.filter(|_| mixes).collect();
    let targets = (0..n * net.classes).map(|_| random.normal() as f32).collect();
    Batch { n, images, labels, mixed, targets, indices: (0..n).collect(), ..Batch::default() }
}

/// The bits of losses, norms, hits and weights after steps of `sizes` pictures.
fn bits(net: &Resolved, options: &TrainOptions, threads: usize, sizes: &[usize]) -> Vec<u32> {
    let device = Device::cpu(threads);
    let mut training = Training::new(net, initialise(net, 3), options, &device, sizes[0]).unwrap();
    let mut all = Vec::new();
    for (step, &n) in sizes.iter().enumerate() {
        let mut batch = batch(net, n, step as u64, step == 1);
        if options.loss.has_targets() {
            batch.labels.clear();
            batch.mixed.clear();
        } else {
            batch.targets.clear();
        }
        let result = training.step(&batch, 0.02, step as u64).unwrap();
        assert!(result.finite);
        all.extend([result.loss.to_bits(), result.correct as u32, result.grad_norm.unwrap_or(0.0).to_bits()]);
    }
    let state = training.optimizer_state();
    all.extend(training.tensors().into_values().chain(state.into_values()).flat_map(|t| t.data).map(f32::to_bits));
    all
}

fn check(what: &str, net: &Resolved, options: &TrainOptions, sizes: &[usize]) {
    let whole = bits(net, options, 2, sizes);
    for parts in [2, 4] {
        for threads in [1, 2] {
            let options = TrainOptions { accumulate: parts, ..options.clone() };
            assert!(bits(net, &options, threads, sizes) == whole, "{what}: {parts} parts, {threads} threads");
        }
    }
}

fn entropy(classes: usize) -> Loss {
    let class_weights = Some((1..=classes).map(|class| class as f32 / 2.0).collect());
    Loss::CrossEntropy { smoothing: 0.1, class_weights }
}

#[test]
fn lenet_5_learns_the_same_bits_in_parts() {
    let net = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    let options = TrainOptions { weight_decay: 0.01, ..TrainOptions::new(entropy(10), Optimizer::sgd(0.9)) };
    // The last batches of an epoch: one of an odd size, one of a single part, one of a single picture.
    check("sgd", &net, &options, &[64, 64, 37, 13, 1]);
    let options = TrainOptions { clip: Some(0.1), optimizer: Optimizer::adam(), ..options };
    check("adam and clipping", &net, &options, &[64, 51]);
    for loss in [Loss::MeanSquared, Loss::BinaryCrossEntropy] {
        check("targets", &net, &TrainOptions::new(loss, Optimizer::sgd(0.9)), &[64, 33]);
    }
}

#[test]
fn winograd_groups_lrn_dropout_and_outputs_learn_the_same_bits_in_parts() {
    let net = Net::from_toml(MIXED, "mixed.toml").unwrap().resolve(None, None).unwrap();
    let options = TrainOptions { seed: 5, ..TrainOptions::new(entropy(4), Optimizer::sgd(0.9)) };
    check("mixed", &net, &options, &[64, 64, 45]);
}

#[test]
fn the_networks_of_1989_and_1998_learn_the_same_bits_in_parts() {
    for name in ["lecun1989", "lenet5-1998"] {
        let net = Net::zoo(name).unwrap().resolve(None, None).unwrap();
        check(name, &net, &TrainOptions::new(Loss::MeanSquared, Optimizer::sgd(0.5)), &[64, 50]);
    }
}

#[test]
fn parts_take_the_memory_of_a_part() {
    let net = Net::zoo("convnetjs-cifar10").unwrap().resolve(None, None).unwrap();
    let scratch = |accumulate: usize| {
        let options = TrainOptions { accumulate, ..TrainOptions::new(entropy(10), Optimizer::sgd(0.9)) };
        Training::new(&net, initialise(&net, 0), &options, &Device::cpu(1), 256).unwrap().memory().scratch
    };
    let (whole, quarter) = (scratch(1), scratch(4));
    assert!(quarter < whole * 2 / 5, "{quarter} bytes in four parts, {whole} in one");
}

#[test]
fn a_loss_that_is_not_finite_in_a_later_part_changes_nothing() {
    let net = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    let options = TrainOptions { accumulate: 4, ..TrainOptions::new(entropy(10), Optimizer::sgd(0.9)) };
    let tensors = initialise(&net, 0);
    let mut training = Training::new(&net, tensors.clone(), &options, &Device::cpu(1), 64).unwrap();
    let mut batch = batch(&net, 64, 0, false);
    batch.targets.clear();
    let picture = batch.images.len() / 64;
    batch.images[40 * picture..41 * picture].fill(1e38);
    assert!(!training.step(&batch, 0.1, 0).unwrap().finite);
    assert_eq!(training.tensors(), tensors);
    assert_eq!(training.name_non_finite(&batch, 0).unwrap(), "the output of layer conv2 holds inf");
}

#[test]
fn parts_that_sums_cannot_be_cut_into_are_refused_with_ones_that_work() {
    for (batch, parts, size) in [(64, 1, 64), (7, 1, 7), (64, 2, 32), (64, 4, 16), (96, 3, 32), (80, 5, 16)] {
        assert_eq!(part_size(batch, parts).unwrap(), size);
    }
    let told = |batch: usize, parts: usize| part_size(batch, parts).unwrap_err().to_string();
    let refused = "accumulate 8 for a batch of 64: parts must have 16, 32, 64 … pictures\n";
    assert_eq!(told(64, 8), format!("{refused}Choose --accumulate 4: 16 pictures each."));
    assert!(told(96, 2).ends_with("Choose --accumulate 3: 32 pictures each."));
    assert!(told(64, 0).ends_with("Choose --accumulate 2: 32 pictures each."));
    assert!(told(100, 3).ends_with("Choose --batch-size 96: 32 pictures each."));
    assert!(told(10, 2).ends_with("Choose --batch-size 32: 16 pictures each."));
}
