//! Scalars as TensorBoard event files: TFRecord frames around a few hand-written protocol-buffer fields.
//!
//! A frame is the length (u64), its masked CRC-32C, the data, and the data's masked CRC-32C; the data is an `Event` of
//! tensorflow/core/util/event.proto. Only fields that scalars need are written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// An event file that is being written. TensorBoard reads all event files of a folder as one run.
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new event file in `folder`. `resumed_at` tells TensorBoard to forget what earlier files of the folder say
    /// about that step and later ones.
    pub fn create(folder: &Path, resumed_at: Option<u64>) -> Result<EventWriter> {
        let started = now();
        // Later sessions of one run get later names; the second part keeps two within a microsecond apart.
        let name = |turn: u32| format!("events.out.tfevents.{:.6}.ocelli{turn}", started);
        let mut turn = 0;
        let (path, file) = loop {
            let path = folder.join(name(turn));
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => turn += 1,
                Err(error) => return Err(Error::io(&path, error)),
            }
        };
        let mut writer = EventWriter { path, file: BufWriter::new(file) };
        let mut version = Message::event(started, 0);
        version.bytes(3, b"brain.Event:2");
        writer.record(&version.0)?;
        if let Some(step) = resumed_at {
            let mut session = Message::default();
            session.varint(1, 1); // SessionLog.status = START
            let mut event = Message::event(started, step);
            event.bytes(7, &session.0);
            writer.record(&event.0)?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// One value of the curve `tag`.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<()> {
        let mut scalar = Message::default();
        scalar.bytes(1, tag.as_bytes());
        scalar.fixed32(2, value.to_bits());
        let mut summary = Message::default();
        summary.bytes(1, &scalar.0);
        let mut event = Message::event(now(), step);
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    /// Hands everything written so far to the system.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(&self.path, error))
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let checks = [masked_crc(&length).to_le_bytes(), masked_crc(data).to_le_bytes()];
        [&length[..], &checks[0], data, &checks[1]]
            .iter()
            .try_for_each(|part| self.file.write_all(part))
            .map_err(|error| Error::io(&self.path, error))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A protocol-buffer message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// An `Event` with its wall time and step.
    fn event(time: f64, step: u64) -> Message {
        let mut event = Message::default();
        event.raw_varint(1 << 3 | 1);
        event.0.extend(time.to_le_bytes());
        event.varint(2, step);
        event
    }
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    fn varint(&mut self, field: u64, value: u64) {
        self.raw_varint(field << 3);
        self.raw_varint(value);
    }
    fn fixed32(&mut self, field: u64, bits: u32) {
        self.raw_varint(field << 3 | 5);
        self.0.extend(bits.to_le_bytes());
    }
    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }
}

/// CRC-32C (Castagnoli), bit by bit: frames are some fifty bytes long.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

/// TFRecord's mask, so that a checksum of data that holds checksums stays meaningful.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of a file, with both checksums verified.
    fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(u32::from_le_bytes(bytes[8..12].try_into().unwrap()), masked_crc(&bytes[..8]));
            let data = &bytes[12..12 + length];
            assert_eq!(u32::from_le_bytes(bytes[12 + length..16 + length].try_into().unwrap()), masked_crc(data));
            frames.push(data.to_vec());
            bytes = &bytes[16 + length..];
        }
        frames
    }

    /// The fields of a message as (number, raw value bytes); varints and fixed fields as eight little-endian bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn crc32c_of_the_check_string() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283); // RFC 3720, appendix B.4
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn scalars_come_back_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), Some(300)).unwrap();
        writer.scalar("train/loss", 301, 0.25).unwrap();
        writer.flush().unwrap();
        let frames = frames(&std::fs::read(&writer.path).unwrap());
        assert_eq!(frames.len(), 3);
        assert_eq!(fields(&frames[0])[2], (3, b"brain.Event:2".to_vec()));
        assert_eq!(fields(&frames[1])[1..], [(2, 300u64.to_le_bytes().to_vec()), (7, vec![8, 1])]);
        let event = fields(&frames[2]);
        assert_eq!(event[1], (2, 301u64.to_le_bytes().to_vec()));
        let value = fields(&fields(&event[2].1)[0].1);
        assert_eq!(value, [(1, b"train/loss".to_vec()), (2, 0.25f32.to_le_bytes().to_vec())]);
    }

    #[test]
    fn a_second_session_gets_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path(), None).unwrap();
        let second = EventWriter::create(folder.path(), Some(1)).unwrap();
        assert_ne!(first.path, second.path);
        assert!(first.path.file_name().unwrap().to_string_lossy().contains("tfevents"));
    }
}
