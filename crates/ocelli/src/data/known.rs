//! Data sets that ocelli knows by name.

use super::cifar::read_cifar;
use super::dataset::{Block, Dataset, Item, OpenOptions, Source, Split};
use super::idx::{parse_idx, read_idx};
use crate::error::did_you_mean;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data set that ocelli knows by name.
#[derive(Debug)]
pub struct Known {
    /// The name for `--data`.
    pub name: &'static str,
    /// What it is, in a line, with its licence.
    pub about: &'static str,
    /// Class names, in the order of the labels.
    pub classes: &'static [&'static str],
    /// Where `data get` finds it; empty for what is embedded.
    pub files: &'static [Remote],
}

/// A file to download.
#[derive(Debug)]
pub struct Remote {
    /// Where it is.
    pub url: &'static str,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: &'static str,
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const CLOTHES: &[&str] =
    &["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const CIFAR10: &[&str] = &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The data sets that ocelli knows. The checksums are those under which the files are published; copies of Fashion-MNIST
/// in Debian hold the same pictures, gzipped anew.
pub const KNOWN: &[Known] = &[
    Known {
        name: "mnist-10k",
        about: "10,000 handwritten digits of MNIST's training set, 28 x 28 grey, inside ocelli (CC BY-SA 3.0)",
        classes: DIGITS,
        files: &[],
    },
    Known {
        name: "mnist",
        about: "70,000 handwritten digits, 28 x 28 grey (CC BY-SA 3.0)",
        classes: DIGITS,
        files: &[
            Remote {
                url: "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz",
                sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            },
            Remote {
                url: "https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz",
                sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            },
            Remote {
                url: "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-images-idx3-ubyte.gz",
                sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            },
            Remote {
                url: "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
                sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
        ],
    },
    Known {
        name: "fashion-mnist",
        about: "70,000 pieces of clothing, 28 x 28 grey (MIT)",
        classes: CLOTHES,
        files: &[
            Remote {
                url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
                sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            },
            Remote {
                url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz",
                sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            },
            Remote {
                url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
                sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            },
            Remote {
                url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
                sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            },
        ],
    },
    Known {
        name: "cifar10",
        about: "60,000 small photos of ten kinds of things, 32 x 32 colour (no formal licence)",
        classes: CIFAR10,
        files: &[Remote {
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        }],
    },
];

/// The data set of this name.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// Where known data sets lie unless told otherwise: `OCELLI_DATA`, else `~/.cache/ocelli`.
pub fn default_data_dir() -> PathBuf {
    match std::env::var_os("OCELLI_DATA").filter(|dir| !dir.is_empty()) {
        Some(dir) => dir.into(),
        None => std::env::home_dir().unwrap_or_default().join(".cache").join("ocelli"),
    }
}

impl Known {
    /// The folder with the files, if they are there: `DATA_DIR/NAME`, or where Debian's package puts them.
    pub fn find(&self, data_dir: &Path) -> Option<PathBuf> {
        let here = [data_dir.join(self.name), Path::new("/usr/share/datasets").join(self.name)];
        here.into_iter().find_map(|folder| Layout::of(&folder).map(|layout| layout.folder))
    }

    pub(super) fn open(&self, options: &OpenOptions) -> Result<Dataset> {
        let classes: Vec<String> = self.classes.iter().map(|class| class.to_string()).collect();
        if self.files.is_empty() {
            let mut data = Dataset::assemble(Path::new(self.name), classes, Vec::new(), embedded()?, options)?;
            data.notes.push(
                "mnist-10k comes from MNIST's training set: a figure on it is not one on MNIST's test set".into(),
            );
            return Ok(data);
        }
        let data_dir = options.data_dir.clone().unwrap_or_else(default_data_dir);
        let Some(layout) = self.find(&data_dir).and_then(|folder| Layout::of(&folder)) else {
            return Err(Error::new(format!("{}: not in {}", self.name, data_dir.join(self.name).display()))
                .advice(self.how_to_get()));
        };
        let mut data = layout.open(Some(classes), options)?;
        data.name = self.name.into();
        Ok(data)
    }

    fn how_to_get(&self) -> String {
        let debian = match self.name {
            "fashion-mnist" => " On Debian and Ubuntu, apt-get install dataset-fashion-mnist is enough.",
            _ => "",
        };
        format!(
            "Run: ocelli data get {}.{debian} Or put its files there, or name their place with --data-dir.",
            self.name
        )
    }
}

/// The files of `data/mnist-10k`; see the README there.
fn embedded() -> Result<Vec<Item>> {
    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!("../../data/mnist-10k/", $name))
        };
    }
    let files: [(Split, &[u8], &[u8]); 3] = [
        (Split::Train, file!("train-images.idx3.gz"), file!("train-labels.idx1.gz")),
        (Split::Val, file!("val-images.idx3.gz"), file!("val-labels.idx1.gz")),
        (Split::Test, file!("test-images.idx3.gz"), file!("test-labels.idx1.gz")),
    ];
    let mut items = Vec::new();
    for (split, images, labels) in files {
        let (images, labels) = (parse_idx(images)?, parse_idx(labels)?);
        items.extend(idx_items(images, labels, format!("mnist-10k/{split}"), split)?);
    }
    Ok(items)
}

/// A folder of IDX or CIFAR-10 files under any name, if it is one.
pub(super) fn open_binary(folder: &Path, options: &OpenOptions) -> Result<Option<Dataset>> {
    Layout::of(folder).map(|layout| layout.open(None, options)).transpose()
}

/// That nothing is called `spec`, with what is known.
pub fn not_known(spec: &str) -> Error {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    let meant = did_you_mean(spec, names.iter().copied()).map(|name| format!("Did you mean '{name}'? "));
    Error::usage(format!("no data set, folder or list is called '{spec}'")).advice(format!(
        "{}Known are {}; else give a folder of pictures or a CSV list.",
        meant.unwrap_or_default(),
        names.join(", ")
    ))
}

/// A folder with files of a binary format.
struct Layout {
    folder: PathBuf,
    /// Images and labels (IDX), or batches (CIFAR-10), of a split.
    idx: Vec<(Split, PathBuf, PathBuf)>,
    cifar: Vec<(Split, PathBuf)>,
}

impl Layout {
    fn of(folder: &Path) -> Option<Layout> {
        let mut layout = Layout { folder: folder.into(), idx: Vec::new(), cifar: Vec::new() };
        for (split, start) in [(Split::Train, "train"), (Split::Test, "t10k")] {
            let file = |kind: &str| {
                let names = [format!("{start}-{kind}"), format!("{start}-{}", kind.replacen('-', ".", 1))];
                names
                    .iter()
                    .flat_map(|name| [folder.join(format!("{name}.gz")), folder.join(name)])
                    .find(|p| p.is_file())
            };
            // One without the other is opened too, so that the error names what is missing.
            let (images, labels) = (file("images-idx3-ubyte"), file("labels-idx1-ubyte"));
            if images.is_some() || labels.is_some() {
                let or = |path: Option<PathBuf>, kind| path.unwrap_or(folder.join(format!("{start}-{kind}")));
                layout.idx.push((split, or(images, "images-idx3-ubyte"), or(labels, "labels-idx1-ubyte")));
            }
        }
        for inner in [folder.to_path_buf(), folder.join("cifar-10-batches-bin")] {
            if inner.join("data_batch_1.bin").is_file() {
                let batches = (1..=5).map(|i| (Split::Train, inner.join(format!("data_batch_{i}.bin"))));
                layout.cifar = batches.chain([(Split::Test, inner.join("test_batch.bin"))]).collect();
                break;
            }
        }
        (!layout.idx.is_empty() || !layout.cifar.is_empty()).then_some(layout)
    }

    fn open(&self, classes: Option<Vec<String>>, options: &OpenOptions) -> Result<Dataset> {
        let mut items = Vec::new();
        for (split, images, labels) in &self.idx {
            let name = images.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let both = (read_idx(images)?, read_idx(labels)?);
            items.extend(idx_items(both.0, both.1, name, *split).map_err(|error| error.at(images.display()))?);
        }
        for (split, path) in &self.cifar {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let cifar = read_cifar(path)?;
            items.extend(block_items(Block { name, size: [32, 32, 3], pixels: cifar.pixels }, cifar.labels, *split));
        }
        let last = items.iter().map(|item| item.label as usize).max().unwrap_or(0);
        let classes = match classes {
            Some(classes) => classes,
            None if self.idx.is_empty() => CIFAR10.iter().map(|class| class.to_string()).collect(),
            None => (0..=last).map(|class| class.to_string()).collect(),
        };
        if last >= classes.len() {
            return Err(Error::new(format!("{}: label {last}, but {} classes", self.folder.display(), classes.len()))
                .advice("The labels are damaged or of another data set: get the files again."));
        }
        Dataset::assemble(&self.folder, classes, Vec::new(), items, options)
    }
}

fn idx_items(images: super::Idx, labels: super::Idx, name: String, split: Split) -> Result<impl Iterator<Item = Item>> {
    let (&[n, height, width], &[of_labels]) = (&images.dims[..], &labels.dims[..]) else {
        return Err(Error::new(format!("pictures of the sizes {:?} with labels of {:?}", images.dims, labels.dims))
            .advice("Pictures are [n, height, width], labels [n]: are the files swapped?"));
    };
    if n != of_labels || n == 0 || height == 0 || width == 0 {
        return Err(Error::new(format!("{n} pictures of {height} x {width} with {of_labels} labels"))
            .advice("The files do not belong together, or are empty: get them again."));
    }
    Ok(block_items(Block { name, size: [height, width, 1], pixels: images.data }, labels.data, split))
}

fn block_items(block: Block, labels: Vec<u8>, split: Split) -> impl Iterator<Item = Item> {
    let block = Arc::new(block);
    labels.into_iter().enumerate().map(move |(index, label)| Item {
        source: Source::Memory(Arc::clone(&block), index),
        label: label.into(),
        targets: Vec::new(),
        group: None,
        split: Some(split),
    })
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
