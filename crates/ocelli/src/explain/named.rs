//! Filters with a name, to see on a picture what a filter does before a network has learned any.

use super::planes::Planes;
use crate::error::{Error, Result, did_you_mean};

/// A filter's name, its numbers, what every number is divided by, and what the filter does.
struct Named(&'static str, &'static str, f64, &'static str);

/// The lecture's two 7×7 filters, ones in the central column or row, stand first.
const FILTERS: [Named; 12] = [
    Named(
        "vertical-line-7",
        "0 0 0 1 0 0 0;0 0 0 1 0 0 0;0 0 0 1 0 0 0;0 0 0 1 0 0 0;0 0 0 1 0 0 0;0 0 0 1 0 0 0;0 0 0 1 0 0 0",
        1.0,
        "ignores all but the central column: vertical lines stand out",
    ),
    Named(
        "horizontal-line-7",
        "0 0 0 0 0 0 0;0 0 0 0 0 0 0;0 0 0 0 0 0 0;1 1 1 1 1 1 1;0 0 0 0 0 0 0;0 0 0 0 0 0 0;0 0 0 0 0 0 0",
        1.0,
        "ignores all but the central row: horizontal lines stand out",
    ),
    Named("vertical-edge", "-1 0 1;-1 0 1;-1 0 1", 1.0, "right minus left (Prewitt): positive where it gets brighter"),
    Named("horizontal-edge", "-1 -1 -1;0 0 0;1 1 1", 1.0, "below minus above (Prewitt)"),
    Named("sobel-x", "-1 0 1;-2 0 2;-1 0 1", 1.0, "right minus left, the middle row counts twice (Sobel)"),
    Named("sobel-y", "-1 -2 -1;0 0 0;1 2 1", 1.0, "below minus above, the middle column counts twice (Sobel)"),
    Named(
        "laplace",
        "0 1 0;1 -4 1;0 1 0",
        1.0,
        "the four neighbours minus four times the middle: edges of any direction",
    ),
    Named("edges", "-1 -1 -1;-1 8 -1;-1 -1 -1", 1.0, "eight times the middle minus its neighbours"),
    Named("blur", "1 1 1;1 1 1;1 1 1", 9.0, "the mean of 3x3 pixels"),
    Named("gauss", "1 2 1;2 4 2;1 2 1", 16.0, "a mean that weighs the middle more"),
    Named("sharpen", "0 -1 0;-1 5 -1;0 -1 0", 1.0, "the picture minus its blur"),
    Named("identity", "0 0 0;0 1 0;0 0 0", 1.0, "leaves the picture as it is"),
];

/// Names and what they do, in the order in which help lists them.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILTERS.iter().map(|Named(name, _, _, what)| (*name, *what))
}

/// The filter of this name, one channel.
///
/// # Errors
/// No filter has this name.
pub fn filter(name: &str) -> Result<Planes> {
    let Some(Named(_, numbers, divisor, _)) = FILTERS.iter().find(|Named(known, ..)| *known == name) else {
        let advice = match did_you_mean(name, FILTERS.iter().map(|Named(known, ..)| *known)) {
            Some(known) => format!("Did you mean {known}?"),
            None => {
                let known: Vec<_> = names().map(|(name, _)| name).collect();
                format!("Type its numbers as \"2 1;-1 2\", or use one of: {}.", known.join(", "))
            }
        };
        return Err(Error::usage(format!("no filter is called '{name}'")).advice(advice));
    };
    let mut planes = Planes::parse(numbers)?;
    planes.data.iter_mut().for_each(|weight| *weight /= divisor);
    Ok(planes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_filters_see_the_central_line_only() {
        let (vertical, horizontal) = (filter("vertical-line-7").unwrap(), filter("horizontal-line-7").unwrap());
        for row in 0..7 {
            for column in 0..7 {
                assert_eq!(vertical.at(0, row, column), f64::from(u8::from(column == 3)));
                assert_eq!(horizontal.at(0, row, column), f64::from(u8::from(row == 3)));
            }
        }
    }

    #[test]
    fn smoothing_filters_keep_the_brightness_and_edge_filters_ignore_flat_areas() {
        let sum = |name: &str| filter(name).unwrap().data.iter().sum::<f64>();
        for name in ["blur", "gauss", "sharpen", "identity"] {
            assert!((sum(name) - 1.0).abs() < 1e-12, "{name}");
        }
        for name in ["vertical-edge", "horizontal-edge", "sobel-x", "sobel-y", "laplace", "edges"] {
            assert_eq!(sum(name), 0.0, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_gets_advice() {
        assert!(filter("sobel").unwrap_err().to_string().contains("Did you mean sobel-x?"));
        assert!(filter("moustache").unwrap_err().to_string().contains("vertical-line-7"));
    }
}
