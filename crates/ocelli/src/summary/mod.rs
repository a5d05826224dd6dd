//! A network layer by layer: shapes, arithmetic, parameters, costs, what a unit sees, memory.

mod dense;
mod table;
#[cfg(test)]
mod tests;
mod towers;

pub use dense::{Dense, compare_dense, dense_table};
pub use towers::{GTX_580, Tier, TowerMemory, Towers};

use crate::error::Result;
use crate::exec::{self, Device, Loss, Optimizer, TrainOptions, Work};
use crate::net::{Parameter, Resolved, ResolvedLayer, Role, Source};
use crate::shape::{Formula, ReceptiveField, Shape};
use crate::words::count;
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
    /// Multiply-adds of an inference, counted as direct convolution.
    pub macs: u64,
    /// Connections as LeCun counts them: inputs and biases to outputs; of an inference.
    pub connections: u64,
    /// Bytes of all layers' outputs in an inference.
    pub activation_bytes: u64,
    /// Memory of a batch.
    pub memory: Memory,
    /// Rows and columns that no window sees, and the like.
    pub notes: Vec<String>,
}

/// Bytes that are resident for a batch, the pictures themselves included, besides the program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// To infer: parameters, packed weights, workspace, and the activations that are alive at the same time.
    pub infer: usize,
    /// To train by SGD with momentum: parameters, momenta, and the activations and gradients that are alive at the same
    /// time. `None` for a network that cannot be trained.
    pub train: Option<usize>,
    /// The same with answers between the training steps, whose packed weights are kept beside.
    pub train_and_evaluate: Option<usize>,
}

impl Memory {
    fn of(net: &Resolved, batch: usize, device: &Device) -> Result<Memory> {
        let loss = match net.check_logits() {
            Ok(()) => Loss::CrossEntropy { smoothing: 0.0, class_weights: None },
            Err(_) => Loss::MeanSquared,
        };
        let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: false };
        let options = TrainOptions::new(loss, optimizer);
        let pictures = net.input.iter().product::<usize>().saturating_mul(batch * FLOAT as usize);
        let bytes = |work| exec::memory(net, work, device, batch).map(|memory| memory.bytes() + pictures);
        Ok(Memory {
            infer: bytes(Work::Infer)?,
            train: bytes(Work::Train(&options)).ok(),
            train_and_evaluate: bytes(Work::TrainAndEvaluate(&options)).ok(),
        })
    }
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
    /// Other numbers of its kind: the rate of dropout, the formula of LRN.
    pub numbers: String,
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
    /// The numbers of a net; the memory is what the device's plans for `batch` pictures take.
    ///
    /// # Errors
    /// The network cannot be run on the device.
    pub fn new(net: &Resolved, batch: usize, device: &Device) -> Result<Summary> {
        let fields = net.receptive_fields();
        let layers: Vec<Row> = (0..net.layers.len()).map(|i| row(net, i, fields[i])).collect();
        let sum =
            |rows: &[&Row], number: fn(&Row) -> u64| rows.iter().map(|row| number(row)).fold(0, u64::saturating_add);
        let only = |training: bool| -> Vec<&Row> {
            let rows = layers.iter().zip(&net.layers);
            rows.filter(|(_, layer)| layer.training_only == training).map(|(row, _)| row).collect()
        };
        let (used, extra) = (only(false), only(true));
        let mut notes = net.notes();
        if let (Some(first), Some(last)) = (extra.first(), extra.last()) {
            let (parameters, macs) = (sum(&extra, |row| row.parameters), sum(&extra, |row| row.macs));
            notes.push(format!(
                "{} to {} are for training only: {} of the parameters, and {} MACs on top of those below",
                first.name,
                last.name,
                count(parameters),
                count(macs),
            ));
        }
        Ok(Summary {
            name: net.name.clone(),
            input: net.input,
            batch,
            parameters: net.parameter_count(),
            macs: sum(&used, |row| row.macs),
            connections: sum(&used, |row| row.connections),
            activation_bytes: sum(&used, |row| row.activation_bytes),
            memory: Memory::of(net, batch, device)?,
            notes,
            layers,
        })
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
            "train_and_evaluate_bytes": self.memory.train_and_evaluate,
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
        numbers: layer.kind.numbers(),
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
