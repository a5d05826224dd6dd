//! What sparse connections and sharing save: a convolution beside layers of the same inputs and outputs without them.

use super::table::aligned;
use crate::net::Resolved;
use crate::net::layers::Conv;
use crate::shape::Shape;
use crate::words::count;

/// Weights, without biases, of a convolution and of its less frugal relatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dense {
    /// The convolution's name.
    pub layer: String,
    /// What it reads and makes.
    pub shapes: [Shape; 2],
    /// Every output connected to every input.
    pub dense: u64,
    /// Every output connected to its window only, with weights of its own (locally connected).
    pub local: u64,
    /// The convolution: one window of weights for all positions of a map.
    pub shared: u64,
    /// One neuron connected to every input.
    pub neuron: u64,
}

/// The comparison for every convolution of a net.
pub fn compare_dense(net: &Resolved) -> Vec<Dense> {
    let convolutions = net.layers.iter().filter(|layer| layer.kind.as_any().is::<Conv>());
    convolutions
        .map(|layer| {
            let (input, output) = (layer.input_shapes[0], layer.shape);
            Dense {
                layer: layer.name.clone(),
                shapes: [input, output],
                dense: (input.len() as u64).saturating_mul(output.len() as u64),
                local: layer.kind.macs(&layer.input_shapes, output),
                shared: layer.parameters[0].len() as u64,
                neuron: input.len() as u64,
            }
        })
        .collect()
}

/// The comparison as text.
pub fn dense_table(rows: &[Dense]) -> String {
    let headings = ["convolution", "from", "to", "dense", "local", "shared", "one dense neuron"];
    let mut cells = vec![headings.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let [from, to] = row.shapes.map(|shape| shape.to_string());
        let counts = [row.dense, row.local, row.shared, row.neuron].map(count);
        let [dense, local, shared, neuron] = counts;
        [row.layer.clone(), from, to, dense, local, shared, neuron]
    }));
    let table = aligned(&cells, &[false, false, false, true, true, true, true]);
    format!(
        "{table}\nWeights without biases. dense: every output connected to every input; local: to its window only, with\n\
         weights of its own; shared: the convolution, the same weights at every position.\n"
    )
}
