//! Writes a directory as a bare ext4 file system: `mkfs DIRECTORY OUTPUT [MIB]`.
#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use karat_disk::{FileSystemSpec, Format, Output, scan_directory, write_file_system};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, output, rest @ ..] = arguments.as_slice() else {
        return Err("usage: mkfs DIRECTORY OUTPUT [MIB]".into());
    };
    let size = rest.first().map(|mib| mib.parse::<u64>().map(|mib| mib << 20)).transpose()?;
    let start = Instant::now();
    let entries = scan_directory(Path::new(directory))?;
    let scanned = start.elapsed();
    let spec = FileSystemSpec {
        seed: b"example".to_vec(),
        size,
        margin: 64 << 20,
        label: "root".into(),
        time: 1_700_000_000,
        reserved_percent: 5,
    };
    let compress = output.ends_with(".zst.qcow2");
    let format = if output.ends_with(".qcow2") { Format::Qcow2 { compress } } else { Format::Raw };
    let outputs = [Output { path: output.into(), format, digest: false }];
    let start = Instant::now();
    let written = write_file_system(&spec, &entries, &outputs, &|_| (), &AtomicBool::new(false))?;
    println!("{} entries scanned in {scanned:?}, written in {:?}", entries.len(), start.elapsed());
    println!("{written:?}");
    Ok(())
}
