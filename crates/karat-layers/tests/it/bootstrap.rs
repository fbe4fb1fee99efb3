//! Real systems from the system's package archives.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use karat_layers::{
    Bootstrap, Control, Error, Install, Layer, Progress, Resolving, Result, Store, Variant,
};

use super::support::{cache, is_root, list, temp};

fn small(packages: &[&str]) -> Bootstrap {
    Bootstrap {
        suite: "bookworm".into(),
        variant: Variant::Essential,
        packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        ..Bootstrap::default()
    }
}

fn build(store: &Store, spec: &Bootstrap, control: &Control) -> Result<Layer> {
    store.bootstrap("test", &cache(), spec, &Resolving::default(), control)
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

#[test]
fn the_same_lock_gives_the_same_bytes_and_packages_go_on_top() {
    if !is_root() {
        return;
    }
    let before = mounts();
    let dir = temp();
    let spec = small(&["openssh-server", "systemd-sysv"]);
    let mut digests = Vec::new();
    let lock = dir.path().join("packages.lock.json");
    let how = Resolving { update: false, lock_file: Some(lock.clone()) };
    for name in ["one", "two"] {
        let store = Store::open(dir.path().join(name)).unwrap();
        let base = store.bootstrap("test", &cache(), &spec, &how, &Control::default()).unwrap();
        let listing = list(&store, base.digest);
        assert!(!listing.contains("ssh_host_"), "host keys were baked in");
        assert!(listing.contains("etc/machine-id f 444 0 0 0 "), "machine-id is not empty");
        assert!(listing.contains("karat-ssh-host-keys.service"));
        assert!(!listing.contains("policy-rc.d"), "the service guard was left behind");
        assert!(!listing.contains("etc/resolv.conf"));
        // The state of every package is as dpkg would leave it.
        let status = store.read_file(base.digest, "/var/lib/dpkg/status").unwrap().unwrap();
        let status = String::from_utf8(status).unwrap();
        let states: Vec<&str> = status.lines().filter(|l| l.starts_with("Status: ")).collect();
        assert!(states.len() > 60, "{}", states.len());
        assert!(states.iter().all(|state| *state == "Status: install ok installed"), "{states:?}");

        let nginx = Install { packages: vec!["nginx-light".into()], ..Install::default() };
        let top = store
            .install_packages("test", &cache(), base.digest, &nginx, &Resolving::default(), &Control::default())
            .unwrap();
        assert_eq!(top.info.parent, Some(base.digest));
        assert!(store.read_file(top.digest, "/usr/sbin/nginx").unwrap().is_some());
        assert!(store.read_file(base.digest, "/usr/sbin/nginx").unwrap().is_none());
        // What is there already adds no layer.
        let again = store
            .install_packages("test", &cache(), top.digest, &nginx, &Resolving::default(), &Control::default())
            .unwrap();
        assert_eq!(again.digest, top.digest);
        digests.push((base.digest, top.digest));
        assert_eq!(std::fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);
    }
    assert_eq!(digests[0], digests[1]);
    assert!(lock.exists());
    assert_eq!(mounts(), before, "mounts were left on the host");
}

#[test]
fn an_unknown_package_is_named() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let error = build(&store, &small(&["no-such-package"]), &Control::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("Unable to locate package no-such-package"), "{text}");
    assert!(text.contains("check the name `no-such-package`"), "{text}");
    let error = build(&store, &small(&["-o"]), &Control::default()).unwrap_err().to_string();
    assert!(error.contains("`-o` is not the name of a package"), "{error}");
}

#[test]
fn cancelling_in_any_phase_leaves_nothing() {
    if !is_root() {
        return;
    }
    let before = mounts();
    let spec = small(&[]);
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    // Fill the lock and the cache, and count the phases of a whole build.
    let phases = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&phases);
    let control = Control::new(Arc::default(), move |progress| {
        if let Progress::Phase(words) = progress {
            seen.lock().unwrap().push(words);
        }
    });
    let whole = build(&store, &spec, &control).unwrap();
    let phases = phases.lock().unwrap().clone();
    store.gc(&[]).unwrap();
    for stop_at in 0..phases.len() {
        let cancel = Arc::new(AtomicBool::new(false));
        let (flag, count) = (Arc::clone(&cancel), AtomicUsize::new(0));
        let control = Control::new(cancel, move |progress| {
            if matches!(progress, Progress::Phase(_)) && count.fetch_add(1, Ordering::Relaxed) == stop_at {
                flag.store(true, Ordering::Relaxed);
            }
        });
        match build(&store, &spec, &control) {
            Err(Error::Cancelled) => {}
            // Fewer phases now that the lock is there.
            Ok(layer) => {
                assert_eq!(layer.digest, whole.digest);
                store.gc(&[]).unwrap();
            }
            Err(error) => panic!("cancelled at {stop_at}: {error}"),
        }
        assert_eq!(std::fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);
        assert_eq!(mounts(), before);
    }
    assert_eq!(inside(dir.path()), Vec::<String>::new());
}

/// Processes whose root directory lies in a directory.
fn inside(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(root) = std::fs::read_link(entry.path().join("root")) else { continue };
        if root.starts_with(dir) {
            out.push(format!("{}: {}", entry.path().display(), root.display()));
        }
    }
    out
}
