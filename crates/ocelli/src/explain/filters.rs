//! What a layer has learned, as pictures: its filters.

use super::tiles::{Tile, colour, largest, sheet, signed};
use crate::error::{Error, Result};
use crate::net::Resolved;
use crate::plot::Canvas;
use crate::shape::Shape;
use crate::tensor::Tensors;

/// Filters and channels that a sheet shows; beyond that, its title says how many there are.
const MOST_FILTERS: usize = 64;
const MOST_CHANNELS: usize = 16;

/// Layers with filters to show: convolutions (with `maps`, a filter for each pair of maps), and linear layers that read feature maps (each unit is a filter as large as
/// its input).
pub fn layers(net: &Resolved) -> Vec<&str> {
    let shown = |layer: &&crate::net::ResolvedLayer| {
        layer.kind.type_name() == "conv"
            || layer.kind.type_name() == "linear" && matches!(layer.input_shapes[0], Shape::Map(_))
    };
    net.layers.iter().filter(shown).map(|layer| layer.name.as_str()).collect()
}

/// The filters of a layer. Filters that see three channels of the picture are drawn in colour (grey is 0), others in a row
/// for each filter, a tile for each channel: blue is negative, white 0, red positive. All tiles share one scale.
///
/// # Errors
/// The layer does not exist or has no filters.
pub fn filters(net: &Resolved, tensors: &Tensors, layer: &str) -> Result<Canvas> {
    let known = layers(net);
    let found = net.layers.iter().find(|candidate| candidate.name == layer && known.contains(&layer));
    let Some(found) = found else {
        return Err(super::no_layer(net, layer, &known, "filters to show"));
    };
    let name = format!("{layer}.weight");
    let weight = tensors.get(&name).ok_or_else(|| Error::new(format!("the model has no {name}")))?;
    let (filters, channels, size) = match (&weight.dims[..], found.input_shapes[0]) {
        (&[filters, channels, height, width], _) => (filters, channels, [height, width]),
        (&[pairs, height, width], _) => (pairs, 1, [height, width]),
        (&[filters, _], Shape::Map([channels, height, width])) => (filters, channels, [height, width]),
        (dims, _) => return Err(Error::new(format!("{name} has the sizes {dims:?}"))),
    };
    let area = size[0] * size[1];
    let most = largest(&weight.data);
    let shown = filters.min(MOST_FILTERS);
    let of = |shown: usize, all: usize| if shown < all { format!("{shown} of {all}") } else { all.to_string() };
    let title = format!("{layer}: {} filters {}x{}x{channels}", of(shown, filters), size[0], size[1]);
    let filter = |i: usize| &weight.data[i * channels * area..(i + 1) * channels * area];
    if channels == 3 && found.inputs == [crate::net::Source::Input] {
        let tile = |i: usize| Tile { label: i.to_string(), picture: colour(filter(i), size, -most, most) };
        let tiles: Vec<Tile> = (0..shown).map(tile).collect();
        return Ok(sheet(&format!("{title} in colour; black -{most:.3}, grey 0, white {most:.3}"), &tiles, 12));
    }
    let columns = channels.min(MOST_CHANNELS);
    let tile = |i: usize, channel: usize| Tile {
        label: if channels == 1 { i.to_string() } else { format!("{i},{channel}") },
        picture: signed(&filter(i)[channel * area..(channel + 1) * area], size, most),
    };
    let tiles: Vec<Tile> =
        (0..shown).flat_map(|i| (0..columns).map(move |channel| (i, channel))).map(|(i, c)| tile(i, c)).collect();
    let left_out = if columns < channels { format!(", {columns} channels shown") } else { String::new() };
    let title = format!("{title}{left_out}; blue -{most:.3}, white 0, red {most:.3}");
    Ok(sheet(&title, &tiles, if channels == 1 { 12 } else { columns }))
}
