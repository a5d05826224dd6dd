//! What a network will see of a data set, as a contact sheet.

use super::look::rgb;
use super::tiles::{Tile, sheet};
use crate::Result;
use crate::data::{
    self, Augment, Dataset, LoadOptions, Loader, Order, Pca, Pictures, Preparation, Resize, Split, TrainingOptions,
};
use crate::plot::Canvas;
use std::sync::Arc;

/// What is shown.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Pictures, spread evenly over the training split: the rows.
    pub pictures: usize,
    /// Epochs: the columns after the original and what is seen in evaluation.
    pub epochs: u64,
    /// Of the augmentation.
    pub seed: u64,
    /// What is changed.
    pub augment: Augment,
    /// Whose colours `pca` follows; measured without.
    pub pca: Option<Pca>,
    /// Threads.
    pub workers: usize,
    /// Leaves out pictures that cannot be read.
    pub skip_bad: bool,
}

/// A row for each picture: the original between black bars, what evaluation sees, and what training sees in the first
/// epochs, all prepared as for training. Under a mixture stand its classes with their shares.
///
/// # Errors
/// A picture cannot be read; the augmentation is not for such data.
pub fn preview(data: &Arc<Dataset>, mut preparation: Preparation, options: &Preview) -> Result<Canvas> {
    let &Preview { augment, workers, skip_bad, seed, .. } = options;
    let loading = LoadOptions { augment, workers, skip_bad };
    let pictures = Arc::new(Pictures::load(data, Split::Train, &preparation, &loading)?);
    (preparation.mean, preparation.std) = pictures.statistics(workers)?;
    let pca = match options.pca {
        Some(pca) => pca,
        None if augment.moves_colours() && preparation.channels == 3 => pictures.colours(workers)?.pca(),
        None => Pca::IMAGENET,
    };
    let rows = options.pictures.clamp(1, pictures.len());
    let spread = (0..rows).map(|i| i * data.len(Split::Train) / rows);
    let readable = |position: &usize| !skip_bad || data.picture(Split::Train, *position).is_ok();
    let positions: Vec<usize> = spread.filter(readable).collect();
    let order = Order { batch_size: rows, seed, ..Order::default() };
    let training = TrainingOptions { order, augment, pca, ..Default::default() };
    let seen = Loader::training(&pictures, &preparation, &training)?;
    let class = |label: u32| data.classes.get(label as usize).map_or("", String::as_str);
    let short = |name: &str| name.chars().take(10).collect::<String>();
    let epochs: Vec<data::Batch> =
        (0..options.epochs).map(|epoch| seen.look(&positions, epoch)).collect::<Result<_>>()?;
    let whole = Preparation { resize: Resize::Letterbox, ..preparation.clone() };
    let mut tiles = Vec::new();
    for (row, &position) in positions.iter().enumerate() {
        let picture = data.picture(Split::Train, position)?;
        let original = Tile {
            label: short(&data.class_text(Split::Train, position)),
            picture: rgb(&whole.frame(picture.clone())?),
        };
        tiles.extend([original, Tile { label: "evaluated".into(), picture: rgb(&preparation.frame(picture)?) }]);
        for (epoch, batch) in epochs.iter().enumerate() {
            let length = batch.images.len() / batch.n;
            let picture = rgb(&preparation.picture(&batch.images[row * length..][..length]));
            let mixed = batch.mixed.get(row).filter(|mixed| mixed.share > 0.0);
            let label = match mixed {
                Some(mixed) => {
                    let own = (100.0 * (1.0 - mixed.share)).round();
                    format!(
                        "{own}% {}, {}% {}",
                        short(class(batch.labels[row])),
                        100.0 - own,
                        short(class(mixed.label))
                    )
                }
                None => format!("epoch {}", epoch + 1),
            };
            tiles.push(Tile { label, picture });
        }
    }
    let title = format!("{}, augment {augment}: the original, as evaluated, and as trained on", data.name);
    Ok(sheet(&title, &tiles, 2 + epochs.len()))
}
