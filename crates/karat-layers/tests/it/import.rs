//! Imports of tars, container images and disks.

use std::path::Path;

use karat_layers::{
    Base, Control, Digest, Error, ImportFile, ImportImage, Layer, Normalise, Resolving, Result,
    Store,
};

use super::support::{is_root, list, shell, temp};

fn import(store: &Store, dir: &Path, base: &Base) -> Result<Layer> {
    store.base("test", dir, base, &Resolving::default(), &Control::default())
}

fn tar(path: &Path) -> ImportFile {
    let source = path.display().to_string();
    ImportFile { source, sha256: None, normalise: Normalise::default() }
}

const TREE: &str = "rm -rf tree; mkdir -p tree/usr/bin tree/etc tree/dev; cd tree
    ln -s usr/bin bin; echo tool > usr/bin/tool; chmod 755 usr/bin/tool; ln usr/bin/tool usr/bin/t2
    echo conf > etc/conf; chown 3:4 etc/conf; mkfifo etc/pipe; ln -s /etc/conf usr/conf
    truncate -s 1M etc/sparse; printf end >> etc/sparse; head -c 300000 /dev/urandom > usr/big
    mkdir -p usr/$(printf 'long%.0s' $(seq 40)); echo deep > usr/$(printf 'long%.0s' $(seq 40))/f
    touch -h -d @1600000000 $(find . -depth)";

#[test]
fn every_compression_gives_the_same_layer() {
    if !is_root() {
        return;
    }
    let dir = temp();
    shell(
        dir.path(),
        &format!(
            "{TREE}; cd ..; tar -C tree --sparse -cf r.tar .
        gzip -k r.tar; xz -k -0 r.tar; zstd -q -k r.tar"
        ),
    );
    let mut found = Vec::new();
    for name in ["r.tar", "r.tar.gz", "r.tar.xz", "r.tar.zst"] {
        let store = Store::open(dir.path().join(name).with_extension("state")).unwrap();
        let layer = import(&store, dir.path(), &Base::Tar(tar(&dir.path().join(name)))).unwrap();
        found.push((list(&store, layer.digest), layer.digest));
    }
    assert!(found[0].0.contains("etc/conf f 644 3 4 5"), "{}", found[0].0);
    assert!(found.iter().all(|f| f == &found[0]));
}

#[test]
fn a_wrong_checksum_is_named() {
    if !is_root() {
        return;
    }
    let dir = temp();
    shell(dir.path(), "mkdir tree; tar -C tree -cf r.tar .");
    let store = Store::open(dir.path().join("state")).unwrap();
    let mut spec = tar(&dir.path().join("r.tar"));
    spec.sha256 = Some(Digest::of("other"));
    let error = import(&store, dir.path(), &Base::Tar(spec)).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("check the checksum"), "{error}");
}

#[test]
fn hostile_archives_stay_inside() {
    if !is_root() {
        return;
    }
    let dir = temp();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let victim = outside.join("victim");
    std::fs::write(&victim, "safe").unwrap();
    // A link to the outside, then a file through it: lands inside the image.
    let link = outside.display().to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    builder.append_link(&mut header, "way", &link).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    builder.append_data(&mut header, "way/victim", &b"evil"[..]).unwrap();
    let file = dir.path().join("evil.tar");
    std::fs::write(&file, builder.into_inner().unwrap()).unwrap();
    let store = Store::open(dir.path().join("state")).unwrap();
    // The directory does not exist inside, so this is an error; the outside is untouched.
    assert!(import(&store, dir.path(), &Base::Tar(tar(&file))).is_err());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
    assert_eq!(std::fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);

    // `..` is refused by name.
    shell(dir.path(), "mkdir a; echo > a/x; tar -C a -cPf dots.tar --transform 's,x,../x,' x");
    let error =
        import(&store, dir.path(), &Base::Tar(tar(&dir.path().join("dots.tar")))).unwrap_err();
    assert!(error.to_string().contains("`..`"), "{error}");
}

#[test]
fn a_truncated_archive_is_an_error_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let dir = temp();
    shell(
        dir.path(),
        &format!("{TREE}; cd ..; tar -C tree -czf r.tar.gz .; truncate -s 100K r.tar.gz"),
    );
    let store = Store::open(dir.path().join("state")).unwrap();
    let error =
        import(&store, dir.path(), &Base::Tar(tar(&dir.path().join("r.tar.gz")))).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }), "{error}");
    assert_eq!(store.layers().unwrap().len(), 0);
    assert_eq!(std::fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);
}

/// Makes an OCI layout of two layers, the second with whiteouts, as a directory and an archive.
const IMAGE: &str = r#"mkdir -p one/etc one/srv/data two/etc two/srv/data layout/blobs/sha256
    echo a > one/etc/a; echo b > one/etc/b; echo old > one/srv/data/old
    echo new > two/srv/data/new; touch two/etc/.wh.a two/srv/data/.wh..wh..opq
    put() { d=$(sha256sum $1 | cut -d' ' -f1); cp $1 layout/blobs/sha256/$d; echo $d; }
    tar -C one -czf one.tgz .; tar -C two -cf two.tar ./srv/data/new ./srv/data/.wh..wh..opq ./etc
    l1=$(put one.tgz); l2=$(put two.tar)
    arch=$(dpkg --print-architecture)
    echo "{\"architecture\":\"$arch\",\"os\":\"linux\",\"config\":{\"Env\":[\"A=b\"]}}" > c; c=$(put c)
    echo "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:$c\"},\"layers\":[{\"digest\":\"sha256:$l1\"},{\"digest\":\"sha256:$l2\"}]}" > m; m=$(put m)
    echo "{\"schemaVersion\":2,\"manifests\":[
      {\"digest\":\"sha256:$m\",\"platform\":{\"architecture\":\"$arch\",\"os\":\"linux\"}},
      {\"digest\":\"sha256:$c\",\"platform\":{\"architecture\":\"none\",\"os\":\"linux\"}}]}" > i; i=$(put i)
    echo "{\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"sha256:$i\",
      \"annotations\":{\"org.opencontainers.image.ref.name\":\"v1\"}}]}" > layout/index.json
    echo '{"imageLayoutVersion":"1.0.0"}' > layout/oci-layout
    tar -C layout -cf image.tar .
    mkdir docker; cp two.tar docker/2.tar; gunzip -c one.tgz > docker/1.tar; cp c docker/c.json
    echo '[{"Config":"c.json","RepoTags":["app:v1"],"Layers":["1.tar","2.tar"]}]' > docker/manifest.json
    tar -C docker -cf docker.tar ."#;

#[test]
fn container_images_are_flattened_with_their_whiteouts() {
    if !is_root() {
        return;
    }
    let dir = temp();
    shell(dir.path(), IMAGE);
    let image = |name: &str, reference: Option<&str>| {
        Base::Oci(ImportImage {
            source: dir.path().join(name).display().to_string(),
            reference: reference.map(str::to_owned),
            fetched: None,
            normalise: Normalise::default(),
        })
    };
    let store = Store::open(dir.path().join("state")).unwrap();
    let mut digests = Vec::new();
    for (name, reference) in
        [("layout", None), ("layout", Some("v1")), ("image.tar", None), ("docker.tar", Some("v1"))]
    {
        let layer = import(&store, dir.path(), &image(name, reference)).unwrap();
        let names: Vec<String> = list(&store, layer.digest)
            .lines()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        assert!(
            names.contains(&"etc/b".into()) && names.contains(&"srv/data/new".into()),
            "{names:?}"
        );
        assert!(!names.contains(&"etc/a".into()), "a whiteout was not applied: {names:?}");
        assert!(!names.contains(&"srv/data/old".into()), "an opaque directory was not: {names:?}");
        assert!(!names.iter().any(|name| name.contains(".wh.")), "{names:?}");
        assert_eq!(layer.info.provenance["config"]["config"]["Env"][0], "A=b");
        digests.push(layer.digest);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    let error = import(&store, dir.path(), &image("layout", Some("v2"))).unwrap_err().to_string();
    assert!(error.contains("no images named `v2`") && error.contains("one of: v1"), "{error}");
    // Changed bytes of a layer are noticed. (Another store, so that it is not found by its key.)
    let store = Store::open(dir.path().join("state2")).unwrap();
    shell(dir.path(), "f=$(ls -S layout/blobs/sha256/* | head -1); printf x >> $f");
    let error = import(&store, dir.path(), &image("layout", None)).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[test]
fn a_disk_image_is_a_base() {
    if !is_root() {
        return;
    }
    let dir = temp();
    shell(
        dir.path(),
        &format!(
            "{TREE}; cd ..; tar -C tree -cf r.tar .
        truncate -s 64M disk.raw; mkfs.ext4 -q -d tree disk.raw"
        ),
    );
    let store = Store::open(dir.path().join("state")).unwrap();
    let from_tar = import(&store, dir.path(), &Base::Tar(tar(&dir.path().join("r.tar")))).unwrap();
    let from_disk =
        import(&store, dir.path(), &Base::Disk(tar(&dir.path().join("disk.raw")))).unwrap();
    let without = |text: String| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("lost+found")).map(str::to_owned).collect()
    };
    assert_eq!(without(list(&store, from_disk.digest)), without(list(&store, from_tar.digest)));
}
