//! Archives, unpacked again by the programs that everybody has.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use karat_component::testing::{
    self, Component, Recorded, artifact, body, ends_when_cancelled, leaves_nothing,
    post_process_context, post_processor,
};
use karat_component::{ComponentError, Processed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::Compress;
use super::blocks::{Blocks, Codec};
use super::gzip::{Bgzf, Gzip};

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Text that compresses, and some that does not.
fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut state = 1u32;
    for i in 0..600_000u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let byte = if i % 3 == 0 { state.to_le_bytes()[3] } else { b'a' };
        bytes.extend_from_slice(&[byte, b'x', b'y', b'z']);
    }
    bytes
}

async fn run(options: Value, files: &[String]) -> (Result<Processed, ComponentError>, Recorded) {
    let (events, recorded) = Recorded::new(&[]);
    let cx = post_process_context(events, CancellationToken::new());
    (post_processor(Compress, &options).post_process(&cx, artifact(files)).await, recorded)
}

fn shell(line: &str) -> Vec<u8> {
    let out = Command::new("/bin/sh").args(["-ec", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn complies() {
    let component = Component::PostProcessor(Arc::new(Compress));
    testing::options(&component, &body(&json!({})));
    testing::options(&component, &body(&json!({ "output": "{{.BuildName}}.tar.xz" })));
    let found = component
        .errors(&body(&json!({ "format": "tar.gx", "compression_level": 12, "output": "a/" })))
        .join("\n");
    for part in
        ["\"tar.gx\" is no archive format", "Did you mean \"tar.gz\"?", "12 is no", "name a file"]
    {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
}

#[tokio::test]
async fn every_compression_is_undone_by_its_program() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = sample();
    let input = file(&dir, "disk.raw", &bytes);
    for (ending, program) in [
        ("gz", "gzip -dc"),
        ("bgzf", "gzip -dc"),
        ("lz4", "lz4 -dc"),
        ("xz", "xz -dc"),
        ("zst", "zstd -dcq"),
    ] {
        let output = dir.path().join(format!("out.{ending}"));
        let output = output.to_str().unwrap();
        let (result, recorded) =
            run(json!({ "output": output, "compression_level": 4 }), std::slice::from_ref(&input))
                .await;
        let processed = result.unwrap();
        assert!(shell(&format!("{program} < '{output}'")) == bytes, "{ending} differs");
        let size = std::fs::metadata(output).unwrap().len();
        assert!(size < bytes.len() as u64, "{ending} is not smaller");
        assert!(!processed.keep && !processed.force);
        let made = processed.artifact.unwrap();
        assert_eq!(made.description, format!("compressed artifacts in: {output}"));
        assert_eq!(made.files, [Path::new(output)]);
        assert_eq!(recorded.said().last().unwrap(), &format!("Archive {output} completed"));
    }
}

#[tokio::test]
async fn archives_hold_the_files_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let files = [file(&dir, "x/one", b"1"), file(&dir, "y/two", b"22")];
    for (ending, list) in [
        ("tar", "tar tf"),
        ("tar.gz", "tar tzf"),
        ("tgz", "tar tzf"),
        ("tar.xz", "tar tJf"),
        ("tar.zst", "tar --zstd -tf"),
        ("tar.lz4", "tar --use-compress-program=lz4 -tf"),
        ("noending", "tar tzf"),
        ("zip", "unzip -Z1"),
    ] {
        let output = dir.path().join(format!("new/folder/a.{ending}"));
        let output = output.to_str().unwrap();
        run(json!({ "output": output }), &files).await.0.unwrap();
        let names = String::from_utf8(shell(&format!("{list} '{output}'"))).unwrap();
        assert_eq!(names, "one\ntwo\n", "{ending}");
    }
    let zip = dir.path().join("new/folder/a.zip");
    assert_eq!(shell(&format!("unzip -p '{}' two", zip.display())), b"22");
    let tar = dir.path().join("new/folder/a.tar");
    let listing = String::from_utf8(shell(&format!("tar tvf '{}'", tar.display()))).unwrap();
    assert!(listing.contains("root/root") && listing.contains("1970-01-01"), "{listing}");
}

#[tokio::test]
async fn names_and_the_format_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let files = [file(&dir, "one", b"1")];
    let pattern = format!("{}/{{{{.BuildName}}}}-{{{{.BuilderType}}}}.img", dir.path().display());
    let options = json!({ "output": pattern, "format": "xz" });
    let (result, recorded) = run(options, &files).await;
    let made = result.unwrap().artifact.unwrap();
    assert_eq!(made.files, [dir.path().join("test-null.img")]);
    assert_eq!(shell(&format!("xz -dc < '{}'", made.files[0].display())), b"1");
    let said = recorded.said();
    assert!(said[0].starts_with("Using xz compression with "), "{said:?}");
    assert_eq!(said[1], format!("Archiving {} with xz", files[0]));
}

#[tokio::test]
async fn what_cannot_be_packed_is_told_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let folders: &[&Path] = &[dir.path()];
    let files = [file(&dir, "one", b"1"), file(&dir, "two", b"2")];
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let work = async { run(json!({ "output": at("a.gz") }), &files).await.0 };
    let error = leaves_nothing(folders, work).await;
    assert!(error.to_string().starts_with("Can only have 1 input file when not using tar/zip."));
    assert!(error.hint().unwrap().contains(".tar"));
    let work = async { run(json!({ "output": at("new/a.tar") }), &[at("none")]).await.0 };
    let error = leaves_nothing(folders, work).await;
    assert!(error.to_string().contains("cannot read"), "{error}");
    let work = async { run(json!({ "output": at("a.tar") }), &[]).await.0 };
    let error = leaves_nothing(folders, work).await;
    assert!(error.to_string().contains("has no files"), "{error}");
    let work = async { run(json!({ "output": files[0] }), &files).await.0 };
    let error = leaves_nothing(folders, work).await;
    assert!(error.to_string().contains("would replace a file"), "{error}");
}

#[tokio::test]
async fn ends_at_once_when_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let big = dir.path().join("big");
    // Holes: much to read, nothing on the disk.
    std::fs::File::create(&big).unwrap().set_len(200 << 30).unwrap();
    for ending in ["tar.gz", "zip", "xz", "zst", "lz4", "bgzf", "tar"] {
        let output = dir.path().join(format!("new/a.{ending}"));
        let prepared = post_processor(Compress, &json!({ "output": output }));
        ends_when_cancelled(&[dir.path()], |cancel| {
            let cx = post_process_context(Recorded::new(&[]).0, cancel);
            let (prepared, artifact) = (&prepared, artifact([&big]));
            async move { prepared.post_process(&cx, artifact).await }
        })
        .await;
    }
}

fn packed<C: Codec>(codec: C, threads: usize, bytes: &[u8]) -> Vec<u8> {
    let mut writer = Blocks::new(Vec::new(), codec, threads).unwrap();
    for piece in bytes.chunks(100_003) {
        writer.write_all(piece).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn the_number_of_threads_does_not_change_the_bytes() {
    let bytes = sample();
    let one = packed(Gzip { level: 3 }, 1, &bytes);
    assert!(one == packed(Gzip { level: 3 }, 5, &bytes));
    assert!(packed(Bgzf { level: 3 }, 1, &bytes) == packed(Bgzf { level: 3 }, 5, &bytes));
    for bytes in [&[][..], b"x", &bytes[..65_280], &bytes[..(1 << 20)]] {
        let mut read = Vec::new();
        let gz = packed(Gzip { level: 6 }, 2, bytes);
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gz[..]), &mut read).unwrap();
        assert!(read == bytes, "gzip of {} bytes", bytes.len());
        read.clear();
        let bgzf = packed(Bgzf { level: 6 }, 2, bytes);
        let mut decoder = flate2::read::MultiGzDecoder::new(&bgzf[..]);
        std::io::Read::read_to_end(&mut decoder, &mut read).unwrap();
        assert!(read == bytes, "bgzf of {} bytes", bytes.len());
    }
}

/// A disk that is full after some bytes.
#[derive(Debug)]
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.0);
        self.0 -= count;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    let bytes = sample();
    for room in [0, 5, 100_000] {
        let failed = Blocks::new(Full(room), Gzip { level: 1 }, 3)
            .and_then(|mut w| w.write_all(&bytes).map(|()| w))
            .and_then(Blocks::finish)
            .unwrap_err();
        assert_eq!(failed.kind(), std::io::ErrorKind::StorageFull);
    }
}
