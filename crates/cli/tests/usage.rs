//! The grammar of the command line: what is listed, what is refused, and how.

mod common;
use common::{bad, good};
use std::path::Path;

fn here() -> &'static Path {
    Path::new(".")
}

#[test]
fn alone_it_lists_the_five_things_most_people_want() {
    let text = good(here(), &[]);
    let commands = text.lines().filter(|line| line.starts_with("  ocelli ")).count();
    assert_eq!(commands, 5, "{text}");
}

#[test]
fn slips_get_the_word_that_was_meant() {
    for (arguments, what, advice) in [
        (&["cnov"][..], "no command is called 'cnov'", "Did you mean conv?"),
        (&["conv", "--inptu", "1"], "there is no flag --inptu", "Did you mean --input?"),
        (&["conv"], "--input and --filter are missing", "Run `ocelli conv --help` to see what it takes."),
        (
            &["conv", "--input", "1", "--filter"],
            "--filter needs a value",
            "Run `ocelli conv --help` to see what it takes.",
        ),
    ] {
        assert_eq!(bad(here(), 2, arguments), (what.to_owned(), advice.to_owned()));
    }
}
