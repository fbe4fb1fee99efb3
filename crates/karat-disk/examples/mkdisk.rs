//! Writes a directory as a bootable disk and prints timings:
//! `mkdisk DIRECTORY OUTPUT... [--size MIB] [--digest] [--no-boot]
//! [--update]`.
//!
//! `--update` then changes one file and brings the outputs up to date in place.
//!
//! Outputs ending in `.zst.qcow2` are compressed qcow2, in `.qcow2` plain qcow2, all else raw.
#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use karat_disk::{
    DiskSpec, Entry, Format, Kind, Output, Report, Timestamp, scan_directory, update_disk,
    write_disk,
};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut spec =
        DiskSpec { seed: b"example".to_vec(), time: 1_700_000_000, ..Default::default() };
    let (mut paths, mut digest, mut update) = (Vec::new(), false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--size" => {
                let mib: u64 = arguments.next().ok_or("--size needs a number of MiB")?.parse()?;
                spec.size = Some(mib << 20);
            }
            "--digest" => digest = true,
            "--update" => update = true,
            "--no-boot" => spec.boot = None,
            _ => paths.push(argument),
        }
    }
    let Some((directory, files)) = paths.split_first() else {
        return Err("usage: mkdisk DIRECTORY OUTPUT... [--size MIB] [--digest] [--no-boot]".into());
    };
    let start = Instant::now();
    let mut entries = scan_directory(Path::new(directory))?;
    println!("{} entries scanned in {:?}", entries.len(), start.elapsed());
    let outputs: Vec<Output> = files
        .iter()
        .map(|file| {
            let compress = file.ends_with(".zst.qcow2");
            let format =
                if file.ends_with(".qcow2") { Format::Qcow2 { compress } } else { Format::Raw };
            Output { path: file.into(), format, digest }
        })
        .collect();
    let page = |text: &'static str| {
        let time = Timestamp::from_secs(1_700_000_000);
        Entry::bytes("/page", 0o644, time, text.as_bytes())
    };
    if update {
        state_digests(&mut entries)?;
        entries.push(page("before"));
    }
    let cancel = AtomicBool::new(false);
    let report = write_disk(&spec, &entries, &outputs, &|_| (), &cancel)?;
    print(&report);
    if update {
        entries.pop();
        entries.push(page("after"));
        print(&update_disk(&spec, &entries, &outputs, &report.previous(), &|_| (), &cancel)?);
    }
    Ok(())
}

/// Reads all contents for their digests, which lists from layers state already.
fn state_digests(entries: &mut [Entry]) -> std::io::Result<()> {
    for entry in entries {
        if let Kind::File { size, content, digest } = &mut entry.kind {
            let mut bytes = Vec::new();
            content.reader(*size)?.read_to_end(&mut bytes)?;
            *digest = Some(Sha256::digest(&bytes).into());
        }
    }
    Ok(())
}

fn print(report: &Report) {
    println!("laid out in {:?}, written in {:?}", report.planning, report.writing);
    for written in &report.outputs {
        println!(
            "{}: disk {} MiB, file {} MiB, on disk {} MiB{}",
            written.path.display(),
            written.disk_size >> 20,
            written.file_size >> 20,
            written.allocated >> 20,
            if written.patched { ", changed in place" } else { "" }
        );
        if let Some(sha256) = written.sha256 {
            let text: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("  sha256 {text}");
        }
    }
}
