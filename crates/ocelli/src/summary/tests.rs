//! Facts about sizes and costs.

use super::*;
use crate::exec::{Inference, Training};
use crate::net::{Net, initialise};

fn net(input: [usize; 3], layers: &str) -> Resolved {
    let text = format!("format = 1\nname = \"t\"\ninput = {input:?}\nlayers = [{layers}]");
    Net::from_toml(&text, "t").and_then(|net| net.resolve(None, None)).unwrap_or_else(|error| panic!("{error}"))
}

fn of(net: &Resolved, batch: usize) -> Summary {
    Summary::new(net, batch, &Device::cpu(1)).unwrap_or_else(|error| panic!("{error}"))
}

fn zoo(name: &str) -> Summary {
    of(&Net::zoo(name).unwrap().resolve(None, None).unwrap(), 1)
}

/// Size and jump of what a layer's units see.
fn sees(summary: &Summary, layer: &str) -> Option<(usize, usize)> {
    let row = summary.layers.iter().find(|row| row.name == layer).unwrap_or_else(|| panic!("no {layer}"));
    row.field.map(|field| (field.size[0], field.jump[0]))
}

#[test]
fn alexnets_receptive_fields_and_jumps_are_those_of_the_table() {
    let net = zoo("alexnet-slide");
    for (layer, size, jump) in [
        ("conv1", 11, 4),
        ("pool1", 19, 8),
        ("norm1", 19, 8),
        ("conv2", 51, 8),
        ("pool2", 67, 16),
        ("conv3", 99, 16),
        ("conv4", 131, 16),
        ("conv5", 163, 16),
        ("pool3", 195, 32),
    ] {
        assert_eq!(sees(&net, layer), Some((size, jump)), "{layer}");
    }
    assert_eq!(sees(&net, "fc6"), None, "a linear layer sees everything");
}

#[test]
fn alexnets_totals_are_those_of_the_tables() {
    let slide = zoo("alexnet-slide");
    assert_eq!((slide.parameters, slide.macs), (62_378_344, 1_135_256_096));
    let paper = zoo("alexnet-2012-2gpu");
    assert_eq!((paper.parameters, paper.macs), (60_965_224, 724_406_816));
}

#[test]
fn parameters_are_shown_as_a_product() {
    let products = |name: &str| -> Vec<String> {
        let rows = zoo(name).layers.into_iter().filter(|row| row.parameters > 0);
        rows.map(|row| format!("{} = {}", row.product, row.parameters)).collect()
    };
    assert_eq!(
        products("lenet5"),
        [
            "6·(5·5·1) + 6 = 156",
            "16·(5·5·6) + 16 = 2416",
            "120·400 + 120 = 48120",
            "84·120 + 84 = 10164",
            "10·84 + 10 = 850"
        ]
    );
    assert_eq!(products("resnet18")[..2], ["64·(7·7·3) = 9408", "2·64 = 128"]);
    assert_eq!(products("alexnet-2012-2gpu")[1], "256·(5·5·48) + 256 = 307456");
}

#[test]
fn lecun_counted_a_connection_for_every_weight_and_bias_of_every_unit() {
    // 1989: H1 has 768 units of 25 inputs and a bias, LeNet-5's C1 has 122,304 connections, its subsampling 4 a unit.
    let layers = r#"{ type = "conv", filters = 12, kernel = 5, stride = 2, padding = [2, 2, 1, 1] }"#;
    let h1 = of(&net([1, 16, 16], layers), 1);
    assert_eq!(h1.connections, 768 * 26);
    let lenet5 = zoo("lenet5");
    assert_eq!(lenet5.layers[0].connections, 28 * 28 * 6 * 26);
    assert_eq!(lenet5.layers[2].connections, 14 * 14 * 6 * 4);
    assert_eq!(lenet5.layers[1].connections, 0);
    assert_eq!(lenet5.layers[6].connections, 48_120);
}

#[test]
fn sparse_and_shared_connections_save_what_the_lecture_says() {
    let six = net([3, 32, 32], r#"{ type = "conv", filters = 6, kernel = 5 }"#);
    let rows = compare_dense(&six);
    assert_eq!((rows[0].dense, rows[0].local, rows[0].shared, rows[0].neuron), (14_450_688, 352_800, 450, 3_072));
    let text = dense_table(&rows);
    assert!(text.contains("conv1        32x32x3  28x28x6  14,450,688  352,800     450             3,072"), "{text}");
    let large = net([3, 200, 200], r#"{ type = "conv", filters = 6, kernel = 5 }"#);
    assert_eq!(compare_dense(&large)[0].neuron, 120_000);
}

#[test]
fn what_is_never_seen_is_said_and_refused_by_a_strict_reading() {
    let seven = net([1, 7, 7], r#"{ type = "conv", filters = 1, kernel = 3, stride = 3 }"#);
    let words = "conv1: (7 - 3 + 2*0)/3 + 1 = 2.33";
    assert_eq!(seven.notes(), [format!("{words}: 1 row and 1 column at the bottom and right are never seen")]);
    assert!(seven.check_strict().unwrap_err().what().starts_with(&format!("{words} is not whole: 1 row and")));
    assert!(net([1, 7, 7], r#"{ type = "conv", filters = 1, kernel = 3, stride = 2 }"#).check_strict().is_ok());
    let resnet = zoo("resnet18");
    assert_eq!(resnet.notes[0], "conv1: (224 - 7 + 2*3)/2 + 1 = 112.5: only padding is left over");
    let wide = net([1, 4, 9], r#"{ type = "max_pool", kernel = 2 }"#);
    assert_eq!(wide.notes(), ["max_pool1: (9 - 2 + 2*0)/2 + 1 = 4.5: 1 column at the right is never seen"]);
    assert!(zoo("alexnet-slide").notes.is_empty() && zoo("lenet5").notes.is_empty());
}

#[test]
fn alexnet_with_224_pictures_is_told_about_227() {
    let net = Net::zoo("alexnet-slide").unwrap().resolve(None, Some([3, 224, 224])).unwrap();
    let sizes: Vec<usize> =
        ["conv1", "pool1", "pool2", "pool3"].map(|name| net.layer(name).unwrap().shape.dims()[1]).into();
    assert_eq!(sizes, [54, 26, 12, 5]);
    let notes = net.notes();
    assert_eq!(
        notes[0],
        "conv1: (224 - 11 + 2*0)/4 + 1 = 54.25: 1 row and 1 column at the bottom and right are never seen"
    );
    assert_eq!(
        notes.last().unwrap(),
        "alexnet-slide: The paper writes 224, but its 55x55 maps need 227, or padding 2 with 224."
    );
}

#[test]
fn the_memory_is_what_a_session_holds_after_it_has_run() {
    let net = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    let told = of(&net, 5).memory;
    let (device, tensors) = (Device::cpu(1), initialise(&net, 0));
    let mut inference = Inference::new(&net, tensors.clone(), &device, 5).unwrap();
    let pictures = 5 * 28 * 28 * 4;
    let logits = inference.logits(&[0.5; 5 * 28 * 28], 5).unwrap();
    assert_eq!(
        told.infer,
        inference.memory().bytes() + pictures - 4 * (6 * 25 + 16 * 6 * 25),
        "two layers' weights are packed"
    );
    let mut inference = Inference::new(&net, tensors.clone(), &device, 5).unwrap().only_answers();
    for _ in 0..2 {
        assert_eq!(inference.logits(&[0.5; 5 * 28 * 28], 5).unwrap(), logits);
    }
    assert_eq!(told.infer, inference.memory().bytes() + pictures);
    let refused = inference.activations(&[0.5; 28 * 28]).unwrap_err();
    assert!(refused.what().ends_with("packed for good: it can only answer"), "{refused}");
    // Parameters and momenta, and the first layer's input and output, which its gradient reads, are there in any case.
    assert!(told.train.unwrap() > 4 * (2 * 61_706 + 5 * (28 * 28 + 6 * 28 * 28)));
    let options = crate::bench::train_options();
    let held = Training::new(&net, tensors, &options, &device, 5).unwrap().memory();
    assert_eq!(told.train_and_evaluate, Some(held.bytes() + pictures));
}

#[test]
fn what_a_residual_reads_stays_in_memory() {
    let scratch = |layers: &str| of(&net([4, 32, 32], layers), 3).memory.infer;
    let map = 4 * 4 * 32 * 32 * 3;
    let chain = r#"{ type = "conv", filters = 4, kernel = 3, padding = 1 }, { type = "tanh" },
        { type = "conv", filters = 4, kernel = 3, padding = 1 }, { type = "tanh" }"#;
    let residual = format!(r#"{chain}, {{ type = "add", inputs = ["tanh2", "input"] }}"#);
    assert_eq!(scratch(&residual) - scratch(chain), map);
}

#[test]
fn the_table_has_a_line_per_layer_and_the_json_the_contracts_keys() {
    let summary = zoo("lenet5");
    let text = summary.to_string();
    let line = text.lines().find(|line| line.starts_with("conv2")).unwrap();
    for part in [
        "conv 5x5",
        "10x10x16",
        "(14 - 5 + 2*0)/1 + 1 = 10",
        "16·(5·5·6) + 16 = 2,416",
        "240,000",
        "241,600",
        "14 / 2",
        "6.4 KB",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(text.contains("parameters    61,706 (246.8 KB)"), "{text}");
    let json = summary.to_json();
    for key in ["schema", "name", "parameters", "macs", "connections", "activation_bytes", "layers"] {
        assert!(json.get(key).is_some(), "{key}");
    }
    for key in ["name", "type", "output", "parameters", "macs", "connections", "receptive_field"] {
        assert!(json["layers"][0].get(key).is_some(), "{key}");
    }
    assert_eq!(json["layers"][0]["output"], serde_json::json!([6, 28, 28]));
    assert_eq!(json["layers"][10]["receptive_field"], serde_json::json!([28, 28]));
}

fn towers(name: &str) -> Result<Towers> {
    Towers::new(&Net::zoo(name).unwrap().resolve(None, None).unwrap())
}

#[test]
fn alexnets_towers_exchange_the_papers_floats() {
    let towers = towers("alexnet-2012-2gpu").unwrap();
    let between: Vec<(&str, [u64; 2])> =
        towers.tiers.iter().filter(|tier| tier.received != [0, 0]).map(|tier| (&*tier.name, tier.received)).collect();
    // conv3 43,264, fc6 9,216 and fc7 4,096 both ways together, fc8 2,048 one way.
    assert_eq!(
        between,
        [("conv3", [21_632; 2]), ("fc6", [4_608; 2]), ("fc7", [2_048; 2]), ("fc8", [2_048, 0])],
        "conv1 reads the picture, which both have; conv2, 4 and 5 stay inside"
    );
    assert_eq!(towers.traffic(), 43_264 + 9_216 + 4_096 + 2_048);
    let parameters = [0, 1].map(|tower| towers.tiers.iter().map(|tier| tier.parameters[tower]).sum::<u64>());
    assert_eq!(parameters, [32_531_112, 28_434_112]);
    assert_eq!(parameters.iter().sum::<u64>(), 60_965_224);
}

#[test]
fn a_tower_trains_inside_a_gtx_580() {
    let [first, second] = towers("alexnet-2012-2gpu").unwrap().memory(128);
    assert_eq!((first.weights, second.weights), (4 * 32_531_112, 4 * 28_434_112));
    assert_eq!((first.gradients, first.momentum), (first.weights, first.weights));
    // 1,258,760 floats of a picture: convolutions, norms, pools and linear layers; ReLU and dropout work in place.
    assert_eq!(first.activations + second.activations, 4 * 128 * 1_258_760);
    assert_eq!(first.received + second.received, 4 * 128 * 58_624);
    assert_eq!(first.activation_gradients, first.activations + first.received);
    assert_eq!(first.pictures, 4 * 128 * 227 * 227 * 3);
    assert!(second.total() < first.total() && first.total() < GTX_580);
    let table = towers("alexnet-2012-2gpu").unwrap().memory_table(128);
    assert!(table.contains("A GTX 580 has 3.2 GB (3 GiB): each tower fits one"), "{table}");
    let too_much = towers("alexnet-2012-2gpu").unwrap().memory_table(1024);
    assert!(too_much.contains("tower 1 needs") && too_much.contains("does not fit one card"), "{too_much}");
}

#[test]
fn a_picture_of_224_and_of_227_give_55_by_three_conventions() {
    let lines = towers("alexnet-2012-2gpu").unwrap().conventions.join("\n");
    for fact in ["(227 - 11 + 2*0)/4 + 1 = 55 ", "= 55.25 ", "= 54.25 ", "hang 3 pixels", "maps of 54, 26, 12, 5 rows"]
    {
        assert!(lines.contains(fact), "{fact}:\n{lines}");
    }
    assert!(lines.contains("fc6 would get 6,400 values instead of 9,216"), "{lines}");
}

#[test]
fn caffenets_norms_look_over_the_border_of_the_towers() {
    let towers = towers("caffenet").unwrap();
    let of = |name: &str| towers.tiers.iter().find(|tier| tier.name == name).unwrap().received;
    assert_eq!((of("norm1"), of("norm2")), ([2 * 27 * 27; 2], [2 * 13 * 13; 2]));
}

#[test]
fn a_net_without_two_towers_is_told_so() {
    for (name, why) in [
        ("alexnet-slide", "alexnet-slide: one tower: no convolution is divided into groups"),
        ("mobilenet_v2", "groups, two towers have 2"),
    ] {
        let error = towers(name).unwrap_err();
        assert!(error.what().contains(why), "{error}");
        assert!(error.to_string().contains("alexnet-2012-2gpu"), "{error}");
    }
    let branched = net(
        [4, 8, 8],
        r#"{ type = "conv", name = "a", filters = 4, kernel = 1, groups = 2 }, { type = "add", inputs = ["a", "input"] }"#,
    );
    assert!(Towers::new(&branched).unwrap_err().what().contains("no branches"));
    let odd = net(
        [4, 8, 8],
        r#"{ type = "conv", filters = 4, kernel = 1, groups = 2 }, { type = "linear", name = "fc", units = 3 }, { type = "linear", units = 2 }"#,
    );
    assert!(Towers::new(&odd).unwrap_err().what().contains("fc makes 3, which has no halves"));
}
