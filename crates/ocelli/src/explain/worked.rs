//! One convolution worked out: each channel's intermediate result, their sum, the bias, and the sum behind one value.
//!
//! The oracle that a reader checks by hand; networks run on the engine.

use super::planes::Planes;
use crate::error::{Error, Result};
use crate::words::counted;
pub use ocelli_kernels::geometry::Window;

/// Most values of an output: that of a picture of 8192x8192.
const MOST_VALUES: usize = 1 << 26;

/// A convolution with one filter, and everything on the way to its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Worked {
    /// What slid over what.
    pub window: Window,
    /// Per channel of the input, the filter's channel slid over it: `[channels, height, width]` of the output.
    pub intermediate: Planes,
    /// The channels added up, one channel.
    pub sum: Planes,
    /// The sum plus the bias, one channel.
    pub output: Planes,
}

/// Slides `filter` over `input` as convolutional networks do (cross-correlation: the filter is not turned) and keeps
/// every step. The filter's size is the window's kernel.
///
/// # Errors
/// Channels differ, the filter does not fit, or the output is larger than anybody can look at.
pub fn work(input: &Planes, filter: &Planes, bias: f64, window: &Window) -> Result<Worked> {
    if input.channels != filter.channels {
        let what = format!("the filter has {}, the input has {}", counted(filter.channels, "channel"), input.channels);
        return Err(Error::usage(what)
            .advice("A filter extends through the full depth of its input: type one channel for each, '|' between."));
    }
    let window = &Window { kernel: filter.size, ..*window };
    let size = window.output(input.size).ok_or_else(|| does_not_fit(input.size, window))?;
    if size[0].saturating_mul(size[1]) > MOST_VALUES {
        return Err(Error::usage(format!("the output would have {}x{} values", size[0], size[1]))
            .advice("Use less padding, a larger stride or a smaller input."));
    }
    let mut intermediate = Planes::zeros(input.channels, size);
    let mut values = intermediate.data.iter_mut();
    for channel in 0..input.channels {
        for at in positions(size) {
            let terms = terms(input, filter, window, channel, at);
            // `values` has one place for each of channels · rows · columns.
            if let Some(value) = values.next() {
                *value = terms.iter().map(|[pixel, weight]| pixel * weight).sum();
            }
        }
    }
    let area = size[0] * size[1];
    let mut sum = Planes::zeros(1, size);
    for plane in intermediate.data.chunks(area) {
        sum.data.iter_mut().zip(plane).for_each(|(sum, value)| *sum += value);
    }
    let output = Planes { data: sum.data.iter().map(|value| value + bias).collect(), ..sum };
    Ok(Worked { window: *window, intermediate, sum, output })
}

/// The pixels and weights that one channel adds to the output value at `[row, column]`: `[pixel, weight]`, in reading
/// order of the filter. Pixels in the padding are 0.
pub fn terms(input: &Planes, filter: &Planes, window: &Window, channel: usize, at: [usize; 2]) -> Vec<[f64; 2]> {
    let pixel = |tap: [usize; 2]| {
        let place = |i: usize| {
            let place = (at[i] * window.stride[i] + tap[i] * window.dilation[i]) as isize - window.padding[i];
            usize::try_from(place).ok().filter(|place| *place < input.size[i])
        };
        Some(input.at(channel, place(0)?, place(1)?))
    };
    positions(filter.size).map(|tap| [pixel(tap).unwrap_or(0.0), filter.at(channel, tap[0], tap[1])]).collect()
}

fn positions(size: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..size[0]).flat_map(move |row| (0..size[1]).map(move |column| [row, column]))
}

fn does_not_fit(size: [usize; 2], window: &Window) -> Error {
    let rows = size[0] as isize + window.padding[0] + window.padding[2];
    let axis = usize::from(rows >= window.span()[0] as isize);
    let what = format!(
        "the {}x{} filter does not fit the {}x{} input: {}",
        window.kernel[0],
        window.kernel[1],
        size[0],
        size[1],
        formula(size, window, axis)
    );
    Error::usage(what).advice("Use a smaller filter, less dilation, or padding (\"same\" keeps the size).")
}

/// The output size along one axis (0 rows, 1 columns) with its numbers: `(7 - 3 + 2*0)/2 + 1 = 3`; where it is not
/// whole, the exact value, then what it is rounded down to.
pub fn formula(size: [usize; 2], window: &Window, axis: usize) -> String {
    let [before, after] = [window.padding[axis], window.padding[axis + 2]];
    let span = window.span()[axis] as isize;
    let room = size[axis] as isize - span + before + after;
    let stride = window.stride[axis] as isize;
    let padding = if before == after { format!("2*{before}") } else { format!("{before} + {after}") };
    let exact = room as f64 / stride as f64 + 1.0;
    let text = format!("({} - {span} + {padding})/{stride} + 1 = ", size[axis]);
    if room % stride == 0 {
        format!("{text}{exact}")
    } else {
        format!("{text}{exact:.2}, rounded down to {}", exact.floor())
    }
}

/// Rows (axis 0) or columns (axis 1) at the end of the padded input that no window reaches.
pub fn never_seen(size: [usize; 2], window: &Window, axis: usize) -> usize {
    let padded = size[axis] as isize + window.padding[axis] + window.padding[axis + 2];
    (padded - window.span()[axis] as isize).max(0) as usize % window.stride[axis]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: [usize; 2]) -> Window {
        Window::new(kernel)
    }
    fn planes(text: &str) -> Planes {
        Planes::parse(text).unwrap()
    }
    const PICTURE: &str = "1 2 3 4;3 5 6 3;7 8 9 0;3 1 3 6";

    /// The lecture prints 29 and 31 in the last cell; its own picture and filter give 9·2 + 0·1 − 3·1 + 6·2 = 27.
    #[test]
    fn the_lectures_4x4_picture_with_its_2x2_filter() {
        let (input, filter) = (planes(PICTURE), planes("2 1;-1 2"));
        let worked = work(&input, &filter, 0.0, &window([2, 2])).unwrap();
        assert_eq!(worked.output, planes("11 14 10;20 26 6;21 30 27"));
        let terms = terms(&input, &filter, &window([2, 2]), 0, [2, 2]);
        assert_eq!(terms, [[9.0, 2.0], [0.0, 1.0], [3.0, -1.0], [6.0, 2.0]]);
        let with_bias = work(&input, &filter, 2.0, &window([2, 2])).unwrap();
        assert_eq!(with_bias.output, planes("13 16 12;22 28 8;23 32 29"));
    }

    #[test]
    fn the_lectures_three_channel_sheet() {
        let input = planes(
            "1 0 1 0 2;1 1 3 2 1;1 1 0 1 1;2 3 2 1 3;0 2 0 1 0\
             |1 0 0 1 0;2 0 1 2 0;3 1 1 3 0;0 3 0 3 2;1 0 3 2 1\
             |2 0 1 2 1;3 3 1 3 2;2 1 1 1 0;3 1 3 2 0;1 1 2 1 1",
        );
        let filter = planes("0 1 0;0 0 2;0 1 0|2 1 0;0 0 0;0 3 0|1 0 0;1 0 0;0 0 2");
        let worked = work(&input, &filter, 0.0, &window([3, 3])).unwrap();
        assert_eq!(worked.intermediate, planes("7 5 3;4 7 5;7 2 8|5 3 10;13 1 13;7 12 11|7 5 2;11 8 2;9 4 6"));
        assert_eq!(worked.sum, planes("19 13 15;28 16 20;23 18 25"));
    }

    #[test]
    fn the_lectures_same_full_and_valid_padding() {
        let (input, filter) = (planes("1 0 0 1;1 0 0 1;1 0 0 1;1 0 0 1"), planes("1 0;0 -1"));
        let pad = |padding| Window { padding, ..window([2, 2]) };
        let output = |padding| work(&input, &filter, 0.0, &pad(padding)).unwrap().output;
        assert_eq!(output([0, 0, 1, 1]), planes("1 0 -1 1;1 0 -1 1;1 0 -1 1;1 0 0 1"));
        assert_eq!(output([1; 4]), planes("-1 0 0 -1 0;-1 1 0 -1 1;-1 1 0 -1 1;-1 1 0 -1 1;0 1 0 0 1"));
        assert_eq!(output([0; 4]), planes("1 0 -1;1 0 -1;1 0 -1"));
    }

    #[test]
    fn the_lectures_7x7_picture_at_strides_1_2_and_3() {
        let stride = |s| Window { stride: [s, s], ..window([3, 3]) };
        assert_eq!(formula([7, 7], &stride(1), 0), "(7 - 3 + 2*0)/1 + 1 = 5");
        assert_eq!(formula([7, 7], &stride(2), 0), "(7 - 3 + 2*0)/2 + 1 = 3");
        assert_eq!(formula([7, 7], &stride(3), 0), "(7 - 3 + 2*0)/3 + 1 = 2.33, rounded down to 2");
        assert_eq!([1, 2, 3].map(|s| never_seen([7, 7], &stride(s), 1)), [0, 0, 1]);
        let (input, filter) = (planes(&["1 1 1 1 1 1 1"; 7].join(";")), planes("1 1 1;1 1 1;1 1 1"));
        assert_eq!(work(&input, &filter, 0.0, &stride(3)).unwrap().output, planes("9 9;9 9"));
    }

    /// Signal processing turns the filter: f * g at n sums f(k)·g(n − k). Networks do not turn it.
    #[test]
    fn convolution_of_signals_is_the_sliding_sum_with_the_turned_filter() {
        let (signal, filter) = (planes("1 2 3"), planes("0 1 2"));
        let full = Window { padding: [0, 2, 0, 2], ..window([1, 3]) };
        let convolved = work(&signal, &filter.turned(), 0.0, &full).unwrap().output;
        assert_eq!(convolved, planes("0 1 4 7 6"), "as 123 · 012 on paper, without carrying");
    }

    #[test]
    fn dilation_spreads_the_filter() {
        let dilated = Window { dilation: [2, 2], ..window([2, 2]) };
        let worked = work(&planes(PICTURE), &planes("1 0;0 1"), 0.0, &dilated).unwrap();
        assert_eq!(worked.output, planes("10 2;6 11"));
    }

    #[test]
    fn errors_name_the_numbers() {
        let what = |input: &str, filter: &str| {
            let (input, filter) = (planes(input), planes(filter));
            work(&input, &filter, 0.0, &window(filter.size)).unwrap_err().what().to_owned()
        };
        assert_eq!(what("1 2;3 4", "1|2|3"), "the filter has 3 channels, the input has 1");
        assert_eq!(what("1 2;3 4", "1 2 3"), "the 1x3 filter does not fit the 2x2 input: (2 - 3 + 2*0)/1 + 1 = 0");
    }
}
