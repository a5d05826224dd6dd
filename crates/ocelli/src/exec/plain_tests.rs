//! Gradients of whole networks against central differences in `f64`: net → graph → gradient → interpreter, for every
//! layer kind and both losses.

use super::*;
use crate::exec::{TrainOptions, build};
use crate::graph::lower::lower;
use crate::graph::{Activation, gradient};
use crate::net::kind::KINDS;
use crate::net::{Net, Resolved, initialise};
use ocelli_kernels::random::{Random, name};
use std::collections::BTreeSet;

/// The step of a central difference.
const STEP: f64 = 1e-5;
/// The largest error of a gradient, relative to the largest of its tensor.
const TOLERANCE: f64 = 1e-6;
/// A tensor whose gradients are all smaller would show nothing.
const SEEN: f64 = 1e-4;
/// Pictures in a batch.
const BATCH: usize = 3;
const CLASSES: usize = 3;

/// For each layer kind what stands before the closing linear layer, over pictures of 5x6 pixels with 2 channels.
const CASES: &[(&str, &[&str])] = &[
    (
        "conv",
        &[
            r#"{ type = "conv", filters = 3, kernel = 2, maps = [[0], [0, 1], [1]] }"#,
            r#"{ type = "conv", filters = 3, kernel = 3 }"#,
            r#"{ type = "conv", filters = 3, kernel = [2, 3], padding = "valid", stride = [1, 2], bias = false }"#,
            r#"{ type = "conv", filters = 2, kernel = [2, 3], padding = "same" }"#,
            r#"{ type = "conv", filters = 3, kernel = 3, padding = "same", stride = 2 }"#,
            r#"{ type = "conv", filters = 2, kernel = 2, padding = "same", dilation = [1, 2] }"#,
            r#"{ type = "conv", filters = 1, kernel = [2, 3], padding = "full" }"#,
            r#"{ type = "conv", filters = 1, kernel = 2, padding = "full", dilation = 2, stride = 2 }"#,
            r#"{ type = "conv", filters = 2, kernel = 3, padding = 1, stride = [3, 2] }"#,
            r#"{ type = "conv", filters = 2, kernel = 3, padding = [0, 2] }"#,
            r#"{ type = "conv", filters = 2, kernel = 3, padding = [2, 0, 1, 3], stride = 2 }"#,
            r#"{ type = "conv", filters = 2, kernel = [3, 2], dilation = 2 }"#,
            r#"{ type = "conv", filters = 4, kernel = 1 },
               { type = "conv", filters = 6, kernel = 3, groups = 2, stride = 2, padding = 1 }"#,
            r#"{ type = "conv", filters = 2, kernel = 3, groups = 2, padding = 1 }"#,
            r#"{ type = "conv", filters = 4, kernel = 3, groups = 2, dilation = [1, 2], bias = false }"#,
            r#"{ type = "conv", filters = 3, kernel = 2 }, { type = "conv", filters = 2, kernel = 1, trainable = false },
               { type = "conv", filters = 2, kernel = 3 }"#,
        ],
    ),
    (
        "pad",
        &[
            r#"{ type = "pad", amount = 1 }, { type = "conv", filters = 2, kernel = 3 }"#,
            r#"{ type = "pad", amount = [2, 0, 1, 1], value = 0.5 }, { type = "conv", filters = 2, kernel = 3, stride = 2 }"#,
            r#"{ type = "pad", amount = [2, 1], mode = "reflect" }, { type = "conv", filters = 2, kernel = 3, stride = 2 }"#,
            r#"{ type = "pad", amount = [0, 3, 4, 1], mode = "reflect" }, { type = "conv", filters = 2, kernel = 3, stride = 3 }"#,
            r#"{ type = "pad", amount = [1, 2, 3, 0], mode = "edge" }, { type = "conv", filters = 2, kernel = 3, stride = 2 }"#,
        ],
    ),
    (
        "max_pool",
        &[
            r#"{ type = "max_pool", kernel = 2 }"#,
            r#"{ type = "conv", filters = 2, kernel = 2 }, { type = "max_pool", kernel = 3, stride = 1 }"#,
            r#"{ type = "max_pool", kernel = 3, stride = 2, padding = 1 }"#,
            r#"{ type = "max_pool", kernel = 2, stride = 2, ceil_mode = true }"#,
            r#"{ type = "max_pool", kernel = [3, 2], stride = [2, 3], padding = [1, 0], ceil_mode = true }"#,
            r#"{ type = "max_pool", kernel = 3, stride = 2, padding = [0, 1, 1, 0] }"#,
        ],
    ),
    (
        "avg_pool",
        &[
            r#"{ type = "avg_pool", kernel = 2 }"#,
            r#"{ type = "conv", filters = 2, kernel = 2 }, { type = "avg_pool", kernel = 3, stride = 1 }"#,
            r#"{ type = "avg_pool", kernel = 3, stride = 2, padding = 1 }"#,
            r#"{ type = "avg_pool", kernel = 3, stride = 2, padding = 1, count_include_pad = false }"#,
            r#"{ type = "avg_pool", kernel = 2, stride = 2, ceil_mode = true }"#,
            r#"{ type = "avg_pool", kernel = 3, stride = 2, padding = 1, ceil_mode = true }"#,
            r#"{ type = "avg_pool", kernel = 3, stride = 2, padding = 1, ceil_mode = true, count_include_pad = false }"#,
            r#"{ type = "avg_pool", kernel = [3, 2], stride = [2, 1], padding = [1, 0, 0, 1] }"#,
        ],
    ),
    (
        "adaptive_avg_pool",
        &[
            r#"{ type = "adaptive_avg_pool", size = 2 }"#,
            r#"{ type = "conv", filters = 3, kernel = 2 }, { type = "adaptive_avg_pool", size = [3, 7] }"#,
        ],
    ),
    (
        "global_avg_pool",
        &[
            r#"{ type = "global_avg_pool" }"#,
            r#"{ type = "conv", filters = 4, kernel = 2 }, { type = "tanh" }, { type = "global_avg_pool" }"#,
        ],
    ),
    (
        "subsample",
        &[
            r#"{ type = "subsample", kernel = 2 }"#,
            r#"{ type = "conv", filters = 3, kernel = 2 }, { type = "subsample", kernel = [2, 1] }"#,
        ],
    ),
    (
        "linear",
        &[
            r#"{ type = "linear", units = 4 }"#,
            r#"{ type = "linear", units = 4, bias = false }, { type = "tanh" }, { type = "linear", units = 5 }"#,
        ],
    ),
    (
        "radial",
        &[
            r#"{ type = "linear", units = 3 }, { type = "radial", units = 4 }"#,
            r#"{ type = "conv", filters = 2, kernel = 4 }, { type = "tanh" }, { type = "radial", units = 3 }"#,
        ],
    ),
    ("bias", &[r#"{ type = "bias" }"#, r#"{ type = "linear", units = 3 }, { type = "bias" }, { type = "tanh" }"#]),
    (
        "flatten",
        &[
            r#"{ type = "flatten" }"#,
            r#"{ type = "conv", filters = 3, kernel = 2 }, { type = "flatten" }, { type = "tanh" }"#,
        ],
    ),
    (
        "dropout",
        &[
            r#"{ type = "dropout", rate = 0.4 }"#,
            r#"{ type = "linear", units = 9 }, { type = "dropout", rate = 0.3 }, { type = "tanh" }, { type = "dropout", rate = 0.2 }"#,
        ],
    ),
    ("relu", &[r#"{ type = "relu" }"#, r#"{ type = "conv", filters = 2, kernel = 2 }, { type = "relu" }"#]),
    ("leaky_relu", &[r#"{ type = "leaky_relu" }"#, r#"{ type = "leaky_relu", slope = 0.3 }"#]),
    ("relu6", &[r#"{ type = "relu6" }"#]),
    ("sigmoid", &[r#"{ type = "sigmoid" }"#]),
    ("tanh", &[r#"{ type = "tanh" }"#]),
    (
        "scaled_tanh",
        &[r#"{ type = "scaled_tanh" }"#, r#"{ type = "linear", units = 4 }, { type = "scaled_tanh", slope = 2 }"#],
    ),
    ("gelu", &[r#"{ type = "gelu" }"#]),
    ("hard_swish", &[r#"{ type = "hard_swish" }"#]),
    (
        "batch_norm",
        &[
            r#"{ type = "batch_norm" }"#,
            r#"{ type = "conv", filters = 3, kernel = 2, bias = false }, { type = "batch_norm", eps = 0.1 }, { type = "relu" }"#,
            r#"{ type = "linear", units = 5, bias = false }, { type = "batch_norm", eps = 0.01 }, { type = "tanh" }"#,
        ],
    ),
    (
        "lrn",
        &[
            r#"{ type = "conv", filters = 6, kernel = 2 }, { type = "lrn", size = 3, alpha = 0.5, groups = 2 }"#,
            r#"{ type = "conv", filters = 6, kernel = 3 }, { type = "lrn", alpha = 0.5 }"#,
            r#"{ type = "conv", filters = 6, kernel = 3 }, { type = "lrn", size = 3, alpha = 0.2, k = 2, divide_by_size = false }"#,
            r#"{ type = "conv", filters = 6, kernel = 3 }, { type = "lrn", size = 4, alpha = 0.4, beta = 1.5 }"#,
        ],
    ),
    (
        "add",
        &[
            r#"{ type = "conv", name = "a", filters = 2, kernel = 3, padding = 1 }, { type = "add", inputs = ["a", "input"] }"#,
            r#"{ type = "conv", name = "a", filters = 2, kernel = 1 }, { type = "tanh", name = "b" },
               { type = "add", inputs = ["a", "b", "input", "b"] }"#,
        ],
    ),
    (
        "multiply",
        &[
            r#"{ type = "conv", name = "a", filters = 2, kernel = 1 }, { type = "multiply", inputs = ["a", "input"] }"#,
            r#"{ type = "conv", name = "a", filters = 2, kernel = 2 }, { type = "multiply", inputs = ["a", "a"] }"#,
            r#"{ type = "global_avg_pool" }, { type = "conv", filters = 2, kernel = 1 }, { type = "sigmoid", name = "s" },
               { type = "multiply", inputs = ["input", "s"] }"#,
            r#"{ type = "global_avg_pool" }, { type = "conv", filters = 2, kernel = 1 }, { type = "sigmoid", name = "s" },
               { type = "multiply", inputs = ["s", "input"] }"#,
            r#"{ type = "linear", units = 2 }, { type = "sigmoid", name = "s" }, { type = "multiply", inputs = ["input", "s"] }"#,
            r#"{ type = "global_avg_pool", name = "g" }, { type = "linear", name = "f", units = 2 },
               { type = "multiply", inputs = ["f", "g"] }"#,
        ],
    ),
    (
        "concat",
        &[
            r#"{ type = "conv", name = "a", filters = 3, kernel = 1 }, { type = "tanh", name = "b" },
               { type = "concat", inputs = ["b", "input", "a", "b"] }, { type = "conv", filters = 2, kernel = 2 }"#,
            r#"{ type = "linear", name = "a", units = 4 }, { type = "tanh", name = "b" },
               { type = "concat", inputs = ["b", "a"] }, { type = "sigmoid" }"#,
        ],
    ),
    (
        "softmax",
        &[
            r#"{ type = "conv", filters = 4, kernel = 2 }, { type = "softmax" }"#,
            r#"{ type = "linear", units = 5 }, { type = "softmax" }"#,
        ],
    ),
];

/// Two residual blocks of the same text, and a side branch that only training has, listed before the main output.
const BLOCKS_AND_OUTPUTS: &str = r#"
format = 1
name = "t"
input = [2, 5, 6]
classes = 3
layers = [
  { type = "conv", name = "stem", filters = 3, kernel = 2 },
  { type = "block", use = "basic", name = "body", repeat = 2, filters = 3 },
  { type = "global_avg_pool", name = "pool" },
  { type = "linear", name = "side", inputs = ["body.0"], units = "classes" },
  { type = "linear", name = "main", inputs = ["pool"], units = "classes" },
]

[blocks.basic]
layers = [
  { type = "conv", name = "conv1", filters = "$filters", kernel = 3, padding = 1, bias = false },
  { type = "batch_norm", name = "bn1" },
  { type = "relu" },
  { type = "add", inputs = ["relu1", "$input"] },
]

[[outputs]]
name = "side"
layer = "side"
loss_weight = 0.3
training_only = true

[[outputs]]
name = "main"
layer = "main"
"#;

fn entropy() -> LossKind {
    LossKind::CrossEntropy { smoothing: 0.1, class_weights: Some(vec![0.5, 2.0, 1.25]) }
}

fn net(layers: &str) -> Resolved {
    resolved(&format!(
        "format = 1\nname = \"t\"\ninput = [2, 5, 6]\nclasses = {CLASSES}\n\
         layers = [\n{layers},\n{{ type = \"linear\", name = \"end\", units = \"classes\" }}]\n"
    ))
}

fn resolved(text: &str) -> Resolved {
    let net = Net::from_toml(text, "t.toml").unwrap_or_else(|e| panic!("{e}\n{text}"));
    net.resolve(None, None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn normal(n: usize, seed: u64, key: &str, std: f64) -> Vec<f64> {
    let mut random = Random::new(seed, name(key), 0, 0);
    (0..n).map(|_| std * random.normal()).collect()
}

/// A network with its numbers, all of which can be moved.
struct Moving {
    interpreter: Interpreter<f64>,
    stored: BTreeMap<String, Vec<f64>>,
    targets: Vec<f32>,
    pictures: ValueId,
    losses: Vec<ValueId>,
    /// Gradients by parameter name, and of the pictures as `input`.
    gradients: BTreeMap<String, ValueId>,
}

impl Moving {
    /// In training the graph is the one that training runs, with a learning rate of 0.
    fn new(net: &Resolved, loss: &LossKind, training: bool, seed: u64) -> Moving {
        let (mut graph, losses, mut gradients) = if training { trained(net, loss) } else { evaluated(net, loss) };
        let pictures = graph.nodes[0].outputs[0];
        let seeds: Vec<(ValueId, ValueId)> = graph.nodes[..graph.forward_nodes]
            .iter()
            .filter(|node| matches!(node.op, Op::Loss { .. }))
            .map(|node| (node.inputs[0], node.outputs[2]))
            .collect();
        let made = gradient::append(&mut graph, &seeds, &[pictures], |_, _, _| Ok(())).unwrap();
        gradients.insert("input".into(), made.get(pictures).unwrap());
        let mut stored: BTreeMap<String, Vec<f64>> = graph
            .stored
            .iter()
            .map(|&v| (graph.values[v.index()].name.clone().unwrap(), vec![0.0; graph.ty(v).elements(0)]))
            .collect();
        for (name, start) in initialise(net, seed) {
            // No number is a round one, so that every gradient shows.
            let noise = normal(start.data.len(), seed, &name, 0.1);
            stored.insert(name, start.data.iter().zip(noise).map(|(&x, noise)| f64::from(x) + noise.abs()).collect());
        }
        let mut interpreter = Interpreter::new(Arc::new(graph));
        let size = net.input.iter().product::<usize>() * BATCH;
        // Wide enough to reach past relu6's 6.
        interpreter.values[pictures.index()] = Some(normal(size, seed, "pictures", 3.0));
        let targets = normal(BATCH * CLASSES, seed, "targets", 1.0).into_iter().map(|x| x as f32).collect();
        Moving { interpreter, stored, targets, pictures, losses, gradients }
    }

    /// Runs all nodes but the first, which would read the pictures from the feed.
    fn run(&mut self, nodes: usize) {
        let feed = Feed { labels: &[2, 0, 1], targets: &self.targets, lr: 0.0, step: 4, seed: 5, ..Feed::default() };
        self.interpreter.run(1..nodes, BATCH, &feed, &mut self.stored).unwrap();
    }

    fn loss(&mut self) -> f64 {
        self.run(self.interpreter.graph.forward_nodes);
        self.losses.iter().map(|loss| self.interpreter.values[loss.index()].as_ref().unwrap()[0]).sum()
    }

    /// The loss with number `i` of a tensor moved.
    fn moved(&mut self, name: &str, i: usize, by: f64) -> f64 {
        let before = std::mem::replace(self.number(name, i), 0.0);
        *self.number(name, i) = before + by;
        let loss = self.loss();
        *self.number(name, i) = before;
        loss
    }

    fn number(&mut self, name: &str, i: usize) -> &mut f64 {
        match name {
            "input" => &mut self.interpreter.values[self.pictures.index()].as_mut().unwrap()[i],
            _ => &mut self.stored.get_mut(name).unwrap()[i],
        }
    }

    fn len(&self, name: &str) -> usize {
        match name {
            "input" => self.interpreter.values[self.pictures.index()].as_ref().unwrap().len(),
            _ => self.stored[name].len(),
        }
    }

    /// Which piece of each function with kinks every value lies on: sides of kinks, places of maxima.
    fn pieces(&self) -> Vec<Vec<usize>> {
        let graph = &self.interpreter.graph;
        let piece = |node: &Node| match node.op {
            Op::MaxPool(_) => {
                Some(self.interpreter.positions[node.outputs[1].index()].iter().map(|&p| p as usize).collect())
            }
            Op::Activate(activation) => {
                let kinks = kinks(activation);
                let x = self.interpreter.value(node.inputs[0], &self.stored).unwrap();
                let side = |x: &f64| kinks.iter().filter(|kink| x > kink).count();
                (!kinks.is_empty()).then(|| x.iter().map(side).collect())
            }
            _ => None,
        };
        graph.nodes[..graph.forward_nodes].iter().filter_map(piece).collect()
    }

    /// Whether every side of every kink is seen, and no number that moves by ten steps crosses one or makes another
    /// value the maximum.
    fn is_far_from_kinks(&mut self) -> bool {
        self.loss();
        let pieces = self.pieces();
        let graph = self.interpreter.graph.clone();
        let sides = graph.nodes[..graph.forward_nodes].iter().filter_map(|node| match node.op {
            Op::MaxPool(_) => Some(2),
            Op::Activate(activation) => Some(kinks(activation).len() + 1).filter(|&sides| sides > 1),
            _ => None,
        });
        if pieces.is_empty() {
            return true;
        }
        if pieces.iter().zip(sides).any(|(seen, sides)| seen.iter().collect::<BTreeSet<_>>().len() < sides) {
            return false;
        }
        let names: Vec<String> = self.gradients.keys().cloned().collect();
        names.iter().all(|name| {
            (0..self.len(name)).all(|i| {
                [-10.0, 10.0].iter().all(|steps| {
                    self.moved(name, i, steps * STEP);
                    self.pieces() == pieces
                })
            })
        })
    }

    /// Compares every gradient with its central difference.
    fn check(&mut self, what: &str) {
        self.run(self.interpreter.graph.nodes.len());
        for (name, value) in self.gradients.clone() {
            let gradient = self.interpreter.value(value, &self.stored).unwrap().to_vec();
            assert_eq!(gradient.len(), self.len(&name), "{what}\n{name}");
            let largest = gradient.iter().fold(0.0, |largest: f64, g| largest.max(g.abs()));
            assert!(largest > SEEN, "{what}\n{name}: gradients of at most {largest} show nothing");
            for (i, &gradient) in gradient.iter().enumerate() {
                let difference = (self.moved(&name, i, STEP) - self.moved(&name, i, -STEP)) / (2.0 * STEP);
                let error = (gradient - difference).abs() / largest;
                assert!(error <= TOLERANCE, "{what}\n{name}[{i}]: {gradient}, but the loss rises by {difference}");
            }
        }
    }
}

/// Where the derivative jumps.
fn kinks(activation: Activation) -> &'static [f64] {
    match activation {
        Activation::Relu | Activation::LeakyRelu(_) => &[0.0],
        Activation::Relu6 => &[0.0, 6.0],
        Activation::HardSwish => &[-3.0, 3.0],
        Activation::Sigmoid | Activation::Tanh | Activation::Gelu => &[],
    }
}

type WithGradients = (Graph, Vec<ValueId>, BTreeMap<String, ValueId>);

fn trained(net: &Resolved, loss: &LossKind) -> WithGradients {
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let options = TrainOptions::new(loss.clone(), optimizer);
    let build::TrainingGraph { graph, losses, .. } = build::training(net, &options, 1).unwrap();
    let updates = graph.nodes.iter().filter(|node| matches!(node.op, Op::Update { .. }));
    let gradients: BTreeMap<String, ValueId> =
        updates.map(|node| (graph.values[node.inputs[0].index()].name.clone().unwrap(), node.inputs[1])).collect();
    let trainable: BTreeSet<&String> = net.parameters().filter(|p| p.trainable).map(|p| &p.name).collect();
    assert_eq!(gradients.keys().collect::<BTreeSet<_>>(), trainable, "every parameter is updated");
    (graph, losses, gradients)
}

/// The gradients that explanations read: of a network in evaluation.
fn evaluated(net: &Resolved, loss: &LossKind) -> WithGradients {
    let lowered = lower(net, false).unwrap();
    let mut graph = lowered.graph;
    let (output, _) = lowered.outputs[0];
    let made = graph.push_all(Op::Loss { kind: loss.clone(), weight: 1.0 }, &[output]).unwrap();
    graph.forward_nodes = graph.nodes.len();
    let named: Vec<(String, ValueId)> =
        net.parameters().filter(|p| p.trainable).map(|p| (p.name.clone(), graph.stored(&p.name).unwrap())).collect();
    let wanted: Vec<ValueId> = named.iter().map(|(_, value)| *value).collect();
    let gradients = gradient::append(&mut graph, &[(output, made[2])], &wanted, |_, _, _| Ok(())).unwrap();
    (graph, vec![made[0]], named.into_iter().map(|(name, value)| (name, gradients.get(value).unwrap())).collect())
}

fn check(what: &str, net: &Resolved, loss: &LossKind, training: bool) {
    let found = (0..30).map(|seed| Moving::new(net, loss, training, seed)).find_map(|mut moving| {
        let far = moving.is_far_from_kinks();
        far.then_some(moving)
    });
    found.unwrap_or_else(|| panic!("{what}\nno numbers far from kinks")).check(what);
}

fn check_every_kind(loss: &LossKind) {
    for (kind, nets) in CASES {
        for layers in *nets {
            let net = net(layers);
            assert!(net.layers.iter().any(|layer| layer.kind.type_name() == *kind), "{layers} has no {kind}");
            check(layers, &net, loss, true);
        }
    }
}

#[test]
fn every_layer_kind_has_gradient_checks() {
    let cases: Vec<&str> = CASES.iter().map(|(kind, _)| *kind).collect();
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.type_name).collect();
    assert_eq!(cases, kinds);
}

#[test]
fn gradients_of_every_layer_kind_are_central_differences_under_cross_entropy() {
    check_every_kind(&entropy());
}

#[test]
fn gradients_of_every_layer_kind_are_central_differences_under_mean_squared_error() {
    check_every_kind(&LossKind::MeanSquared);
}

#[test]
fn gradients_of_blocks_and_of_several_outputs_are_central_differences() {
    let net = resolved(BLOCKS_AND_OUTPUTS);
    check("several outputs", &net, &entropy(), true);
    check("several outputs", &net, &LossKind::MeanSquared, true);
    check("several outputs", &net, &LossKind::BinaryCrossEntropy, true);
}

#[test]
fn gradients_of_batch_norm_in_evaluation_are_central_differences() {
    for layers in CASES.iter().find(|(kind, _)| *kind == "batch_norm").unwrap().1 {
        check(layers, &net(layers), &entropy(), false);
    }
}

#[test]
fn inference_leaves_out_what_only_training_has() {
    let net = resolved(BLOCKS_AND_OUTPUTS);
    let side = net.layers.iter().position(|layer| layer.name == "side").unwrap();
    assert!(net.layers.iter().enumerate().all(|(i, layer)| layer.training_only == (i == side)));
    let graph = build::inference(&net).unwrap();
    let computed: Vec<usize> = graph.nodes.iter().filter_map(|node| node.layer).collect();
    assert!(!computed.contains(&side) && computed.contains(&(net.layers.len() - 1)), "{computed:?}");
}
