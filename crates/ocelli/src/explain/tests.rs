use super::planes::Planes;
use super::receptive_field::rectangle;
use super::trace::{Operation, trace};
use super::worked::{Window, work};
use super::{filters, maps, receptive_field, shift, tiles};
use crate::exec::{Device, Inference};
use crate::net::{Net, Resolved, initialise};
use crate::plot::{Canvas, Text};
use crate::tensor::{Tensor, Tensors};

fn net(text: &str) -> Resolved {
    let text = format!("format = 1\nname = \"small\"\n{text}");
    Net::from_toml(&text, "small.toml").unwrap().resolve(None, None).unwrap()
}

/// 2×5×5 numbers, a convolution with padding and stride, pools of several kinds, a linear layer.
fn small() -> (Resolved, Vec<f32>) {
    let net = net(
        "input = [2, 5, 5]\nclasses = 2\nlayers = [
        { type = \"conv\", name = \"conv\", filters = 3, kernel = 3, stride = 2, padding = 1 },
        { type = \"max_pool\", name = \"max\", kernel = 2, stride = 1, padding = 1, inputs = [\"conv\"] },
        { type = \"avg_pool\", name = \"avg\", kernel = 2, stride = 1, padding = 1, inputs = [\"conv\"] },
        { type = \"avg_pool\", name = \"inside\", kernel = 2, stride = 1, padding = 1, count_include_pad = false, inputs = [\"conv\"] },
        { type = \"add\", name = \"pools\", inputs = [\"max\", \"avg\", \"inside\"] },
        { type = \"linear\", name = \"fc\", units = \"classes\", inputs = [\"conv\"] },
        ]
        outputs = [{ name = \"main\", layer = \"fc\" }, { name = \"pools\", layer = \"pools\", loss_weight = 0.0 }]",
    );
    (net, (0..50).map(|i| ((i * 7 % 13) as f32 - 6.0) / 4.0).collect())
}

/// The convolution's output from the independent arithmetic of `worked`.
fn conv_output(net: &Resolved, tensors: &Tensors, image: &[f32]) -> Tensor {
    let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect();
    let input = Planes { channels: 2, size: [5, 5], data: wide(image) };
    let window = Window { stride: [2, 2], padding: [1; 4], ..Window::new([3, 3]) };
    let weight = &tensors["conv.weight"].data;
    let mut output = Vec::new();
    for filter in 0..3 {
        let filter = Planes { channels: 2, size: [3, 3], data: wide(&weight[filter * 18..(filter + 1) * 18]) };
        let bias = f64::from(tensors["conv.bias"].data[0]);
        output.extend(work(&input, &filter, bias, &window).unwrap().output.data.iter().map(|x| *x as f32));
    }
    Tensor::new(net.layer("conv").unwrap().shape.dims(), output)
}

#[test]
fn a_trace_writes_out_the_value_that_the_layer_computed() {
    let (net, image) = small();
    let tensors = initialise(&net, 7);
    let conv = conv_output(&net, &tensors, &image);
    let place = |at: [usize; 3]| conv.data[(at[0] * 3 + at[1]) * 3 + at[2]];
    let fc = &tensors["fc.weight"].data[27..54];
    let unit: f32 = conv.data.iter().zip(fc).map(|(x, w)| x * w).sum();
    let mut activations =
        Tensors::from([("conv".to_owned(), conv.clone()), ("fc".to_owned(), Tensor::new([2], vec![0.0, unit]))]);
    // Window (1, 0) of 2×2 with padding 1 sees the column −1 of padding and column 0 of rows 0 and 1.
    let (a, b) = (place([1, 0, 0]), place([1, 1, 0]));
    for (name, value) in [("max", a.max(b)), ("avg", (a + b) / 4.0), ("inside", (a + b) / 2.0)] {
        let mut pooled = Tensor::zeros([3, 4, 4]);
        pooled.data[(4 + 1) * 4] = value;
        activations.insert(name.to_owned(), pooled);
    }
    let written = |layer: &str, at: [usize; 3]| trace(&net, &tensors, &image, &activations, layer, at).unwrap();
    for at in [[0, 0, 0], [1, 1, 1], [2, 2, 2], [2, 0, 1]] {
        let conv = written("conv", at);
        assert!(conv.agrees() && conv.terms.len() == 18 && conv.engine == place(at), "{conv:?}");
    }
    let corner = written("conv", [0, 0, 0]);
    assert_eq!((corner.terms[0].place, corner.terms.iter().filter(|term| term.padding).count()), ([0, -1, -1], 10));
    assert!(written("fc", [1, 0, 0]).agrees());
    assert_eq!(written("max", [1, 1, 0]).operation, Operation::Max);
    assert_eq!(written("avg", [1, 1, 0]).operation, Operation::Mean(4.0));
    assert_eq!(written("inside", [1, 1, 0]).operation, Operation::Mean(2.0));
    for layer in ["max", "avg", "inside"] {
        assert!(written(layer, [1, 1, 0]).agrees(), "{layer}");
    }
    activations.get_mut("conv").unwrap().data[0] += 1e-3;
    assert!(!trace(&net, &tensors, &image, &activations, "conv", [0, 0, 0]).unwrap().agrees(), "a wrong value is seen");
}

#[test]
fn errors_list_the_layers_that_would_do() {
    let (net, image) = small();
    let tensors = initialise(&net, 0);
    let error = |layer: &str, at| trace(&net, &tensors, &image, &Tensors::new(), layer, at).unwrap_err().to_string();
    assert!(error("con", [0; 3]).contains("has no layer called 'con'\nDid you mean conv? There are: conv, max, avg"));
    assert!(
        error("conv", [3, 0, 0]).contains("conv has channels 0 to 2, rows 0 to 2, columns 0 to 2; 3,0,0 lies outside")
    );
    let error = filters::filters(&net, &tensors, "max").unwrap_err().to_string();
    assert_eq!(error, "max does not have filters to show\nThere are: conv, fc.");
}

/// LeNet-5: 5×5, then pooling, 5×5, pooling: fields 5, 6, 14, 16 with jumps 1, 2, 2, 4.
#[test]
fn receptive_fields_of_lenet5() {
    let net = Net::zoo("lenet5").unwrap().resolve(None, None).unwrap();
    let fields = net.receptive_fields();
    let field = |name: &str| fields[net.layers.iter().position(|layer| layer.name == name).unwrap()];
    let conv2 = field("conv2").unwrap();
    assert_eq!((conv2.size, conv2.jump, conv2.start), ([14, 14], [2, 2], [-2, -2]));
    assert_eq!(rectangle(&conv2, [1, 3]), ([0, 4], [14, 14]));
    assert!(field("fc1").is_none(), "a linear layer sees everything");
}

#[test]
fn pictures_have_something_on_them() {
    let (net, image) = small();
    let tensors = initialise(&net, 3);
    let sheet = filters::filters(&net, &tensors, "conv").unwrap();
    let coloured = sheet.image().pixels().filter(|pixel| pixel.0[0] != pixel.0[2]).count();
    assert!(coloured > 1000, "signed weights are drawn in red and blue");
    let map = maps::maps("conv", &conv_output(&net, &tensors, &image));
    assert!(map.width() > 3 * 64);
    let picture = tiles::Tile { label: String::new(), picture: tiles::grey(&image[..25], [5, 5], -2.0, 2.0) };
    let (canvas, sentence) = receptive_field::draw(&net, "conv", Some([0, 0]), picture).unwrap();
    assert!(
        sentence.contains(
            "sees 3x3 pixels, rows -1 to 1, columns -1 to 1, of the picture's 5x5 and its padding; \
             neighbours see 2,2 pixels further"
        ),
        "{sentence}"
    );
    // Pixels are 16 large; the picture starts below two lines of text after two grey pixels, the field one pixel before.
    let red: Vec<(u32, u32)> = canvas
        .image()
        .enumerate_pixels()
        .filter(|(.., pixel)| pixel.0 == [230, 30, 30])
        .map(|(x, y, _)| (x, y))
        .collect();
    let top = canvas.image().height() - 16 * (2 + 5 + 1);
    let (left, right) = (red.iter().map(|at| at.0).min(), red.iter().map(|at| at.0).max());
    let (upper, lower) = (red.iter().map(|at| at.1).min(), red.iter().map(|at| at.1).max());
    assert_eq!([left, right, upper, lower], [16, 63, top + 16, top + 63].map(Some), "3x3 pixels, one of them outside");
}

/// The colour in the middle of a weight of a sheet with 2x2 filters: cells of 32 below the title.
fn cell(sheet: &Canvas, [tile, row, column]: [u32; 3]) -> [u8; 3] {
    let top = Text::Small.height() as u32 + 12;
    sheet.image().get_pixel(6 + tile * 70 + column * 32 + 16, top + row * 32 + 16).0
}

#[test]
fn a_filters_sheet_shows_every_weight_in_its_place() {
    let grey = net("input = [1, 4, 4]\nlayers = [{ type = \"conv\", name = \"conv\", filters = 2, kernel = 2 }]");
    let mut tensors = initialise(&grey, 0);
    let weights = vec![1.0, -1.0, 0.0, 0.5, -0.5, 0.0, 0.0, 0.0];
    tensors.insert("conv.weight".to_owned(), Tensor::new([2, 1, 2, 2], weights));
    let sheet = filters::filters(&grey, &tensors, "conv").unwrap();
    assert_eq!(cell(&sheet, [0, 0, 0]), [255, 0, 0], "the largest is red");
    assert_eq!(cell(&sheet, [0, 0, 1]), [0, 0, 255], "its negative blue");
    assert_eq!(cell(&sheet, [0, 1, 0]), [255; 3], "0 is white");
    assert_eq!(cell(&sheet, [0, 1, 1]), [255, 127, 127]);
    assert_eq!(cell(&sheet, [1, 0, 0]), [127, 127, 255], "all filters share one scale");

    let coloured = net("input = [3, 4, 4]\nlayers = [{ type = \"conv\", name = \"conv\", filters = 1, kernel = 2 }]");
    // Red, green and blue of the four places: white, black, grey, red.
    let weights = vec![1.0, -1.0, 0.0, 1.0, 1.0, -1.0, 0.0, -1.0, 1.0, -1.0, 0.0, -1.0];
    tensors.insert("conv.weight".to_owned(), Tensor::new([1, 3, 2, 2], weights));
    let sheet = filters::filters(&coloured, &tensors, "conv").unwrap();
    let seen = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[row, column]| cell(&sheet, [0, row, column]));
    assert_eq!(seen, [[255; 3], [0; 3], [128; 3], [255, 0, 0]]);
}

/// A net that is one pooling layer: the mean of a picture does not mind a shift over an even ground, its maximum may.
#[test]
fn shifts_are_measured_for_every_layer() {
    let net = net(
        "input = [1, 12, 12]\nclasses = 36\nlayers = [{ type = \"max_pool\", name = \"pool\", kernel = 2 }, { type = \"flatten\", name = \"out\" }]",
    );
    let mut image = vec![0.0; 144];
    image[5 * 12 + 4] = 1.0;
    let mut pool = |image: &[f32]| {
        let at = |y: usize, x: usize| image[y * 12 + x];
        let most = |i: usize| {
            let (y, x) = (i / 6 * 2, i % 6 * 2);
            at(y, x).max(at(y, x + 1)).max(at(y + 1, x)).max(at(y + 1, x + 1))
        };
        let pooled: Vec<f32> = (0..36).map(most).collect();
        Ok(Tensors::from([
            ("pool".to_owned(), Tensor::new([1, 6, 6], pooled.clone())),
            ("out".to_owned(), Tensor::new([36], pooled)),
        ]))
    };
    let shifts = shift::measure(&net, &image, 0, &mut pool).unwrap();
    // The dot moves to another pixel in every direction; pooled, it stays in its cell going right and going up by one.
    let root2 = 2f64.sqrt();
    assert!((shifts.layers[0].change[0] - root2).abs() < 1e-6);
    assert!((shifts.layers[1].change[0] - root2 / 2.0).abs() < 1e-6, "{:?}", shifts.layers[1]);
    assert_eq!(shifts.answers.len(), 4 * shift::MOST);
    assert!(shifts.counter_examples.is_empty());

    // Two pixels of one cell, 0.9 and 1. One pixel to the right, the picture changes by (0.9, 0.1, 1) against (0.9, 1),
    // but the pooled one, 1 in one cell, becomes 0.9 and 1 in two.
    image[5 * 12 + 4] = 0.9;
    image[5 * 12 + 5] = 1.0;
    let shifts = shift::measure(&net, &image, 0, &mut pool).unwrap();
    let found =
        shifts.counter_examples.iter().find(|example| example.direction == "right" && example.shift == 1).unwrap();
    assert_eq!(found.layer, "pool");
    assert!((found.before - (1.82f64 / 1.81).sqrt()).abs() < 1e-6, "{found:?}");
    assert!((found.after - 1.01f64.sqrt()).abs() < 1e-6, "{found:?}");
}

#[test]
fn a_trace_of_a_filter_that_sees_some_of_the_maps_has_their_terms_only() {
    let net = net("input = [3, 4, 4]\nlayers = [
        { type = \"conv\", name = \"conv\", filters = 2, kernel = 2, maps = [[1], [0, 2]] },
        ]");
    let (tensors, image) = (initialise(&net, 7), (0..48).map(|i| (i * 7 % 13) as f32).collect::<Vec<f32>>());
    let activations = Inference::new(&net, tensors.clone(), &Device::cpu(1), 1).unwrap().activations(&image).unwrap();
    for (filter, maps) in [(0, vec![1]), (1, vec![0, 2])] {
        let trace = trace(&net, &tensors, &image, &activations, "conv", [filter, 2, 1]).unwrap();
        assert!(trace.agrees(), "{trace:?}");
        let seen: Vec<isize> = trace.terms.iter().map(|term| term.place[0]).collect();
        assert_eq!(seen, maps.iter().flat_map(|map| [*map; 4]).collect::<Vec<isize>>());
    }
}
