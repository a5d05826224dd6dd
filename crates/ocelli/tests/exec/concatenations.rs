//! What lies within a concatenation from the start, and what is copied into it.

use super::{assert_close, compare, noise, parameters, resolved};
use ocelli::Tensor;
use ocelli::exec::{Device, Inference};

/// Convolutions of every kernel side by side, whose outputs lie within a concatenation, beside what is copied into it: the input, a
/// value that another layer reads too, one that is there twice, a pooling, and another concatenation.
const BRANCHES: &str = r#"
    { type = "conv", name = "few", filters = 5, kernel = 3, padding = 1, inputs = ["input"] },
    { type = "conv", name = "stem", filters = 48, kernel = 3, padding = 1, inputs = ["input"] },
    { type = "relu", name = "x" },
    { type = "conv", bias = false, filters = 33, kernel = 1, inputs = ["x"] },
    { type = "batch_norm", name = "b1" },
    { type = "relu", name = "pointwise" },
    { type = "conv", name = "winograd", filters = 64, kernel = 3, padding = 1, inputs = ["x"] },
    { type = "conv", name = "planar", filters = 7, kernel = 5, padding = 2, inputs = ["x"] },
    { type = "conv", bias = false, filters = 48, kernel = 3, padding = 1, groups = 48, inputs = ["x"] },
    { type = "batch_norm", name = "depthwise" },
    { type = "conv", name = "groups", filters = 6, kernel = 3, padding = 1, groups = 3, inputs = ["x"] },
    { type = "conv", name = "read_twice", filters = 4, kernel = 1, inputs = ["x"] },
    { type = "conv", name = "again", filters = 4, kernel = 1, inputs = ["read_twice"] },
    { type = "conv", name = "there_twice", filters = 3, kernel = 1, inputs = ["x"] },
    { type = "max_pool", name = "pool", kernel = 3, stride = 1, padding = 1, inputs = ["x"] },
    { type = "concat", name = "some", inputs = ["planar", "input", "few"] },
    { type = "concat", name = "all", inputs = ["there_twice", "pointwise", "winograd", "some", "depthwise", "there_twice", "groups",
      "read_twice", "again", "pool"] },
    { type = "linear", name = "f", units = "classes" },
"#;

/// The same of features, whose channels are their values.
const FEATURES: &str = r#"
    { type = "linear", name = "left", units = 7, bias = false, inputs = ["input"] },
    { type = "batch_norm", name = "l" },
    { type = "linear", name = "right", units = 5, inputs = ["input"] },
    { type = "batch_norm", name = "r" },
    { type = "concat", inputs = ["right", "r", "l"] },
    { type = "linear", name = "f", units = "classes" },
"#;

#[test]
fn cpu_and_interpreter_agree_on_concatenations() {
    compare(&resolved(FEATURES), true);
    compare(&resolved(FEATURES), false);
    let net = resolved(BRANCHES);
    compare(&net, true);
    compare(&net, false);
    let (tensors, images, n) = (parameters(&net), noise(3 * 297, 100), 3);
    let inference = |device: &Device, batch: usize| Inference::new(&net, tensors.clone(), device, batch).unwrap();
    let logits = |device: &Device, batch: usize| inference(device, batch).logits(&images, n).unwrap();
    let cpu = logits(&Device::cpu(2), n);
    assert_close("logits", &Tensor::new([n, 4], cpu.clone()), &Tensor::new([n, 4], logits(&Device::plain(), n)));
    for (threads, batch) in [(1, 1), (3, 2)] {
        assert_eq!(logits(&Device::cpu(threads), batch), cpu, "{threads} threads, batches of {batch}");
    }
    // What is copied: the input, `there_twice` twice, `some`, `read_twice`, and the pooling.
    let steps = inference(&Device::cpu(1), 1).profile(&images[..297], 1).unwrap();
    assert_eq!(steps.iter().filter(|step| step.step == "concat").count(), 6);
}
