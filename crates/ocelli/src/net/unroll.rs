//! From a file's layers to a plain list: blocks unrolled, names made, connections found, in an order that can be computed.

use super::kind::unknown;
use super::resolve::Source;
use super::{BlockUse, Content, Layer, LayerKind, Net, Output, Settings, text};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use toml::{Table, Value};

/// Most layers of a net, so that a small hostile file cannot make a huge one.
pub(super) const MAX_LAYERS: usize = 10_000;
/// Deepest nesting of blocks in blocks.
const MAX_DEPTH: usize = 16;

/// A layer of the plain list.
pub(super) struct Unrolled {
    pub name: String,
    pub kind: Arc<dyn LayerKind>,
    pub settings: Settings,
    pub inputs: Vec<Source>,
}

/// An output and the place of its layer.
pub(super) type PlacedOutput = (Output, usize);

/// The plain list in computable order, and the outputs; the last layer is the output where the file names none.
pub(super) fn unroll(net: &Net) -> Result<(Vec<Unrolled>, Vec<PlacedOutput>)> {
    let mut unroller = Unroller { net, found: Vec::new(), ends: HashMap::new(), steps: 0 };
    let last = unroller.expand(&net.layers, "", &Reference::Input, &mut Vec::new())?;
    let Unroller { found, ends, .. } = unroller;
    if found.is_empty() {
        return Err(Error::new("the net has no layers").advice("Put at least one into `layers`."));
    }
    let look_up = |reference: &Reference| find(&ends, reference);
    let inputs: Vec<Vec<Source>> = found
        .iter()
        .map(|layer| {
            let sources = layer.inputs.iter().map(&look_up).collect::<Result<Vec<Source>>>();
            sources.map_err(|error| error.at(&layer.name))
        })
        .collect::<Result<_>>()?;
    for (layer, inputs) in found.iter().zip(&inputs) {
        let wanted = layer.kind.inputs();
        if !wanted.contains(&inputs.len()) {
            let count = if wanted.start() == wanted.end() {
                wanted.start().to_string()
            } else {
                format!("{} or more", wanted.start())
            };
            return Err(Error::new(format!(
                "{}: {} takes {count} inputs, not {}",
                layer.name,
                layer.kind.type_name(),
                inputs.len()
            ))
            .advice("Name them: inputs = [\"conv3\", \"relu1\"]."));
        }
    }
    let order = in_order(&found, &inputs)?;
    let mut place = vec![0; found.len()];
    order.iter().enumerate().for_each(|(new, &old)| place[old] = new);
    let outputs = if net.outputs.is_empty() {
        let layer = last.index().ok_or_else(|| Error::new("the net has no layers"))?;
        let name = found[layer].name.clone();
        vec![(Output { name: "output".into(), layer: name, loss_weight: 1.0, training_only: false }, place[layer])]
    } else {
        net.outputs
            .iter()
            .map(|output| match look_up(&Reference::Name { scope: String::new(), name: output.layer.clone() }) {
                Ok(Source::Layer(layer)) => Ok((output.clone(), place[layer])),
                Ok(Source::Input) => {
                    Err(Error::new(format!("output {:?} is the net's input", output.name)).advice("Name a layer."))
                }
                Err(error) => Err(error.at(format!("output {:?}", output.name))),
            })
            .collect::<Result<_>>()?
    };
    check_outputs(&outputs)?;
    let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
    let mut layers = Vec::with_capacity(order.len());
    for &old in &order {
        let Some(Found { name, kind, settings, .. }) = found[old].take() else { continue };
        let moved = |source: &Source| match *source {
            Source::Input => Source::Input,
            Source::Layer(layer) => Source::Layer(place[layer]),
        };
        layers.push(Unrolled { name, kind, settings, inputs: inputs[old].iter().map(moved).collect() });
    }
    check_all_used(&layers, &outputs)?;
    Ok((layers, outputs))
}

/// An input as the text has it.
#[derive(Clone)]
enum Reference {
    /// The net's input.
    Input,
    /// A layer that has been unrolled.
    Layer(usize),
    /// A name, looked up in the block it stands in, then in what is around it.
    Name { scope: String, name: String },
}

impl Reference {
    fn index(&self) -> Option<usize> {
        match self {
            Reference::Layer(index) => Some(*index),
            _ => None,
        }
    }
}

struct Found {
    name: String,
    kind: Arc<dyn LayerKind>,
    settings: Settings,
    inputs: Vec<Reference>,
}

struct Unroller<'a> {
    net: &'a Net,
    found: Vec<Found>,
    /// The layer that a name stands for: itself, or the last one of a block.
    ends: HashMap<String, usize>,
    /// Layers and blocks so far.
    steps: usize,
}

impl Unroller<'_> {
    /// Unrolls `layers` into the block `scope`, whose input is `input`; returns the last layer.
    fn expand(
        &mut self,
        layers: &[Layer],
        scope: &str,
        input: &Reference,
        inside: &mut Vec<String>,
    ) -> Result<Reference> {
        let mut before = input.clone();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for layer in layers {
            self.steps += 1;
            if self.steps > MAX_LAYERS {
                return Err(Error::new(format!("the net has more than {MAX_LAYERS} layers"))
                    .advice("Repeat blocks less often."));
            }
            let type_name = match &layer.content {
                Content::Kind(kind) => kind.type_name(),
                Content::Block(_) => text::BLOCK,
            };
            let number = numbers.entry(type_name).or_default();
            *number += 1;
            let name = joined(scope, &layer.name.clone().unwrap_or_else(|| format!("{type_name}{number}")));
            text::check_name(&name).map_err(|error| error.at(&name[..name.len().min(80)]))?;
            let mut inputs: Vec<Reference> = layer
                .inputs
                .iter()
                .map(|name| match name.as_str() {
                    "$input" if !scope.is_empty() => input.clone(),
                    "input" => Reference::Input,
                    _ => Reference::Name { scope: scope.to_owned(), name: name.clone() },
                })
                .collect();
            if inputs.is_empty() {
                inputs.push(before);
            }
            let end = match &layer.content {
                Content::Kind(kind) => {
                    let (kind, settings) = (kind.clone(), layer.settings.clone());
                    self.found.push(Found { name: name.clone(), kind, settings, inputs });
                    self.found.len() - 1
                }
                Content::Block(block) => {
                    if inputs.len() != 1 {
                        return Err(Error::new(format!("{name}: a block takes one input, not {}", inputs.len()))
                            .advice("Give other layers' names to the block as $parameters."));
                    }
                    self.repeat(block, &name, &inputs[0], inside)?
                }
            };
            self.name(name, end)?;
            before = Reference::Layer(end);
        }
        Ok(before)
    }

    /// Unrolls a block as often as its use says; returns its last layer.
    fn repeat(&mut self, block: &BlockUse, name: &str, input: &Reference, inside: &mut Vec<String>) -> Result<usize> {
        let definition = self
            .net
            .blocks
            .get(&block.block)
            .ok_or_else(|| unknown("block", &block.block, self.net.blocks.keys().map(String::as_str)).at(name))?;
        if inside.contains(&block.block) || inside.len() == MAX_DEPTH {
            return Err(Error::new(format!("{name}: block {:?} is nested in itself or too deep", block.block))
                .advice("A block may use other blocks, but not itself."));
        }
        check_parameters(&definition.layers, block).map_err(|error| error.at(name))?;
        let layers: Vec<Layer> = definition
            .layers
            .iter()
            .enumerate()
            .map(|(i, table)| text::layer(substituted(table, &block.parameters), i).map_err(|error| error.at(name)))
            .collect::<Result<_>>()?;
        inside.push(block.block.clone());
        let mut before = input.clone();
        for i in block.first..block.first + block.repeat.unwrap_or(1) {
            let scope = if block.repeat.is_some() { format!("{name}.{i}") } else { name.to_owned() };
            before = self.expand(&layers, &scope, &before, inside)?;
            let end = before.index().filter(|_| !layers.is_empty()).ok_or_else(|| {
                Error::new(format!("{name}: block {:?} has no layers", block.block)).advice("Put at least one into it.")
            })?;
            if block.repeat.is_some() {
                self.name(scope, end)?;
            }
        }
        inside.pop();
        // A block that has layers ends in one.
        before.index().ok_or_else(|| Error::new(format!("{name}: block {:?} has no layers", block.block)))
    }

    fn name(&mut self, name: String, layer: usize) -> Result<()> {
        match self.ends.insert(name.clone(), layer) {
            None => Ok(()),
            Some(_) => Err(Error::new(format!("{name}: this name is used twice")).advice(
                "Give each layer a name of its own; unnamed layers are called by type and number, like relu2.",
            )),
        }
    }
}

fn joined(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// The layer that a reference means: its name inside the block, else outwards.
fn find(ends: &HashMap<String, usize>, reference: &Reference) -> Result<Source> {
    let (scope, name) = match reference {
        Reference::Input => return Ok(Source::Input),
        Reference::Layer(layer) => return Ok(Source::Layer(*layer)),
        Reference::Name { scope, name } => (scope, name),
    };
    let mut scope = scope.as_str();
    loop {
        if let Some(&layer) = ends.get(&joined(scope, name)) {
            return Ok(Source::Layer(layer));
        }
        if scope.is_empty() {
            let known: BTreeSet<&str> = ends.keys().map(String::as_str).chain(["input"]).collect();
            return Err(unknown("input", name, known.iter().copied().take(200)));
        }
        scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
    }
}

/// Every `$name` of a block's layers has a value in the use, and every value a `$name`.
fn check_parameters(layers: &[Table], block: &BlockUse) -> Result<()> {
    let mut wanted = BTreeSet::new();
    layers.iter().flat_map(Table::values).for_each(|value| collect(value, &mut wanted));
    wanted.remove("input");
    if let Some(extra) = block.parameters.keys().find(|key| !wanted.contains(key.as_str())) {
        return Err(unknown(
            &format!("parameter of block {:?}", block.block),
            extra,
            wanted.iter().map(String::as_str),
        ));
    }
    match wanted.iter().find(|name| !block.parameters.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(Error::new(format!("block {:?} needs the parameter `{name}`", block.block))
            .advice(format!("Add `{name} = …` to the layer that uses the block."))),
    }
}

fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => names.extend(text.strip_prefix('$').map(str::to_owned)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
        Value::Table(table) => table.values().for_each(|value| collect(value, names)),
        _ => {}
    }
}

/// A block's layer with values in the place of `$names`; `$input` stays.
fn substituted(table: &Table, values: &Table) -> Table {
    fn one(value: &Value, values: &Table) -> Value {
        match value {
            Value::String(text) => text.strip_prefix('$').and_then(|name| values.get(name)).unwrap_or(value).clone(),
            Value::Array(items) => Value::Array(items.iter().map(|item| one(item, values)).collect()),
            Value::Table(table) => Value::Table(substituted(table, values)),
            _ => value.clone(),
        }
    }
    table.iter().map(|(key, value)| (key.clone(), one(value, values))).collect()
}

/// An order in which every layer comes after its inputs, otherwise as in the file.
fn in_order(layers: &[Found], inputs: &[Vec<Source>]) -> Result<Vec<usize>> {
    let mut missing: Vec<usize> = vec![0; layers.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); layers.len()];
    for (reader, sources) in inputs.iter().enumerate() {
        for source in sources {
            if let Source::Layer(layer) = *source {
                missing[reader] += 1;
                readers[layer].push(reader);
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..layers.len()).filter(|&i| missing[i] == 0).collect();
    let mut order = Vec::with_capacity(layers.len());
    while let Some(layer) = ready.pop_first() {
        order.push(layer);
        for &reader in &readers[layer] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if order.len() == layers.len() {
        return Ok(order);
    }
    // Each layer that is left waits for another one that is left: following them ends in a cycle.
    let waits_for = |layer: usize| {
        inputs[layer].iter().find_map(|source| match *source {
            Source::Layer(input) if missing[input] > 0 => Some(input),
            _ => None,
        })
    };
    let mut path: Vec<usize> = Vec::new();
    let mut next = (0..layers.len()).find(|&i| missing[i] > 0);
    while let Some(layer) = next {
        if let Some(start) = path.iter().position(|&seen| seen == layer) {
            path.drain(..start);
            break;
        }
        path.push(layer);
        next = waits_for(layer);
    }
    let names: Vec<&str> = path.iter().rev().take(8).map(|&layer| layers[layer].name.as_str()).collect();
    let first = names.first().copied().unwrap_or_default();
    Err(Error::new(format!("the layers form a cycle: {} -> {first}", names.join(" -> ")))
        .advice("A layer may read only what does not depend on it."))
}

fn check_outputs(outputs: &[(Output, usize)]) -> Result<()> {
    let mut names = BTreeSet::new();
    for (output, _) in outputs {
        text::check_name(&output.name)?;
        if !names.insert(&output.name) {
            return Err(
                Error::new(format!("output {:?}: this name is used twice", output.name)).advice("Use another name.")
            );
        }
        if !(output.loss_weight.is_finite() && output.loss_weight >= 0.0) {
            return Err(Error::new(format!("output {:?}: loss_weight = {}", output.name, output.loss_weight))
                .advice("Use a number from 0 up."));
        }
    }
    if outputs.iter().all(|(output, _)| output.training_only) {
        return Err(Error::new("every output is for training only").advice("One output has to be the net's answer."));
    }
    Ok(())
}

/// A layer whose values nothing reads is most likely a slip in `inputs`.
fn check_all_used(layers: &[Unrolled], outputs: &[(Output, usize)]) -> Result<()> {
    let mut used = vec![false; layers.len()];
    outputs.iter().for_each(|(_, layer)| used[*layer] = true);
    for source in layers.iter().flat_map(|layer| &layer.inputs) {
        if let Source::Layer(layer) = *source {
            used[layer] = true;
        }
    }
    match used.iter().position(|used| !used) {
        None => Ok(()),
        Some(layer) => Err(Error::new(format!("{}: no layer and no output reads it", layers[layer].name))
            .advice("Name it in the `inputs` of a later layer or in `outputs`, or remove it.")),
    }
}
