//! What has to hold between the crates of the workspace.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates, layer by layer, as in `ARCHITECTURE.md`. A crate may use those of its own layer and
/// of the layers above it in this table.
const LAYERS: &[&[&str]] = &[
    // 1: language, pure
    &[
        "karat-hcl",
        "karat-value",
        "karat-functions",
        "karat-eval",
        "karat-text",
        "karat-config",
        "karat-config-derive",
        "karat-legacy",
        "karat-template",
    ],
    // 2: core
    &["karat-saga", "karat-component", "karat-plan", "karat-engine"],
    // 3: outside
    &[
        "karat-disk",
        "karat-layers",
        "karat-oci",
        "karat-machine",
        "karat-ssh",
        "karat-ssm",
        "karat-winrm",
        "karat-builders",
        "karat-data",
        "karat-provisioners",
        "karat-postprocessors",
        "karat-aws",
    ],
    // 4: services
    &["karat-lab"],
    // 5: edge
    &["karat-lsp", "karat"],
];

/// Used by tests and chores only.
const DEV: &[&str] = &["karat-testing", "xtask"];

/// Arrows inside of a layer go one way, too: from a later one here to an earlier one.
const LANGUAGE: &[&str] = &[
    "karat-hcl",
    "karat-value",
    "karat-functions",
    "karat-eval",
    "karat-config-derive",
    "karat-config",
    "karat-text",
    "karat-legacy",
    "karat-template",
];

/// Crates that reach outside through `World` alone.
const PURE: &[&str] = &[
    "karat-hcl",
    "karat-value",
    "karat-functions",
    "karat-eval",
    "karat-config",
    "karat-template",
    "karat-legacy",
    "karat-plan",
    "karat-text",
];

/// What lies outside; and the form of `use` in which it would not be seen.
const OUTSIDE: &[&str] =
    &["std::fs", "std::net", "std::env", "std::process", "SystemTime", "std::{"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The crates of the workspace, and what each needs of the others outside of tests.
fn crates() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |v: &Value| v["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let names: Vec<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let needs = package["dependencies"].as_array().unwrap().iter();
            let needs = needs.filter(|d| d["kind"] != "dev").map(name);
            (name(package), needs.filter(|n| names.contains(n)).collect())
        })
        .collect()
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[test]
fn no_arrow_points_up() {
    let crates = crates();
    let mut wrong = Vec::new();
    for (name, needs) in &crates {
        if DEV.contains(&name.as_str()) {
            continue;
        }
        let Some(own) = layer(name) else {
            wrong.push(format!("{name} stands in no layer: add it here and in ARCHITECTURE.md"));
            continue;
        };
        for need in needs {
            match layer(need) {
                None => wrong.push(format!("{name} needs {need}, which is for tests and chores")),
                Some(other) if other > own => {
                    wrong.push(format!("{name} needs {need}, of a later layer"));
                }
                Some(_) => {}
            }
        }
        if let Some(place) = LANGUAGE.iter().position(|n| n == name) {
            wrong.extend(
                needs
                    .iter()
                    .filter(|n| LANGUAGE[place..].contains(&n.as_str()))
                    .map(|n| format!("{name} needs {n}, which is later in the line")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for name in LAYERS.iter().copied().flatten().chain(DEV) {
        assert!(crates.contains_key(*name), "{name} is gone: take it out of the table");
    }
}

#[test]
fn architecture_names_every_crate() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for name in crates().keys() {
        assert!(text.contains(&format!("`{name}`")), "ARCHITECTURE.md does not name {name}");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_file_says_what_it_is() {
    let mut folders: Vec<PathBuf> = vec![root().join("xtask/src")];
    folders.extend(
        fs::read_dir(root().join("crates")).unwrap().map(|e| e.unwrap().path().join("src")),
    );
    let silent: Vec<String> = folders
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .map(|file| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "files that do not open with //!:\n{}", silent.join("\n"));
}

/// A file's code: without comments, and without what follows its first `#[cfg(test)]`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

#[test]
fn the_language_and_the_planner_touch_nothing_outside() {
    let mut wrong = Vec::new();
    for name in PURE {
        for file in sources(&root().join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            for (line, code) in code(&text) {
                for word in OUTSIDE.iter().filter(|word| code.contains(**word)) {
                    wrong.push(format!("{}:{line}: {word}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "reach these through World:\n{}", wrong.join("\n"));
}
