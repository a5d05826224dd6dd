//! The `ocelli` command: arguments and printing; everything else is in the library.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod models;
mod progress;
mod report;
mod text;

use std::process::ExitCode;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        eprintln!("error: a bug in ocelli: {}{place}", text.unwrap_or("unknown"));
        eprintln!("Please report it together with the command that you ran.");
    }));
    let outcome = std::panic::catch_unwind(|| match arguments::parse() {
        Ok(Some(arguments)) => commands::run(arguments),
        Ok(None) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    });
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("error: {}", arguments::as_called(&error));
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
        Err(_) => ExitCode::FAILURE,
    }
}
