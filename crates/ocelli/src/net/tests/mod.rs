//! Facts about networks.

use super::*;
use crate::shape::Shape;

mod check;
mod docs;
mod shapes;
mod text;
mod zoo;

/// A net whose layers are `layers`, the inside of a TOML list.
fn net(input: [usize; 3], layers: &str) -> Result<Net> {
    let [c, h, w] = input;
    Net::from_toml(&format!("format = 1\nname = \"t\"\ninput = [{c}, {h}, {w}]\nlayers = [\n{layers}\n]\n"), "t.toml")
}

/// The shapes of such a net's layers.
fn shapes(input: [usize; 3], layers: &str) -> Vec<Shape> {
    let resolved = net(input, layers).and_then(|net| net.resolve(None, None)).unwrap_or_else(|error| panic!("{error}"));
    resolved.layers.iter().map(|layer| layer.shape).collect()
}

/// The error of such a net.
fn error(input: [usize; 3], layers: &str) -> String {
    match net(input, layers).and_then(|net| net.resolve(None, None)) {
        Ok(_) => panic!("no error for {layers}"),
        Err(error) => error.to_string(),
    }
}
