//! A network of two groups as two towers, each on a GPU of its own (Krizhevsky et al. 2012, figure 2): what each computes and
//! keeps, and what travels between them.

use super::Row;
use super::table::{aligned, what};
use crate::net::layers::{Conv, Lrn};
use crate::net::{Resolved, ResolvedLayer, Source};
use crate::shape::{Formula, Shape};
use crate::words::{bytes, count};
use crate::{Error, Result};
use ocelli_kernels::geometry::Window;
use serde_json::{Value, json};
use std::fmt;

/// Memory of the paper's graphics card, a GTX 580: 3 GiB.
pub const GTX_580: u64 = 3 << 30;
/// Bytes of an `f32`.
const FLOAT: u64 = 4;

/// A network's two towers. Maps and values that a layer makes are halved; a layer of one group reads both halves; the last
/// layer with weights stands in the first tower, since its softmax needs all classes.
#[derive(Clone, Debug)]
pub struct Towers {
    /// The net's name.
    pub name: String,
    /// Channels, height, width of a picture, which both towers see whole.
    pub input: [usize; 3],
    /// In computing order.
    pub tiers: Vec<Tier>,
    /// The same picture size by three conventions; empty unless the net begins like AlexNet.
    pub conventions: Vec<String>,
}

/// A layer in two towers.
#[derive(Clone, Debug)]
pub struct Tier {
    /// The layer's name.
    pub name: String,
    /// What it does, in words.
    pub what: String,
    /// What each tower makes of it.
    pub outputs: [Option<Shape>; 2],
    /// Parameters that each tower learns.
    pub parameters: [u64; 2],
    /// Values of a picture that each tower gets from the other.
    pub received: [u64; 2],
    /// Whether the output takes the place of the input (ReLU, dropout), so that it needs no memory of its own.
    in_place: bool,
}

/// Where the values between two layers are.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// All of them in both towers: the picture.
    Both,
    /// Half of them in each.
    Halves,
    /// All of them in the first tower.
    First,
}

/// Bytes of one tower in training by SGD with momentum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TowerMemory {
    /// Weights and biases.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Their momenta.
    pub momentum: u64,
    /// The batch.
    pub pictures: u64,
    /// What the layers make; ReLU and dropout work in place.
    pub activations: u64,
    /// Copies of the other tower's maps and values.
    pub received: u64,
    /// The gradients of activations and copies.
    pub activation_gradients: u64,
}

impl TowerMemory {
    const LINES: [&'static str; 7] = [
        "weights and biases",
        "their gradients",
        "their momenta",
        "pictures",
        "activations, kept for the way back",
        "received from the other tower",
        "gradients of both",
    ];

    fn numbers(&self) -> [u64; 7] {
        let TowerMemory { weights, gradients, momentum, pictures, activations, received, activation_gradients } = *self;
        [weights, gradients, momentum, pictures, activations, received, activation_gradients]
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.numbers().iter().sum()
    }
}

impl Towers {
    /// Divides a net as its convolutions of two groups say.
    ///
    /// # Errors
    /// No convolution has two groups, or one has more; branches; a layer that does not divide.
    pub fn new(net: &Resolved) -> Result<Towers> {
        let advice = "Towers are for nets whose convolutions have groups = 2, as alexnet-2012-2gpu and caffenet.";
        let bad = |what: String| Error::new(format!("{}: {what}", net.name)).advice(advice);
        let conv = |layer: &ResolvedLayer| layer.kind.as_any().downcast_ref::<Conv>().map(|conv| conv.groups);
        let grouped: Vec<_> = net.layers.iter().filter(|layer| conv(layer).is_some_and(|groups| groups > 1)).collect();
        if grouped.is_empty() {
            return Err(bad("one tower: no convolution is divided into groups".into()));
        }
        if let Some((layer, groups)) = grouped.iter().find_map(|l| conv(l).filter(|&g| g != 2).map(|g| (l, g))) {
            return Err(bad(format!("{} has {groups} groups, two towers have 2", layer.name)));
        }
        let weighted = |layer: &ResolvedLayer| matches!(layer.kind.type_name(), "conv" | "linear");
        let last = net.layers.iter().rposition(weighted);
        let mut place = Place::Both;
        let mut tiers = Vec::new();
        for (index, layer) in net.layers.iter().enumerate() {
            let before = if index == 0 { Source::Input } else { Source::Layer(index - 1) };
            if layer.inputs != [before] {
                return Err(bad(format!(
                    "{} does not simply follow the layer before; towers have no branches",
                    layer.name
                )));
            }
            let received = received(layer, place).map_err(|error| bad(error.at(&layer.name).what().to_owned()))?;
            place = match place {
                Place::First => Place::First,
                _ if Some(index) == last => Place::First,
                Place::Both if !weighted(layer) => Place::Both,
                _ => Place::Halves,
            };
            if place == Place::Halves && !layer.shape.channels().is_multiple_of(2) {
                return Err(bad(format!("{} makes {}, which has no halves", layer.name, layer.shape)));
            }
            tiers.push(tier(net, index, place, received));
        }
        Ok(Towers { name: net.name.clone(), input: net.input, tiers, conventions: conventions(net) })
    }

    /// Values of a picture that travel forward between the towers; in training as many gradients travel back.
    pub fn traffic(&self) -> u64 {
        self.tiers.iter().flat_map(|tier| tier.received).sum()
    }

    /// What each tower needs to train on a batch.
    pub fn memory(&self, batch: usize) -> [TowerMemory; 2] {
        [0, 1].map(|tower| {
            let sum = |values: &dyn Fn(&Tier) -> u64| self.tiers.iter().map(values).fold(0, u64::saturating_add);
            let of_batch = |values: u64| values.saturating_mul(FLOAT).saturating_mul(batch as u64);
            let weights = FLOAT * sum(&|tier| tier.parameters[tower]);
            let own =
                |tier: &Tier| tier.outputs[tower].filter(|_| !tier.in_place).map_or(0, |shape| shape.len() as u64);
            let (activations, received) = (of_batch(sum(&own)), of_batch(sum(&|tier| tier.received[tower])));
            TowerMemory {
                weights,
                gradients: weights,
                momentum: weights,
                pictures: of_batch(self.input.iter().product::<usize>() as u64),
                activations,
                received,
                activation_gradients: activations.saturating_add(received),
            }
        })
    }

    /// The memory as a table, beside a GTX 580's.
    pub fn memory_table(&self, batch: usize) -> String {
        let towers = self.memory(batch);
        let row = |name: &str, numbers: [u64; 2]| {
            let [first, second] = numbers;
            [name.to_owned(), bytes(first), bytes(second), bytes(first + second)]
        };
        let mut rows = vec![["", "tower 1", "tower 2", "both"].map(str::to_owned)];
        for (i, name) in TowerMemory::LINES.into_iter().enumerate() {
            rows.push(row(name, towers.map(|tower| tower.numbers()[i])));
        }
        let totals = towers.map(|tower| tower.total());
        rows.push(row("together", totals));
        let [larger, both] = [totals[0].max(totals[1]), totals[0] + totals[1]];
        let one = match both <= GTX_580 {
            true => {
                "The sum of both fits one card as well, before its workspace and what else the GPU holds:\n\
                     the second card brought speed and room, it was not forced by this sum."
            }
            false => "The sum of both does not fit one card.",
        };
        let each = match larger <= GTX_580 {
            true => format!("each tower fits one and leaves {} for workspace", bytes(GTX_580 - larger)),
            false => format!("tower 1 needs {} more than it has", bytes(totals[0].saturating_sub(GTX_580))),
        };
        format!(
            "Training by SGD with momentum on a batch of {}:\n\n{}\nA GTX 580 has {} (3 GiB): {each}.\n{one}\n",
            count(batch as u64),
            aligned(&rows, &[false, true, true, true]),
            bytes(GTX_580),
        )
    }

    /// One object: the layers with what each tower makes and gets, and the memory of a batch.
    pub fn to_json(&self, batch: usize) -> Value {
        let tier = |tier: &Tier| {
            json!({ "name": tier.name, "outputs": tier.outputs.map(|shape| shape.map(|shape| shape.dims().to_vec())),
                "parameters": tier.parameters, "received": tier.received })
        };
        let memory = |tower: TowerMemory| {
            json!({ "weights": tower.weights, "gradients": tower.gradients, "momentum": tower.momentum,
                "pictures": tower.pictures, "activations": tower.activations, "received": tower.received,
                "activation_gradients": tower.activation_gradients, "total": tower.total() })
        };
        json!({ "layers": self.tiers.iter().map(tier).collect::<Vec<_>>(), "traffic": self.traffic(),
            "train_bytes": self.memory(batch).map(memory) })
    }
}

/// Values of a picture that each tower gets from the other before it can compute a layer.
fn received(layer: &ResolvedLayer, place: Place) -> Result<[u64; 2]> {
    let (input, kind) = (layer.input_shapes[0], &layer.kind);
    if place != Place::Halves {
        return Ok([0, 0]);
    }
    let half = input.len() as u64 / 2;
    if let Some(conv) = kind.as_any().downcast_ref::<Conv>() {
        return Ok(if conv.groups == 2 { [0, 0] } else { [half; 2] });
    }
    if let Some(lrn) = kind.as_any().downcast_ref::<Lrn>() {
        // At the border between the towers a sum reaches size/2 maps back and the rest forward.
        let [channels, h, w] = input.map()?;
        let reach = |maps: usize| (maps.min(channels / 2) * h * w) as u64;
        let (back, forward) = (lrn.size / 2, lrn.size - 1 - lrn.size / 2);
        return Ok(if lrn.groups == 2 { [0, 0] } else { [reach(forward), reach(back)] });
    }
    match kind.type_name() {
        "linear" => Ok([half; 2]),
        "softmax" | "radial" | "subsample" => {
            Err(Error::new(format!("{} is not divided into towers", kind.type_name())))
        }
        _ => Ok([0, 0]),
    }
}

fn tier(net: &Resolved, index: usize, place: Place, received: [u64; 2]) -> Tier {
    let row: Row = super::row(net, index, None);
    let (outputs, parameters) = match place {
        Place::Both => ([Some(row.output); 2], [row.parameters; 2]),
        Place::Halves => ([Some(row.output.with_channels(row.output.channels() / 2)); 2], [row.parameters / 2; 2]),
        Place::First => ([Some(row.output), None], [row.parameters, 0]),
    };
    // The first tower alone needs what a layer of it alone reads.
    let received = if place == Place::First { [received[0], 0] } else { received };
    let in_place = ["relu", "leaky_relu", "relu6", "sigmoid", "tanh", "dropout", "flatten"].contains(&row.type_name);
    Tier { what: what(&row), name: row.name, outputs, parameters, received, in_place }
}

/// Why AlexNet's picture is 227 wide here and 224 in the paper.
fn conventions(net: &Resolved) -> Vec<String> {
    let first = &net.layers[0];
    let window = first.kind.window([net.input[1], net.input[2]]);
    let alexnet = Window { stride: [4, 4], ..Window::new([11, 11]) };
    if net.input != [3, 227, 227] || window != Some(alexnet) {
        return Vec::new();
    }
    let formula = |input, padding| {
        let formula = Formula { input, span: 11, padding: [padding; 2], stride: 4, output: 55 };
        formula.to_string()
    };
    // The rows of the maps that follow from 224 without padding and rounded down.
    let (mut shape, mut sizes, mut flat) = (Shape::Map([3, 224, 224]), Vec::new(), None);
    for layer in &net.layers {
        if layer.kind.type_name() == "linear" {
            flat = Some((&layer.name, shape.len(), layer.input_shapes[0].len()));
            break;
        }
        let Ok(next) = layer.kind.shape(&[shape]) else { break };
        shape = next;
        match shape.size() {
            Some([rows, _]) if sizes.last() != Some(&rows) => sizes.push(rows),
            _ => {}
        }
    }
    let mut lines = vec![
        "227 or 224? The paper writes 224x224 and no padding, and maps of 55x55. Three conventions give 55:".to_owned(),
        format!("  227, no padding                {:32}  this net, Caffe, lectures", formula(227, 0)),
        format!("  224, padding 2, rounded down   {:32}  torchvision", formula(224, 2)),
        format!(
            "  224, no padding, rounded up    {:32}  the authors' program: the last filters hang {} pixels over the edge",
            formula(224, 0),
            54 * 4 + 11 - 224
        ),
    ];
    if let Some((name, wrong, right)) = flat {
        let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
        lines.push(format!(
            "224 without padding, rounded down, gives maps of {} rows, and {name} would get {} values instead of {}.",
            sizes.join(", "),
            count(wrong as u64),
            count(right as u64)
        ));
    }
    lines
}

impl fmt::Display for Towers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [c, h, w] = self.input;
        writeln!(f, "{} in two towers; both see the whole picture, {}\n", self.name, Shape::Map([c, h, w]))?;
        let headings = ["layer", "what", "tower 1", "parameters", "between them", "tower 2", "parameters"];
        let mut rows = vec![headings.map(str::to_owned)];
        let number = |n: u64| if n == 0 { "-".to_owned() } else { count(n) };
        let shape = |shape: Option<Shape>| shape.map_or("-".to_owned(), |shape| shape.to_string());
        for tier in &self.tiers {
            let between = match tier.received {
                [0, 0] => "|".to_owned(),
                [n, 0] => format!("<- {} --", count(n)),
                [0, n] => format!("-- {} ->", count(n)),
                [a, b] => format!("<- {} ->", count(a + b)),
            };
            rows.push([
                tier.name.clone(),
                tier.what.clone(),
                shape(tier.outputs[0]),
                number(tier.parameters[0]),
                // In the middle of its column.
                format!("{between:^14}"),
                shape(tier.outputs[1]),
                number(tier.parameters[1]),
            ]);
        }
        let totals = [0, 1].map(|tower| count(self.tiers.iter().map(|tier| tier.parameters[tower]).sum()));
        let [first, second] = totals;
        let travels = format!("{:^14}", count(self.traffic()));
        rows.push(["", "together", "", &first, &travels, "", &second].map(str::to_owned));
        f.write_str(&aligned(&rows, &[false, false, false, true, false, false, true]))?;
        writeln!(
            f,
            "\nBetween them: floats of a picture, both directions together; in training as many gradients go back."
        )?;
        if !self.conventions.is_empty() {
            writeln!(f)?;
        }
        self.conventions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
