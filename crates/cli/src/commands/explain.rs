//! `ocelli explain`: looks inside a model.

use crate::arguments::Globals;
use crate::models::{Opened, prepare};
use crate::text::{self, number};
use clap::{Args, ValueEnum};
use ocelli::data::Picture;
use ocelli::error::{Error, Result};
use ocelli::explain::look::rgb;
use ocelli::explain::shift::{self, Shifts};
use ocelli::explain::tiles::Tile;
use ocelli::explain::trace::{self, Operation, Trace};
use ocelli::explain::{filters, maps, receptive_field};
use ocelli::metrics::{softmax, top};
use ocelli::plot::Canvas;
use ocelli::tensor::Tensors;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Look inside a model: filters, feature maps, receptive fields, shifts, one value written out
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ocelli explain latest samples/7.png --method maps --output look\n  \
    ocelli explain latest samples/7.png --trace conv1,0,14,14")]
pub struct Explain {
    /// A run folder, latest, or a .safetensors file
    model: String,
    /// The picture to look at (filters need none)
    image: Option<PathBuf>,
    /// What to show
    #[arg(long, required_unless_present = "trace")]
    method: Option<Method>,
    /// One layer [default: every layer that can be shown]
    #[arg(long)]
    layer: Option<String>,
    /// shift: the class whose probability is followed [default: the answer to the picture]
    #[arg(long)]
    class: Option<String>,
    /// receptive-field: the unit [default: the one in the middle]
    #[arg(long, value_name = "ROW,COLUMN", value_parser = text::place)]
    unit: Option<[usize; 2]>,
    /// Writes out the products and the sum behind one output value; LAYER,UNIT for linear layers
    #[arg(long, value_name = "LAYER,CHANNEL,ROW,COLUMN", conflicts_with_all = ["method", "layer", "class", "unit", "output"])]
    trace: Option<String>,
    /// Where pictures and tables go
    #[arg(long, value_name = "DIR", default_value = "explain")]
    output: PathBuf,
    /// Turns dark into light before anything else
    #[arg(long)]
    invert: bool,
}

/// What `--method` can be.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// The weights of convolutions and of linear layers over maps; the first layer's in colour
    Filters,
    /// What each layer makes of the picture
    Maps,
    /// The part of the picture that a unit sees
    ReceptiveField,
    /// How much each layer's output changes when the picture moves by 1 to 8 pixels
    Shift,
}

impl Explain {
    /// Shows what was asked for.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        let mut opened = Opened::new(&self.model)?;
        if let Some(place) = &self.trace {
            return self.trace(place, &mut opened, globals);
        }
        std::fs::create_dir_all(&self.output).map_err(|error| Error::io(&self.output, error))?;
        match self.method {
            Some(Method::Filters) => self.filters(&opened, globals),
            Some(Method::Maps) => self.maps(&mut opened, globals),
            Some(Method::ReceptiveField) => self.receptive_fields(&opened, globals),
            Some(Method::Shift) => self.shift(&mut opened, globals),
            None => {
                Err(Error::usage("nothing to show").advice("Use --method filters, maps, receptive-field or shift."))
            }
        }
    }

    /// The picture as the network sees it, and its numbers.
    fn picture(&self, opened: &Opened) -> Result<(Picture, Vec<f32>)> {
        match &self.image {
            Some(path) => prepare(&opened.model.preparation, path, self.invert),
            None => {
                Err(Error::usage("a picture is needed")
                    .advice("Name one after the model: ocelli explain MODEL IMAGE …"))
            }
        }
    }

    /// The layer asked for, or all of `known`.
    fn layers<'a>(&'a self, known: Vec<&'a str>) -> Vec<&'a str> {
        self.layer.as_deref().map_or(known, |layer| vec![layer])
    }

    fn filters(&self, opened: &Opened, globals: &Globals) -> Result<ExitCode> {
        let layers = self.layers(filters::layers(&opened.net));
        let draw = |layer: &str| filters::filters(&opened.net, &opened.model.tensors, layer);
        let files =
            layers.iter().map(|layer| self.save("filters", layer, &draw(layer)?)).collect::<Result<Vec<_>>>()?;
        done("filters", &files, globals)
    }

    fn maps(&self, opened: &mut Opened, globals: &Globals) -> Result<ExitCode> {
        let (_, numbers) = self.picture(opened)?;
        let activations = opened.inference(globals)?.activations(&numbers)?;
        let all: Vec<&str> = opened.net.layers.iter().map(|layer| layer.name.as_str()).collect();
        let save = |layer: &&str| match activations.get(*layer) {
            Some(activation) => self.save("maps", layer, &maps::maps(layer, activation)),
            None => Err(ocelli::explain::no_layer(&opened.net, layer, &all, "feature maps")),
        };
        let files = self.layers(all.clone()).iter().map(save).collect::<Result<Vec<_>>>()?;
        done("maps", &files, globals)
    }

    fn receptive_fields(&self, opened: &Opened, globals: &Globals) -> Result<ExitCode> {
        let (frame, _) = self.picture(opened)?;
        let mut files = Vec::new();
        for layer in self.layers(receptive_field::layers(&opened.net)) {
            let tile = Tile { label: String::new(), picture: rgb(&frame) };
            let (canvas, sentence) = receptive_field::draw(&opened.net, layer, self.unit, tile)?;
            files.push(self.save("receptive-field", layer, &canvas)?);
            if !globals.json {
                text::line(sentence);
            }
        }
        done("receptive-field", &files, globals)
    }

    fn save(&self, method: &str, layer: &str, canvas: &Canvas) -> Result<PathBuf> {
        let path = self.output.join(format!("{method}-{layer}.png"));
        canvas.save(&path)?;
        Ok(path)
    }

    fn shift(&self, opened: &mut Opened, globals: &Globals) -> Result<ExitCode> {
        if opened.model.multi_label {
            return Err(Error::usage("--method shift for a model of several classes a picture")
                .advice("It follows the softmax of one class: the other methods work."));
        }
        let (_, numbers) = self.picture(opened)?;
        let mut inference = opened.inference(globals)?;
        let scores = inference.logits(&numbers, 1)?;
        let class = match &self.class {
            None => top(&scores, 1).first().copied().unwrap_or(0),
            Some(name) => opened.model.classes.iter().position(|class| class == name).ok_or_else(|| {
                Error::usage(format!("the model knows no class '{name}'"))
                    .advice(format!("It knows: {}.", opened.model.classes.join(", ")))
            })?,
        };
        let shifts = shift::measure(&opened.net, &numbers, class, &mut |image| inference.activations(image))?;
        let table = self.output.join("shift.csv");
        ocelli::formats::write_atomically(&table, |file| file.write_all(shifts.to_csv().as_bytes()))?;
        let picture = self.output.join("shift.png");
        shifts.draw().save(&picture)?;
        if globals.json {
            let layers: Vec<_> = shifts
                .layers
                .iter()
                .map(|layer| json!({ "name": layer.name, "type": layer.type_name, "change": layer.change }))
                .collect();
            text::json(&json!({ "schema": 1, "method": "shift", "layers": layers,
                "counter_examples": shifts.counter_examples.len(), "files": [table, picture] }));
        } else {
            let still = f64::from(softmax(&scores)[class]);
            text::print(&shift_text(&shifts, &opened.class(class), still));
            text::line(format!("\n{}\n{}", table.display(), picture.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn trace(&self, place: &str, opened: &mut Opened, globals: &Globals) -> Result<ExitCode> {
        let (layer, at) = trace_place(place)?;
        let (_, numbers) = self.picture(opened)?;
        let tensors = opened.model.tensors.clone();
        let activations: Tensors = opened.inference(globals)?.activations(&numbers)?;
        let trace = trace::trace(&opened.net, &tensors, &numbers, &activations, layer, at)?;
        if globals.json {
            let terms: Vec<_> = trace
                .terms
                .iter()
                .map(|term| json!({ "place": term.place, "input": term.input, "weight": term.weight }))
                .collect();
            text::json(&json!({ "schema": 1, "layer": trace.layer, "type": trace.type_name, "source": trace.source,
                "place": trace.place, "terms": terms, "bias": trace.bias, "result": trace.result,
                "engine": trace.engine, "allowed": trace.allowed, "agrees": trace.agrees() }));
        } else {
            text::print(&trace_text(&trace));
        }
        if trace.agrees() {
            return Ok(ExitCode::SUCCESS);
        }
        Err(Error::new(format!("{layer}: the engine's {} is not the sum {}", trace.engine, trace.result))
            .advice("This is a bug in ocelli: please report it with the model and the picture."))
    }
}

fn done(method: &str, files: &[PathBuf], globals: &Globals) -> Result<ExitCode> {
    if globals.json {
        text::json(&json!({ "schema": 1, "method": method, "files": files }));
    } else {
        files.iter().for_each(|file| text::line(file.display().to_string()));
    }
    Ok(ExitCode::SUCCESS)
}

/// `conv1,0,14,14` or, for linear layers, `fc1,7`.
fn trace_place(text: &str) -> Result<(&str, [usize; 3])> {
    let mut parts = text.split(',');
    let layer = parts.next().unwrap_or_default().trim();
    let numbers: Vec<Option<usize>> = parts.map(|part| part.trim().parse().ok()).collect();
    match numbers[..] {
        [Some(unit)] => Ok((layer, [unit, 0, 0])),
        [Some(channel), Some(row), Some(column)] => Ok((layer, [channel, row, column])),
        _ => Err(Error::usage(format!("--trace '{text}' is not possible"))
            .advice("Use LAYER,CHANNEL,ROW,COLUMN, counted from 0, or LAYER,UNIT for linear layers.")),
    }
}

fn trace_text(trace: &Trace) -> String {
    let [channel, row, column] = trace.place;
    let mut text = format!(
        "{} ({}), channel {channel}, row {row}, column {column}, from {} (channel,row,column):\n\n",
        trace.layer, trace.type_name, trace.source
    );
    let sum = trace.operation == Operation::Sum;
    let rows: Vec<Vec<String>> = trace
        .terms
        .iter()
        .map(|term| {
            let [c, y, x] = term.place;
            let padding = if term.padding { "  padding" } else { "" };
            let mut cells = vec![format!("{c},{y},{x}"), format!("{:.6}{padding}", term.input)];
            if sum {
                cells.extend([
                    format!("{:.6}", term.weight),
                    // A product that rounds to 0 has no sign.
                    format!("{:.6}", f64::from(term.input) * f64::from(term.weight)).replace("-0.000000", "0.000000"),
                ]);
            }
            cells
        })
        .collect();
    let header: &[&str] = if sum { &["place", "input", "weight", "product"] } else { &["place", "input"] };
    text.push_str(&text::table(header, &rows, 1));
    text.push('\n');
    let n = trace.terms.len();
    let products: f64 = trace.terms.iter().map(|term| f64::from(term.input) * f64::from(term.weight)).sum();
    text.push_str(&match (trace.operation, trace.bias) {
        (Operation::Sum, Some(bias)) => {
            format!("sum of {n} products {products:.7} + bias {bias:.7} = {:.7}\n", trace.result)
        }
        (Operation::Sum, None) => format!("sum of {n} products = {:.7}\n", trace.result),
        (Operation::Max, _) => format!("largest of {n} = {:.7}\n", trace.result),
        (Operation::Mean(count), _) => format!("sum {products:.7} / {count} = {:.7}\n", trace.result),
    });
    let difference = (trace.result - f64::from(trace.engine)).abs();
    let verdict = if trace.agrees() { "agrees" } else { "DIFFERS" };
    text.push_str(&format!(
        "the engine computed {:.7}: {verdict} (difference {difference:.1e}, rounding explains {:.1e})\n",
        trace.engine, trace.allowed
    ));
    text
}

fn shift_text(shifts: &Shifts, class: &str, still: f64) -> String {
    let mut header = vec!["layer".to_owned(), "type".to_owned()];
    header.extend((1..=shift::MOST).map(|pixels| format!("{pixels} px")));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = |layer: &shift::LayerChange| {
        let mut cells = vec![layer.name.clone(), layer.type_name.clone()];
        cells.extend(layer.change.iter().map(|change| format!("{change:.2}")));
        cells
    };
    let rows: Vec<Vec<String>> = shifts.layers.iter().map(row).collect();
    let mut text = format!(
        "Relative change |shifted - still| / |still| of each layer's output, mean of four directions:\n\n{}\n",
        text::table(&header, &rows, 2)
    );
    let lines: Vec<String> = (1..=shift::MOST)
        .map(|pixels| {
            let answers: Vec<_> = shifts.answers.iter().filter(|answer| answer.shift == pixels).collect();
            let lowest = answers.iter().map(|answer| answer.probability).fold(f64::INFINITY, f64::min);
            format!("{pixels} px {:.1} %", 100.0 * lowest)
        })
        .collect();
    text.push_str(&format!(
        "'{class}': {:.1} % still; the lowest of four directions: {}\n",
        100.0 * still,
        lines.join(", ")
    ));
    let (pools, examples) = (shifts.pooled, &shifts.counter_examples);
    text.push_str(&format!(
        "Pooling lessened the change in {} of {pools} cases (pooling layer, direction, shift)",
        pools - examples.len()
    ));
    text.push_str(if examples.is_empty() { ".\n" } else { "; counter-examples:\n" });
    for example in examples.iter().take(8) {
        text.push_str(&format!(
            "  {}, {} by {}: {} before pooling, {} after\n",
            example.layer,
            example.direction,
            example.shift,
            number(example.before),
            number(example.after)
        ));
    }
    if examples.len() > 8 {
        text.push_str(&format!("  and {} more in shift.csv\n", examples.len() - 8));
    }
    text
}
