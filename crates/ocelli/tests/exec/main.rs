//! The CPU backend against the plain interpreter, on networks that use every layer kind.

use ocelli::data::Batch;
use ocelli::exec::{Device, Inference, Loss, Optimizer, TrainOptions, Training, gradients};
use ocelli::net::{Net, Resolved, initialise};
use ocelli::{Tensor, Tensors};
use ocelli_kernels::random::Random;

mod concatenations;

fn resolved(layers: &str) -> Resolved {
    let text = format!("format = 1\nname = \"t\"\ninput = [3, 9, 11]\nclasses = 4\nlayers = [\n{layers}\n]\n");
    Net::from_toml(&text, "t.toml").unwrap().resolve(None, None).unwrap()
}

fn noise(n: usize, key: u64) -> Vec<f32> {
    let mut random = Random::new(7, key, 0, 0);
    (0..n).map(|_| random.normal() as f32).collect()
}

/// Parameters that are nowhere zero, so that every gradient is seen.
fn parameters(net: &Resolved) -> Tensors {
    let mut tensors = initialise(net, 3);
    for (i, tensor) in tensors.values_mut().enumerate() {
        for (x, noise) in tensor.data.iter_mut().zip(noise(tensor.dims.iter().product(), i as u64)) {
            *x += 0.1 * noise.abs();
        }
    }
    tensors
}

const EVERYTHING: &str = r#"
    { type = "conv", name = "a", filters = 8, kernel = 3, padding = "same" },
    { type = "relu", name = "ar" },
    { type = "lrn", name = "n", size = 3, alpha = 0.1 },
    { type = "max_pool", name = "p", kernel = 3, stride = 2, padding = 1, ceil_mode = true },
    { type = "conv", name = "b", filters = 8, kernel = [3, 1], groups = 2, dilation = [2, 1], padding = [2, 0, 2, 0] },
    { type = "hard_swish", name = "bh" },
    { type = "add", name = "s", inputs = ["p", "bh"] },
    { type = "conv", name = "d", filters = 8, kernel = 3, groups = 8, padding = 1, bias = false },
    { type = "leaky_relu", name = "dl", slope = 0.2 },
    { type = "global_avg_pool", name = "g" },
    { type = "conv", name = "gc", filters = 8, kernel = 1 },
    { type = "sigmoid", name = "gs" },
    { type = "multiply", name = "m", inputs = ["dl", "gs"] },
    { type = "avg_pool", name = "ap", kernel = 2, ceil_mode = true, inputs = ["s"] },
    { type = "avg_pool", name = "mp", kernel = 2, padding = [0, 0, 1, 0], inputs = ["m"] },
    { type = "concat", name = "c", inputs = ["ap", "mp"] },
    { type = "adaptive_avg_pool", name = "aa", size = [4, 2] },
    { type = "pad", name = "r", amount = 1, mode = "reflect" },
    { type = "gelu", name = "rg" },
    { type = "linear", name = "f1", units = 13 },
    { type = "tanh", name = "t" },
    { type = "linear", name = "f2", units = "classes" },
"#;

fn assert_close(what: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims, b.dims, "{what}");
    let scale = (b.data.iter().map(|x| x * x).sum::<f32>() / b.data.len() as f32).sqrt().max(1e-6);
    for (i, (x, y)) in a.data.iter().zip(&b.data).enumerate() {
        assert!((x - y).abs() <= 1e-4 * scale, "{what}[{i}]: {x} against {y}, scale {scale}");
    }
}

fn compare(net: &Resolved, training: bool) {
    [false, true].into_iter().for_each(|exact| compare_on(net, training, &Device::cpu(2).exact(exact)));
}

fn compare_on(net: &Resolved, training: bool, device: &Device) {
    let tensors = parameters(net);
    let n = 3;
    let input = Tensor::new([n, 3, 9, 11], noise(n * 297, 100));
    let dy = Tensor::new([n, 4], noise(n * 4, 101));
    let cpu = gradients(net, &tensors, &input, &dy, training, device).unwrap();
    let plain = gradients(net, &tensors, &input, &dy, training, &Device::plain()).unwrap();
    assert_close("output", &cpu.output, &plain.output);
    assert_eq!(cpu.tensors.keys().collect::<Vec<_>>(), plain.tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &cpu.tensors {
        assert_close(name, tensor, &plain.tensors[name]);
    }
    for (name, tensor) in &cpu.after {
        assert_close(name, tensor, &plain.after[name]);
    }
}

#[test]
fn cpu_and_interpreter_agree_on_output_and_every_gradient() {
    compare(&resolved(EVERYTHING), true);
    compare(&resolved(EVERYTHING), false);
}

/// Channels enough for Winograd's forms.
const WIDE: &str = r#"
    { type = "conv", name = "a", filters = 96, kernel = 3, padding = 1 },
    { type = "relu", name = "ar" },
    { type = "conv", name = "b", filters = 96, kernel = 5, padding = 2, bias = false },
    { type = "batch_norm", name = "bn" },
    { type = "relu", name = "br" },
    { type = "conv", name = "c", filters = 96, kernel = 3 },
    { type = "relu6", name = "cr" },
    { type = "conv", name = "d", filters = 64, kernel = 3, groups = 2, padding = "full" },
    { type = "linear", name = "f", units = "classes" },
"#;

#[test]
fn cpu_and_interpreter_agree_on_wide_layers() {
    compare(&resolved(WIDE), true);
    compare(&resolved(WIDE), false);
}

/// Sums that move into the batch norm before them, with and without an activation, of shortcuts that are as they are, filtered, and
/// read before or after; backward, gradients that are added within convolutions of few and of many channels.
const SHORTCUTS: &str = r#"
    { type = "conv", name = "stem", filters = 20, kernel = 3, padding = 1 },
    { type = "relu", name = "x" },
    { type = "conv", bias = false, filters = 20, kernel = 3, padding = 1 },
    { type = "batch_norm", name = "b1" },
    { type = "add", inputs = ["b1", "x"] },
    { type = "relu", name = "y" },
    { type = "conv", bias = false, filters = 24, kernel = 3, stride = 2, padding = 1 },
    { type = "batch_norm", name = "b2" },
    { type = "conv", bias = false, filters = 24, kernel = 1, stride = 2, inputs = ["y"] },
    { type = "batch_norm", name = "b3" },
    { type = "add", inputs = ["b2", "b3"] },
    { type = "relu6", name = "z" },
    { type = "conv", bias = false, filters = 24, kernel = 3, padding = 1, groups = 6 },
    { type = "batch_norm", name = "b4" },
    { type = "add", inputs = ["z", "b4"], name = "sum" },
    { type = "conv", filters = 4, kernel = 3, padding = 1 },
    { type = "conv", filters = 24, kernel = 3, padding = 1, name = "last" },
    { type = "add", inputs = ["sum", "last"] },
    { type = "linear", name = "f", units = "classes" },
"#;

#[test]
fn cpu_and_interpreter_agree_on_shortcuts() {
    compare(&resolved(SHORTCUTS), true);
    compare(&resolved(SHORTCUTS), false);
}

#[test]
fn exact_leaves_winograd_out() {
    let (net, input) = (resolved(WIDE), Tensor::new([2, 3, 9, 11], noise(594, 100)));
    let (tensors, dy) = (parameters(&net), Tensor::new([2, 4], noise(8, 101)));
    let bits = |exact| gradients(&net, &tensors, &input, &dy, true, &Device::cpu(2).exact(exact)).unwrap();
    let (fast, exact) = (bits(false), bits(true));
    assert_ne!(fast.output.data, exact.output.data);
    assert_eq!(exact.output.data, bits(true).output.data);
}

#[test]
fn cpu_and_interpreter_agree_on_the_layers_of_1989_and_1998() {
    let net = resolved(
        r#"{ type = "conv", filters = 4, kernel = 3, maps = [[0], [0, 2], [1], [0, 1, 2]], bias = false },
           { type = "bias" },
           { type = "scaled_tanh" },
           { type = "subsample", kernel = 2 },
           { type = "conv", filters = 4, kernel = 2, maps = [[0], [3], [1], [0, 1, 2, 3]] },
           { type = "subsample", kernel = [1, 2] },
           { type = "lrn", size = 3, alpha = 0.1, groups = 2 },
           { type = "linear", units = 5 },
           { type = "bias" },
           { type = "radial", units = "classes" },"#,
    );
    compare(&net, true);
    compare(&net, false);
    // Inference keeps the weights in their places across runs; they have to follow the parameters.
    let mut inference = Inference::new(&net, parameters(&net), &Device::cpu(2), 2).unwrap();
    let images = noise(5 * 297, 1);
    let plain = Inference::new(&net, parameters(&net), &Device::plain(), 2).unwrap().logits(&images, 5).unwrap();
    for _ in 0..2 {
        let found = inference.logits(&images, 5).unwrap();
        assert_close("logits", &Tensor::new([20], found), &Tensor::new([20], plain.clone()));
    }
}

#[test]
fn cpu_and_interpreter_agree_on_batch_norm() {
    let net = resolved(
        r#"{ type = "conv", filters = 5, kernel = 3, stride = 2, bias = false },
           { type = "batch_norm" },
           { type = "relu" },
           { type = "conv", filters = 6, kernel = 2, bias = false },
           { type = "batch_norm" },
           { type = "linear", units = "classes" },"#,
    );
    compare(&net, true);
    compare(&net, false);
}

#[test]
fn cpu_and_interpreter_agree_on_activations_between_layers_that_take_them_in() {
    let net = resolved(
        r#"{ type = "conv", filters = 5, kernel = 3, padding = 1, bias = false },
           { type = "batch_norm" },
           { type = "relu6" },
           { type = "max_pool", kernel = 3, stride = 2, padding = 1 },
           { type = "conv", filters = 18, kernel = 2 },
           { type = "relu" },
           { type = "max_pool", kernel = 2, ceil_mode = true },
           { type = "linear", units = "classes" },"#,
    );
    compare(&net, true);
    compare(&net, false);
}

#[test]
fn cpu_and_interpreter_agree_on_factors_that_are_a_row_of_values() {
    let net = resolved(
        r#"{ type = "conv", name = "a", filters = 5, kernel = 3 },
           { type = "linear", units = 5 },
           { type = "sigmoid", name = "s" },
           { type = "multiply", inputs = ["a", "s"] },
           { type = "linear", units = "classes" },"#,
    );
    compare(&net, true);
    compare(&net, false);
}

#[test]
fn right_answers_are_the_main_outputs_wherever_it_is_listed_and_an_output_without_loss_has_any_shape() {
    let text = r#"
        format = 1
        name = "t"
        input = [3, 9, 11]
        classes = 4
        layers = [
          { type = "conv", name = "a", filters = 2, kernel = 3 },
          { type = "linear", name = "side", units = "classes" },
          { type = "linear", name = "main", inputs = ["a"], units = "classes" },
        ]
        outputs = [
          { name = "side", layer = "side", loss_weight = 0.5, training_only = true },
          { name = "main", layer = "main" },
          { name = "maps", layer = "a", loss_weight = 0 },
        ]
    "#;
    let net = Net::from_toml(text, "t.toml").unwrap().resolve(None, None).unwrap();
    let mut tensors = parameters(&net);
    // Whatever the picture: the main output says 2, the other 1.
    for (bias, class) in [("main.bias", 2), ("side.bias", 1)] {
        tensors.get_mut(bias).unwrap().data[class] = 1e6;
    }
    for device in [Device::cpu(2), Device::plain()] {
        let mut training =
            Training::new(&net, tensors.clone(), &options(Optimizer::sgd(0.0), None), &device, 6).unwrap();
        let batch = Batch { labels: vec![2, 2, 1, 2, 0, 3], ..batch(6, 0) };
        assert_eq!(training.step(&batch, 0.0, 0).unwrap().correct, 3);
    }
}

fn batch(n: usize, key: u64) -> Batch {
    let labels = (0..n as u32).map(|i| (i * 7 + key as u32) % 4).collect();
    Batch { n, images: noise(n * 297, key), labels, targets: vec![], indices: (0..n).collect(), ..Batch::default() }
}

fn options(optimizer: Optimizer, clip: Option<f32>) -> TrainOptions {
    let loss = Loss::CrossEntropy { smoothing: 0.1, class_weights: None };
    TrainOptions { weight_decay: 0.01, clip, seed: 5, ..TrainOptions::new(loss, optimizer) }
}

fn train(device: &Device, optimizer: Optimizer, clip: Option<f32>) -> (Vec<f32>, Tensors) {
    train_net(&resolved(SMALL), device, optimizer, clip)
}

const SMALL: &str = r#"
        { type = "conv", filters = 9, kernel = 3, padding = 1, bias = false },
        { type = "batch_norm" },
        { type = "relu" },
        { type = "max_pool", kernel = 2 },
        { type = "dropout", rate = 0.3 },
        { type = "conv", filters = 18, kernel = 3, groups = 9 },
        { type = "relu6" },
        { type = "linear", units = "classes" },
    "#;

fn train_net(net: &Resolved, device: &Device, optimizer: Optimizer, clip: Option<f32>) -> (Vec<f32>, Tensors) {
    let mut training = Training::new(net, parameters(net), &options(optimizer, clip), device, 20).unwrap();
    let losses = (0..6)
        .map(|step| training.step(&batch(if step == 3 { 13 } else { 20 }, step), 0.05, step).unwrap().loss)
        .collect();
    (losses, training.tensors())
}

#[test]
fn training_agrees_with_the_interpreter_for_every_optimiser() {
    let optimizers = [
        (Optimizer::sgd(0.0), None),
        (Optimizer::Sgd { momentum: 0.9, nesterov: true }, Some(0.5)),
        (Optimizer::adamw(), None),
        (Optimizer::adam(), Some(1.0)),
        (Optimizer::adadelta(), None),
    ];
    for (optimizer, clip) in optimizers {
        let (cpu, cpu_tensors) = train(&Device::cpu(2), optimizer, clip);
        let (plain, plain_tensors) = train(&Device::plain(), optimizer, clip);
        for (a, b) in cpu.iter().zip(&plain) {
            assert!((a - b).abs() < 2e-4 * b.abs(), "{optimizer:?}: {cpu:?} {plain:?}");
        }
        for (name, tensor) in &cpu_tensors {
            let b = &plain_tensors[name];
            let error = tensor.data.iter().zip(&b.data).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(error < 0.02, "{optimizer:?} {name}: {error}");
        }
    }
}

#[test]
fn weights_are_the_same_bits_for_any_number_of_threads() {
    let bits = |net: &str, threads| {
        let (losses, tensors) = train_net(&resolved(net), &Device::cpu(threads), Optimizer::sgd(0.9), Some(1.0));
        let all = losses.into_iter().chain(tensors.into_values().flat_map(|t| t.data));
        all.map(f32::to_bits).collect::<Vec<_>>()
    };
    for net in [SMALL, WIDE] {
        let one = bits(net, 1);
        for threads in [2, 4, 7] {
            assert!(bits(net, threads) == one, "{threads} threads");
        }
    }
}

#[test]
fn an_update_within_a_linear_layers_gradient_has_the_bits_of_one_after_it() {
    let net = resolved(
        r#"{ type = "conv", filters = 5, kernel = 3 },
           { type = "linear", units = 60 },
           { type = "relu" },
           { type = "linear", units = "classes", bias = false },"#,
    );
    let optimizers =
        [Optimizer::sgd(0.0), Optimizer::sgd(0.9), Optimizer::adam(), Optimizer::adamw(), Optimizer::adadelta()];
    for optimizer in optimizers {
        // To be clipped, however far from the limit, all gradients wait for their norm: nothing is joined.
        let apart = train_net(&net, &Device::cpu(2), optimizer, Some(1e30));
        for threads in [1, 3] {
            assert!(
                train_net(&net, &Device::cpu(threads), optimizer, None) == apart,
                "{optimizer:?}, {threads} threads"
            );
        }
    }
}

#[test]
fn evaluation_does_not_depend_on_the_batch_size() {
    for net in [EVERYTHING, WIDE] {
        let net = resolved(net);
        let (tensors, images) = (parameters(&net), noise(11 * 297, 1));
        let logits =
            |batch| Inference::new(&net, tensors.clone(), &Device::cpu(2), batch).unwrap().logits(&images, 11).unwrap();
        let one = logits(1);
        for batch in [2, 3, 11, 64] {
            assert_eq!(logits(batch), one, "batch {batch}");
        }
    }
}

/// Maps of 655 KB, which inverted residual blocks keep a few rows of: the depthwise convolution first, with a shortcut, and with
/// a stride.
#[test]
fn inverted_residual_blocks_agree_with_the_interpreter_in_any_batch_on_any_threads() {
    let layers = r#"
        { type = "conv", name = "a", filters = 40, kernel = 3, padding = 1 },
        { type = "relu" },
        { type = "conv", name = "b", filters = 40, kernel = 3, groups = 40, padding = 1 },
        { type = "batch_norm", name = "bn" },
        { type = "relu6" },
        { type = "conv", name = "c", filters = 8, kernel = 1, bias = false },
        { type = "batch_norm", name = "cn" },
        { type = "conv", name = "d", filters = 42, kernel = 1 },
        { type = "batch_norm", name = "dn" },
        { type = "relu6" },
        { type = "conv", name = "e", filters = 42, kernel = 3, groups = 42, padding = 1, bias = false },
        { type = "batch_norm", name = "en" },
        { type = "relu" },
        { type = "conv", name = "f", filters = 8, kernel = 1 },
        { type = "batch_norm", name = "fn" },
        { type = "add", name = "s", inputs = ["cn", "fn"] },
        { type = "conv", name = "g", filters = 44, kernel = 1 },
        { type = "batch_norm", name = "gn" },
        { type = "relu6" },
        { type = "conv", name = "h", filters = 44, kernel = 5, groups = 44, stride = 2, padding = 2 },
        { type = "batch_norm", name = "hn" },
        { type = "conv", name = "i", filters = 9, kernel = 1 },
        { type = "batch_norm", name = "in" },
        { type = "global_avg_pool" },
        { type = "linear", units = "classes" },"#;
    let text = format!("format = 1\nname = \"t\"\ninput = [3, 64, 64]\nclasses = 4\nlayers = [\n{layers}\n]\n");
    let net = Net::from_toml(&text, "t.toml").unwrap().resolve(None, None).unwrap();
    let (tensors, n) = (parameters(&net), 3);
    let images = noise(n * 3 * 64 * 64, 100);
    let logits = |device: &Device, batch: usize| {
        Inference::new(&net, tensors.clone(), device, batch).unwrap().logits(&images, n).unwrap()
    };
    let cpu = logits(&Device::cpu(2), n);
    assert_close("logits", &Tensor::new([n, 4], cpu.clone()), &Tensor::new([n, 4], logits(&Device::plain(), n)));
    for (threads, batch) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(logits(&Device::cpu(threads), batch), cpu, "{threads} threads, batches of {batch}");
    }
    // The steps that compute more than one layer.
    let mut inference = Inference::new(&net, tensors.clone(), &Device::cpu(1), 1).unwrap();
    let steps = inference.profile(&images[..3 * 64 * 64], 1).unwrap();
    assert_eq!(steps.iter().filter(|step| step.kernel == Some("chain")).count(), 3);
}

#[test]
fn a_batch_that_no_memory_holds_is_refused_with_its_size_before_anything_runs() {
    let text = "format = 1\nname = \"large\"\ninput = [64, 1024, 1024]\nclasses = 4\nlayers = [\n\
        { type = \"conv\", filters = 8, kernel = 1 },\n\
        { type = \"global_avg_pool\" },\n\
        { type = \"linear\", units = \"classes\" },\n]\n";
    let net = Net::from_toml(text, "t.toml").unwrap().resolve(None, None).unwrap();
    let tensors = initialise(&net, 0);
    // 268 MB a picture: more than any address space, so that systems that promise what they lack refuse it as well.
    let (device, batch) = (Device::cpu(1), 1 << 20);
    let inference = Inference::new(&net, tensors.clone(), &device, batch).err().unwrap();
    let training = Training::new(&net, tensors, &options(Optimizer::sgd(0.9), None), &device, batch).err().unwrap();
    for error in [inference, training] {
        let (what, advice) = (error.what(), error.to_string());
        assert!(what.contains("batch of 1048576: its activations take ") && what.ends_with(" TB"), "{what}");
        assert!(advice.contains("smaller --batch-size"), "{advice}");
    }
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing_and_the_layer_is_named() {
    let net = resolved(EVERYTHING);
    let mut tensors = parameters(&net);
    tensors.get_mut("d.weight").unwrap().data[3] = f32::NAN;
    let mut training =
        Training::new(&net, tensors.clone(), &options(Optimizer::sgd(0.9), None), &Device::cpu(1), 4).unwrap();
    let result = training.step(&batch(4, 0), 0.1, 0).unwrap();
    assert!(!result.finite && result.loss.is_nan());
    let after = training.tensors();
    assert_eq!(after["f1.weight"], tensors["f1.weight"]);
    assert_eq!(training.name_non_finite(&batch(4, 0), 0).unwrap(), "the output of layer d holds NaN");
}

#[test]
fn resuming_from_saved_state_equals_never_having_stopped() {
    let net = resolved(EVERYTHING);
    let new = |tensors: &Tensors| {
        Training::new(&net, tensors.clone(), &options(Optimizer::sgd(0.9), None), &Device::cpu(2), 8).unwrap()
    };
    let mut whole = new(&parameters(&net));
    (0..4).for_each(|step| _ = whole.step(&batch(8, step), 0.05, step).unwrap());
    let mut first = new(&parameters(&net));
    (0..2).for_each(|step| _ = first.step(&batch(8, step), 0.05, step).unwrap());
    let (tensors, state) = (first.tensors(), first.optimizer_state());
    let mut second = new(&initialise(&net, 99));
    second.restore(&tensors, &state).unwrap();
    (2..4).for_each(|step| _ = second.step(&batch(8, step), 0.05, step).unwrap());
    assert_eq!(second.tensors(), whole.tensors());
}
