//! Writes a directory as a bootable disk and prints timings:
//! `mkdisk DIRECTORY OUTPUT... [--size MIB] [--digest] [--no-boot]
//! [--update]`.
//!
//! Outputs ending in `.zst.qcow2` are compressed qcow2, in `.qcow2` plain qcow2, all else raw.
#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use karat_disk::{DiskSpec, Format, Output, scan_directory, write_disk};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut spec =
        DiskSpec { seed: b"example".to_vec(), time: 1_700_000_000, ..Default::default() };
    let (mut paths, mut digest) = (Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--size" => {
                let mib: u64 = arguments.next().ok_or("--size needs a number of MiB")?.parse()?;
                spec.size = Some(mib << 20);
            }
            "--digest" => digest = true,
            "--no-boot" => spec.boot = None,
            _ => paths.push(argument),
        }
    }
    let Some((directory, files)) = paths.split_first() else {
        return Err("usage: mkdisk DIRECTORY OUTPUT... [--size MIB] [--digest] [--no-boot]".into());
    };
    let start = Instant::now();
    let entries = scan_directory(Path::new(directory))?;
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
    let report = write_disk(&spec, &entries, &outputs, &|_| (), &AtomicBool::new(false))?;
    println!("laid out in {:?}, written in {:?}", report.planning, report.writing);
    for written in report.outputs {
        println!(
            "{}: disk {} MiB, file {} MiB, on disk {} MiB",
            written.path.display(),
            written.disk_size >> 20,
            written.file_size >> 20,
            written.allocated >> 20
        );
        if let Some(sha256) = written.sha256 {
            let text: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("  sha256 {text}");
        }
    }
    Ok(())
}
