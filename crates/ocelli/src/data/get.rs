//! Downloading known data sets. The system's `curl` does the transfer, so that no network code is built in; every file is
//! checked by its SHA-256 before it gets its name.

use super::known::{Known, Remote};
use crate::{Error, Result};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The largest file that an archive may hold: a batch of CIFAR-10 has 30,730,000 bytes.
const MAX_MEMBER: u64 = 64 << 20;

impl Known {
    /// Downloads the files into `DATA_DIR/NAME` and returns that folder; what is there already is kept, what was begun is
    /// resumed. `progress` shows curl's progress bar on stderr.
    ///
    /// # Errors
    /// No curl, no network, or a file with another SHA-256; each says where to put the file by hand. The folder cannot be
    /// written.
    pub fn get(&self, data_dir: &Path, progress: bool) -> Result<PathBuf> {
        let folder = data_dir.join(self.name);
        if self.files.is_empty() {
            return Err(Error::usage(format!("{} is inside ocelli", self.name))
                .advice(format!("Use it: ocelli train --data {}", self.name)));
        }
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::io(&folder, error).advice("Choose another place with --data-dir or OCELLI_DATA.")
        })?;
        for remote in self.files {
            let file = fetch("curl", remote, &folder, progress)?;
            if remote.url.ends_with(".tar.gz") {
                unpack(&file, &folder).map_err(|error| error.at(file.display()))?;
            }
        }
        Ok(folder)
    }
}

/// Makes sure that a file is in the folder, whole and right.
fn fetch(curl: &str, remote: &Remote, folder: &Path, progress: bool) -> Result<PathBuf> {
    let name = remote.url.rsplit('/').next().unwrap_or(remote.url);
    let (file, part) = (folder.join(name), folder.join(format!("{name}.part")));
    let by_hand = format!("Or put {} there by hand: {}", remote.url, file.display());
    if has_sum(&file, remote)? {
        return Ok(file);
    }
    // A part that is whole already was stopped before it was renamed; asked for more, servers answer with an error.
    while !has_sum(&part, remote)? {
        let resumed = part.exists();
        let mut command = Command::new(curl);
        command.args(["--fail", "--location", "--retry", "3", "--connect-timeout", "20", "--continue-at", "-"]);
        command.args(if progress { &["--progress-bar"][..] } else { &["--silent", "--show-error"] });
        command.arg("--output").arg(&part).arg(remote.url);
        let output = command.stdin(Stdio::null()).stdout(Stdio::null());
        let output = if progress { output.stderr(Stdio::inherit()) } else { output.stderr(Stdio::piped()) };
        let output = output.output().map_err(|error| {
            Error::new(format!("{curl} cannot be run: {error}")).advice(format!("Install curl. {by_hand}"))
        })?;
        match output.status.code() {
            Some(0) if has_sum(&part, remote)? => {}
            // Neither what was resumed nor what came now can be trusted; a part may be of an older file.
            Some(0 | 22 | 33 | 36) if resumed => remove(&part)?,
            Some(0) => {
                let found = sum(&part)?;
                remove(&part)?;
                return Err(Error::new(format!("{}: SHA-256 {found}, not {}", remote.url, remote.sha256))
                    .advice(format!("Something else is served under this address: do not use it. {by_hand}")));
            }
            code => {
                let said = String::from_utf8_lossy(&output.stderr);
                let why = match code {
                    Some(5..=7 | 28 | 35 | 56) => "no network, or the server does not answer".into(),
                    _ => said.trim().lines().last().unwrap_or("stopped").to_owned(),
                };
                let code = code.map_or("a signal".into(), |code| format!("exit code {code}"));
                return Err(Error::new(format!("{}: {why} ({curl}: {code})", remote.url))
                    .advice(format!("Run it again when the network is there: it resumes. {by_hand}")));
            }
        }
    }
    std::fs::rename(&part, &file).map_err(|error| Error::io(&file, error))?;
    Ok(file)
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|error| Error::io(path, error))
}

/// Whether the file is there and has the published SHA-256.
fn has_sum(path: &Path, remote: &Remote) -> Result<bool> {
    Ok(path.is_file() && sum(path)? == remote.sha256)
}

fn sum(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(|error| Error::io(path, error))? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Unpacks the `.bin` files of a gzipped tar archive into the folder. Its records have 512 bytes: a head with the name
/// (bytes 0 to 99) and the length in octal (124 to 135), then the file, padded with zeros.
fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let file = std::fs::File::open(archive).map_err(|error| Error::io(archive, error))?;
    let mut reader = GzDecoder::new(std::io::BufReader::new(file));
    let damaged = |why: &dyn std::fmt::Display| {
        Error::new(format!("the archive is damaged: {why}")).advice("Remove it and get it again.")
    };
    let mut head = [0; 512];
    while reader.read_exact(&mut head).is_ok() && head[0] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let bytes = head[range].split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(bytes).trim().to_owned()
        };
        let (name, length) = (text(0..100), text(124..136));
        let length = u64::from_str_radix(&length, 8).ok().filter(|&length| length <= MAX_MEMBER);
        let length = length.ok_or_else(|| damaged(&format!("the length of {name}")))?;
        let mut bytes = Vec::new();
        (&mut reader).take(length.next_multiple_of(512)).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        if (bytes.len() as u64) < length {
            return Err(damaged(&format!("{name} is cut short")));
        }
        bytes.truncate(length as usize);
        // Only the last part of the name counts, so that nothing is written outside of the folder.
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        if last.ends_with(".bin") {
            crate::formats::write_atomically(&folder.join(last), |file| file.write_all(&bytes))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "get_tests.rs"]
mod tests;
