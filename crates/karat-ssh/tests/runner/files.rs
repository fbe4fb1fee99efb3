//! Files and folders, up and down.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use karat_ssh::{Session, SshConfig, SshError};
use karat_testing::relay::Relay;
use karat_testing::sshd::Sshd;
use tokio_util::sync::CancellationToken;

use crate::common::{config, connect, noise, server, session, text};

fn sftp(server: &Sshd) -> SshConfig {
    SshConfig { ssh_file_transfer_method: "sftp".into(), ..config(server) }
}

/// Through a relay that is far away, so that every way to save round trips is used.
fn far(server: &Sshd) -> (Relay, SshConfig) {
    let relay = Relay::start(server.port(), Duration::from_millis(30)).unwrap();
    let config = SshConfig { ssh_port: relay.port(), ..config(server) };
    (relay, config)
}

async fn up(session: &Session, bytes: &[u8], to: &Path, mode: Option<u32>) -> Result<(), SshError> {
    let mut reader = bytes;
    session.upload(&mut reader, &text(to), mode, &CancellationToken::new()).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_of_every_size() {
    let Some(server) = server(&[]) else { return };
    let (_relay, far) = far(&server);
    for (way, config) in [("near", config(&server)), ("far", far), ("sftp", sftp(&server))] {
        let session = connect(config).await.unwrap();
        let folder = server.path(way);
        fs::create_dir(&folder).unwrap();
        for size in [0, 1, 100_000, 3 << 20, 20 << 20, (48 << 20), (48 << 20) + 5] {
            let data = noise(size);
            let path = folder.join(format!("{size} bytes"));
            up(&session, &data, &path, Some(0o640)).await.unwrap_or_else(|e| panic!("{way}: {e}"));
            assert!(fs::read(&path).unwrap() == data, "{way} {size}");
            assert_eq!(mode(&path), 0o640, "{way} {size}");
            let back = folder.join("back");
            session.download(&text(&path), &back, &CancellationToken::new()).await.unwrap();
            assert!(fs::read(&back).unwrap() == data, "{way} {size}");
            fs::remove_file(path).unwrap();
        }
        assert_eq!(names(&folder), ["back"], "{way} leaves nothing else");
    }
}

#[tokio::test]
async fn an_existing_file_keeps_what_it_is() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    let path = server.path("config.txt");
    let link = server.path("link");
    fs::write(&path, "old and longer than the new one").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::chown(&path, Some(54_321), Some(54_321)).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    up(&session, b"new", &link, None).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!((mode(&path), fs::metadata(&path).unwrap().uid()), (0o604, 54_321));
    up(&session, b"new", &path, Some(0o600)).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    up(&session, b"x", &server.path("fresh"), None).await.unwrap();
    assert_eq!(mode(&server.path("fresh")), 0o644);
    let mut reader = b"home".as_slice();
    let cancel = CancellationToken::new();
    let user =
        connect(SshConfig { ssh_username: karat_testing::sshd::USER.into(), ..config(&server) })
            .await
            .unwrap();
    user.upload(&mut reader, "~/in my home", None, &cancel).await.unwrap();
    assert_eq!(fs::read(server.home().join("in my home")).unwrap(), b"home");
}

#[tokio::test]
async fn refusals_name_the_place_and_the_reason() {
    let Some(server) = server(&[]) else { return };
    let cancel = CancellationToken::new();
    for config in [config(&server), sftp(&server)] {
        let way = config.ssh_file_transfer_method.clone();
        let session = connect(config).await.unwrap();
        for place in ["/no/such/folder/x", "/proc/x"] {
            let error = up(&session, b"x", Path::new(place), None).await.unwrap_err();
            assert!(matches!(&error, SshError::Transfer { path, .. } if path == place), "{error}");
        }
        let error = up(&session, b"x", &server.home(), None).await.unwrap_err().to_string();
        assert!(error.contains(&text(&server.home())), "{way}: {error}");
        let here = server.path("never");
        let error = session.download("/no/such/file", &here, &cancel).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{way}: {error}");
        assert!(session.download("/etc", &here, &cancel).await.is_err(), "{way}");
        assert!(session.download_dir("/no/such", &here, &cancel).await.is_err(), "{way}");
        assert!(!here.is_file(), "{way}");
        let error = session.upload_dir("/no/such/".as_ref(), "/tmp", &cancel).await.unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{way}: {error}");
    }
}

/// A folder with 200 files, folders in folders, a link to each kind, and names of all sorts.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/empty")).unwrap();
    for i in 0..200 {
        fs::write(root.join(format!("file {i}")), format!("content {i}\n").repeat(i)).unwrap();
    }
    fs::write(root.join("a/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("a/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.join("a/b/ü'\"$(x)\n.txt"), noise(70_000)).unwrap();
    fs::write(root.join(format!("a/b/{}", "long".repeat(40))), "x").unwrap();
    std::os::unix::fs::symlink("a/run", root.join("link")).unwrap();
    std::os::unix::fs::symlink("a/b", root.join("folder link")).unwrap();
}

fn same(one: &Path, other: &Path) {
    assert_eq!(names(one), names(other), "{} and {}", one.display(), other.display());
    for name in names(one) {
        let (one, other) = (one.join(&name), other.join(&name));
        if one.is_dir() {
            same(&one, &other);
        } else {
            assert!(fs::read(&one).unwrap() == fs::read(&other).unwrap(), "{name}");
            assert_eq!(mode(&one), mode(&other), "{name}");
        }
    }
}

#[tokio::test]
async fn folders_up_and_down() {
    let Some(server) = server(&[]) else { return };
    let cancel = CancellationToken::new();
    let tree = server.path("tree");
    make_tree(&tree);
    let (_relay, far) = far(&server);
    for (way, config) in [("near", config(&server)), ("far", far), ("sftp", sftp(&server))] {
        let session = connect(config).await.unwrap();
        let there = server.path(&format!("{way}/x y"));
        session.upload_dir(&tree, &text(&there), &cancel).await.unwrap();
        same(&tree, &there.join("tree"));
        assert_eq!(names(&there), ["tree"], "{way}");
        // With a slash: the contents, over what is there.
        fs::write(there.join("kept"), "").unwrap();
        let slash = format!("{}/", tree.display());
        session.upload_dir(slash.as_ref(), &text(&there), &cancel).await.unwrap();
        assert!(there.join("kept").exists() && there.join("a/run").exists(), "{way}");
        fs::remove_file(there.join("kept")).unwrap();
        fs::remove_dir_all(there.join("tree")).unwrap();
        same(&tree, &there);

        let here = server.path(&format!("{way} back"));
        let from = format!("{}/", there.display());
        session.download_dir(&from, &here, &cancel).await.unwrap();
        same(&tree, &here);
        session.download_dir(&text(&there), &here, &cancel).await.unwrap();
        same(&tree, &here.join("x y"));
    }
}

#[tokio::test]
async fn a_folder_larger_than_memory_is_streamed() {
    let Some(server) = server(&[]) else { return };
    let tree = server.path("tree");
    fs::create_dir_all(&tree).unwrap();
    for i in 0..3 {
        fs::write(tree.join(i.to_string()), noise((20 << 20) + i)).unwrap();
    }
    let session = session(&server).await;
    let there = server.path("there");
    session.upload_dir(&tree, &text(&there), &CancellationToken::new()).await.unwrap();
    same(&tree, &there.join("tree"));
    fs::remove_dir_all(&there).unwrap();
}

#[tokio::test]
async fn a_link_that_leads_to_itself_is_an_error() {
    let Some(server) = server(&[]) else { return };
    let tree = server.path("tree");
    fs::create_dir_all(tree.join("a")).unwrap();
    std::os::unix::fs::symlink("..", tree.join("a/up")).unwrap();
    let session = session(&server).await;
    let error = session
        .upload_dir(&tree, &text(&server.path("there")), &CancellationToken::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("a/up") && error.contains("leads back"), "{error}");
}

#[tokio::test]
async fn what_is_there_already_is_not_sent_again() {
    let Some(server) = server(&[]) else { return };
    let relay = Relay::start(server.port(), Duration::from_millis(150)).unwrap();
    let session = connect(SshConfig { ssh_port: relay.port(), ..config(&server) }).await.unwrap();
    let data = noise(40 << 20);
    let path = server.path("large");
    up(&session, &data, &path, None).await.unwrap();
    // All of it would take 20 seconds now; comparing checksums takes a fraction of one.
    relay.narrow(2 << 20);
    let before = relay.passed();
    up(&session, &data, &path, Some(0o700)).await.unwrap();
    let sent = relay.passed() - before;
    assert!(sent < 30 << 20, "{sent} bytes were sent");
    relay.narrow(u64::MAX);
    assert!(fs::read(&path).unwrap() == data);
    assert_eq!(mode(&path), 0o700);
    let mut other = data;
    other[30 << 20] ^= 1;
    up(&session, &other, &path, None).await.unwrap();
    assert!(fs::read(&path).unwrap() == other);
    // What was on its way is swept up by the machine by itself.
    for _ in 0..600 {
        if !names(server.path("").as_path()).iter().any(|n| n.starts_with(".karat")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("left: {:?}", names(server.path("").as_path()));
}
