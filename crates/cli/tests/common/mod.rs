//! Runs the built command and looks at what it says.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod pictures;

use std::path::Path;
use std::process::{Command, Output};

/// What the command did.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The command, to be run in `folder`, without the caller's environment variables that change it.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
    command.current_dir(folder);
    for variable in ["OCELLI_COMMAND", "OCELLI_DATA", "OCELLI_ISA"] {
        command.env_remove(variable);
    }
    command
}

/// Runs the command in `folder`.
pub fn ocelli(folder: &Path, arguments: &[&str]) -> Ran {
    command(folder).args(arguments).output().expect("the command starts").into()
}

/// Runs the command, which must succeed, and hands back its stdout.
#[track_caller]
pub fn good(folder: &Path, arguments: &[&str]) -> String {
    let ran = ocelli(folder, arguments);
    assert_eq!(ran.code, 0, "ocelli {arguments:?}\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// Runs the command, which must fail with `code` and an error of one line and a line of advice; hands both back.
#[track_caller]
pub fn bad(folder: &Path, code: i32, arguments: &[&str]) -> (String, String) {
    let ran = ocelli(folder, arguments);
    assert_eq!(ran.code, code, "ocelli {arguments:?}\n{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("a bug in ocelli"), "{}", ran.stderr);
    let start = ran.stderr.find("error: ").unwrap_or_else(|| panic!("no error line: {}", ran.stderr));
    let lines: Vec<&str> = ran.stderr[start..].lines().collect();
    assert_eq!(lines.len(), 2, "ocelli {arguments:?}: an error is two lines:\n{}", ran.stderr);
    (lines[0].trim_start_matches("error: ").to_owned(), lines[1].to_owned())
}

/// The JSON objects of the output, one a line.
pub fn json(stdout: &str) -> Vec<serde_json::Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}
