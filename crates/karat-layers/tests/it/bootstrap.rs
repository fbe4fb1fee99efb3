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
    let mut layers = Vec::new();
    let lock = dir.path().join("packages.lock.json");
    let how = Resolving { update: false, lock_file: Some(lock.clone()) };
    for name in ["one", "two"] {
        let store = Store::open(dir.path().join(name)).unwrap();
        let base = store.bootstrap("test", &cache(), &spec, &how, &Control::default()).unwrap();
        let listing = list(&store, base.digest);
        assert!(!listing.contains("ssh_host_"), "host keys were baked in");
        assert!(listing.contains("etc/machine-id f 444 0 0 0 "), "machine-id is not empty");
        assert!(listing.contains("karat-ssh-host-keys.service"));
        assert!(!listing.contains("usr/sbin/policy-rc.d"), "the service guard was left behind");
        assert!(!listing.contains("etc/resolv.conf"));
        for kept in ["var/lib/apt/lists/partial d ", "var/cache/apt/archives d "] {
            assert!(listing.contains(kept), "{kept} belongs to a package");
        }
        // The state of every package is as dpkg would leave it.
        let status = store.read_file(base.digest, "/var/lib/dpkg/status").unwrap().unwrap();
        let status = String::from_utf8(status).unwrap();
        let states: Vec<&str> = status.lines().filter(|l| l.starts_with("Status: ")).collect();
        assert!(states.len() > 60, "{}", states.len());
        assert!(states.iter().all(|state| *state == "Status: install ok installed"), "{states:?}");

        let nginx = Install { packages: vec!["nginx-light".into()], ..Install::default() };
        let top = store
            .install_packages(
                "test",
                &cache(),
                base.digest,
                &nginx,
                &Resolving::default(),
                &Control::default(),
            )
            .unwrap();
        assert_eq!(top.info.parent, Some(base.digest));
        assert!(store.read_file(top.digest, "/usr/sbin/nginx").unwrap().is_some());
        assert!(store.read_file(base.digest, "/usr/sbin/nginx").unwrap().is_none());
        // What is there already adds no layer.
        let again = store
            .install_packages(
                "test",
                &cache(),
                top.digest,
                &nginx,
                &Resolving::default(),
                &Control::default(),
            )
            .unwrap();
        assert_eq!(again.digest, top.digest);
        layers.push((base, top));
        assert_eq!(std::fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);
    }
    for (one, two) in [(&layers[0].0, &layers[1].0), (&layers[0].1, &layers[1].1)] {
        let changed = karat_layers::differences(&one.manifest, &two.manifest);
        assert_eq!(changed, Vec::<String>::new());
        assert_eq!(one.digest, two.digest);
    }
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
            if matches!(progress, Progress::Phase(_))
                && count.fetch_add(1, Ordering::Relaxed) == stop_at
            {
                flag.store(true, Ordering::Relaxed);
            }
        });
        match build(&store, &spec, &control) {
            Err(Error::Cancelled) => {}
            // Fewer phases now that the lock is there.
            Ok(layer) => {
                let changed = karat_layers::differences(&whole.manifest, &layer.manifest);
                assert_eq!(changed, Vec::<String>::new());
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

/// A build in a process of its own that is killed leaves work directories and nothing else.
#[test]
fn kill_9_at_any_moment_leaves_only_what_a_sweep_removes() {
    if !is_root() {
        return;
    }
    let before = mounts();
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let spec = small(&[]);
    // Fill the caches, so that kills fall into the build.
    spec.lock(&store, &cache(), &Resolving::default(), &Control::default()).unwrap();
    let start = std::time::Instant::now();
    let mut delay = 200;
    let mut finished = false;
    while !finished {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "it::bootstrap::child_of_the_kill_test", "--ignored", "--nocapture"])
            .env("KARAT_TEST_STATE", store.dir())
            .env("KARAT_TEST_CACHE", cache())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        finished = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel ends the rest within moments.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !inside(dir.path()).is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(inside(dir.path()), Vec::<String>::new(), "after {delay} ms");
        assert_eq!(mounts(), before, "after {delay} ms");
        store.sweep("test").unwrap();
        let left: Vec<_> = std::fs::read_dir(store.dir().join("tmp")).unwrap().flatten().collect();
        assert!(
            left.iter().all(|e| e.file_name().to_string_lossy().starts_with("write-")),
            "{left:?}"
        );
        delay += delay / 2;
        assert!(start.elapsed().as_secs() < 1800, "the build never finishes");
    }
    let layers = store.layers().unwrap();
    assert_eq!(layers.len(), 1);
    for digest in layers {
        assert_eq!(store.verify(digest, &Control::default()).unwrap(), []);
    }
}

#[test]
#[ignore = "run by the test that kills it"]
fn child_of_the_kill_test() {
    let Some(state) = std::env::var_os("KARAT_TEST_STATE") else { return };
    let store = Store::open(state).unwrap();
    build(&store, &small(&[]), &Control::default()).unwrap();
}
