//! Rules that no compiler checks.

use std::path::Path;
use std::process::Command;

/// Longest source file, in lines: more is more than one subject.
const FILE_LINES_MAX: usize = 900;
/// Longest `main.rs`, in lines.
const MAIN_LINES_MAX: usize = 40;

fn tracked(pattern: &str) -> Vec<(String, String)> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the repository");
    let output =
        Command::new("git").args(["ls-files", pattern]).current_dir(root).output().expect("git runs");
    assert!(output.status.success(), "the tests run in a git checkout");
    String::from_utf8(output.stdout)
        .expect("file names are UTF-8")
        .lines()
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root.join(name)).ok()?)))
        .collect()
}

#[test]
fn every_test_module_is_listed() {
    let main = include_str!("main.rs");
    for (name, _) in tracked("tests/tests/*.rs") {
        let module = Path::new(&name)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a module has a name")
            .to_owned();
        assert!(
            module == "main" || main.contains(&format!("mod {module};")),
            "{name} is not listed in main.rs"
        );
    }
}

#[test]
fn files_have_one_subject() {
    for (name, text) in tracked("*.rs") {
        let max = if name.ends_with("src/main.rs") { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        assert!(text.lines().count() <= max, "{name} has more than {max} lines");
    }
}

#[test]
fn sled_and_bincode_stay_in_their_modules() {
    let mut homes: Vec<String> = Vec::new();
    for krate in ["sled::", "bincode::"] {
        for (name, text) in tracked("*.rs") {
            let named = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(krate));
            if named && !name.starts_with("tests/") {
                homes.push(format!("{krate} in {name}"));
            }
        }
    }
    homes.sort();
    let expected = [
        "bincode:: in protocol/src/codec.rs",
        "bincode:: in store/src/codec.rs",
        "sled:: in store/src/index.rs",
    ];
    assert_eq!(homes, expected);
}

#[test]
fn relative_links_of_the_documentation_lead_somewhere() {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the repository");
    for (name, text) in tracked("*.md") {
        let folder = root.join(&name);
        let folder = folder.parent().expect("a file is in a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let outside = link.is_empty() || link.contains("://");
            assert!(outside || folder.join(link).exists(), "{name} links to {link}, which is not there");
        }
    }
}
