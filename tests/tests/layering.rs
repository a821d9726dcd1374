//! Which crate may use which: the table of `docs/architecture.md`, checked against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Package, and the own packages that it may name as normal dependencies.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("pyro-api", &["pyro-core"]),
    ("pyro-cli", &["pyro-api", "pyro-daemon", "pyro-mcp"]),
    ("pyro-core", &[]),
    ("pyro-daemon", &["pyro-api", "pyro-core", "pyro-fusefs", "pyro-runtime", "pyro-store"]),
    ("pyro-fusefs", &["pyro-core", "pyro-protocol", "pyro-store"]),
    ("pyro-guest-agent", &["pyro-protocol"]),
    ("pyro-mcp", &["pyro-api"]),
    ("pyro-protocol", &[]),
    ("pyro-python", &["pyro-api"]),
    ("pyro-runtime", &["pyro-core", "pyro-protocol"]),
    ("pyro-store", &["pyro-core"]),
    (
        "pyro-tests",
        &["pyro-api", "pyro-cli", "pyro-core", "pyro-daemon", "pyro-protocol", "pyro-runtime", "pyro-store"],
    ),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages are listed");
    packages
        .iter()
        .map(|package| {
            let own = package["dependencies"]
                .as_array()
                .expect("dependencies are listed")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|name| name.starts_with("pyro-"))
                .map(str::to_owned)
                .collect();
            (package["name"].as_str().expect("a package has a name").to_owned(), own)
        })
        .collect()
}

#[test]
fn crates_import_only_what_the_table_allows() {
    let imports = imports();
    let known: BTreeSet<_> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        imports.keys().cloned().collect::<BTreeSet<_>>(),
        known,
        "a crate that the table does not know"
    );
    for (name, allowed) in MAY_IMPORT {
        for import in &imports[*name] {
            assert!(allowed.contains(&import.as_str()), "{name} must not import {import}");
        }
    }
}

#[test]
fn table_of_the_documentation_is_the_one_that_is_checked() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/architecture.md"))
        .expect("the page is there");
    for (name, _) in MAY_IMPORT {
        let folder = name.strip_prefix("pyro-").expect("every package is called so");
        assert!(page.contains(&format!("| `{folder}` |")), "docs/architecture.md lacks {folder}");
    }
}
