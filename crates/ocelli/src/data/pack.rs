//! A data set as shards.

use super::dataset::Block;
use super::tar::CLASSES;
use super::{Dataset, Source, Split, decode};
use crate::words::counted;
use crate::{Error, Result};
use image::{ColorType, ImageFormat};
use ocelli_kernels::random::{self, Random};
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;

/// What [`pack`] wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Archives.
    pub shards: usize,
    /// Pictures in them.
    pub pictures: usize,
    /// Bytes of the archives.
    pub bytes: u64,
}

/// Writes a data set as archives `train-0000.tar` … of at most `shard_bytes` (but one picture at least), the files of the
/// pictures as they are, in an order that `seed` fixes. Each picture `00000017.jpg` has its class as a number in
/// `00000017.cls`; each archive begins with the list of classes. The folder `target` is there when all is written, or not.
///
/// # Errors
/// `target` exists; the data has numbers to predict, or several classes a picture; a file cannot be read, is no picture,
/// or cannot be written.
pub fn pack(data: &Dataset, target: &Path, shard_bytes: u64, seed: u64) -> Result<Packed> {
    if let Some(what) = data.other_targets() {
        return Err(Error::usage(format!("{}: {what}", data.name))
            .advice("Shards hold a class for each picture; keep the list."));
    }
    if target.exists() {
        return Err(Error::usage(format!("{}: exists already", target.display()))
            .advice("Choose another folder; nothing is overwritten."));
    }
    let failed = |error: std::io::Error| Error::io(target, error);
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".ocelli-part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let folder = builder.tempdir_in(parent).map_err(failed)?;
    let mut packed = Packed::default();
    for split in Split::ALL {
        let mut order: Vec<usize> = (0..data.len(split)).collect();
        Random::new(seed, random::name("pack"), split as u64, 0).shuffle(&mut order);
        let mut shard: Option<Writer> = None;
        let mut number = 0;
        for (count, position) in order.into_iter().enumerate() {
            let bytes = bytes(data, split, position)?;
            let ending = ending(&bytes).ok_or_else(|| {
                Error::new(format!("{}: not a picture", data.picture_name(split, position)))
                    .advice("`ocelli data check DATA` lists such files; remove them.")
            })?;
            // A header and the rest of a block for both files.
            let needed = bytes.len() as u64 + 4 * 512;
            if shard.as_ref().is_none_or(|shard| shard.written > 0 && shard.written + needed > shard_bytes) {
                packed.bytes += shard.take().map_or(Ok(0), Writer::finish).map_err(failed)?;
                let path = folder.path().join(format!("{split}-{number:04}.tar"));
                shard = Some(Writer::new(&path, &data.classes).map_err(failed)?);
                number += 1;
            }
            if let Some(shard) = &mut shard {
                shard.add(&format!("{count:08}.{ending}"), &bytes).map_err(failed)?;
                shard
                    .add(&format!("{count:08}.cls"), data.label(split, position).to_string().as_bytes())
                    .map_err(failed)?;
                shard.written += needed;
            }
            packed.pictures += 1;
        }
        packed.bytes += shard.map_or(Ok(0), Writer::finish).map_err(failed)?;
        packed.shards += number;
    }
    fs::rename(folder.path(), target).map_err(failed)?;
    // Renamed away: there is nothing to remove any more.
    let _ = folder.keep();
    Ok(packed)
}

/// An archive that is being written.
struct Writer {
    archive: tar::Builder<BufWriter<File>>,
    /// Bytes of pictures with their headers.
    written: u64,
}

impl Writer {
    fn new(path: &Path, classes: &[String]) -> std::io::Result<Writer> {
        let mut writer = Writer { archive: tar::Builder::new(BufWriter::new(File::create_new(path)?)), written: 0 };
        let list: String = classes.iter().map(|class| format!("{class}\n")).collect();
        writer.add(CLASSES, list.as_bytes())?;
        Ok(writer)
    }

    /// Appends a file without owner or time: the same data gives the same bytes.
    fn add(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        self.archive.append(&header, bytes)
    }

    fn finish(self) -> std::io::Result<u64> {
        let mut file = self.archive.into_inner()?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(file.get_ref().metadata()?.len())
    }
}

/// The file of a picture; what came from a file of many is written as PNG.
fn bytes(data: &Dataset, split: Split, position: usize) -> Result<Vec<u8>> {
    match data.source(split, position) {
        Source::File(path) => decode::read_bytes(path),
        Source::Shard(shard, index) => shard.read(*index, u64::MAX),
        Source::Memory(block, index) => {
            let Block { size: [height, width, channels], .. } = **block;
            let color = if channels == 1 { ColorType::L8 } else { ColorType::Rgb8 };
            let mut png = Cursor::new(Vec::new());
            let (width, height) = (width as u32, height as u32);
            image::write_buffer_with_format(&mut png, block.picture(*index), width, height, color, ImageFormat::Png)
                .map_err(|error| Error::new(format!("{}: {error}", data.picture_name(split, position))))?;
            Ok(png.into_inner())
        }
    }
}

/// The usual ending for what the bytes are.
fn ending(bytes: &[u8]) -> Option<&'static str> {
    match image::guess_format(bytes).ok()? {
        ImageFormat::Jpeg => Some("jpg"),
        ImageFormat::Png => Some("png"),
        ImageFormat::Bmp => Some("bmp"),
        ImageFormat::WebP => Some("webp"),
        ImageFormat::Gif => Some("gif"),
        _ => None,
    }
}

impl std::fmt::Display for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (pictures, shards) = (counted(self.pictures, "picture"), counted(self.shards, "archive"));
        write!(f, "{pictures} in {shards}, {}", crate::words::bytes(self.bytes))
    }
}
