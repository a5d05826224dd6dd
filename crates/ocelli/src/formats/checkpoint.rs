//! Everything that a run needs to go on as if it had never stopped, in one file.
//!
//! A checkpoint is a `.safetensors` container: parameters and running statistics under `model.`, the optimiser's state
//! under `optimizer.`, and the state of the loop as TOML in the metadata. No time, thread count or path is stored, so the
//! same training writes the same bytes everywhere.

use std::borrow::Cow;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{FORMAT_VERSION, NUMERICS_VERSION, check_format, weights};
use crate::{Error, Result, Tensors};

/// A training state: the learner's tensors and `S`, the state of the loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint<S> {
    /// Version of the arithmetic that made it; resuming under another one does not give the same bits.
    pub numerics: u32,
    /// Parameters and running statistics.
    pub tensors: Tensors,
    /// The optimiser's state, by the optimiser's names.
    pub optimizer: Tensors,
    /// The state of the loop.
    pub state: S,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<S> {
    format: u32,
    numerics: u32,
    state: S,
}

/// What any version of the header has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Writes a checkpoint atomically: after a crash the file is the old one or the new one.
pub fn write<S: Serialize>(path: &Path, tensors: &Tensors, optimizer: &Tensors, state: &S) -> Result<()> {
    let header = Header { format: FORMAT_VERSION, numerics: NUMERICS_VERSION, state };
    let text = toml::to_string(&header).map_err(|error| Error::new(format!("checkpoint state: {error}")))?;
    let model = tensors.iter().map(|(name, tensor)| (Cow::from(format!("model.{name}")), tensor));
    let rest = optimizer.iter().map(|(name, tensor)| (Cow::from(format!("optimizer.{name}")), tensor));
    weights::write(path, model.chain(rest), &text)
}

/// Reads a checkpoint.
///
/// # Errors
/// The file is missing, damaged, not a checkpoint, or of a newer format.
pub fn read<S: DeserializeOwned>(path: &Path) -> Result<Checkpoint<S>> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    parse(&bytes).map_err(|error| error.at(path.display()))
}

/// `read` on bytes.
pub fn parse<S: DeserializeOwned>(bytes: &[u8]) -> Result<Checkpoint<S>> {
    let (all, text) = weights::parse(bytes)?;
    let text = text.ok_or_else(|| Error::new("not a checkpoint of ocelli: it has no state"))?;
    let damaged = |error: toml::de::Error| {
        Error::new(format!("not a checkpoint of this ocelli: {}", error.message().replace('\n', " ")))
    };
    let version: Version = toml::from_str(&text).map_err(damaged)?;
    check_format("checkpoint", version.format)?;
    let header: Header<S> = toml::from_str(&text).map_err(damaged)?;
    let (mut tensors, mut optimizer) = (Tensors::new(), Tensors::new());
    for (name, tensor) in all {
        if let Some(name) = name.strip_prefix("model.") {
            tensors.insert(name.to_string(), tensor);
        } else if let Some(name) = name.strip_prefix("optimizer.") {
            optimizer.insert(name.to_string(), tensor);
        } else {
            return Err(Error::new(format!("{name} does not belong into a checkpoint")));
        }
    }
    Ok(Checkpoint { numerics: header.numerics, tensors, optimizer, state: header.state })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct State {
        step: u64,
        loss_sum: f64,
        best: Option<f64>,
    }

    fn state() -> State {
        State { step: 7, loss_sum: 0.1 + 0.2, best: None }
    }

    fn sample(name: &str) -> Tensors {
        Tensors::from([(name.to_string(), Tensor::new([2], vec![0.1, f32::MIN_POSITIVE / 2.0]))])
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.ckpt");
        write(&path, &sample("fc.bias"), &sample("momentum.fc.bias"), &state()).unwrap();
        let back: Checkpoint<State> = read(&path).unwrap();
        assert_eq!((back.tensors, back.optimizer), (sample("fc.bias"), sample("momentum.fc.bias")));
        assert_eq!((back.state, back.numerics), (state(), NUMERICS_VERSION));
    }

    #[test]
    fn a_newer_checkpoint_asks_for_a_newer_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.ckpt");
        let text = format!("format = {}\nsomething_new = true\n", FORMAT_VERSION + 1);
        weights::write(&path, [], &text).unwrap();
        let error = read::<State>(&path).unwrap_err();
        assert!(error.to_string().contains("format 2, this ocelli reads up to format 1\nUse a newer"), "{error}");
    }

    #[test]
    fn other_files_are_not_taken_for_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.ckpt");
        assert!(read::<State>(&path).is_err());
        std::fs::write(&path, b"epoch 3").unwrap();
        assert!(read::<State>(&path).unwrap_err().what().contains("last.ckpt: not a whole .safetensors file"));
        weights::write(&path, [], "net = 'x'").unwrap();
        assert!(read::<State>(&path).unwrap_err().what().contains("not a checkpoint of this ocelli"));
    }
}
