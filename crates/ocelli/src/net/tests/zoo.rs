//! The networks of the zoo have the parameters, multiply-adds, shapes and names of their papers and of torchvision.

use super::*;

/// A net of the zoo as its file has it.
fn zoo(name: &str) -> Resolved {
    let classes = Net::zoo(name).unwrap().classes.or(Some(10));
    Net::zoo(name).unwrap().resolve(classes, None).unwrap_or_else(|error| panic!("{error}"))
}

/// Multiply-adds of one picture, without what only training computes.
fn macs(net: &Resolved) -> u64 {
    let layers = net.layers.iter().filter(|layer| !layer.training_only);
    layers.map(|layer| layer.kind.macs(&layer.input_shapes, layer.shape)).sum()
}

/// `name: shape` of the layers of these types.
fn drawn(net: &Resolved, types: &[&str]) -> Vec<String> {
    let layers = net.layers.iter().filter(|layer| types.contains(&layer.kind.type_name()));
    layers.map(|layer| format!("{}: {}", layer.name, layer.shape)).collect()
}

/// Connections as LeCun counted them, by layer.
fn connections(net: &Resolved) -> Vec<u64> {
    let each = net.layers.iter().map(|layer| layer.kind.connections(&layer.input_shapes, layer.shape));
    each.filter(|n| *n > 0).collect()
}

#[test]
fn the_net_of_1989_has_its_papers_9760_parameters_and_64660_connections() {
    let net = zoo("lecun1989");
    assert_eq!(drawn(&net, &["conv", "linear"]), ["h1: 8x8x12", "h2: 4x4x12", "h3: 30", "output: 10"]);
    let of = |names: &[&str]| -> usize {
        names.iter().flat_map(|name| &net.layer(name).unwrap().parameters).map(Parameter::len).sum()
    };
    assert_eq!([of(&["h1", "h1_bias"]), of(&["h2", "h2_bias"]), of(&["h3"]), of(&["output"])], [1068, 2592, 5790, 310]);
    assert_eq!(net.parameter_count(), 9_760);
    assert_eq!(connections(&net).iter().sum::<u64>(), 64_660);
    assert_eq!(macs(&net), 63_660);
}

#[test]
fn lenet5_of_1998_has_its_papers_parameters_and_connections_layer_by_layer() {
    let net = zoo("lenet5-1998");
    let trained: Vec<usize> = (net.layers.iter())
        .map(|layer| layer.parameters.iter().filter(|p| p.trainable).map(Parameter::len).sum())
        .filter(|n| *n > 0)
        .collect();
    assert_eq!(trained, [156, 12, 1516, 32, 48_120, 10_164]);
    assert_eq!(trained.iter().sum::<usize>(), 60_000);
    assert_eq!(connections(&net), [122_304, 5_880, 151_600, 2_000, 48_120, 10_164, 840]);
    let table = net.layer("c3").unwrap().kind.as_any().downcast_ref::<layers::Conv>().unwrap().maps.clone();
    assert_eq!(table.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 6]);
    // Every map of S2 reaches ten of C3's.
    assert_eq!([0, 1, 2, 3, 4, 5].map(|map| table.iter().flatten().filter(|m| **m == map).count()), [10; 6]);
    // Ten different patterns of -1 and 1.
    let codes = &initialise(&net, 0)["output.weight"];
    assert!(codes.data.iter().all(|x| x.abs() == 1.0));
    let rows: std::collections::BTreeSet<Vec<u32>> =
        codes.data.chunks(84).map(|row| row.iter().map(|x| x.to_bits()).collect()).collect();
    assert_eq!(rows.len(), 10);
}

#[test]
fn lenet5_has_61706_parameters_and_the_shapes_of_the_textbook() {
    let net = zoo("lenet5");
    assert_eq!(net.parameter_count(), 61_706);
    let shapes: Vec<String> = net.layers.iter().map(|layer| layer.shape.to_string()).collect();
    assert_eq!(
        shapes,
        ["28x28x6", "28x28x6", "14x14x6", "10x10x16", "10x10x16", "5x5x16", "120", "120", "84", "84", "10"]
    );
    let names: Vec<&str> = net.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names[..3], ["conv1", "relu1", "max_pool1"]);
    assert_eq!(net.classes, 10);
}

#[test]
fn the_convnetjs_nets_have_the_figures_of_their_pages() {
    let cifar = zoo("convnetjs-cifar10");
    assert_eq!(cifar.parameter_count(), 22_466);
    assert_eq!(macs(&cifar), 3_920_000);
    let mnist = zoo("convnetjs-mnist");
    assert_eq!(mnist.input, [1, 24, 24]);
    assert_eq!(macs(&mnist), 578_560);
    assert_eq!(mnist.parameter_count(), 5_994);
}

#[test]
fn alexnet_of_the_slide_has_every_line_of_the_lecture_in_its_order() {
    let net = zoo("alexnet-slide");
    assert_eq!(net.input, [3, 227, 227]);
    assert_eq!(
        drawn(&net, &["conv", "max_pool", "lrn", "linear"]),
        [
            "conv1: 55x55x96",
            "pool1: 27x27x96",
            "norm1: 27x27x96",
            "conv2: 27x27x256",
            "pool2: 13x13x256",
            "norm2: 13x13x256",
            "conv3: 13x13x384",
            "conv4: 13x13x384",
            "conv5: 13x13x256",
            "pool3: 6x6x256",
            "fc6: 4096",
            "fc7: 4096",
            "fc8: 1000",
        ]
    );
    assert_eq!(net.parameter_count(), 62_378_344);
    assert_eq!(macs(&net), 1_135_256_096);
}

#[test]
fn alexnet_of_the_paper_normalises_before_it_pools_and_has_two_groups() {
    let net = zoo("alexnet-2012-2gpu");
    assert_eq!(
        drawn(&net, &["max_pool", "lrn"]),
        ["norm1: 55x55x96", "pool1: 27x27x96", "norm2: 27x27x256", "pool2: 13x13x256", "pool5: 6x6x256"]
    );
    assert_eq!(net.parameter_count(), 60_965_224);
    assert_eq!(macs(&net), 724_406_816);
    let ones: Vec<&str> = net.parameters().filter(|p| p.init == Init::Constant(1.0)).map(|p| p.name.as_str()).collect();
    assert_eq!(ones, ["conv2.bias", "conv4.bias", "conv5.bias", "fc6.bias", "fc7.bias"]);
}

#[test]
fn norms_and_dropout_of_the_alexnets_are_the_papers_and_caffes() {
    for (name, groups, k, divide_by_size) in
        [("alexnet-2012-2gpu", 2, 2.0, false), ("alexnet-slide", 1, 2.0, false), ("caffenet", 1, 1.0, true)]
    {
        let net = zoo(name);
        let right = layers::Lrn { size: 5, alpha: 1e-4, beta: 0.75, k, groups, divide_by_size };
        for norm in ["norm1", "norm2"] {
            let lrn = net.layer(norm).unwrap().kind.as_any().downcast_ref::<layers::Lrn>();
            assert_eq!(lrn, Some(&right), "{name}: {norm}");
        }
        let types: Vec<&str> = net.layers.iter().map(|layer| layer.kind.type_name()).collect();
        assert_eq!(types[types.len() - 7..], ["linear", "relu", "dropout", "linear", "relu", "dropout", "linear"]);
        let rates = net.layers.iter().filter_map(|layer| layer.kind.as_any().downcast_ref::<layers::Dropout>());
        assert_eq!(rates.map(|dropout| dropout.rate).collect::<Vec<_>>(), [0.5, 0.5], "{name}");
    }
    let owt = zoo("alexnet-owt");
    assert!(drawn(&owt, &["lrn"]).is_empty());
}

#[test]
fn alexnets_layers_have_the_parameters_and_multiply_adds_of_the_table() {
    let table = [
        ("conv1", 34_944, 105_415_200),
        ("conv2", 614_656, 447_897_600),
        ("conv3", 885_120, 149_520_384),
        ("conv4", 1_327_488, 224_280_576),
        ("conv5", 884_992, 149_520_384),
        ("fc6", 37_752_832, 37_748_736),
        ("fc7", 16_781_312, 16_777_216),
        ("fc8", 4_097_000, 4_096_000),
    ];
    let halves = [("conv2", 307_456, 223_948_800), ("conv4", 663_936, 112_140_288), ("conv5", 442_624, 74_760_192)];
    for (net, table) in [(zoo("alexnet-slide"), &table[..]), (zoo("alexnet-2012-2gpu"), &halves[..])] {
        for &(name, parameters, macs) in table {
            let layer = net.layer(name).unwrap();
            assert_eq!(layer.parameters.iter().map(Parameter::len).sum::<usize>(), parameters, "{name}");
            assert_eq!(layer.kind.macs(&layer.input_shapes, layer.shape), macs, "{name}");
        }
    }
}

#[test]
fn torchvisions_state_dicts_load_by_name() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/torchvision");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let net = zoo(name);
        let mut ours = vec![format!("parameters {} macs {}", net.parameter_count(), macs(&net))];
        ours.extend(net.parameters().map(|p| {
            let dims: Vec<String> = p.dims.iter().map(usize::to_string).collect();
            format!("{} {}", p.name, dims.join("x"))
        }));
        let text = std::fs::read_to_string(&path).unwrap();
        for (ours, theirs) in ours.iter().zip(text.lines()) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours.len(), text.lines().count(), "{name}");
        files += 1;
    }
    assert_eq!(files, 17);
}

#[test]
fn caffenet_and_zfnet_have_alexnets_sizes_and_their_own_parameters() {
    let caffenet = zoo("caffenet");
    assert_eq!((caffenet.parameter_count(), macs(&caffenet)), (60_965_224, 724_406_816));
    let zfnet = zoo("zfnet");
    assert_eq!(zfnet.parameter_count(), 62_357_608);
    assert_eq!(
        drawn(&zfnet, &["conv", "max_pool"]),
        [
            "conv1: 110x110x96",
            "pool1: 55x55x96",
            "conv2: 26x26x256",
            "pool2: 13x13x256",
            "conv3: 13x13x384",
            "conv4: 13x13x384",
            "conv5: 13x13x256",
            "pool5: 6x6x256"
        ]
    );
    assert_eq!(macs(&zfnet), 1_168_032_896);
}

#[test]
fn googlenet_has_the_sizes_and_multiply_adds_of_its_paper() {
    let net = zoo("googlenet");
    let extra: usize =
        net.layers.iter().filter(|l| l.training_only).flat_map(|l| &l.parameters).map(Parameter::len).sum();
    assert_eq!((net.parameter_count(), extra), (13_378_280, 6_379_728));
    let shapes: Vec<String> =
        drawn(&net, &["max_pool", "concat"]).into_iter().filter(|line| !line.contains("branch")).collect();
    assert_eq!(
        shapes,
        [
            "pool1: 56x56x64",
            "pool2: 28x28x192",
            "inception3a.concat1: 28x28x256",
            "inception3b.concat1: 28x28x480",
            "pool3: 14x14x480",
            "inception4a.concat1: 14x14x512",
            "inception4b.concat1: 14x14x512",
            "inception4c.concat1: 14x14x512",
            "inception4d.concat1: 14x14x528",
            "inception4e.concat1: 14x14x832",
            "pool4: 7x7x832",
            "inception5a.concat1: 7x7x832",
            "inception5b.concat1: 7x7x1024",
        ]
    );
    // Table 1 of the paper, in millions, for the two 5x5-branched modules of the first stage.
    let module = |name: &str| -> u64 {
        let layers = net.layers.iter().filter(|layer| layer.name.starts_with(name));
        layers.map(|layer| layer.kind.macs(&layer.input_shapes, layer.shape)).sum()
    };
    assert_eq!((module("inception3a") + 500_000) / 1_000_000, 128);
    assert_eq!((module("inception3b") + 500_000) / 1_000_000, 304);
    let outputs: Vec<(&str, f32, bool)> =
        net.outputs.iter().map(|o| (o.name.as_str(), o.loss_weight, o.training_only)).collect();
    assert_eq!(outputs, [("output", 1.0, false), ("aux1", 0.3, true), ("aux2", 0.3, true)]);
}

#[test]
fn the_small_colour_net_takes_any_size_and_number_of_classes() {
    let net = Net::zoo("small-colour").unwrap();
    for (classes, size) in [(2, 8), (3, 64), (100, 97)] {
        let net = net.resolve(Some(classes), Some([3, size, size + 1])).unwrap();
        assert_eq!(net.classes, classes);
        assert_eq!(net.parameter_count(), 241_184 + 129 * classes as u64);
    }
}
