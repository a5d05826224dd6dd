//! The text form: strict TOML, one line a layer.

use super::kind::{Kind, from_table, plain, unknown};
use super::{Block, BlockUse, Content, FORMAT, Layer, Net, Output, Settings};
use crate::shape::MAX_SIZE;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

/// The `type` of a layer that stands for a block's layers.
pub(super) const BLOCK: &str = "block";
/// Keys of every layer.
const COMMON: [&str; 7] = ["type", "name", "inputs", "init", "lr", "decay", "trainable"];
/// Longest name, so that names of nested blocks stay readable.
const MAX_NAME: usize = 200;

/// The keys of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: i64,
    name: String,
    input: Vec<i64>,
    classes: Option<i64>,
    layers: Vec<Table>,
    #[serde(default)]
    blocks: BTreeMap<String, BlockFile>,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockFile {
    layers: Vec<Table>,
}

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Net> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::new(format!("{line}{}", error.message().replace('\n', ", ")))
            .advice("Mind the rules of TOML: https://toml.io.")
    })?;
    match table.get("format") {
        Some(Value::Integer(FORMAT)) => {}
        Some(Value::Integer(newer)) if *newer > FORMAT => {
            return Err(Error::new(format!(
                "format = {newer} is newer than this program, which reads format {FORMAT}"
            ))
            .advice("Update ocelli."));
        }
        Some(other) => {
            return Err(
                Error::new(format!("format = {other} is not a format")).advice(format!("Use format = {FORMAT}."))
            );
        }
        None => return Err(Error::new("the key `format` is missing").advice(format!("Begin with format = {FORMAT}."))),
    }
    let file: File = from_table(table)?;
    debug_assert_eq!(file.format, FORMAT);
    let size = |n: i64, key: &str| match usize::try_from(n) {
        Ok(n) if (1..=MAX_SIZE).contains(&n) => Ok(n),
        _ => Err(Error::new(format!("{key}: {n} is not a size")).advice(format!("Use a number from 1 to {MAX_SIZE}."))),
    };
    let &[c, h, w] = file.input.as_slice() else {
        return Err(Error::new(format!("input has {} numbers", file.input.len()))
            .advice("Use input = [channels, height, width]."));
    };
    check_name(&file.name)?;
    let layers = file.layers.into_iter().enumerate().map(|(i, table)| layer(table, i)).collect::<Result<_>>()?;
    Ok(Net {
        name: file.name,
        input: [size(c, "input")?, size(h, "input")?, size(w, "input")?],
        classes: file.classes.map(|n| size(n, "classes")).transpose()?,
        layers,
        blocks: file.blocks.into_iter().map(|(name, block)| (name, Block { layers: block.layers })).collect(),
        outputs: file.outputs,
    })
}

/// Reads layer `index` (from 0) of a net or block.
pub(super) fn layer(mut table: Table, index: usize) -> Result<Layer> {
    let place = match (table.get("name"), table.get("type")) {
        (Some(Value::String(name)), _) => name.chars().take(MAX_NAME).collect(),
        (_, Some(Value::String(kind))) => {
            format!("layer {} ({})", index + 1, kind.chars().take(40).collect::<String>())
        }
        _ => format!("layer {}", index + 1),
    };
    parse_layer(&mut table).map_err(|error| error.at(place))
}

fn parse_layer(table: &mut Table) -> Result<Layer> {
    let type_name: String = take(table, "type")?
        .ok_or_else(|| Error::new("the key `type` is missing").advice("Begin with { type = \"conv\", … }."))?;
    let name: Option<String> = take(table, "name")?;
    if let Some(name) = &name {
        check_name(name)?;
    }
    let inputs: Option<Vec<String>> = take(table, "inputs")?;
    if inputs.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::new("`inputs` is empty").advice("Name a layer, or leave `inputs` out for the layer before."));
    }
    let inputs = inputs.unwrap_or_default();
    let settings = Settings {
        init: take_table(table, "init")?,
        lr: take_table(table, "lr")?,
        decay: take_table(table, "decay")?,
        trainable: take(table, "trainable")?,
    };
    let rest = std::mem::take(table);
    let content = if type_name == BLOCK {
        if settings != Settings::default() {
            return Err(Error::new("init, lr, decay and trainable belong to the block's own layers")
                .advice("Write them there, with $parameters where uses differ."));
        }
        Content::Block(block_use(rest)?)
    } else {
        let kind = Kind::find(&type_name)?;
        if let Some(key) = rest.keys().find(|key| !(kind.keys)().contains(&key.as_str())) {
            return Err(unknown("key", key, (kind.keys)().iter().chain(&COMMON).copied()));
        }
        Content::Kind(kind.parse(rest)?)
    };
    Ok(Layer { name, content, inputs, settings })
}

fn block_use(mut table: Table) -> Result<BlockUse> {
    let block = take(&mut table, "use")?.ok_or_else(|| {
        Error::new("the key `use` is missing").advice("Name a block: use = \"basic\" for [blocks.basic].")
    })?;
    let repeat = match take::<i64>(&mut table, "repeat")? {
        None => None,
        Some(n) => match usize::try_from(n) {
            Ok(n) if (1..=MAX_SIZE).contains(&n) => Some(n),
            _ => return Err(Error::new(format!("repeat = {n} is not a number of times")).advice("Use 1 or more.")),
        },
    };
    let first = match take::<i64>(&mut table, "first")? {
        None => 0,
        Some(n) => match usize::try_from(n) {
            Ok(n) if n <= MAX_SIZE && repeat.is_some() => n,
            _ => {
                return Err(Error::new(format!("first = {n} is not the number of the first of several blocks"))
                    .advice("Use a number from 0 up, together with `repeat`."));
            }
        },
    };
    if table.contains_key("input") {
        return Err(Error::new("a block's parameter cannot be called input")
            .advice("Use another name; $input is the block's input."));
    }
    Ok(BlockUse { block, repeat, first, parameters: table })
}

/// Takes a key out of a table.
fn take<T: for<'a> Deserialize<'a>>(table: &mut Table, key: &str) -> Result<Option<T>> {
    let read =
        |value: Value| value.try_into().map_err(|error: toml::de::Error| plain(error.message()).at(format!("`{key}`")));
    table.remove(key).map(read).transpose()
}

/// Takes a table with keys of its own out of a table.
fn take_table<T: for<'a> Deserialize<'a>>(table: &mut Table, key: &str) -> Result<Option<T>> {
    let inner: Option<Table> = take(table, key)?;
    inner.map(|inner| from_table(inner).map_err(|error| error.at(key))).transpose()
}

/// Names appear in parameter names, file names and tables.
pub(super) fn check_name(name: &str) -> Result<()> {
    let shown: String = name.chars().take(40).collect();
    if name == "input" {
        return Err(Error::new("the name \"input\" is reserved for the net's input").advice("Use another name."));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty()
        || name.len() > MAX_NAME
        || !name.chars().all(good)
        || name.starts_with('.')
        || name.ends_with('.')
    {
        return Err(Error::new(format!("the name {shown:?} cannot be used"))
            .advice(format!("Use up to {MAX_NAME} letters, digits, `_`, `-` and `.` inside.")));
    }
    Ok(())
}

/// Writes a net.
pub(super) fn write(net: &Net) -> String {
    let [c, h, w] = net.input;
    let mut text = format!("format = {FORMAT}\nname = {}\ninput = [{c}, {h}, {w}]\n", quoted(&net.name));
    if let Some(classes) = net.classes {
        line(&mut text, &format!("classes = {classes}"));
    }
    let layers: Vec<Table> = net.layers.iter().map(layer_table).collect();
    write_layers(&mut text, &layers);
    for (name, block) in &net.blocks {
        line(&mut text, &format!("\n[blocks.{}]", bare_or_quoted(name)));
        write_layers(&mut text, &block.layers);
    }
    for output in &net.outputs {
        // Names, a number and a switch are always TOML values.
        let table = Table::try_from(output).expect("an output is a TOML table");
        line(&mut text, &format!("\n[[outputs]]\n{}", table.to_string().trim_end()));
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn write_layers(text: &mut String, layers: &[Table]) {
    line(text, "layers = [");
    layers.iter().for_each(|table| line(text, &format!("  {},", inline(table))));
    line(text, "]");
}

/// The keys of a layer.
fn layer_table(layer: &Layer) -> Table {
    let (type_name, mut table) = match &layer.content {
        Content::Kind(kind) => (kind.type_name(), kind.to_table()),
        Content::Block(block) => {
            let mut table = block.parameters.clone();
            table.insert("use".into(), block.block.clone().into());
            if let Some(repeat) = block.repeat {
                table.insert("repeat".into(), Value::Integer(i64::try_from(repeat).unwrap_or(i64::MAX)));
            }
            if block.first > 0 {
                table.insert("first".into(), Value::Integer(i64::try_from(block.first).unwrap_or(i64::MAX)));
            }
            (BLOCK, table)
        }
    };
    table.insert("type".into(), type_name.into());
    if let Some(name) = &layer.name {
        table.insert("name".into(), name.clone().into());
    }
    if !layer.inputs.is_empty() {
        table.insert("inputs".into(), layer.inputs.clone().into());
    }
    let Settings { init, lr, decay, trainable } = &layer.settings;
    insert_table(&mut table, "init", init.as_ref());
    insert_table(&mut table, "lr", lr.as_ref());
    insert_table(&mut table, "decay", decay.as_ref());
    if let Some(trainable) = trainable {
        table.insert("trainable".into(), Value::Boolean(*trainable));
    }
    table
}

fn insert_table<T: serde::Serialize>(table: &mut Table, key: &str, value: Option<&T>) {
    if let Some(value) = value {
        // Numbers and words by name are always a TOML table.
        table.insert(key.into(), Value::Table(Table::try_from(value).expect("init and factors are TOML tables")));
    }
}

/// A layer on one line, its keys in the order of the documentation.
fn inline(table: &Table) -> String {
    let own = match table.get("type").and_then(Value::as_str) {
        Some(BLOCK) => &["use", "repeat", "first"],
        Some(name) => Kind::find(name).map_or(&[][..], |kind| (kind.keys)()),
        None => &[],
    };
    let before = ["type", "name"];
    let ordered = before.iter().chain(own).chain(&COMMON).filter(|key| table.contains_key(**key));
    let mut keys: Vec<&str> = Vec::new();
    for key in ordered.copied().chain(table.keys().map(String::as_str)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut text = String::from("{ ");
    for (i, key) in keys.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{} = {}", bare_or_quoted(key), table[*key]);
    }
    text + " }"
}

/// A TOML string.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn bare_or_quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quoted(key) }
}
