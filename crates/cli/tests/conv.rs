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
    let cases: [(&[&str], &str, &str); 6] = [
        (
            &["conv", "--input", "1 2;3", "--filter", "1"],
            "--input: row 2 of channel 1 has 1 numbers",
            "Type numbers as",
        ),
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
        (&["conv", "--input", "1|2", "--filter", "1"], "the filter has 1 channels, the input has 2", "full depth"),
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
