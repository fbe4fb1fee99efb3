//! What fuzzing found stays found: `tests/data/fuzz/TARGET` holds texts that once made a panic, took
//! too long or too much memory. Each must end soon, and well.

mod targets;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn what_was_found_stays_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/fuzz");
    for (name, target) in targets::TARGETS {
        let Ok(folder) = fs::read_dir(root.join(name)) else { continue };
        for entry in folder {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let start = Instant::now();
            target(&text);
            let time = start.elapsed();
            // Unoptimised and on a busy machine.
            assert!(time < Duration::from_secs(60), "{} took {time:?}", path.display());
        }
    }
}

#[test]
fn every_folder_has_its_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/fuzz");
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            targets::run(&name, "");
        }
    }
}
