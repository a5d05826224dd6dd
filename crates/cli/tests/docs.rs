//! The commands in README and docs run as printed, and print what the page says.
//!
//! A line of an `sh` block, or of one without a language, is a command. The `text` block after it, if there is one, is its
//! output; a line `...` stands for lines left out. What depends on training or the machine stands in `output` blocks, which
//! are not compared.

mod common;
use common::ocelli;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A fenced block: its language and its lines.
fn blocks(text: &str) -> Vec<(String, Vec<&str>)> {
    let mut blocks: Vec<(String, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) if !inside => blocks.push((language.trim().to_owned(), Vec::new())),
            None if inside => blocks.last_mut().unwrap().1.push(line),
            _ => {}
        }
        inside ^= line.starts_with("```");
    }
    blocks
}

/// A command's words, as a shell splits them: by spaces outside quotes. What follows `#` is for the reader.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Whether the lines are those of the page, with `...` for any number of lines.
fn matches(page: &[&str], output: &[&str]) -> bool {
    match page.split_first() {
        None => output.is_empty(),
        Some((&"...", rest)) => (0..=output.len()).any(|skipped| matches(rest, &output[skipped..])),
        Some((line, rest)) => {
            output.first().is_some_and(|first| first.trim_end() == line.trim_end()) && matches(rest, &output[1..])
        }
    }
}

/// The net that the lecture's page shows as six.toml.
const SIX: &str = r#"format = 1
name = "six"
input = [3, 32, 32]
layers = [
  { type = "conv", filters = 6, kernel = 5 },
]
"#;

/// Runs a page's commands one after the other in a folder like the repository's; hands back how many there were.
fn run(page: &Path) -> usize {
    let text = fs::read_to_string(page).unwrap().replace("\r\n", "\n");
    let world = tempfile::tempdir().unwrap();
    for folder in ["samples", "recipes"] {
        fs::create_dir(world.path().join(folder)).unwrap();
        for entry in fs::read_dir(root().join(folder)).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), world.path().join(folder).join(entry.file_name())).unwrap();
        }
    }
    fs::write(world.path().join("six.toml"), SIX).unwrap();
    let blocks = blocks(&text);
    let mut ran = 0;
    for (i, (language, lines)) in blocks.iter().enumerate() {
        if language != "sh" && !language.is_empty() {
            continue;
        }
        let mut printed = String::new();
        for line in lines {
            let words = words(line);
            let arguments = match words.split_first() {
                Some((program, arguments)) if program == "ocelli" || program == "./run" => arguments,
                _ => continue,
            };
            let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            if arguments.is_empty() && line.starts_with("./run") {
                arguments.push("train");
            }
            if arguments.first() == Some(&"train")
                && !arguments.contains(&"--help")
                && !arguments.contains(&"--max-steps")
            {
                // The page means a whole training; that its flags are right is seen after a few steps.
                arguments.extend(["--max-steps", "20"]);
            }
            let result = ocelli(world.path(), &arguments);
            assert_eq!(result.code, 0, "{}: {line}\n{}{}", page.display(), result.stdout, result.stderr);
            printed = result.stdout;
            ran += 1;
        }
        if let Some((language, expected)) = blocks.get(i + 1)
            && language == "text"
        {
            let output: Vec<&str> = printed.lines().collect();
            assert!(
                matches(expected, &output),
                "{}: after {lines:?} the page says\n{}\nbut it is\n{printed}",
                page.display(),
                expected.join("\n")
            );
        }
    }
    ran
}

#[test]
fn the_readme_runs() {
    assert!(run(&root().join("README.md")) >= 1);
}

#[test]
fn the_lectures_numbers_are_what_the_commands_print() {
    let page = root().join("docs/lecture.md");
    assert!(fs::read_to_string(&page).unwrap().contains(SIX), "the page shows six.toml");
    assert!(run(&page) >= 15);
}

/// Runs every page of a folder; hands back how many pages and commands there were.
fn run_all(folder: &str) -> (usize, usize) {
    let pages: Vec<PathBuf> = fs::read_dir(root().join(folder)).unwrap().map(|page| page.unwrap().path()).collect();
    (pages.len(), pages.iter().map(|page| run(page)).sum())
}

#[test]
fn every_page_of_a_command_runs() {
    let (pages, ran) = run_all("docs/commands");
    assert!(pages >= 8 && ran >= pages, "{ran} commands on {pages} pages");
}

#[test]
fn every_network_has_a_page_with_its_table() {
    let (pages, ran) = run_all("docs/networks");
    assert!(pages >= 9 && ran == ocelli::net::Net::zoo_names().count(), "{ran} tables on {pages} pages");
}
