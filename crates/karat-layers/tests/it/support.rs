//! What the tests share: a place to work, root, trees made by a shell.

use std::path::{Path, PathBuf};
use std::process::Command;

use karat_layers::{Base, Control, Digest, ImportFile, Layer, Normalise, Resolving, Store};

/// Whether the test can run; says why when not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("layers-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Downloads and package lists are kept between runs.
pub(crate) fn cache() -> PathBuf {
    let dir = std::env::var_os("KARAT_TEST_CACHE")
        .filter(|dir| Path::new(dir).is_absolute())
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"), PathBuf::from);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs a shell script that must succeed and returns what it wrote.
pub(crate) fn shell(dir: &Path, script: &str) -> String {
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", script])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A base layer from a tree that a script makes in the directory `tree`.
pub(crate) fn base(store: &Store, dir: &Path, script: &str) -> Layer {
    shell(
        dir,
        &format!(
            "rm -rf tree; mkdir tree; (cd tree; {script}); tar -C tree --xattrs --xattrs-include='*' -cf base.tar ."
        ),
    );
    let spec = ImportFile {
        source: dir.join("base.tar").display().to_string(),
        sha256: None,
        normalise: Normalise::default(),
    };
    let how = Resolving::default();
    store.base("test", dir, &Base::Tar(spec), &how, &Control::default()).unwrap()
}

/// Runs a script in `merged`, an overlay of a layer, and prints the tree as the kernel shows it.
/// The upper directory is left in `upper`.
pub(crate) fn on_overlay(store: &Store, digest: Digest, dir: &Path, script: &str) -> String {
    let lower: Vec<String> =
        store.lower_dirs(digest).unwrap().iter().map(|d| d.display().to_string()).collect();
    shell(
        dir,
        &format!(
            "rm -rf upper work merged; mkdir upper work merged
             chmod --reference={} upper
             mount -t overlay karat -o lowerdir={},upperdir=upper,workdir=work,redirect_dir=off,metacopy=off,index=off merged
             (cd merged; {script})
             (cd merged; {LIST})",
            lower[0],
            lower.join(":")
        ),
    )
}

/// Lists a tree with everything but times: a line per name, sorted.
pub(crate) const LIST: &str = r#"find . -printf '%P %y %m %U %G %l ' \( -type f -printf '%s ' -exec sha256sum -z {} \; -o -true \) -printf '\n' | tr '\0' ' ' | sed 's/ \.\/.*$//; s/ *$//' | LC_ALL=C sort"#;

/// The merged entries of a layer in the form of [`LIST`].
pub(crate) fn list(store: &Store, digest: Digest) -> String {
    use karat_disk::Kind;
    let entries = store.merged_entries(digest).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for entry in &entries {
        let path = String::from_utf8_lossy(&entry.path[1..]).into_owned();
        let source = match &entry.kind {
            Kind::Hardlink(target) => entries.iter().find(|e| e.path == *target).unwrap(),
            _ => entry,
        };
        let mut rest = String::new();
        let kind = match &source.kind {
            Kind::File { size, digest, content } => {
                let digest = Digest(digest.unwrap());
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut content.reader(*size).unwrap(), &mut bytes)
                    .unwrap();
                assert_eq!(Digest::of(&bytes), digest, "{path}");
                rest = format!("{size} {digest}");
                'f'
            }
            Kind::Directory => 'd',
            Kind::Symlink(target) => {
                rest = String::from_utf8_lossy(target).into_owned();
                'l'
            }
            Kind::CharDevice { .. } => 'c',
            Kind::BlockDevice { .. } => 'b',
            Kind::Fifo => 'p',
            Kind::Socket => 's',
            Kind::Hardlink(_) => unreachable!("a link to a link"),
        };
        let line = format!("{path} {kind} {:o} {} {} {rest}", source.mode, source.uid, source.gid);
        lines.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    lines.sort();
    lines.join("\n")
}

/// The kernel's listing with single spaces, as [`list`] has it.
pub(crate) fn squeeze(text: &str) -> String {
    let mut lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    lines.join("\n")
}
