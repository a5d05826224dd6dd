//! Reads the golden files of `tests/golden` (see its README).
#![allow(dead_code)] // each test program uses its own part

use std::collections::BTreeMap;
use std::path::PathBuf;

use ocelli::{Tensor, Tensors};
use safetensors::{Dtype, SafeTensors};

/// One golden file.
pub struct Golden {
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    /// The float32 tensors.
    pub tensors: Tensors,
    /// Labels, indices and pictures in bytes.
    pub integers: BTreeMap<String, Vec<usize>>,
}

/// `tests/golden/PATH`.
pub fn path(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

/// All files of a folder, in the order of their names.
pub fn folder(folder: &str) -> Vec<Golden> {
    let entries = std::fs::read_dir(path(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(Golden::read).collect()
}

impl Golden {
    fn read(path: PathBuf) -> Golden {
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
        let (mut tensors, mut integers) = (Tensors::new(), BTreeMap::new());
        for (name, view) in file.tensors() {
            let data = view.data();
            match view.dtype() {
                Dtype::F32 => {
                    let values = data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    tensors.insert(name, Tensor::new(view.shape(), values));
                }
                Dtype::I64 => {
                    let values = data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as usize).collect();
                    integers.insert(name, values);
                }
                Dtype::U8 => {
                    integers.insert(name, data.iter().map(|b| usize::from(*b)).collect());
                }
                other => panic!("{name}: {other}"),
            }
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Golden { name, metadata: metadata.into_iter().collect(), tensors, integers }
    }

    /// A tensor that the file must have.
    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    /// A number of the metadata, 0 where it is not given.
    pub fn number(&self, key: &str) -> f32 {
        self.metadata.get(key).map_or(0.0, |text| text.parse().unwrap())
    }

    /// The tensors whose names begin with `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Tensors {
        let named =
            self.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.clone())));
        named.collect()
    }
}

/// Root mean square.
pub fn rms(x: &[f32]) -> f64 {
    (x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
}

/// Largest |found − right|.
pub fn difference(found: &[f32], right: &[f32]) -> f64 {
    assert_eq!(found.len(), right.len(), "number of values");
    let differences = found.iter().zip(right).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // Not f64::max, which would pass over NaN.
    differences.fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most })
}

/// Largest |found − right|, relative to the root mean square of `right`.
pub fn deviation(found: &[f32], right: &[f32]) -> f64 {
    difference(found, right) / rms(right).max(f64::MIN_POSITIVE)
}
