//! The pages of the layers.

use super::*;
use std::path::PathBuf;

fn page(name: &str) -> String {
    page_of("layers", name)
}

fn page_of(folder: &str, name: &str) -> String {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "docs", folder, &format!("{name}.md")].iter().collect();
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The inside of the first block of a page that begins with `fence`.
fn code<'a>(page: &'a str, fence: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("{fence}\n")).unwrap_or_else(|| panic!("no {fence} in {page}"));
    rest.split_once("```").unwrap().0
}

#[test]
fn every_layer_kind_has_a_page_with_its_keys_and_a_sample_that_works() {
    let contents = page("README");
    for kind in kind::KINDS {
        let page = page(kind.type_name);
        assert!(contents.contains(&format!("[{0}]({0}.md)", kind.type_name)), "{}", kind.type_name);
        for key in (kind.keys)() {
            assert!(page.contains(&format!("| `{key}` |")), "{}: {key}", kind.type_name);
        }
        let sample = code(&page, "```toml").trim().replace('\n', ",\n");
        assert!(sample.contains(&format!("type = \"{}\"", kind.type_name)));
        let classes = sample.contains("\"classes\"").then_some(10);
        net([1, 60, 60], &sample)
            .and_then(|net| net.resolve(classes, None))
            .unwrap_or_else(|error| panic!("{error}\n{sample}"));
    }
    let block = page("block");
    Net::from_toml(code(&block, "```toml net"), "block.md").and_then(|net| net.resolve(Some(10), None)).unwrap();
}

#[test]
fn every_network_is_in_the_list_with_its_parameters_and_on_the_page_that_the_list_links() {
    let contents = page_of("networks", "README");
    for name in Net::zoo_names() {
        let row = contents.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the list"));
        let net = Net::zoo(name).unwrap();
        let parameters = net.resolve(net.classes.or(Some(10)), None).unwrap().parameter_count();
        assert!(row.contains(&crate::words::count(parameters)), "{name}: {parameters} parameters, {row}");
        let (_, link) = row.rsplit_once('(').unwrap();
        let page = page_of("networks", link.split_once(".md)").unwrap().0);
        assert!(page.contains(&format!("\nocelli summary {name}\n")), "{name} is not on {link}");
    }
}
