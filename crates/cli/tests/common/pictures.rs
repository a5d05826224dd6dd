//! Pictures and networks to train on.

use std::fs;
use std::path::{Path, PathBuf};

/// A network with batch norm and dropout: what depends on batches and on random numbers.
pub const SMALL_NET: &str = r#"format = 1
name = "small"
input = [1, 28, 28]
layers = [
  { type = "conv", name = "conv1", filters = 8, kernel = 5, stride = 2 },
  { type = "batch_norm" },
  { type = "relu" },
  { type = "max_pool", kernel = 2 },
  { type = "dropout", rate = 0.2 },
  { type = "linear", name = "fc", units = "classes" },
]
"#;

/// Writes [`SMALL_NET`] into `folder` and hands back its name.
pub fn small_net(folder: &Path) -> &'static str {
    fs::write(folder.join("small.toml"), SMALL_NET).unwrap();
    "small.toml"
}

/// A folder `data` of `n` pictures of each class: 8x8 colour pictures that are dark, middling or light.
pub fn folder(world: &Path, classes: &[&str], n: u32) -> PathBuf {
    let root = world.join("data");
    for (i, class) in classes.iter().enumerate() {
        fs::create_dir_all(root.join(class)).unwrap();
        for k in 0..n {
            let pixel = |x: u32, y: u32| {
                image::Rgb([0, 1, 2].map(|c| (80 * i as u32 + (k * 37 + x * 11 + y * 53 + c * 7) % 70) as u8))
            };
            image::RgbImage::from_fn(8, 8, pixel).save(root.join(class).join(format!("{k:02}.png"))).unwrap();
        }
    }
    root
}

/// The first half of a file.
pub fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// A BMP file whose head claims `width` x `height` pixels, without any of them.
pub fn claims_to_be(path: &Path, width: i32, height: i32) {
    let mut bytes = b"BM".to_vec();
    for word in [54u32, 0, 54, 40] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    fs::write(path, bytes).unwrap();
}
