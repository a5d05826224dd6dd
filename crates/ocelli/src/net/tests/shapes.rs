//! Output sizes: the lecture's examples, PyTorch's rounding, and errors that teach.

use super::*;

/// Rows and columns that `layer` makes from maps of `h` x `w` with four channels.
fn size(h: usize, w: usize, layer: &str) -> [usize; 2] {
    shapes([4, h, w], layer)[0].size().unwrap()
}

#[test]
fn a_7x7_picture_and_a_3x3_filter_give_5_and_3_and_at_stride_3_not_a_whole_number() {
    for (stride, output, formula) in
        [(1, 5, "(7 - 3 + 2*0)/1 + 1 = 5"), (2, 3, "(7 - 3 + 2*0)/2 + 1 = 3"), (3, 2, "(7 - 3 + 2*0)/3 + 1 = 2.33")]
    {
        let net =
            net([1, 7, 7], &format!(r#"{{ type = "conv", filters = 1, kernel = 3, stride = {stride} }}"#)).unwrap();
        let net = net.resolve(None, None).unwrap();
        assert_eq!(net.layers[0].shape, Shape::Map([1, output, output]));
        let window = net.layers[0].kind.window([7, 7]).unwrap();
        let rows = crate::shape::Formula::new([7, 7], &window, [output, output], 0);
        assert_eq!(rows.to_string(), formula);
        assert_eq!((rows.is_whole(), rows.never_seen()), (stride < 3, usize::from(stride == 3)));
    }
}

#[test]
fn six_5x5x3_filters_make_28x28x6_of_a_32x32x3_picture() {
    assert_eq!(shapes([3, 32, 32], r#"{ type = "conv", filters = 6, kernel = 5 }"#)[0].to_string(), "28x28x6");
}

#[test]
fn convolutions_shrink_28_24_20_until_nothing_fits_and_padding_keeps_the_size() {
    let conv = r#"{ type = "conv", filters = 1, kernel = 5 },"#;
    let sizes: Vec<usize> = shapes([3, 32, 32], &conv.repeat(7)).iter().map(|s| s.dims()[1]).collect();
    assert_eq!(sizes, [28, 24, 20, 16, 12, 8, 4]);
    assert!(error([3, 32, 32], &conv.repeat(8)).starts_with("conv8: kernel 5x5 does not fit its 4x4 input"));
    let padded = r#"{ type = "conv", filters = 1, kernel = 5, padding = 2 },"#;
    assert!(shapes([3, 32, 32], &padded.repeat(20)).iter().all(|s| *s == Shape::Map([1, 32, 32])));
}

#[test]
fn valid_same_and_full_padding_of_a_4x4_picture_and_a_2x2_filter_give_3_4_and_5() {
    for (padding, output) in [("valid", 3), ("same", 4), ("full", 5)] {
        let layer = format!(r#"{{ type = "conv", filters = 1, kernel = 2, padding = "{padding}" }}"#);
        assert_eq!(size(4, 4, &layer), [output, output]);
    }
    let net = net([1, 4, 4], r#"{ type = "conv", filters = 1, kernel = 2, padding = "same" }"#).unwrap();
    let window = net.resolve(None, None).unwrap().layers[0].kind.window([4, 4]).unwrap();
    assert_eq!(window.padding, [0, 0, 1, 1], "the odd pixel lies at the bottom and right");
}

#[test]
fn same_padding_gives_the_rounded_up_quotient_for_every_size_and_stride() {
    for n in 1..20 {
        for kernel in 1..6 {
            for stride in 1..5 {
                let layer = format!(
                    r#"{{ type = "conv", filters = 1, kernel = {kernel}, stride = {stride}, padding = "same", dilation = 2 }}"#
                );
                assert_eq!(size(n, n + 1, &layer), [n.div_ceil(stride), (n + 1).div_ceil(stride)], "{n} {layer}");
            }
        }
    }
}

#[test]
fn odd_sizes_pool_as_in_pytorch_with_and_without_ceil_mode() {
    let pool = |n, keys: &str| size(n, n, &format!(r#"{{ type = "max_pool", {keys} }}"#))[0];
    assert_eq!(pool(7, "kernel = 2"), 3);
    assert_eq!(pool(7, "kernel = 2, ceil_mode = true"), 4);
    assert_eq!(pool(55, "kernel = 3, stride = 2"), 27);
    assert_eq!(pool(55, "kernel = 3, stride = 2, ceil_mode = true"), 27);
    // torch.nn.MaxPool2d(2, 3, 1, ceil_mode=True) of 5: a third window would start in the padding and is left out.
    assert_eq!(pool(5, "kernel = 2, stride = 3, padding = 1, ceil_mode = true"), 2);
    assert_eq!(pool(6, "kernel = 3, stride = 2, padding = 1, ceil_mode = true"), 4);
}

#[test]
fn pooling_keeps_the_channels_and_has_no_parameters() {
    for kind in ["max_pool", "avg_pool"] {
        let net =
            net([5, 8, 6], &format!(r#"{{ type = "{kind}", kernel = 2 }}"#)).unwrap().resolve(None, None).unwrap();
        assert_eq!(net.layers[0].shape, Shape::Map([5, 4, 3]));
        assert_eq!(net.parameter_count(), 0);
    }
}

#[test]
fn padding_is_a_number_a_pair_or_four_numbers() {
    let conv =
        |padding: &str| size(10, 10, &format!(r#"{{ type = "conv", filters = 1, kernel = 3, padding = {padding} }}"#));
    assert_eq!(conv("1"), [10, 10]);
    assert_eq!(conv("[0, 2]"), [8, 12]);
    assert_eq!(conv("[1, 0, 3, 2]"), [12, 10]);
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
fn the_advice_follows_stride_dilation_and_shape() {
    let conv = |keys: &str| error([3, 4, 9], &format!(r#"{{ type = "conv", filters = 1, {keys} }}"#));
    assert_eq!(
        conv("kernel = 6, stride = 2"),
        "conv1: kernel 6x6 does not fit its 4x9 input: (4 - 6 + 2*0)/2 + 1 = 0\nUse padding \"same\" or a kernel of at most 4x9."
    );
    assert_eq!(
        conv("kernel = 3, dilation = 3"),
        "conv1: kernel 3x3 with dilation 3 spans 7x7 and does not fit its 4x9 input: (4 - 7 + 2*0)/1 + 1 = -2\n\
         Use padding 3 (\"same\") or a kernel of at most 2x3."
    );
    assert_eq!(
        error([1, 2, 2], r#"{ type = "max_pool", kernel = 3, padding = [0, 0, 1, 0] }"#),
        "max_pool1: pooling window 3x3 does not fit its 2x2 input: (2 - 3 + 2*0)/3 + 1 = 0\n\
         Use padding \"same\" or a kernel of at most 3x2."
    );
}

#[test]
fn branches_that_do_not_match_are_named_with_both_shapes() {
    let a = r#"{ type = "conv", name = "a", filters = 8, kernel = 3 }, { type = "conv", name = "b", filters = 6, kernel = 1, inputs = ["input"] },"#;
    let join = |kind: &str| error([3, 8, 8], &format!(r#"{a} {{ type = "{kind}", inputs = ["a", "b"] }}"#));
    assert!(join("add").starts_with("add1: cannot add 6x6x8 and 8x8x6\n"));
    assert!(join("multiply").starts_with("multiply1: cannot multiply 6x6x8 by 8x8x6\n"));
    assert!(join("concat").starts_with("concat1: cannot concatenate 6x6x8 and 8x8x6\n"));
    assert_eq!(
        error([3, 8, 8], r#"{ type = "linear", units = 4 }, { type = "conv", filters = 1, kernel = 1 }"#),
        "conv1: needs feature maps, but its input is a row of 4 values\nPut it before the first linear or flatten layer."
    );
    assert!(
        error([3, 8, 8], r#"{ type = "conv", filters = 4, kernel = 1, groups = 2 }"#)
            .starts_with("conv1: 3 channels do not divide into 2 groups")
    );
}

#[test]
fn a_connection_table_fits_its_filters_and_maps() {
    let conv = |keys: &str| {
        let layers = format!(r#"{{ type = "conv", filters = 2, kernel = 3, {keys} }}"#);
        net([3, 8, 8], &layers).and_then(|net| net.resolve(None, None)).map(|net| net.parameter_count())
    };
    assert_eq!(conv("maps = [[0, 2], [1]]").unwrap(), 3 * 9 + 2);
    for (keys, words) in [
        ("maps = [[0, 2]]", "`maps` has 1 lists for 2 filters"),
        ("maps = [[0, 2], []]", "`maps`: list 1 is []"),
        ("maps = [[0, 2], [1, 1]]", "`maps`: list 1 is [1, 1]"),
        ("maps = [[0, 2], [3]]", "`maps` names map 3, but the input has 3"),
        ("maps = [[0, 2], [1]], groups = 2", "both `maps` and `groups` say what a filter sees"),
    ] {
        let error = conv(keys).unwrap_err().to_string();
        assert!(error.contains(words), "{keys}: {error}");
    }
    let wide = net([4096, 64, 64], r#"{ type = "conv", filters = 2, kernel = 64, maps = [[0], [1]] }"#).unwrap();
    assert!(wide.resolve(None, None).unwrap_err().to_string().contains("too large"));
    let lrn = error([3, 8, 8], r#"{ type = "lrn", groups = 2 }"#);
    assert!(lrn.starts_with("lrn1: 3 channels do not divide into 2 groups"), "{lrn}");
}

#[test]
fn branches_join() {
    let branches = r#"{ type = "conv", name = "a", filters = 8, kernel = 1 },
        { type = "max_pool", name = "b", kernel = 3, stride = 1, padding = 1, inputs = ["input"] },
        { type = "concat", name = "both", inputs = ["a", "b", "input"] },
        { type = "global_avg_pool", name = "factors" },
        { type = "multiply", inputs = ["factors", "both"] }"#;
    let shapes = shapes([3, 8, 7], branches);
    assert_eq!(shapes[2], Shape::Map([14, 8, 7]));
    assert_eq!(shapes[4], Shape::Map([14, 8, 7]));
}

#[test]
fn a_number_of_classes_that_disagrees_is_an_error_with_both() {
    let literal = net([1, 4, 4], r#"{ type = "linear", name = "fc", units = 10 }"#).unwrap();
    assert_eq!(literal.resolve(None, None).unwrap().classes, 10);
    assert_eq!(literal.resolve(Some(10), None).unwrap().classes, 10);
    assert_eq!(
        literal.resolve(Some(3), None).unwrap_err().to_string(),
        "fc: the net ends in 10 values, but the data has 3 classes\n\
         Write units = \"classes\" in fc, which follows the data, or units = 3."
    );
    let open = net([1, 4, 4], r#"{ type = "linear", name = "fc", units = "classes" }"#).unwrap();
    assert_eq!(open.resolve(Some(3), None).unwrap().classes, 3);
    assert!(open.resolve(None, None).unwrap_err().to_string().starts_with("fc: units = \"classes\", but"));
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_is_allocated() {
    let big = |layers: &str| error([3, 1 << 12, 1 << 12], layers);
    assert!(big(r#"{ type = "conv", filters = 16777216, kernel = 1 }"#).contains("more than 2147483648 values"));
    assert!(big(r#"{ type = "linear", units = 16777216 }"#).contains("more than 2147483648 values"));
    assert!(
        error([1, 1, 1], r#"{ type = "conv", filters = 16777216, kernel = 32767, padding = "full" }"#)
            .contains("more than")
    );
    let net = net([1, 1, 1], r#"{ type = "relu" }"#).unwrap();
    assert!(net.resolve(None, Some([1, 0, 1])).is_err());
    assert!(net.resolve(None, Some([1 << 24, 1 << 24, 1 << 24])).is_err());
    assert!(net.resolve(Some(0), None).is_err());
}
