//! The store, capture and merging, checked against what the kernel's overlay shows.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use karat_layers::{Capture, Control, Digest, Error, Layer, Normalise, Store};

use super::support::{base, is_root, list, on_overlay, shell, squeeze, temp};

const TREE: &str = "mkdir -p etc/ssh usr/bin srv/data/deep var/log/app tmp
    echo one > etc/one; echo two > etc/two; ln -s one etc/link; chmod 600 etc/two
    printf hello > usr/bin/tool; ln usr/bin/tool usr/bin/alias; chmod 4755 usr/bin/tool
    echo a > srv/data/a; echo b > srv/data/deep/b; chown 12:34 srv/data/a; mkfifo srv/pipe
    echo x > tmp/x; echo log > var/log/app/l; touch -d @1000000000.5 etc/two";

fn capture(store: &Store, dir: &std::path::Path, parent: Digest) -> Layer {
    let capture = Capture {
        upper: dir.join("upper"),
        parent,
        normalise: Normalise::default(),
        key: None,
        provenance: serde_json::Value::Null,
    };
    store.capture("test", capture, &Control::default()).unwrap()
}

#[test]
fn captured_layers_merge_as_the_kernel_merges_them() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let bottom = base(&store, dir.path(), TREE);
    let scripts = [
        // Changed, added, removed, renamed; a link broken; a directory over a file and back.
        "echo more >> etc/one; echo new > etc/new; rm etc/two; mv srv/data/a srv/data/z
         rm usr/bin/alias; rm etc/link; mkdir etc/link; echo i > etc/link/inside",
        // A removed and remade directory is opaque; a file over a directory.
        "rm -r srv/data; mkdir -m 700 srv/data; echo only > srv/data/only
         rm -r etc/link; echo file > etc/link; ln etc/new etc/newer; chown 5:6 etc/new; ln -s x y",
        // Below what was opaque, and a whiteout of a link.
        "mkdir -p srv/data/deep; echo again > srv/data/deep/b; rm y; rm -r usr; mkdir -p usr/lib
         setfattr -n user.note -v value etc/one 2>/dev/null || true",
    ];
    let mut top = bottom.digest;
    for script in scripts {
        let seen = on_overlay(&store, top, dir.path(), script);
        top = capture(&store, dir.path(), top).digest;
        assert_eq!(list(&store, top), squeeze(&seen), "after {script}");
        assert_eq!(store.verify(top, &Control::default()).unwrap(), []);
        // The stored layers stack as the manifest says.
        let again = on_overlay(&store, top, dir.path(), "true");
        assert_eq!(list(&store, top), squeeze(&again), "stacked after {script}");
    }
    assert_eq!(store.stack(top).unwrap().len(), 4);
    assert_eq!(std::fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);
}

#[test]
fn the_same_changes_give_the_same_layer_whenever_they_are_made() {
    if !is_root() {
        return;
    }
    let mut found = Vec::new();
    for round in 0..2 {
        let dir = temp();
        let store = Store::open(dir.path().join("state")).unwrap();
        let bottom = base(&store, dir.path(), TREE);
        let script = format!(
            "echo page > srv/page; mkdir etc/new; echo {round} > tmp/scratch; mkdir -p var/lib/systemd
             echo key{round} > etc/ssh/ssh_host_ed25519_key; echo {round}>etc/machine-id
             echo {round} > var/lib/systemd/random-seed; echo {round} >> var/log/app/l"
        );
        on_overlay(&store, bottom.digest, dir.path(), &script);
        let layer = capture(&store, dir.path(), bottom.digest);
        for path in
            ["/etc/ssh/ssh_host_ed25519_key", "/tmp/scratch", "/var/lib/systemd/random-seed"]
        {
            assert!(layer.manifest.get(path.as_bytes()).is_none(), "{path} was captured");
        }
        assert_eq!(store.read_file(layer.digest, "/etc/machine-id").unwrap(), Some(vec![]));
        let page = layer.root().join("srv/page").metadata().unwrap();
        assert_eq!((page.mtime(), page.mtime_nsec()), (layer.info.epoch, 0));
        found.push((bottom.digest, layer.digest));
        // Files made in between have other times of day.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    // The trees are made at different times, so only the layers on the same base can be equal.
    if found[0].0 == found[1].0 {
        assert_eq!(found[0].1, found[1].1);
    } else {
        let dir = temp();
        let store = Store::open(dir.path().join("state")).unwrap();
        let bottom = base(&store, dir.path(), TREE);
        let mut digests = Vec::new();
        for _ in 0..2 {
            on_overlay(&store, bottom.digest, dir.path(), "echo page > srv/page; mkdir etc/new");
            digests.push(capture(&store, dir.path(), bottom.digest).digest);
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        assert_eq!(digests[0], digests[1]);
    }
}

#[test]
fn reads_follow_links_inside_the_image_only() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let script = "mkdir -p usr/etc a/b; echo in > usr/etc/f; ln -s usr/etc etc; ln -s /etc/f abs
        ln -s ../../../../etc/f a/b/up; ln -s loop loop; ln -s /etc/passwd out";
    let layer = base(&store, dir.path(), script).digest;
    for path in ["/etc/f", "/abs", "/a/b/up", "usr/etc/./f"] {
        assert_eq!(store.read_file(layer, path).unwrap(), Some(b"in\n".to_vec()), "{path}");
    }
    for path in ["/loop", "/out", "/none", "/etc"] {
        assert_eq!(store.read_file(layer, path).unwrap(), None, "{path}");
    }
}

#[test]
fn verify_finds_every_kind_of_damage() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let layer = base(&store, dir.path(), TREE);
    let control = Control::default();
    assert_eq!(store.verify(layer.digest, &control).unwrap(), []);
    shell(&layer.root(), "echo no > etc/one; chmod 644 etc/two; rm etc/link; echo > etc/extra");
    let found: Vec<String> =
        store.verify(layer.digest, &control).unwrap().into_iter().map(|p| p.what).collect();
    let has = |text: &str| assert!(found.iter().any(|f| f.contains(text)), "{text}: {found:?}");
    has("/etc/one: was File");
    has("/etc/two: mode was 600, is 644");
    has("/etc/link: missing");
    has("/etc/extra: not in the manifest");
    std::fs::write(layer.dir.join("manifest"), "karat-manifest 1\n").unwrap();
    assert!(matches!(store.layer(layer.digest), Err(Error::Mismatch { .. })));
    assert_eq!(store.verify(layer.digest, &control).unwrap().len(), 1);
}

#[test]
fn collection_keeps_what_is_needed_and_what_it_stands_on() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let bottom = base(&store, dir.path(), TREE);
    let mut tops = Vec::new();
    for name in ["left", "right"] {
        on_overlay(&store, bottom.digest, dir.path(), &format!("echo > {name}"));
        tops.push(capture(&store, dir.path(), bottom.digest));
    }
    let key = Digest::of("key");
    store.remember_key(key, tops[1].digest).unwrap();
    assert_eq!(store.lookup_key(key).unwrap(), Some(tops[1].digest));

    let collected = store.gc(&[tops[0].digest]).unwrap();
    assert_eq!(collected.layers, [tops[1].digest]);
    assert!(store.has(bottom.digest) && store.has(tops[0].digest) && !store.has(tops[1].digest));
    assert_eq!(store.lookup_key(key).unwrap(), None);
    // A digest that is not there stops a collection before it removes anything.
    assert!(matches!(store.gc(&[tops[1].digest]), Err(Error::NoLayer { .. })));
    assert!(store.has(tops[0].digest));
}

/// The tree with times that are the same whenever it is made.
fn dated() -> String {
    format!("{TREE}\nfind . -depth -exec touch -h -d @1000000000 {{}} +")
}

/// Makes a layer one of another boot of the machine.
fn of_an_earlier_boot(layer: &Layer) {
    let at = layer.dir.join("layer.json");
    let mut info: serde_json::Value = serde_json::from_slice(&std::fs::read(&at).unwrap()).unwrap();
    info["boot"] = "00000000-0000-0000-0000-000000000000".into();
    std::fs::write(&at, info.to_string()).unwrap();
}

#[test]
fn a_layer_of_an_earlier_boot_is_compared_once_and_goes_when_it_is_damaged() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let bottom = base(&store, dir.path(), &dated());
    on_overlay(&store, bottom.digest, dir.path(), "echo > left");
    let top = capture(&store, dir.path(), bottom.digest);
    let key = Digest::of("key");
    store.remember_key(key, top.digest).unwrap();

    assert!(bottom.info.boot.is_some(), "{bottom:?}");
    of_an_earlier_boot(&bottom);
    of_an_earlier_boot(&top);
    assert_eq!(store.lookup_key(key).unwrap(), Some(top.digest));
    assert_eq!(store.info(bottom.digest).unwrap().boot, None);
    assert_eq!(store.info(top.digest).unwrap().boot, None);
    // It was found whole, and is not looked at again.
    shell(&bottom.root(), "echo no > etc/one");
    assert_eq!(store.lookup_key(key).unwrap(), Some(top.digest));

    // What lies on top of it is of no use then, and what comes out the same is not taken for whole.
    of_an_earlier_boot(&bottom);
    assert_eq!(store.lookup_key(key).unwrap(), None);
    assert!(!bottom.dir.exists() && top.dir.exists() && !store.has(top.digest));
    let again = base(&store, dir.path(), &dated());
    assert_eq!(again.digest, bottom.digest);
    assert_eq!(store.verify(bottom.digest, &Control::default()).unwrap(), []);
    assert_eq!(store.lookup_key(key).unwrap(), Some(top.digest));
}

#[test]
fn records_that_were_cut_off_count_as_none() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let layer = base(&store, dir.path(), &dated());
    let key = Digest::of("key");
    store.remember_key(key, layer.digest).unwrap();
    let at = dir.path().join("state/keys").join(key.to_string());
    std::fs::write(&at, "").unwrap();
    assert_eq!(store.lookup_key(key).unwrap(), None);
    store.remember_key(key, layer.digest).unwrap();
    std::fs::write(layer.dir.join("layer.json"), "").unwrap();
    assert_eq!(store.lookup_key(key).unwrap(), None);
    assert!(!layer.dir.exists());
    assert_eq!(base(&store, dir.path(), &dated()).digest, layer.digest);
    store.remember_key(key, layer.digest).unwrap();
    assert_eq!(store.lookup_key(key).unwrap(), Some(layer.digest));
}

#[test]
fn sweeping_removes_what_one_run_left_and_nothing_else() {
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let left = store.scratch("run-1").unwrap();
    std::fs::create_dir_all(left.path().join("root/etc")).unwrap();
    std::mem::forget(left); // as if killed
    let kept = store.scratch("run-10").unwrap();
    assert_eq!(store.sweep("run-1").unwrap(), 1);
    assert_eq!(store.sweep("run-1").unwrap(), 0);
    assert!(kept.path().exists());
    assert!(matches!(store.scratch("../up"), Err(Error::Invalid(_))));
}

#[test]
fn one_key_is_built_by_one_at_a_time() {
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let held = store.lock("key", &Control::default()).unwrap();
    let cancel = Arc::new(AtomicBool::new(false));
    let control = Control::new(Arc::clone(&cancel), |_| {});
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lock("key", &control).map(drop));
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert!(!waiting.is_finished());
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
    });
    drop(held);
    drop(store.lock("key", &Control::default()).unwrap());
}

#[test]
fn a_cancelled_capture_leaves_nothing_in_the_store() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let store = Store::open(dir.path().join("state")).unwrap();
    let bottom = base(&store, dir.path(), TREE);
    on_overlay(&store, bottom.digest, dir.path(), "echo > new");
    let control = Control::new(Arc::new(AtomicBool::new(true)), |_| {});
    let capture = Capture {
        upper: dir.path().join("upper"),
        parent: bottom.digest,
        normalise: Normalise::default(),
        key: None,
        provenance: serde_json::Value::Null,
    };
    assert!(matches!(store.capture("test", capture, &control), Err(Error::Cancelled)));
    assert_eq!(store.layers().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);
}
