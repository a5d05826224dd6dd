//! What each layer makes of a picture: its feature maps.

use super::tiles::{Tile, grey, largest, sheet, signed};
use crate::plot::Canvas;
use crate::tensor::Tensor;

/// Maps that a sheet shows; beyond that, its title says how many there are.
const MOST_MAPS: usize = 256;

/// The feature maps of one layer, `[channels, height, width]`, or its units, `[units]`. Values that are never negative go
/// from black (0) to white; others are blue below 0, white at 0, red above. All tiles share one scale.
pub fn maps(layer: &str, activation: &Tensor) -> Canvas {
    let (channels, size) = match activation.dims[..] {
        [channels, height, width] => (channels, [height, width]),
        _ => (activation.data.len(), [1, 1]),
    };
    let area = size[0] * size[1];
    let most = largest(&activation.data);
    let negative = activation.data.iter().any(|value| *value < 0.0);
    let shown = channels.min(MOST_MAPS);
    let tile = |channel: usize| {
        let values = &activation.data[channel * area..(channel + 1) * area];
        let picture = if negative { signed(values, size, most) } else { grey(values, size, 0.0, most) };
        Tile { label: channel.to_string(), picture }
    };
    let tiles: Vec<Tile> = (0..shown).map(tile).collect();
    let scale = match negative {
        true => format!("blue -{most:.3}, white 0, red {most:.3}"),
        false => format!("black 0, white {most:.3}"),
    };
    let of = if shown < channels { format!("{shown} of {channels}") } else { channels.to_string() };
    let what = if area == 1 { "values".to_owned() } else { format!("maps {}x{}", size[0], size[1]) };
    sheet(&format!("{layer}: {of} {what}; {scale}"), &tiles, if area == 1 { 20 } else { 8 })
}
