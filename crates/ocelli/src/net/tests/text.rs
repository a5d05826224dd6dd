//! The text form.

use super::*;
use proptest::prelude::*;

#[test]
fn every_net_of_the_zoo_survives_being_written_and_read() {
    for name in Net::zoo_names() {
        let net = Net::zoo(name).unwrap();
        assert_eq!(net.name, name);
        let text = net.to_toml();
        assert_eq!(Net::from_toml(&text, "written.toml").unwrap_or_else(|e| panic!("{e}\n{text}")), net);
    }
}

/// Layers that cannot be, the first line of their error after the file's name, and the second.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        r#"{ type = "conv", fitlers = 6, kernel = 5 }"#,
        r#"layer 1 (conv): unknown key "fitlers""#,
        r#"Did you mean "filters"?"#,
    ),
    (r#"{ type = "convv", filters = 6 }"#, r#"layer 1 (convv): unknown layer type "convv""#, r#"Did you mean "conv"?"#),
    (r#"{ type = "conv", kernel = 5 }"#, "layer 1 (conv): the key `filters` is missing", "Add filters = …."),
    (
        r#"{ type = "conv", filters = 0, kernel = 5 }"#,
        "layer 1 (conv): `filters`: invalid value: integer `0`",
        "Use a whole number from 1 to 16777216.",
    ),
    (
        r#"{ type = "conv", name = "a", filters = -3, kernel = 5 }"#,
        "a: `filters`: invalid value: integer `-3`",
        "Use a whole number from 1 to 16777216.",
    ),
    (
        r#"{ type = "conv", filters = 6, kernel = [5, 99999999999] }"#,
        "layer 1 (conv): `kernel`: invalid value: integer `99999999999`",
        "Use a whole number from 1 to 32767, or [height, width] of such numbers.",
    ),
    (
        r#"{ type = "max_pool", kernel = [5, 1, 2] }"#,
        "layer 1 (max_pool): `kernel`: invalid length 3",
        "Use a whole number from 1 to 32767, or [height, width] of such numbers.",
    ),
    (
        r#"{ type = "conv", filters = 6, kernel = 5, padding = "sane" }"#,
        r#"layer 1 (conv): `padding`: invalid value: string "sane""#,
        r#"Use padding as a number up to 32767, [height, width], [top, left, bottom, right], "valid", "same" or "full"."#,
    ),
    (
        r#"{ type = "linear", units = 1.5 }"#,
        "layer 1 (linear): `units`: invalid type: floating point `1.5`",
        r#"Use a whole number from 1 to 16777216 or "classes"."#,
    ),
    (
        r#"{ type = "conv", filters = 1, kernel = 1, bias = 1 }"#,
        "layer 1 (conv): `bias`: invalid type: integer `1`",
        "Use true or false.",
    ),
    (
        r#"{ type = "conv", filters = 4, kernel = 1, groups = 3 }"#,
        "layer 1 (conv): 4 filters do not divide into 3 groups",
        "Use a number of filters that is a multiple of the groups.",
    ),
    (
        r#"{ type = "dropout", rate = 1.0 }"#,
        "layer 1 (dropout): rate = 1 is out of range",
        "Use a number from 0 to below 1.",
    ),
    (
        r#"{ type = "pad", amount = "same" }"#,
        "layer 1 (pad): amount needs numbers, since a pad layer has no kernel",
        "Use a number, [h, w] or [top, left, bottom, right].",
    ),
    (r#"{ name = "x" }"#, "x: the key `type` is missing", r#"Begin with { type = "conv", … }."#),
    (
        r#"{ type = "relu", name = "input" }"#,
        r#"input: the name "input" is reserved for the net's input"#,
        "Use another name.",
    ),
    (
        r#"{ type = "relu", name = "a b" }"#,
        r#"a b: the name "a b" cannot be used"#,
        "Use up to 200 letters, digits, `_`, `-` and `.` inside.",
    ),
    (
        r#"{ type = "relu", name = "a" }, { type = "relu", name = "a" }"#,
        "a: this name is used twice",
        "Give each layer a name of its own; unnamed layers are called by type and number, like relu2.",
    ),
    (
        r#"{ type = "conv", name = "conv1", filters = 1, kernel = 1 }, { type = "relu", inputs = ["conf1"] }"#,
        r#"relu1: unknown input "conf1""#,
        r#"Did you mean "conv1"?"#,
    ),
    (
        r#"{ type = "relu", inputs = [] }"#,
        "layer 1 (relu): `inputs` is empty",
        "Name a layer, or leave `inputs` out for the layer before.",
    ),
    (
        r#"{ type = "add", name = "a", inputs = ["b", "input"] }, { type = "relu", name = "b", inputs = ["a"] }"#,
        "the layers form a cycle: b -> a -> b",
        "A layer may read only what does not depend on it.",
    ),
    (
        r#"{ type = "relu", name = "a" }, { type = "relu", name = "b", inputs = ["input"] }"#,
        "a: no layer and no output reads it",
        "Name it in the `inputs` of a later layer or in `outputs`, or remove it.",
    ),
    (
        r#"{ type = "add", inputs = ["input"] }"#,
        "add1: add takes 2 or more inputs, not 1",
        r#"Name them: inputs = ["conv3", "relu1"]."#,
    ),
    (
        r#"{ type = "linear", units = 3, init = { wieght = "normal" } }"#,
        r#"layer 1 (linear): init: unknown key "wieght""#,
        r#"Did you mean "weight"?"#,
    ),
    (
        r#"{ type = "linear", units = 3, lr = { bias = "x" } }"#,
        r#"layer 1 (linear): lr: `bias`: invalid type: string "x""#,
        "Use a number.",
    ),
    (r#"{ type = "block", use = "basic" }"#, r#"block1: unknown block "basic""#, "There is no block here."),
    ("", "the net has no layers", "Put at least one into `layers`."),
];

#[test]
fn what_cannot_be_is_refused_with_the_file_the_layer_and_what_to_do() {
    for (layers, what, advice) in REFUSED {
        assert_eq!(error([1, 28, 28], layers), format!("t.toml: {what}\n{advice}"), "{layers}");
    }
}

#[test]
fn settings_of_parameters_that_do_not_exist_are_refused() {
    for (layer, what) in [
        (
            r#"{ type = "relu", init = { weight = 1 } }"#,
            "relu1: relu has no parameters for init, lr, decay or trainable",
        ),
        (
            r#"{ type = "linear", units = 3, bias = false, lr = { bias = 2 } }"#,
            "linear1: a bias is set in init, lr or decay, but the layer has none",
        ),
        (
            r#"{ type = "linear", units = 3, init = { weight = "normal" } }"#,
            r#"linear1: init: weight = "normal" needs `std`"#,
        ),
        (
            r#"{ type = "linear", units = 3, init = { weight = "he", std = 1 } }"#,
            r#"linear1: init: std belongs to weight = "normal""#,
        ),
        (
            r#"{ type = "linear", units = 3, init = { weight = "dirac" } }"#,
            r#"linear1: init: weight = "dirac" is for convolutions"#,
        ),
        (
            r#"{ type = "conv", filters = 300, kernel = 2, init = { weight = "whiten" } }"#,
            r#"conv1: init: weight = "whiten" of 300 filters, where patches of 2x2x1 have 8 directions"#,
        ),
        (
            r#"{ type = "relu" }, { type = "conv", filters = 3, kernel = 2, init = { weight = "whiten" } }"#,
            r#"conv1: init: weight = "whiten" is for a convolution that reads the picture, all its channels"#,
        ),
        (
            r#"{ type = "linear", units = 3, init = { weight = "normla", std = 1 } }"#,
            r#"linear1: unknown init "normla""#,
        ),
        (r#"{ type = "linear", units = 3, decay = { weight = -1 } }"#, "linear1: decay: -1 is not a factor"),
    ] {
        assert_eq!(error([1, 8, 8], layer).lines().next(), Some(what));
    }
}

#[test]
fn a_files_own_keys_are_strict_too() {
    let read = |text: &str| Net::from_toml(text, "x.toml").unwrap_err().to_string();
    let rest = "name = \"x\"\ninput = [1, 8, 8]\nlayers = [{ type = \"relu\" }]\n";
    assert!(read(rest).starts_with("x.toml: the key `format` is missing"));
    assert!(read(&format!("format = 2\n{rest}")).starts_with("x.toml: format = 2 is newer than this program"));
    assert!(read(&format!("format = 0\n{rest}")).starts_with("x.toml: format = 0 is not a format"));
    assert_eq!(
        read(&format!("format = 1\nclases = 3\n{rest}")),
        "x.toml: unknown key \"clases\"\nDid you mean \"classes\"?"
    );
    assert!(
        read(&format!("format = 1\n{}", rest.replace("[1, 8, 8]", "[8, 8]")))
            .starts_with("x.toml: input has 2 numbers")
    );
    assert!(read(&format!("format = 1\n{}", rest.replace("8]", "0]"))).starts_with("x.toml: input: 0 is not a size"));
    assert!(read(&format!("format = 1\n{rest}classes = -1")).starts_with("x.toml: classes: -1 is not a size"));
    assert!(read("format = 1\nname = \"x").starts_with("x.toml: line 2: "));
    assert!(
        read(&format!("format = 1\n{rest}[[outputs]]\nname = \"a\"\nlayer = \"rely1\""))
            .contains("unknown input \"rely1\"")
    );
    assert!(
        read(&format!("format = 1\n{rest}[[outputs]]\nname = \"a\"\nlayer = \"relu1\"\ntraining_only = true"))
            .contains("every output is for training only")
    );
}

/// A file with blocks.
fn blocks(layers: &str, blocks: &str) -> Result<Net> {
    let text = format!("format = 1\nname = \"b\"\ninput = [4, 8, 8]\nlayers = [{layers}]\n{blocks}");
    Net::from_toml(&text, "b.toml")
}

const RESIDUAL: &str = r#"
[blocks.pair]
layers = [
  { type = "conv", name = "conv1", filters = "$filters", kernel = 3, padding = 1, init = { weight = "normal", std = "$std" } },
  { type = "relu" },
  { type = "block", use = "tail", name = "tail", filters = "$filters" },
  { type = "add", inputs = ["tail", "$input"] },
]
[blocks.tail]
layers = [
  { type = "conv", name = "conv1", filters = "$filters", kernel = 1 },
  { type = "multiply", inputs = ["conv1", "$input"] },
]
"#;

#[test]
fn blocks_unroll_to_pytorchs_names_with_their_parameters_and_inputs() {
    let layers = r#"{ type = "block", use = "pair", name = "layer1", repeat = 2, filters = 4, std = 0.5 },
        { type = "block", use = "tail", name = "end", filters = 4 }, { type = "add", inputs = ["end", "layer1", "layer1.0"] }"#;
    let net = blocks(layers, RESIDUAL).unwrap();
    assert_eq!(Net::from_toml(&net.to_toml(), "again").unwrap(), net);
    let net = net.resolve(None, None).unwrap();
    let names: Vec<&str> = net.layers.iter().map(|layer| layer.name.as_str()).collect();
    let one = ["conv1", "relu1", "tail.conv1", "tail.multiply1", "add1"];
    let mut expected: Vec<String> = (0..2).flat_map(|i| one.map(|name| format!("layer1.{i}.{name}"))).collect();
    expected.extend(["end.conv1", "end.multiply1", "add1"].map(String::from));
    assert_eq!(names, expected);
    let inputs = |name: &str| -> Vec<&str> {
        let layer = net.layer(name).unwrap();
        let name = |source: &Source| match source {
            Source::Input => "input",
            Source::Layer(i) => net.layers[*i].name.as_str(),
        };
        layer.inputs.iter().map(name).collect()
    };
    assert_eq!(inputs("layer1.0.conv1"), ["input"]);
    assert_eq!(inputs("layer1.0.tail.multiply1"), ["layer1.0.tail.conv1", "layer1.0.relu1"]);
    assert_eq!(inputs("layer1.0.add1"), ["layer1.0.tail.multiply1", "input"]);
    assert_eq!(inputs("layer1.1.add1"), ["layer1.1.tail.multiply1", "layer1.0.add1"]);
    assert_eq!(inputs("add1"), ["end.multiply1", "layer1.1.add1", "layer1.0.add1"]);
    assert_eq!(net.parameters().next().unwrap().init, Init::Normal { std: 0.5 });
}

#[test]
fn blocks_are_strict() {
    let refused = |layers: &str, text: &str| blocks(layers, text).unwrap_err().to_string();
    assert_eq!(
        refused(r#"{ type = "block", use = "tail", filtres = 4 }"#, RESIDUAL),
        "b.toml: block1: unknown parameter of block \"tail\" \"filtres\"\nDid you mean \"filters\"?"
    );
    assert!(
        refused(r#"{ type = "block", use = "tail" }"#, RESIDUAL)
            .contains("block \"tail\" needs the parameter `filters`")
    );
    assert!(refused(r#"{ type = "block", use = "tial", filters = 4 }"#, RESIDUAL).contains("Did you mean \"tail\"?"));
    assert!(
        refused(r#"{ type = "block", use = "tail", filters = "x" }"#, RESIDUAL)
            .starts_with("b.toml: block1: conv1: `filters`: ")
    );
    assert!(refused(r#"{ type = "block", use = "tail", filters = 4, repeat = 0 }"#, RESIDUAL).contains("repeat = 0"));
    assert!(refused(r#"{ type = "block", use = "tail", filters = 4, first = 1 }"#, RESIDUAL).contains("first = 1"));
    assert!(refused(r#"{ type = "block", use = "a" }"#, "[blocks.a]\nlayers = []").contains("has no layers"));
    let recursive = "[blocks.a]\nlayers = [{ type = \"block\", use = \"b\" }]\n[blocks.b]\nlayers = [{ type = \"block\", use = \"a\" }]";
    assert!(refused(r#"{ type = "block", use = "a" }"#, recursive).contains("is nested in itself"));
    assert!(refused(r#"{ type = "relu", inputs = ["$input"] }"#, "").contains("unknown input \"$input\""));
}

#[test]
fn a_small_file_cannot_make_a_huge_net() {
    let once = "[blocks.a]\nlayers = [{ type = \"relu\" }]";
    let many = blocks(r#"{ type = "block", use = "a", repeat = 16000000 }"#, once).unwrap_err().to_string();
    assert_eq!(many, "b.toml: the net has more than 10000 layers\nRepeat blocks less often.");
    // Ten levels of ten: 10^10 layers.
    let mut levels = String::from("[blocks.b0]\nlayers = [{ type = \"relu\" }]\n");
    for i in 1..=10 {
        levels += &format!("[blocks.b{i}]\nlayers = [{{ type = \"block\", use = \"b{}\", repeat = 10 }}]\n", i - 1);
    }
    assert!(
        blocks(r#"{ type = "block", use = "b10" }"#, &levels)
            .unwrap_err()
            .to_string()
            .contains("more than 10000 layers")
    );
}

#[test]
fn outputs_name_layers_and_the_first_that_predicts_is_the_main_one() {
    let text = "[[outputs]]\nname = \"side\"\nlayer = \"a\"\nloss_weight = 0.3\ntraining_only = true\n[[outputs]]\nname = \"main\"\nlayer = \"b\"\n";
    let layers = r#"{ type = "linear", name = "a", units = "classes" }, { type = "linear", name = "b", units = "classes", inputs = ["input"] }"#;
    let net = blocks(layers, text).unwrap();
    assert_eq!(Net::from_toml(&net.to_toml(), "again").unwrap(), net);
    let net = net.resolve(Some(5), None).unwrap();
    assert_eq!((net.main_output().name.as_str(), net.main_output().layer, net.classes), ("main", 1, 5));
    assert_eq!(net.outputs[0], ResolvedOutput { name: "side".into(), layer: 0, loss_weight: 0.3, training_only: true });
}

#[test]
fn layers_may_stand_before_what_they_read() {
    let text = r#"{ type = "relu", name = "late", inputs = ["early"] }, { type = "tanh", name = "early", inputs = ["input"] }"#;
    let net = blocks(text, "[[outputs]]\nname = \"o\"\nlayer = \"late\"").unwrap().resolve(None, None).unwrap();
    let names: Vec<&str> = net.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["early", "late"]);
    assert_eq!(net.main_output().layer, 1);
}

#[test]
fn rates_decay_and_freezing_reach_the_parameters() {
    let layers = r#"{ type = "conv", filters = 2, kernel = 1, lr = { weight = 0.5, bias = 2 }, decay = { bias = 0 } },
        { type = "batch_norm", trainable = false }"#;
    let net = net([1, 4, 4], layers).unwrap().resolve(None, None).unwrap();
    let all: Vec<_> = net.parameters().map(|p| (p.name.as_str(), p.lr, p.decay, p.trainable)).collect();
    assert_eq!(
        all,
        [
            ("conv1.weight", 0.5, 1.0, true),
            ("conv1.bias", 2.0, 0.0, true),
            ("batch_norm1.weight", 1.0, 1.0, false),
            ("batch_norm1.bias", 1.0, 1.0, false),
            ("batch_norm1.running_mean", 1.0, 1.0, false),
            ("batch_norm1.running_var", 1.0, 1.0, false),
        ]
    );
}

/// Values that a key of a layer may be given: good ones, odd ones, hostile ones.
fn value() -> impl Strategy<Value = String> {
    let numbers =
        prop_oneof![0..40i64, Just(-1), Just(32_767), Just(i64::MAX), Just(1 << 24)].prop_map(|n| n.to_string());
    let words = [
        "true",
        "false",
        "0.5",
        "nan",
        "inf",
        "\"classes\"",
        "\"same\"",
        "\"full\"",
        "\"valid\"",
        "\"edge\"",
        "[1, 2]",
        "[3, 0, 1, 2]",
    ];
    prop_oneof![numbers, proptest::sample::select(words.to_vec()).prop_map(str::to_owned)]
}

/// A layer of any kind with some of its keys.
fn any_layer() -> impl Strategy<Value = String> {
    proptest::sample::select(kind::KINDS.iter().map(|kind| kind.type_name).collect::<Vec<_>>()).prop_flat_map(|name| {
        let keys = (kind::Kind::find(name).unwrap().keys)();
        proptest::collection::vec(proptest::option::weighted(0.7, value()), keys.len()).prop_map(move |values| {
            let pairs = keys.iter().zip(values).filter_map(|(key, value)| Some(format!(", {key} = {}", value?)));
            format!("{{ type = \"{name}\"{} }}", pairs.collect::<String>())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_layer_is_refused_in_two_lines_or_survives_writing_reading_and_resolving(layer in any_layer()) {
        let read = net([4, 9, 8], &layer);
        if let Ok(read) = read {
            prop_assert_eq!(&Net::from_toml(&read.to_toml(), "again").unwrap(), &read);
            match read.resolve(Some(10), None) {
                Ok(net) => prop_assert!(net.layers[0].shape.len() as u64 <= crate::shape::MAX_VALUES),
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 2, "{}", error),
            }
        } else if let Err(error) = read {
            prop_assert_eq!(error.to_string().lines().count(), 2, "{}", error);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z0-9 =\\[\\]{}\",.$\n-]{0,80}") {
        let _ = Net::from_toml(&text, "x");
        let _ = Net::from_toml(&format!("format = 1\nname = \"x\"\ninput = [1, 8, 8]\nlayers = [{text}]"), "x");
    }
}
