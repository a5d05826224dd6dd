//! Facts about networks.

use super::*;
use crate::shape::Shape;

mod text;

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

#[test]
fn lenet5_has_61706_parameters_and_the_shapes_of_the_textbook() {
    let net = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    assert_eq!(net.parameter_count(), 61_706);
    let shapes: Vec<String> = net.layers.iter().map(|layer| layer.shape.to_string()).collect();
    assert_eq!(
        shapes,
        ["28x28x6", "28x28x6", "14x14x6", "10x10x16", "10x10x16", "5x5x16", "120", "120", "84", "84", "10"]
    );
    let names: Vec<&str> = net.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names[..3], ["conv1", "relu1", "max_pool1"]);
    assert_eq!(net.classes, 10);
}

#[test]
fn a_shape_error_teaches() {
    let layers = r#"{ type = "conv", name = "conv1", filters = 6, kernel = 5 },
        { type = "max_pool", kernel = 6 },
        { type = "conv", name = "conv2", filters = 6, kernel = 5 }"#;
    assert_eq!(
        error([1, 28, 28], layers),
        "conv2: kernel 5x5 does not fit its 4x4 input: (4 - 5 + 2*0)/1 + 1 = 0\n\
         Use padding 2 (\"same\") or a kernel of at most 4."
    );
}

#[test]
fn convolutions_shrink_28_24_20_until_nothing_fits() {
    let conv = r#"{ type = "conv", filters = 1, kernel = 5 },"#;
    let sizes: Vec<usize> = shapes([3, 32, 32], &conv.repeat(7)).iter().map(|s| s.dims()[1]).collect();
    assert_eq!(sizes, [28, 24, 20, 16, 12, 8, 4]);
    assert!(error([3, 32, 32], &conv.repeat(8)).starts_with("conv8: kernel 5x5 does not fit its 4x4 input"));
}
