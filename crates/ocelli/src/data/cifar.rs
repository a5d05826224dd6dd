//! CIFAR-10's binary files (<https://www.cs.toronto.edu/~kriz/cifar.html>): a label byte, then 1,024 red, 1,024 green and
//! 1,024 blue bytes of a 32 × 32 picture, again and again.

use crate::{Error, Result};
use std::path::Path;

const PLANE: usize = 32 * 32;
const RECORD: usize = 1 + 3 * PLANE;

/// The pictures of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Cifar {
    /// 0 to 9.
    pub labels: Vec<u8>,
    /// `[n, 32, 32, 3]`: channels last, as all pictures in this module.
    pub pixels: Vec<u8>,
}

/// Reads a CIFAR-10 binary file from memory.
///
/// # Errors
/// A length that is not a multiple of 3,073 bytes, or a label above 9.
pub fn parse_cifar(bytes: &[u8]) -> Result<Cifar> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(Error::new(format!("{} bytes are not a multiple of {RECORD}, CIFAR-10's record", bytes.len()))
            .advice("The file is damaged or cut short, or it is not CIFAR-10's binary version: get it again."));
    }
    let mut cifar = Cifar { labels: Vec::new(), pixels: Vec::with_capacity(bytes.len()) };
    for (at, record) in bytes.chunks_exact(RECORD).enumerate() {
        if record[0] > 9 {
            return Err(Error::new(format!("picture {at} has the label {}, CIFAR-10 has 0 to 9", record[0]))
                .advice("The file is damaged, or it is CIFAR-100, which is not supported."));
        }
        cifar.labels.push(record[0]);
        let (red, green, blue) = (&record[1..], &record[1 + PLANE..], &record[1 + 2 * PLANE..]);
        cifar.pixels.extend((0..PLANE).flat_map(|i| [red[i], green[i], blue[i]]));
    }
    Ok(cifar)
}

/// As [`parse_cifar`], from a file, which the error names.
pub(super) fn read_cifar(path: &Path) -> Result<Cifar> {
    parse_cifar(&std::fs::read(path).map_err(|error| Error::io(path, error))?).map_err(|error| error.at(path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels() {
        let mut bytes = vec![7];
        bytes.extend([[1; PLANE], [2; PLANE], [3; PLANE]].concat());
        let cifar = parse_cifar(&bytes).unwrap();
        assert_eq!(cifar.labels, [7]);
        assert_eq!(cifar.pixels, [1, 2, 3].repeat(PLANE));
    }

    #[test]
    fn a_wrong_length_or_label_is_named() {
        let error = parse_cifar(&[0; RECORD + 5]).unwrap_err();
        assert!(error.what().contains("3078") && error.what().contains("3073"), "{error}");
        assert!(parse_cifar(&[]).is_err());
        let error = parse_cifar(&[10; RECORD]).unwrap_err();
        assert!(error.what().contains("label 10"), "{error}");
    }
}
