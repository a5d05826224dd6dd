//! `ocelli conv` works out the lecture's examples.

mod common;
use common::{bad, good, json};
use std::path::Path;

const PICTURE: &str = "1 2 3 4;3 5 6 3;7 8 9 0;3 1 3 6";

fn here() -> &'static Path {
    Path::new(".")
}

#[test]
fn the_lectures_4x4_picture_with_its_filter_and_bias() {
    let text = good(here(), &["conv", "--input", PICTURE, "--filter", "2 1;-1 2", "--bias", "2"]);
    assert!(text.contains("output rows     (4 - 2 + 2*0)/1 + 1 = 3\n"), "{text}");
    assert!(text.contains("11 14 10    13 16 12\n"), "the sum next to the output: {text}");
    assert!(text.contains("output[2,2] = 9*2 + 0*1 + 3*-1 + 6*2 + bias 2 = 29\n"), "{text}");
    let value = &json(&good(here(), &["conv", "--input", PICTURE, "--filter", "2 1;-1 2", "--bias", "2", "--json"]))[0];
    assert_eq!(value["schema"], 1);
    assert_eq!(value["sum"], serde_json::json!([[11.0, 14.0, 10.0], [20.0, 26.0, 6.0], [21.0, 30.0, 27.0]]));
    assert_eq!(value["output"][2], serde_json::json!([23.0, 32.0, 29.0]));
}

#[test]
fn the_lectures_three_channels_are_added_up() {
    let input = "1 0 1 0 2;1 1 3 2 1;1 1 0 1 1;2 3 2 1 3;0 2 0 1 0|1 0 0 1 0;2 0 1 2 0;3 1 1 3 0;0 3 0 3 2;1 0 3 2 1\
                 |2 0 1 2 1;3 3 1 3 2;2 1 1 1 0;3 1 3 2 0;1 1 2 1 1";
    let filter = "0 1 0;0 0 2;0 1 0|2 1 0;0 0 0;0 3 0|1 0 0;1 0 0;0 0 2";
    let text = good(here(), &["conv", "--input", input, "--filter", filter]);
    for line in ["sum of the channels\n19 13 15\n28 16 20\n23 18 25\n", "output[0,0] = 7 + 5 + 7 = 19\n"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn paddings_and_strides_of_the_lecture() {
    let rows = |extra: &[&str]| {
        let mut arguments =
            vec!["conv", "--json", "--input", "1 0 0 1;1 0 0 1;1 0 0 1;1 0 0 1", "--filter", "1 0;0 -1"];
        arguments.extend(extra);
        json(&good(here(), &arguments))[0]["output"].clone()
    };
    assert_eq!(rows(&["--padding", "valid"])[0], serde_json::json!([1.0, 0.0, -1.0]));
    assert_eq!(rows(&["--padding", "same"])[3], serde_json::json!([1.0, 0.0, 0.0, 1.0]));
    assert_eq!(rows(&["--padding", "full"])[4], serde_json::json!([0.0, 1.0, 0.0, 0.0, 1.0]));
    let seven = ["1 2 3 4 5 6 7"; 7].join(";");
    let text = good(here(), &["conv", "--input", &seven, "--filter", "identity", "--stride", "3"]);
    assert!(text.contains("(7 - 3 + 2*0)/3 + 1 = 2.33, rounded down to 2; 1 row never seen"), "{text}");
}

#[test]
fn the_turned_filter_gives_the_convolution_of_signals() {
    let flip = ["conv", "--input", "1 2 3", "--filter", "0 1 2", "--padding", "full", "--flip", "--json"];
    assert_eq!(json(&good(here(), &flip))[0]["convolution"], serde_json::json!([[0.0, 1.0, 4.0, 7.0, 6.0]]));
}

#[test]
fn mistakes_are_explained_in_two_lines() {
    let cases: [(&[&str], &str, &str); 13] = [
        (
            &["conv", "--input", "1 2;3", "--filter", "1"],
            "--input: row 2 of channel 1 has 1 number,",
            "Type numbers as",
        ),
        (&["conv", "--input", "1 a;3 4", "--filter", "1"], "--input: 'a' in row 1 of channel 1", "Type numbers as"),
        (&["conv", "--input", "", "--filter", "1"], "--input: no numbers", "Type numbers as"),
        (&["conv", "--input", "1", "--filter", "1", "--padding", "-1"], "--padding: '-1' is not possible", "same"),
        (
            &["conv", "--input", "1", "--filter", "1", "--padding", "10000"],
            "the output would have 20001x20001 values",
            "less padding",
        ),
        (&["conv", "--input", "1", "--filter", "1", "--padding", "99999999999"], "--padding: '99999999999'", "same"),
        (&["conv", "--input", "1", "--filter", "1", "--stride", "99999999999"], "at most 1,000,000", "--help"),
        (&["conv", "--input", "1", "--filter", "1", "--output", "a.jpg"], "written as PNG", ".png"),
        (
            &["conv", "--input", "1", "--filter", "vertical-lin-7"],
            "no filter is called",
            "Did you mean vertical-line-7?",
        ),
        (
            &["conv", "--input", "1 2", "--filter", "1 2 3"],
            "the 1x3 filter does not fit the 1x2 input: (2 - 3",
            "padding",
        ),
        (&["conv", "--input", "1|2", "--filter", "1"], "the filter has 1 channel, the input has 2", "full depth"),
        (&["conv", "--input", "1", "--filter", "1", "--padding", "some"], "--padding: 'some' is not possible", "same"),
        (
            &["conv", "--input", "1", "--filter", "1", "--at", "0,7"],
            "--at 0,7 lies outside the 1x1 output",
            "counted from 0",
        ),
    ];
    for (arguments, what, advice) in cases {
        let (first, second) = bad(here(), 2, arguments);
        assert!(first.contains(what) && second.contains(advice), "{first}\n{second}");
    }
}

#[test]
fn a_picture_goes_in_and_comes_out_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("in.png");
    // A white line on black in colour: its left border is an edge upwards, its right one an edge downwards.
    let colour = image::RgbImage::from_fn(20, 18, |x, _| image::Rgb(if x == 10 { [255; 3] } else { [0; 3] }));
    colour.save(&picture).unwrap();
    let path = picture.to_str().unwrap();
    let line = ["conv", "--input", path, "--filter", "vertical-edge", "--output", "edges.png"];
    let text = good(folder.path(), &line);
    assert!(text.contains("input 18x20, filter 3x3"), "{text}");
    assert!(text.contains("read in grey") && text.contains("output: from -3 to 3"), "{text}");
    let edges = image::open(folder.path().join("edges.png")).unwrap().to_luma8();
    assert_eq!(edges.dimensions(), (18, 16));
    let row: Vec<u8> = (7..12).map(|x| edges.get_pixel(x, 5).0[0]).collect();
    assert_eq!(row, [128, 255, 128, 0, 128], "0 lies in the middle between the largest and the smallest");
    let red = good(folder.path(), &["conv", "--input", path, "--filter", "1|0|0"]);
    assert!(red.contains("input 18x20x3, filter 1x1x3") && red.contains("intermediate 1: from 0 to 0"), "{red}");
}
