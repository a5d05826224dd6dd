//! What a resolved net is good for: training with cross-entropy, given weights, a strict reading of its sizes.

use super::layers::Softmax;
use super::{Resolved, ResolvedLayer, Source};
use crate::error::did_you_mean;
use crate::shape::{Formula, ReceptiveField, Shape, rounding, rows_by_columns};
use crate::{Error, Result, Tensors};

impl ResolvedLayer {
    /// The output-size arithmetic of rows and of columns, for layers with a sliding window.
    pub fn formulas(&self) -> Option<[Formula; 2]> {
        let (size, output) = (self.input_shapes[0].size()?, self.shape.size()?);
        let window = self.kind.window(size)?;
        Some([0, 1].map(|dimension| Formula::new(size, &window, output, dimension)))
    }
}

impl Resolved {
    /// What a unit of each layer sees, in the order of the layers; `None` is the whole picture.
    pub fn receptive_fields(&self) -> Vec<Option<ReceptiveField>> {
        let mut fields: Vec<Option<ReceptiveField>> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let mut union: Option<ReceptiveField> = None;
            let mut whole = layer.kind.sees_everything();
            for (source, shape) in layer.inputs.iter().zip(&layer.input_shapes) {
                let field = match *source {
                    Source::Input => Some(ReceptiveField::PIXEL),
                    Source::Layer(i) => fields[i],
                };
                // A row of values has no place in the picture.
                match (field, shape.size()) {
                    (Some(field), Some(size)) => {
                        let own = layer.kind.field(size).map_or(field, |window| field.through(&window));
                        union = Some(union.map_or(own, |other| other.union(&own)));
                    }
                    _ => whole = true,
                }
            }
            fields.push(union.filter(|_| !whole));
        }
        fields
    }

    /// Whether the outputs are what cross-entropy takes: one score per class, before softmax.
    ///
    /// # Errors
    /// An output ends in a softmax, or in maps larger than 1x1; the message says why that cannot be trained.
    pub fn check_logits(&self) -> Result<()> {
        for output in self.outputs.iter().filter(|output| output.loss_weight > 0.0) {
            let layer = &self.layers[output.layer];
            if layer.kind.as_any().is::<Softmax>() {
                return Err(Error::new(format!(
                    "{}: the net ends in a softmax, but cross-entropy takes logits: it applies softmax itself, and a \
                     second one makes gradients vanish",
                    layer.name
                ))
                .advice("Remove the softmax layer; predict shows probabilities all the same."));
            }
            if layer.shape.len() != layer.shape.channels() {
                return Err(Error::new(format!(
                    "{}: the net ends in maps of {}, not in one score per class",
                    layer.name, layer.shape
                ))
                .advice("End it in a linear layer with units = \"classes\", or in global_avg_pool."));
            }
        }
        Ok(())
    }

    /// Whether every window ends exactly at the edge of its input.
    ///
    /// # Errors
    /// (N − F + 2P)/S + 1 is not whole in some layer.
    pub fn check_strict(&self) -> Result<()> {
        for layer in &self.layers {
            let Some([rows, columns]) = layer.formulas() else { continue };
            if let Some(words) = rounding(&rows, &columns) {
                let formula = if rows.is_whole() { columns } else { rows };
                return Err(Error::new(format!("{}: {formula} is not whole: {words}", layer.name)).advice(
                    "Change the padding, the stride or the picture's size so that the division comes out even.",
                ));
            }
        }
        Ok(())
    }

    /// Whether every parameter is among `tensors` with its shape. Tensors that the net does not know are left alone.
    ///
    /// # Errors
    /// The first that is missing or has another shape, with both shapes; where a linear layer was made for pictures of
    /// another size, that size.
    pub fn check_tensors(&self, tensors: &Tensors) -> Result<()> {
        for layer in &self.layers {
            for parameter in &layer.parameters {
                match tensors.get(&parameter.name) {
                    Some(tensor) if tensor.dims == parameter.dims => {}
                    Some(tensor) => {
                        return Err(self.other_shape(layer, &parameter.name, &tensor.dims, &parameter.dims));
                    }
                    None => {
                        let near = did_you_mean(&parameter.name, tensors.keys().map(String::as_str));
                        let near = near.map(|name| format!(" There is {name}.")).unwrap_or_default();
                        return Err(Error::new(format!(
                            "{}: not among the {} tensors given",
                            parameter.name,
                            tensors.len()
                        ))
                        .advice(format!("Use the network that the weights were made for.{near}")));
                    }
                }
            }
        }
        Ok(())
    }

    fn other_shape(&self, layer: &ResolvedLayer, name: &str, given: &[usize], needed: &[usize]) -> Error {
        let sizes = |dims: &[usize]| dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let what = format!("{name}: the weights are {}, the network needs {}", sizes(given), sizes(needed));
        let advice = "Use the network that the weights were made for, with the same picture size and classes.";
        match (given, needed) {
            // A linear layer with as many units but another number of inputs: pictures of another size.
            (&[a, made_for], &[b, values]) if a == b && made_for != values => {
                let input = layer.input_shapes[0];
                let shape = if input.size().is_some() { format!("{input} = ") } else { String::new() };
                let what = format!("{what}: its input is {shape}{values} values, the weights were made for {made_for}");
                Error::new(what).advice(self.size_advice(&layer.name, made_for).unwrap_or_else(|| advice.to_owned()))
            }
            _ => Error::new(what).advice(advice),
        }
    }

    /// Which picture size gives a linear layer `values` inputs, and why the present one does not.
    fn size_advice(&self, linear: &str, values: usize) -> Option<String> {
        let place = self.layers.iter().position(|layer| layer.name == linear)?;
        let [channels, height, width] = self.input;
        let fits = |h: usize, w: usize| {
            let shapes = self.shapes_for([channels, h, w])?;
            (self.input_length(place, &shapes, [channels, h, w])? == values)
                .then(|| self.first_formula(&shapes, [h, w]))?
        };
        // The nearest size whose first window ends at the edge, else the nearest.
        let near =
            (1..=256).flat_map(|d| [Some((height + d, width + d)), height.checked_sub(d).zip(width.checked_sub(d))]);
        let sizes = near.flatten().filter(|&(h, w)| h > 0 && w > 0);
        let found: Vec<_> = sizes.filter_map(|(h, w)| Some(([h, w], fits(h, w)?))).collect();
        let (size, theirs) = found.iter().find(|(_, formula)| formula.is_whole()).or_else(|| found.first())?;
        let ours =
            self.first_formula(&self.layers.iter().map(|layer| layer.shape).collect::<Vec<_>>(), [height, width])?;
        let story = if self.is_alexnet_with_224() { ALEXNET } else { "" };
        Some(format!("Use {} pictures: {theirs}, but here {ours}.{story}", rows_by_columns(*size)))
    }

    /// The shapes of all layers for pictures of another size, if they fit.
    fn shapes_for(&self, input: [usize; 3]) -> Option<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let inputs: Vec<Shape> = layer
                .inputs
                .iter()
                .map(|source| match *source {
                    Source::Input => Shape::Map(input),
                    Source::Layer(i) => shapes[i],
                })
                .collect();
            shapes.push(layer.kind.shape(&inputs).ok()?);
        }
        Some(shapes)
    }

    fn input_length(&self, layer: usize, shapes: &[Shape], input: [usize; 3]) -> Option<usize> {
        Some(match *self.layers[layer].inputs.first()? {
            Source::Input => input.iter().product(),
            Source::Layer(i) => shapes[i].len(),
        })
    }

    /// The arithmetic of the first window over pictures of `size`.
    fn first_formula(&self, shapes: &[Shape], size: [usize; 2]) -> Option<Formula> {
        let place =
            self.layers.iter().position(|layer| layer.inputs[0] == Source::Input && layer.formulas().is_some())?;
        let window = self.layers[place].kind.window(size)?;
        Some(Formula::new(size, &window, shapes[place].size()?, 0))
    }

    /// AlexNet's first layer, 11x11 at stride 4 without padding, over the 224x224 pictures that the paper writes.
    fn is_alexnet_with_224(&self) -> bool {
        self.layers.iter().any(|layer| {
            let window = layer.kind.window([224, 224]);
            self.input[1..] == [224, 224]
                && layer.inputs[0] == Source::Input
                && window.is_some_and(|w| w.kernel == [11, 11] && w.stride == [4, 4] && w.padding == [0; 4])
        })
    }

    /// What a reader of the net's sizes should know: rows and columns that no window sees, and 224 in AlexNet.
    pub fn notes(&self) -> Vec<String> {
        let rounded = self.layers.iter().filter_map(|layer| {
            let [rows, columns] = layer.formulas()?;
            let formula = if rows.is_whole() { columns } else { rows };
            Some(format!("{}: {formula}: {}", layer.name, rounding(&rows, &columns)?))
        });
        rounded.chain(self.is_alexnet_with_224().then(|| format!("{}:{ALEXNET}", self.name))).collect()
    }
}

/// Krizhevsky's program rounded up and let the last window hang over the edge, which 227 pictures give without rounding.
const ALEXNET: &str = " The paper writes 224, but its 55x55 maps need 227, or padding 2 with 224.";
