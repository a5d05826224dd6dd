//! One output value of a layer written out: the products and the sum behind it.

use crate::error::{Error, Result};
use crate::net::layers::{AvgPool, Conv, Linear, MaxPool};
use crate::net::{Resolved, ResolvedLayer, Source};
use crate::shape::Shape;
use crate::tensor::{Tensor, Tensors};
use ocelli_kernels::geometry::Window;

/// What is done with the terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// Input times weight, added up, plus the bias.
    Sum,
    /// The largest input.
    Max,
    /// The inputs added up and divided by this.
    Mean(f64),
}

/// An input value and what it is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// Channel, row and column in the layer's input; rows and columns may lie in the padding.
    pub place: [isize; 3],
    /// The value there, 0 in the padding.
    pub input: f32,
    /// 1 for pooling.
    pub weight: f32,
    /// Whether the place lies outside the input.
    pub padding: bool,
}

/// One value and everything behind it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The layer.
    pub layer: String,
    /// Its type.
    pub type_name: String,
    /// The layer that it reads, or `input`.
    pub source: String,
    /// Channel, row and column (0, 0 for units).
    pub place: [usize; 3],
    /// What is done.
    pub operation: Operation,
    /// The terms in the order of the weights.
    pub terms: Vec<Term>,
    /// The bias, if the layer has one.
    pub bias: Option<f32>,
    /// The terms put together in double precision.
    pub result: f64,
    /// What the engine computed.
    pub engine: f32,
    /// The largest difference that single precision explains: 2K·2⁻²⁴·Σ|x·w| for K terms.
    pub allowed: f64,
}

impl Trace {
    /// Whether the engine's value is the value of the written-out sum, within single precision.
    pub fn agrees(&self) -> bool {
        (self.result - f64::from(self.engine)).abs() <= self.allowed
    }
}

/// Layers that can be written out.
pub fn layers(net: &Resolved) -> Vec<&str> {
    let traced = |layer: &&ResolvedLayer| {
        ["conv", "linear", "max_pool", "avg_pool", "global_avg_pool"].contains(&layer.kind.type_name())
    };
    net.layers.iter().filter(traced).map(|layer| layer.name.as_str()).collect()
}

/// Writes out the value of `layer` at `place` (channel, row, column). `image` is the prepared picture,
/// `[channels, height, width]`, `activations` every layer's output on it.
///
/// # Errors
/// The layer does not exist or is of another type, or the place lies outside its output.
pub fn trace(
    net: &Resolved,
    tensors: &Tensors,
    image: &[f32],
    activations: &Tensors,
    layer: &str,
    place: [usize; 3],
) -> Result<Trace> {
    let known = layers(net);
    let found = net.layers.iter().find(|candidate| candidate.name == layer && known.contains(&layer));
    let Some(found) = found else {
        return Err(super::no_layer(net, layer, &known, "a value to write out (conv, linear and pooling layers have)"));
    };
    let size = as_map(found.shape);
    if (0..3).any(|i| place[i] >= size[i]) {
        let what = format!(
            "{layer} has channels 0 to {}, rows 0 to {}, columns 0 to {}; {},{},{} lies outside",
            size[0] - 1,
            size[1] - 1,
            size[2] - 1,
            place[0],
            place[1],
            place[2]
        );
        return Err(Error::usage(what).advice(format!("For example: --trace {layer},0,0,0")));
    }
    let (source, input) = match found.inputs[0] {
        Source::Input => ("input", image),
        Source::Layer(i) => (net.layers[i].name.as_str(), &get(activations, &net.layers[i].name)?.data[..]),
    };
    let input = Input { size: as_map(found.input_shapes[0]), values: input };
    let weights = || get(tensors, &format!("{layer}.weight"));
    let kind = found.kind.as_any();
    let [channel, row, column] = place;
    let (operation, terms) = if let Some(conv) = kind.downcast_ref::<Conv>() {
        let geometry = conv.geometry(input.size);
        let (maps, before) = conv.seen_by(channel, input.size[0]);
        let weights = &weights()?.data[before * conv.kernel[0] * conv.kernel[1]..];
        let taps = maps.into_iter().flat_map(|c| input.window(c, &geometry.window, [row, column]));
        let terms = taps.zip(weights).map(|(tap, weight)| Term { weight: *weight, ..tap }).collect();
        (Operation::Sum, terms)
    } else if kind.downcast_ref::<Linear>().is_some() {
        let weights = &weights()?.data[channel * input.values.len()..][..input.values.len()];
        let terms =
            (0..input.values.len()).map(|i| Term { weight: weights[i], ..input.term(input.place(i)) }).collect();
        (Operation::Sum, terms)
    } else {
        pooled(found, &input, place)?
    };
    let bias =
        tensors.get(&format!("{layer}.bias")).filter(|_| operation == Operation::Sum).map(|bias| bias.data[channel]);
    let engine = get(activations, layer)?.data[(channel * size[1] + row) * size[2] + column];
    Ok(put_together(Trace {
        layer: layer.to_owned(),
        type_name: found.kind.type_name().to_owned(),
        source: source.to_owned(),
        place,
        operation,
        terms,
        bias,
        result: 0.0,
        engine,
        allowed: 0.0,
    }))
}

/// Terms of a pooling layer; padding takes no part in a maximum, nor in a mean that does not count it.
fn pooled(layer: &ResolvedLayer, input: &Input, [channel, row, column]: [usize; 3]) -> Result<(Operation, Vec<Term>)> {
    let [_, height, width] = input.size;
    let Some(window) = layer.kind.window([height, width]) else {
        let whole = Window::new([height, width]);
        let terms: Vec<Term> = input.window(channel, &whole, [0, 0]).collect();
        return Ok((Operation::Mean(terms.len() as f64), terms));
    };
    let taps: Vec<Term> = input.window(channel, &window, [row, column]).collect();
    let inside: Vec<Term> = taps.iter().copied().filter(|tap| !tap.padding).collect();
    let kind = layer.kind.as_any();
    if kind.downcast_ref::<MaxPool>().is_some() {
        return Ok((Operation::Max, inside));
    }
    let Some(pool) = kind.downcast_ref::<AvgPool>() else {
        return Err(Error::new(format!("{}: {} cannot be written out", layer.name, layer.kind.type_name())));
    };
    if !pool.count_include_pad {
        return Ok((Operation::Mean(inside.len() as f64), inside));
    }
    // What ceil_mode hangs over the padded edge is not counted.
    let padding = pool.padding.resolve([height, width], &window);
    let counted =
        |tap: &Term| tap.place[1] < (height + padding[2]) as isize && tap.place[2] < (width + padding[3]) as isize;
    let terms: Vec<Term> = taps.into_iter().filter(counted).collect();
    Ok((Operation::Mean(terms.len() as f64), terms))
}

fn put_together(mut trace: Trace) -> Trace {
    let product = |term: &Term| f64::from(term.input) * f64::from(term.weight);
    let bias = f64::from(trace.bias.unwrap_or(0.0));
    let sum: f64 = trace.terms.iter().map(product).sum::<f64>() + bias;
    let sizes: f64 = trace.terms.iter().map(|term| product(term).abs()).sum::<f64>() + bias.abs();
    let rounding = 2.0 * (trace.terms.len() + 1) as f64 * 2f64.powi(-24) * sizes;
    (trace.result, trace.allowed) = match trace.operation {
        Operation::Sum => (sum, rounding),
        Operation::Max => (trace.terms.iter().map(product).fold(f64::NEG_INFINITY, f64::max), 0.0),
        Operation::Mean(count) => (sum / count, rounding / count),
    };
    trace
}

/// A layer's input with its sizes.
struct Input<'a> {
    size: [usize; 3],
    values: &'a [f32],
}

impl Input<'_> {
    /// Channel, row and column of the value at a position of the flattened input.
    fn place(&self, i: usize) -> [isize; 3] {
        let [_, height, width] = self.size;
        [i / (height * width), i / width % height, i % width].map(|at| at as isize)
    }
    fn term(&self, place: [isize; 3]) -> Term {
        let inside = (0..3).all(|i| (0..self.size[i] as isize).contains(&place[i]));
        let at = || (place[0] as usize * self.size[1] + place[1] as usize) * self.size[2] + place[2] as usize;
        Term { place, input: if inside { self.values[at()] } else { 0.0 }, weight: 1.0, padding: !inside }
    }
    /// What a window sees of one channel at the output's `[row, column]`.
    fn window<'b>(&'b self, channel: usize, window: &Window, at: [usize; 2]) -> impl Iterator<Item = Term> + 'b {
        let Window { kernel, stride, dilation, padding } = *window;
        let start: [isize; 2] = std::array::from_fn(|i| (at[i] * stride[i]) as isize - padding[i]);
        (0..kernel[0]).flat_map(move |y| {
            (0..kernel[1]).map(move |x| {
                let place =
                    [channel as isize, start[0] + (y * dilation[0]) as isize, start[1] + (x * dilation[1]) as isize];
                self.term(place)
            })
        })
    }
}

fn as_map(shape: Shape) -> [usize; 3] {
    match shape {
        Shape::Map(dims) => dims,
        Shape::Flat(n) => [n, 1, 1],
    }
}

fn get<'a>(tensors: &'a Tensors, name: &str) -> Result<&'a Tensor> {
    tensors.get(name).ok_or_else(|| Error::new(format!("there are no values of {name}")))
}
