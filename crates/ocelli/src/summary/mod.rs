//! A network layer by layer: shapes, arithmetic, parameters, costs, what a unit sees, memory.

mod dense;
mod table;
#[cfg(test)]
mod tests;

pub use dense::{Dense, compare_dense, dense_table};

use crate::net::{Parameter, Resolved, ResolvedLayer, Role, Source};
use crate::shape::{Formula, ReceptiveField, Shape};
use ocelli_kernels::geometry::Window;
use serde_json::{Value, json};

/// A network in numbers. Printed as a table; [`Summary::to_json`] is the same for programs.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The net's name.
    pub name: String,
    /// Channels, height, width of a picture.
    pub input: [usize; 3],
    /// Pictures in a batch, for the memory; everything else is for one picture.
    pub batch: usize,
    /// In computing order.
    pub layers: Vec<Row>,
    /// Values that training learns.
    pub parameters: u64,
    /// Multiply-adds, counted as direct convolution.
    pub macs: u64,
    /// Connections as LeCun counts them: inputs and biases to outputs.
    pub connections: u64,
    /// Bytes of all layers' outputs.
    pub activation_bytes: u64,
    /// Memory of a batch.
    pub memory: Memory,
    /// Rows and columns that no window sees, and the like.
    pub notes: Vec<String>,
}

/// Bytes that a batch takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// To infer: parameters, and the activations that are alive at the same time.
    pub infer: u64,
    /// To train: parameters with gradient and momentum, and every activation with its gradient.
    pub train: u64,
}

/// A layer in numbers, for one picture.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its `type`.
    pub type_name: &'static str,
    /// Names of its inputs, where it does not simply read the layer before.
    pub inputs: Vec<String>,
    /// What it makes.
    pub output: Shape,
    /// Its sliding window, padding resolved.
    pub window: Option<Window>,
    /// Groups of a convolution, 1 elsewhere.
    pub groups: usize,
    /// (N − F + P)/S + 1 of rows and columns.
    pub formulas: Option<[Formula; 2]>,
    /// Values that training learns.
    pub parameters: u64,
    /// The same as a product: `6·(5·5·1) + 6`.
    pub product: String,
    /// Multiply-adds.
    pub macs: u64,
    /// Connections.
    pub connections: u64,
    /// What a unit sees; `None` is the whole picture.
    pub field: Option<ReceptiveField>,
    /// Bytes of the output.
    pub activation_bytes: u64,
}

/// Bytes of an `f32`.
const FLOAT: u64 = 4;

impl Summary {
    /// The numbers of a net. `memory` is what a plan says about a batch of `batch`, or `None` for an estimate.
    pub fn new(net: &Resolved, batch: usize, memory: Option<Memory>) -> Summary {
        let fields = net.receptive_fields();
        let layers: Vec<Row> = (0..net.layers.len()).map(|i| row(net, i, fields[i])).collect();
        let sum = |number: fn(&Row) -> u64| layers.iter().map(number).fold(0, u64::saturating_add);
        Summary {
            name: net.name.clone(),
            input: net.input,
            batch,
            parameters: net.parameter_count(),
            macs: sum(|row| row.macs),
            connections: sum(|row| row.connections),
            activation_bytes: sum(|row| row.activation_bytes),
            memory: memory.unwrap_or_else(|| estimate(net, batch)),
            notes: net.notes(),
            layers,
        }
    }

    /// One object, as `ocelli summary --json` prints it. Outputs are `[channels, height, width]` or `[values]`,
    /// receptive fields `[height, width]`; a layer that sees everything has the whole picture's.
    pub fn to_json(&self) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|row| {
                let [_, h, w] = self.input;
                json!({
                    "name": row.name,
                    "type": row.type_name,
                    "output": row.output.dims(),
                    "parameters": row.parameters,
                    "macs": row.macs,
                    "connections": row.connections,
                    "receptive_field": row.field.map_or([h, w], |field| field.size),
                    "jump": row.field.map(|field| field.jump),
                    "formula": row.formulas.map(|formulas| formulas.map(|formula| formula.to_string())),
                    "activation_bytes": row.activation_bytes,
                })
            })
            .collect();
        json!({
            "schema": 1,
            "name": self.name,
            "input": self.input,
            "batch": self.batch,
            "parameters": self.parameters,
            "macs": self.macs,
            "connections": self.connections,
            "activation_bytes": self.activation_bytes,
            "infer_bytes": self.memory.infer,
            "train_bytes": self.memory.train,
            "notes": self.notes,
            "layers": layers,
        })
    }
}

fn row(net: &Resolved, index: usize, field: Option<ReceptiveField>) -> Row {
    let layer = &net.layers[index];
    let before = if index == 0 { Source::Input } else { Source::Layer(index - 1) };
    let name = |source: &Source| match *source {
        Source::Input => "input".to_owned(),
        Source::Layer(i) => net.layers[i].name.clone(),
    };
    let learned = layer.parameters.iter().filter(|p| !p.role.is_statistic());
    let conv = layer.kind.as_any().downcast_ref::<crate::net::layers::Conv>();
    Row {
        name: layer.name.clone(),
        type_name: layer.kind.type_name(),
        inputs: if layer.inputs == [before] { vec![] } else { layer.inputs.iter().map(name).collect() },
        output: layer.shape,
        window: layer.input_shapes[0].size().and_then(|size| layer.kind.window(size)),
        groups: conv.map_or(1, |conv| conv.groups),
        formulas: layer.formulas(),
        parameters: learned.map(|p| p.len() as u64).sum(),
        product: product(layer),
        macs: layer.kind.macs(&layer.input_shapes, layer.shape),
        connections: layer.kind.connections(&layer.input_shapes, layer.shape),
        field,
        activation_bytes: layer.shape.len() as u64 * FLOAT,
    }
}

/// `6·(5·5·1) + 6`, `120·400 + 120`, `2·64`.
fn product(layer: &ResolvedLayer) -> String {
    let term = |p: &Parameter| match (p.role, p.dims.as_slice()) {
        (Role::Weight, [filters, depth, h, w]) => Some(format!("{filters}·({h}·{w}·{depth})")),
        (Role::Scale, [channels]) => Some(format!("2·{channels}")),
        (Role::Weight | Role::Bias, dims) => Some(dims.iter().map(usize::to_string).collect::<Vec<_>>().join("·")),
        _ => None,
    };
    layer.parameters.iter().filter_map(term).collect::<Vec<_>>().join(" + ")
}

/// What a batch takes when every layer keeps its output apart, without workspace.
fn estimate(net: &Resolved, batch: usize) -> Memory {
    let batch = batch as u64;
    let count = |shape: Shape| shape.len() as u64;
    let parameters: u64 = net.parameters().map(|p| p.len() as u64).sum();
    let trained: u64 = net.parameters().filter(|p| p.trainable).map(|p| p.len() as u64).sum();
    let input = net.input.iter().map(|&n| n as u64).product::<u64>();
    let outputs = net.layers.iter().fold(input, |sum, layer| sum.saturating_add(count(layer.shape)));
    // A layer's output lives until its last reader has run; the input likewise.
    let mut last_reader: Vec<usize> = (0..net.layers.len()).collect();
    let mut input_reader = 0;
    for (reader, layer) in net.layers.iter().enumerate() {
        for source in &layer.inputs {
            match *source {
                Source::Input => input_reader = reader,
                Source::Layer(i) => last_reader[i] = reader,
            }
        }
    }
    net.outputs.iter().for_each(|output| last_reader[output.layer] = net.layers.len());
    let mut dying: Vec<u64> = vec![0; net.layers.len() + 1];
    dying[input_reader] += input;
    let (mut alive, mut peak) = (input, input);
    for (i, layer) in net.layers.iter().enumerate() {
        alive = alive.saturating_add(count(layer.shape));
        peak = peak.max(alive);
        dying[last_reader[i]] = dying[last_reader[i]].saturating_add(count(layer.shape));
        alive -= dying[i];
    }
    let bytes =
        |values: u64, activations: u64| values.saturating_add(activations.saturating_mul(batch)).saturating_mul(FLOAT);
    Memory { infer: bytes(parameters, peak), train: bytes(parameters + 2 * trained, outputs.saturating_mul(2)) }
}

/// 62,378,344.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 249.5 MB: bytes with their decimal unit.
pub fn bytes(n: u64) -> String {
    let units = ["bytes", "KB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    format!("{value:.decimals$} {}", units[unit])
}
