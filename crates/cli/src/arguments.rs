//! The command line's grammar, and its errors as one line that says what and one that says what to do.

use crate::commands::Command;
use crate::text;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use ocelli::error::{Error, Result};
use std::path::PathBuf;

/// Trains convolutional networks and looks inside them.
#[derive(Parser)]
#[command(name = "ocelli", version, disable_help_subcommand = true, infer_subcommands = false)]
#[command(
    override_usage = "ocelli COMMAND [FLAGS]",
    after_help = "Run `ocelli COMMAND --help` for a command's flags and an example."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub globals: Globals,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub struct Globals {
    /// Threads [default: the physical cores]
    #[arg(long, global = true, value_name = "N", value_parser = text::positive)]
    pub threads: Option<usize>,
    /// Seed of every random number [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Sums as the definitions have them, without Winograd's faster forms
    #[arg(long, global = true)]
    pub exact: bool,
    /// No progress, results and warnings only
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Where data sets lie [default: OCELLI_DATA, else ~/.cache/ocelli]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Results as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// Threads to run on: `--threads`, else the physical cores that this process may use.
    pub fn threads(&self) -> usize {
        let usable = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(|| num_cpus::get_physical().min(usable()).max(1))
    }
}

/// How the command is called in advice that a person can paste: `./run` when started through it.
pub fn program() -> String {
    std::env::var("OCELLI_COMMAND").unwrap_or_else(|_| "ocelli".to_owned())
}

/// An error's two lines, with the commands in its advice as this process was called.
pub fn as_called(error: &Error) -> String {
    let text = error.to_string();
    let text = if text.contains('\n') { text } else { format!("{text}\nSee `{}`.", help_command()) };
    let grammar = Arguments::command();
    grammar.get_subcommands().fold(text, |text, command| {
        let name = command.get_name();
        text.replace(&format!("ocelli {name}"), &format!("{} {name}", program()))
    })
}

/// The arguments of this process; `None` if help or the version was asked for and printed.
pub fn parse() -> Result<Option<Arguments>> {
    let mut grammar = Arguments::command();
    match grammar.try_get_matches_from_mut(std::env::args_os()).and_then(|found| Arguments::from_arg_matches(&found)) {
        Ok(arguments) => Ok(Some(arguments)),
        Err(error) if !error.use_stderr() => {
            // A reader of the help that went away is no failure.
            let _ = error.print();
            Ok(None)
        }
        Err(error) => Err(explain(&error)),
    }
}

/// clap's error in two lines.
fn explain(error: &clap::Error) -> Error {
    let words = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => vec![plain(word)],
        Some(ContextValue::Strings(words)) => words.iter().map(|word| plain(word)).collect(),
        _ => Vec::new(),
    };
    let word = |kind| words(kind).first().cloned();
    let flag = word(ContextKind::InvalidArg).unwrap_or_default();
    let value = word(ContextKind::InvalidValue).unwrap_or_default();
    let suggestion = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(word);
    let mut advice = match (suggestion, words(ContextKind::ValidValue)) {
        (Some(suggestion), _) => format!("Did you mean {suggestion}?"),
        (None, valid) if !valid.is_empty() => format!("Use one of: {}.", valid.join(", ")),
        _ => format!("Run `{}` to see what it takes.", help_command()),
    };
    let what = match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with('-') => format!("there is no flag {flag}"),
        ErrorKind::UnknownArgument => format!("did not expect '{flag}' here"),
        ErrorKind::InvalidSubcommand => {
            format!("no command is called '{}'", word(ContextKind::InvalidSubcommand).unwrap_or_default())
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = words(ContextKind::InvalidArg);
            format!("{} {} missing", missing.join(" and "), if missing.len() == 1 { "is" } else { "are" })
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{flag} needs a value"),
        ErrorKind::InvalidValue => format!("{flag}: '{value}' is not possible"),
        ErrorKind::ValueValidation => {
            // The library's errors are a line that says why and a line that says what to do.
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let (why, better) = why.split_once('\n').unwrap_or((&why, ""));
            if !better.is_empty() {
                advice = better.to_string();
            }
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            format!("{flag}: '{value}' is not possible{why}")
        }
        ErrorKind::ArgumentConflict => match words(ContextKind::PriorArg) {
            others if others == [flag.as_str()] => format!("{flag} is given twice"),
            others => format!("{flag} does not go together with {}", others.join(", ")),
        },
        _ => first_line(&error.render().to_string()),
    };
    Error::usage(what).advice(advice)
}

/// `--stride <N>` without its value, `--flag...` without the dots.
fn plain(word: &str) -> String {
    match word.split_once(' ') {
        Some((flag, _)) if flag.starts_with("--") => flag.to_owned(),
        _ => word.trim_start_matches('<').trim_end_matches(['.', '>']).to_owned(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The help of the command that was asked for.
fn help_command() -> String {
    let known = Arguments::command();
    let command = std::env::args().skip(1).find(|word| known.find_subcommand(word).is_some());
    [Some(program()), command, Some("--help".to_owned())].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
