//! The initramfs: made once per kernel and configuration, whatever else an image has in it.
//!
//! While packages are installed, `update-initramfs` only notes that it was called. Afterwards one
//! initramfs per kernel is made, or taken from the store. Its key covers the kernel, its modules
//! and everything that configures or scripts `initramfs-tools`; the record under the key also
//! holds the digest of every file that went in, and counts only while those are unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::manifest::{Item, Kind};
use crate::merge::Node;
use crate::sandbox::Sandbox;
use crate::scan::scan;
use crate::store::Store;
use crate::{Control, Digest, Error, LayerKey, Result};

const CALLS: &str = "run/karat/initramfs-calls";

/// What an initramfs is made by and from, beside the files that end up in it.
const INPUTS: &[&str] = &[
    "etc/initramfs-tools",
    "usr/share/initramfs-tools",
    "etc/modprobe.d",
    "usr/lib/modprobe.d",
    "etc/udev",
    "usr/lib/udev",
    "etc/kernel",
    "etc/crypttab",
    "etc/fstab",
    "etc/mdadm",
    "etc/lvm",
    "etc/default/keyboard",
    "usr/sbin/mkinitramfs",
    "usr/lib/firmware",
];

/// A made initramfs.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    initrd: Digest,
    /// Path in the image to digest, for every file in it that is also in the image.
    files: BTreeMap<String, Digest>,
}

/// Makes `update-initramfs` note its calls instead of working.
pub(crate) fn defer(sandbox: &Sandbox) -> Result<()> {
    sandbox.shim("update-initramfs", &format!("echo \"$@\" >>/{CALLS}"))
}

/// Whether `update-initramfs` was called.
pub(crate) fn wanted(sandbox: &Sandbox) -> bool {
    sandbox.root().join(CALLS).exists()
}

/// Makes what the noted calls asked for.
pub(crate) fn finish(store: &Store, sandbox: &Sandbox, run: &str, control: &Control) -> Result<()> {
    if !wanted(sandbox) {
        return Ok(());
    }
    sandbox.unshim("update-initramfs")?;
    let root = sandbox.root();
    if !root.join("usr/sbin/mkinitramfs").exists() {
        // Another generator, such as dracut, has the same front end.
        return sandbox.run(&["update-initramfs", "-c", "-k", "all"]);
    }
    for version in kernels(root)? {
        control.check()?;
        let key = key(root, &version, control)?;
        let initrd = match lookup(store, key, root)? {
            Some(found) => found,
            None => {
                let _lock = store.lock(&format!("boot-{key}"), control)?;
                match lookup(store, key, root)? {
                    Some(found) => found,
                    None => make(store, sandbox, key, &version, run, control)?,
                }
            }
        };
        let at = root.join("boot").join(format!("initrd.img-{version}"));
        fs::copy(store.blob_path(initrd), &at).map_err(Error::io("write", &at))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o644))
            .map_err(Error::io("set the mode of", &at))?;
        // What `update-initramfs -u` looks at to see which kernels it cares for.
        let note = format!(
            "mkdir -p /var/lib/initramfs-tools && sha1sum /boot/initrd.img-{version} >/var/lib/initramfs-tools/{version}"
        );
        sandbox.run(&["/bin/sh", "-c", &note])?;
    }
    Ok(())
}

/// The kernels with modules, in order of their names.
fn kernels(root: &Path) -> Result<Vec<String>> {
    let boot = root.join("boot");
    let mut out = Vec::new();
    for entry in fs::read_dir(&boot).map_err(Error::io("list", &boot))? {
        let name = entry.map_err(Error::io("list", &boot))?.file_name();
        let Some(version) = name.to_str().and_then(|name| name.strip_prefix("vmlinuz-")) else {
            continue;
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._~".contains(c);
        if version.chars().all(plain) && root.join("usr/lib/modules").join(version).is_dir() {
            out.push(version.to_owned());
        }
    }
    out.sort();
    Ok(out)
}

fn key(root: &Path, version: &str, control: &Control) -> Result<Digest> {
    let mut key = LayerKey::new(None, "initramfs", &serde_json::json!({ "kernel": version }))?;
    let own = [
        format!("usr/lib/modules/{version}"),
        format!("boot/vmlinuz-{version}"),
        format!("boot/config-{version}"),
    ];
    for path in own.iter().map(String::as_str).chain(INPUTS.iter().copied()) {
        let at = root.join(path);
        let Ok(meta) = fs::symlink_metadata(&at) else { continue };
        let digest = if meta.is_dir() {
            // Times do not matter: `mkinitramfs` sets them.
            let mut text = String::new();
            for item in scan(&at, control)?.items() {
                let item = Item { mtime: 0, uid: 0, gid: 0, xattrs: Vec::new(), ..item.clone() };
                text.push_str(&format!(
                    "{} {:?} {:o}\n",
                    item.path.escape_ascii(),
                    item.kind,
                    item.mode
                ));
            }
            Digest::of(text)
        } else if meta.is_file() {
            Digest::of_file(&at)?
        } else {
            Digest::of(format!("{:?}", fs::read_link(&at).ok()))
        };
        key = key.input(path, digest);
    }
    Ok(key.digest())
}

fn record_name(key: Digest) -> String {
    format!("initramfs-{key}")
}

fn lookup(store: &Store, key: Digest, root: &Path) -> Result<Option<Digest>> {
    let at = store.dir().join("blobs").join(record_name(key));
    let Ok(text) = fs::read(&at) else { return Ok(None) };
    // A damaged record is as good as none: it is made again.
    let Ok(record) = serde_json::from_slice::<Record>(&text) else { return Ok(None) };
    for (path, digest) in &record.files {
        let at = inside(root, path);
        let same = at.is_some_and(|at| Digest::of_file(&at).is_ok_and(|found| found == *digest));
        if !same {
            return Ok(None);
        }
    }
    let blob = store.blob_path(record.initrd);
    Ok((Digest::of_file(&blob).ok() == Some(record.initrd)).then_some(record.initrd))
}

/// A regular file of the image on the host, following directory links within the image only.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let file = openat2(&dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let at = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    let real = fs::read_link(at).ok()?;
    fs::metadata(&real).ok()?.is_file().then_some(real)
}

/// Runs `mkinitramfs` for one kernel and keeps the result.
fn make(
    store: &Store,
    sandbox: &Sandbox,
    key: Digest,
    version: &str,
    run: &str,
    control: &Control,
) -> Result<Digest> {
    control.phase(format!("making the initramfs of {version}"));
    let root = sandbox.root();
    let config = root.join(format!("boot/config-{version}"));
    let zstd = fs::read_to_string(&config).is_ok_and(|text| text.contains("CONFIG_RD_ZSTD=y"));
    // `mkinitramfs` sets its own search path, so the stand-in has to lie over the real name. It
    // leaves the archive as it is; it is compressed below, faster.
    let cover = root.join("usr/bin/zstd");
    let made = zstd && cover.symlink_metadata().is_err();
    if zstd {
        // Some versions name a file last, others write to a pipe.
        let copy =
            "for last; do :; done\nif [ -f \"$last\" ]; then exec cat \"$last\"; else exec cat; fi";
        sandbox.shim("karat-copy", copy)?;
        if made {
            fs::write(&cover, b"").map_err(Error::io("make", &cover))?;
        }
        rustix::mount::mount_bind(root.join("run/karat/bin/karat-copy"), &cover)
            .map_err(Error::sys("mount", &cover))?;
    }
    // A time that depends on the kernel alone, so that newer package lists change nothing.
    let vmlinuz = root.join(format!("boot/vmlinuz-{version}"));
    let epoch = fs::metadata(&vmlinuz).map_err(Error::io("read", &vmlinuz))?.mtime();
    let epoch = format!("SOURCE_DATE_EPOCH={epoch}");
    let mut argv = vec!["env", "TMPDIR=/run/karat", &epoch, "mkinitramfs"];
    if zstd {
        argv.extend(["-c", "zstd"]);
    }
    argv.extend(["-o", "/run/karat/initrd", version]);
    let result = sandbox.run(&argv);
    if zstd {
        rustix::mount::unmount(&cover, rustix::mount::UnmountFlags::DETACH)
            .map_err(Error::sys("unmount", &cover))?;
        if made {
            fs::remove_file(&cover).map_err(Error::io("remove", &cover))?;
        }
    }
    result?;
    let at = root.join("run/karat/initrd");
    let raw = fs::read(&at).map_err(Error::io("read", &at))?;
    fs::remove_file(&at).map_err(Error::io("remove", &at))?;
    control.check()?;
    let early = early_length(&raw);
    let (plain, packed) = if raw[early..].starts_with(b"070701") {
        let body = zstd::bulk::compress(&raw[early..], 6).map_err(Error::io("compress", &at))?;
        (raw[early..].to_vec(), [&raw[..early], &body].concat())
    } else {
        // The image's own choice of compression stands.
        let mut plain = Vec::new();
        crate::deb::decompress(std::io::Cursor::new(raw[early..].to_vec()), "initramfs")?
            .read_to_end(&mut plain)
            .map_err(Error::io("decompress", &at))?;
        (plain, raw)
    };
    let names = cpio_files(&plain);
    if !names.iter().any(|name| name == b"init") {
        return Err(Error::Archive {
            what: format!("initramfs of {version}"),
            reason: format!(
                "`mkinitramfs` gave {} bytes with {} files and no `init` in them",
                plain.len(),
                names.len()
            ),
        });
    }
    let mut files = BTreeMap::new();
    for name in names {
        let Ok(name) = String::from_utf8(name) else { continue };
        if let Some(at) = inside(root, &name) {
            files.insert(name, Digest::of_file(&at)?);
        }
    }
    let initrd = store.keep_blob(&packed)?;
    let record = serde_json::to_vec(&Record { initrd, files })
        .map_err(|error| Error::Invalid(format!("initramfs record: {error}")))?;
    tracing::debug!(run, %initrd, "made an initramfs");
    store.write("blobs", &record_name(key), &record)?;
    Ok(initrd)
}

/// One member of a cpio archive in the "newc" form: name, mode, and where the next begins.
fn cpio_member(bytes: &[u8], at: usize) -> Option<(&[u8], u32, usize)> {
    let header = bytes.get(at..at + 110)?;
    if !header.starts_with(b"070701") {
        return None;
    }
    let number = |index: usize| {
        let text = std::str::from_utf8(&header[6 + index * 8..14 + index * 8]).ok()?;
        u32::from_str_radix(text, 16).ok()
    };
    let (mode, size, name_size) = (number(1)?, number(6)? as usize, number(11)? as usize);
    let name = bytes.get(at + 110..at + 110 + name_size.checked_sub(1)?)?;
    let data = (at + 110 + name_size).next_multiple_of(4);
    Some((name, mode, (data + size).next_multiple_of(4)))
}

/// How many bytes of uncompressed archives for early use (microcode) stand before the main one.
fn early_length(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        let mut at = start;
        let mut microcode = false;
        loop {
            let Some((name, _, next)) = cpio_member(bytes, at) else { return start };
            microcode |= name.starts_with(b"kernel/");
            at = next;
            if name == b"TRAILER!!!" {
                break;
            }
        }
        while bytes.get(at) == Some(&0) {
            at += 1;
        }
        if !microcode || at >= bytes.len() {
            return start;
        }
        start = at;
    }
}

/// The names of the regular files in cpio archives that stand one behind the other: modules that
/// are compressed already come in one of their own, before the rest.
fn cpio_files(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some((name, mode, next)) = cpio_member(bytes, at) {
        if name == b"TRAILER!!!" {
            at = next;
            while bytes.get(at) == Some(&0) {
                at += 1;
            }
            continue;
        }
        if mode & 0o170_000 == 0o100_000 {
            out.push(name.strip_prefix(b"./").unwrap_or(name).to_vec());
        }
        at = next;
    }
    out
}

/// Follows links in a merged view, as the kernel would with the image as its root.
pub(crate) fn resolve(view: &BTreeMap<Vec<u8>, Node>, path: &[u8]) -> Option<Vec<u8>> {
    let mut pending: Vec<Vec<u8>> =
        path.split(|b| *b == b'/').filter(|p| !p.is_empty()).rev().map(<[u8]>::to_vec).collect();
    let mut at: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(part) = pending.pop() {
        match part.as_slice() {
            b"." | b"" => continue,
            b".." => {
                let end = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                at.truncate(end);
                continue;
            }
            _ => {}
        }
        let next = [&at[..], b"/", &part].concat();
        match &view.get(&next)?.item.kind {
            Kind::Symlink(target) => {
                links += 1;
                if links > 40 {
                    return None;
                }
                if target.starts_with(b"/") {
                    at.clear();
                }
                pending.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
            }
            _ => at = next,
        }
    }
    Some(at)
}
