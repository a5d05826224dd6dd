//! Pictures and labels: sources, decoding, preparation, augmentation, and the loader that makes batches of them.
//!
//! ```no_run
//! use ocelli::data::{self, Augment, LoadOptions, Loader, OpenOptions, Pictures, Preparation, Resize, Split, TrainingOptions};
//! use std::sync::Arc;
//!
//! # fn main() -> ocelli::Result<()> {
//! let data = Arc::new(data::open("mnist-10k", &OpenOptions::default())?);
//! let augment = Augment::default();
//! let mut preparation = Preparation::for_data(&data, [28, 28], 1, Resize::Crop, &augment)?;
//! let pictures = Arc::new(Pictures::load(&data, Split::Train, &preparation, &LoadOptions { augment, ..Default::default() })?);
//! (preparation.mean, preparation.std) = pictures.statistics(2)?;
//! let loader = Loader::training(&pictures, &preparation, &TrainingOptions::default())?; // 64 a batch
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?; // batch.images: [batch.n, 1, 28, 28]
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything that training sees repeats: orders and augmentation are keyed by (seed, epoch, sample), pictures are
//! resampled and measured with integers, and batches arrive in order whatever the number of workers.

mod augment;
mod check;
mod cifar;
mod dataset;
mod decode;
mod folder;
mod get;
mod idx;
mod ilsvrc;
mod known;
mod list;
mod loader;
mod mat;
mod order;
mod pack;
mod pca;
mod picture;
mod pictures;
mod prepare;
mod shards;
mod split;
mod stream;
mod tar;
mod views;

pub use augment::{Augment, KINDS, Kind};
pub use check::{ClassCount, Corrupt, Report, Twin, Twins, check};
pub use cifar::{Cifar, parse_cifar};
pub use dataset::{Dataset, OpenOptions, Source, Split, open};
pub use decode::{MAX_PIXELS, MAX_SIDE, decode, read};
pub use idx::{Idx, parse_idx};
pub use ilsvrc::{parse_ground_truth, parse_meta, parse_synsets};
pub use known::{KNOWN, Known, default_data_dir, known, not_known};
pub use list::{List, Row, parse_csv};
pub use loader::{Batch, Batches, Loader, Mixed, TrainingOptions};
pub use order::{Order, Sampling};
pub use pack::{Packed, pack};
pub(crate) use pca::eigen;
pub use pca::{Colours, Pca};
pub use picture::Picture;
pub use pictures::{LoadOptions, Pictures};
pub use prepare::{MeanImage, Preparation, Resize};
pub use shards::{Shard, Stamp, parse_index};
pub use tar::{Contents, Damage, Member, list_tar};
pub use views::Tta;
