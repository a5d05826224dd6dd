//! What a net is checked for before it is used, and the values that parameters start from.

use super::*;
use crate::{Tensor, Tensors};

fn resolved(input: [usize; 3], layers: &str) -> Resolved {
    net(input, layers).and_then(|net| net.resolve(None, None)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_final_softmax_is_refused_under_cross_entropy_and_says_why() {
    let ends = |last: &str| {
        resolved([1, 4, 4], &format!(r#"{{ type = "linear", units = 3 }}, {{ type = "{last}" }}"#)).check_logits()
    };
    assert!(ends("relu").is_ok());
    let error = ends("softmax").unwrap_err().to_string();
    assert!(error.starts_with("softmax1: the net ends in a softmax, but cross-entropy takes logits"), "{error}");
    assert!(error.ends_with("Remove the softmax layer; predict shows probabilities all the same."));
    let maps = resolved([1, 4, 4], r#"{ type = "conv", filters = 3, kernel = 1 }"#).check_logits().unwrap_err();
    assert_eq!(maps.what(), "conv1: the net ends in maps of 4x4x3, not in one score per class");
    assert!(resolved([1, 4, 4], r#"{ type = "conv", filters = 3, kernel = 4 }"#).check_logits().is_ok());
}

#[test]
fn weights_of_another_shape_are_named_with_both_shapes() {
    let net = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    let mut tensors = initialise(&net, 0);
    assert!(net.check_tensors(&tensors).is_ok());
    tensors.insert("conv1.weight".into(), Tensor::zeros([6, 3, 5, 5]));
    assert_eq!(
        net.check_tensors(&tensors).unwrap_err().to_string(),
        "conv1.weight: the weights are 6x3x5x5, the network needs 6x1x5x5\n\
         Use the network that the weights were made for, with the same picture size and classes."
    );
    tensors.remove("conv1.weight");
    tensors.insert("conv1.weights".into(), Tensor::zeros([1]));
    assert_eq!(
        net.check_tensors(&tensors).unwrap_err().to_string(),
        "conv1.weight: not among the 10 tensors given\n\
         Use the network that the weights were made for. There is conv1.weights."
    );
}

#[test]
fn a_224_picture_into_alexnets_weights_explains_224_and_227() {
    let net = Net::zoo("alexnet-slide").unwrap();
    let made_for_227 = net.resolve(None, None).unwrap();
    // Only the shapes matter, so no values are kept.
    let dims = |p: &Parameter| (p.name.clone(), Tensor { dims: p.dims.clone(), data: vec![] });
    let tensors: Tensors = made_for_227.parameters().map(dims).collect();
    let error = net.resolve(None, Some([3, 224, 224])).unwrap().check_tensors(&tensors).unwrap_err().to_string();
    assert_eq!(
        error,
        "fc6.weight: the weights are 4096x9216, the network needs 4096x6400: its input is 5x5x256 = 6400 values, the \
         weights were made for 9216\n\
         Use 227x227 pictures: (227 - 11 + 2*0)/4 + 1 = 55, but here (224 - 11 + 2*0)/4 + 1 = 54.25. The paper writes \
         224, but its 55x55 maps need 227, or padding 2 with 224."
    );
}

#[test]
fn initial_weights_depend_on_the_seed_and_their_own_name_only() {
    let net = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    let start = initialise(&net, 1);
    assert_eq!(start, initialise(&net, 1));
    assert_ne!(start["conv2.weight"], initialise(&net, 2)["conv2.weight"]);
    let more = Net::zoo("lenet5").unwrap().resolve(Some(7), None).unwrap();
    assert_eq!(start["conv2.weight"], initialise(&more, 1)["conv2.weight"]);
    assert!(start["conv1.bias"].data.iter().all(|&b| b == 0.0));
}

/// Mean and standard deviation.
fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

#[test]
fn weights_start_by_their_rule() {
    // 64 inputs of a 5x5 window: fan_in 1600; 128 filters: fan_out 3200. 204,800 values, so a standard deviation is known
    // to 0.16 % (one in √(2n)) and the mean to std/√n; five of them are allowed.
    for (init, std) in [
        (r#""he""#, (2.0f64 / 1600.0).sqrt()),
        (r#""he_fan_out""#, (2.0f64 / 3200.0).sqrt()),
        (r#""xavier""#, (6.0f64 / 4800.0 / 3.0).sqrt()),
        (r#""normal", std = 0.01"#, 0.01),
        (r#""uniform", limit = 0.3"#, 0.3 / 3f64.sqrt()),
    ] {
        let layer =
            format!(r#"{{ type = "conv", filters = 128, kernel = 5, init = {{ weight = {init}, bias = 1 }} }}"#);
        let start = initialise(&resolved([64, 5, 5], &layer), 3);
        let (mean, measured) = moments(&start["conv1.weight"].data);
        let n = 204_800f64;
        assert!((measured / std - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{init}: {measured} instead of {std}");
        assert!(mean.abs() < 5.0 * std / n.sqrt(), "{init}: mean {mean}");
        assert!(start["conv1.bias"].data.iter().all(|&b| b == 1.0));
    }
    let default = initialise(
        &resolved([64, 5, 5], r#"{ type = "conv", filters = 128, kernel = 5 }, { type = "batch_norm" }"#),
        3,
    );
    let he = initialise(
        &resolved(
            [64, 5, 5],
            r#"{ type = "conv", filters = 128, kernel = 5, init = { weight = "he" } }, { type = "batch_norm" }"#,
        ),
        3,
    );
    assert_eq!(default, he);
    let dirac = r#"{ type = "conv", filters = 6, kernel = [3, 2], groups = 2, init = { weight = "dirac" } }"#;
    let start = &initialise(&resolved([8, 5, 5], dirac), 3)["conv1.weight"].data;
    for (i, filter) in start.chunks(4 * 6).enumerate() {
        if i < 4 {
            assert!(
                filter.iter().enumerate().all(|(at, &w)| w == f32::from(u8::from(at == i * 6 + 3))),
                "{i}: {filter:?}"
            );
        } else {
            assert!(filter.iter().all(|w| w.abs() < 24f32.sqrt().recip() && *w != 0.0), "{i}: {filter:?}");
        }
    }
    let norm = initialise(&resolved([2, 1, 1], r#"{ type = "batch_norm" }"#), 3);
    let values: Vec<f32> = norm.values().map(|tensor| tensor.data[0]).collect();
    assert_eq!(values, [0.0, 0.0, 1.0, 1.0], "bias, running_mean, running_var, weight");
}

#[test]
fn the_weights_behind_an_output_start_small_so_that_the_first_loss_is_that_of_guessing() {
    let last = r#"{ type = "conv", filters = 8, kernel = 1 }, { type = "linear", units = 400 }"#;
    let start = initialise(&resolved([4, 5, 5], last), 3);
    // 80,000 values: the standard deviation is known to 0.25 %; five of them are allowed.
    let (_, std) = moments(&start["linear1.weight"].data);
    assert!((std / 0.01 - 1.0).abs() < 0.0125, "{std}");
    let (_, std) = moments(&start["conv1.weight"].data);
    assert!(std > 0.3, "the layer before it keeps He's rule: {std}");
    let pooled = r#"{ type = "conv", filters = 400, kernel = 5 }, { type = "global_avg_pool" }"#;
    let (_, std) = moments(&initialise(&resolved([8, 5, 5], pooled), 3)["conv1.weight"].data);
    assert!((std / 0.01 - 1.0).abs() < 0.0125, "{std}");
    let said = r#"{ type = "linear", units = 400, init = { weight = "he" } }"#;
    let (_, std) = moments(&initialise(&resolved([8, 5, 5], said), 3)["linear1.weight"].data);
    assert!((std / 0.1 - 1.0).abs() < 0.0125, "what the file says counts: {std}");
}
