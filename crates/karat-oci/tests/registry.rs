//! Debian's `docker-registry`, filled by `skopeo`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail and tell as tests do"
)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use karat_oci::{Progress, Pull, pull};
use karat_testing::registry::Registry;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A registry of a test, and where the test keeps its files.
struct Server {
    registry: Registry,
    dir: tempfile::TempDir,
}

impl Server {
    /// A registry, with the password "geheim" for "karl" where asked.
    fn start(locked: bool) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let passwords = locked.then(|| {
            let hash = bcrypt::hash_with_salt("geheim", 4, [7; 16]).unwrap();
            format!("karl:{hash}\n")
        });
        let registry = Registry::start(passwords.as_deref()).unwrap();
        if registry.is_none() {
            eprintln!("skipped: docker-registry or skopeo is not installed");
        }
        Some(Self { registry: registry?, dir })
    }

    fn address(&self, rest: &str) -> String {
        self.registry.address(rest)
    }

    /// Copies an image of ours there.
    fn fill(&self, layout: &Path, name: &str) {
        let from = format!("oci:{}", layout.display());
        self.registry.fill(&from, name, Some("karl:geheim")).unwrap();
    }

    fn what(&self, name: &str) -> Pull {
        Pull {
            address: self.address(name),
            cache: self.dir.path().join("cache"),
            refresh: false,
            architecture: "amd64".into(),
            logins: Some(self.dir.path().to_owned()),
        }
    }
}

fn blob(layout: &Path, bytes: &[u8]) -> (String, usize) {
    let digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    fs::write(layout.join("blobs/sha256").join(&digest), bytes).unwrap();
    (format!("sha256:{digest}"), bytes.len())
}

/// An image with one file, for two architectures; its text is what its file says.
fn image(dir: &Path, text: &str) -> PathBuf {
    let layout = dir.join(format!("image-{text}"));
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let mut manifests = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let content = format!("{text} on {architecture}");
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "greeting", content.as_bytes()).unwrap();
        let plain = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let diff: String = Sha256::digest(&plain).iter().map(|b| format!("{b:02x}")).collect();
        let (layer, layer_size) = blob(&layout, &gzip.finish().unwrap());
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff}")] },
        });
        let (config, config_size) = blob(&layout, config.to_string().as_bytes());
        let kind = |rest: &str| format!("application/vnd.oci.image.{rest}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind("manifest.v1+json"),
            "config": { "mediaType": kind("config.v1+json"), "digest": config, "size": config_size },
            "layers": [{ "mediaType": kind("layer.v1.tar+gzip"), "digest": layer, "size": layer_size }],
        });
        let (manifest, size) = blob(&layout, manifest.to_string().as_bytes());
        manifests.push(json!({
            "mediaType": kind("manifest.v1+json"), "digest": manifest, "size": size,
            "platform": { "architecture": architecture, "os": "linux" },
        }));
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    let (digest, size) = blob(&layout, index.to_string().as_bytes());
    let top = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": size,
        }],
    });
    fs::write(layout.join("index.json"), top.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}

/// What the file in the image says.
fn greeting(layout: &Path) -> String {
    let read = |digest: &Value| {
        let name = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        fs::read(layout.join("blobs/sha256").join(name)).unwrap()
    };
    let json = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    let index = json(fs::read(layout.join("index.json")).unwrap());
    let manifest = json(read(&index["manifests"][0]["digest"]));
    let layer = read(&manifest["layers"][0]["digest"]);
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
    let mut text = String::new();
    let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
    std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
    text
}

fn quiet(_: Progress) {}

#[tokio::test]
async fn an_image_is_fetched_once_and_again_when_asked() {
    let Some(server) = Server::start(false) else { return };
    server.fill(&image(server.dir.path(), "first"), "team/base:1");
    let seen = Mutex::new(Vec::new());
    let progress = |p: Progress| seen.lock().unwrap().push((p.done, p.total));
    let first = pull(&server.what("team/base:1"), &progress).await.unwrap();
    assert_eq!(greeting(&first.layout), "first on amd64");
    let (done, total) = *seen.lock().unwrap().last().unwrap();
    assert!(done == total && total > 100, "{done} of {total}");

    server.fill(&image(server.dir.path(), "second"), "team/base:1");
    let same = pull(&server.what("team/base:1"), &quiet).await.unwrap();
    assert_eq!(same, first);
    let again = Pull { refresh: true, ..server.what("team/base:1") };
    let newer = pull(&again, &quiet).await.unwrap();
    assert_eq!(greeting(&newer.layout), "second on amd64");

    // By its digest it is the first still.
    let pinned = pull(&server.what(&format!("team/base@{}", first.digest)), &quiet).await.unwrap();
    assert_eq!(
        (greeting(&pinned.layout).as_str(), &pinned.digest),
        ("first on amd64", &first.digest)
    );

    // What is there needs no registry.
    let what = server.what(&format!("team/base@{}", first.digest));
    let what = Pull { refresh: true, ..what };
    let mut server = server;
    server.registry.stop().unwrap();
    assert_eq!(pull(&what, &quiet).await.unwrap(), pinned);
    let error = pull(&again, &quiet).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot fetch 127.0.0.1:{}/team/base:1", server.registry.port())),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let Some(server) = Server::start(false) else { return };
    server.fill(&image(server.dir.path(), "one"), "a:1");
    for name in ["a:2", "b:1"] {
        let error = pull(&server.what(name), &quiet).await.unwrap_err().to_string();
        assert!(error.ends_with("the registry has no such image"), "{error}");
    }
    let other = Pull { architecture: "s390x".into(), ..server.what("a:1") };
    let error = pull(&other, &quiet).await.unwrap_err().to_string();
    assert!(error.ends_with("it is for linux/arm64, linux/amd64, not for linux/s390x"), "{error}");
    let cache = fs::read_dir(server.dir.path().join("cache")).unwrap();
    let whole = cache.filter(|entry| entry.as_ref().unwrap().path().join("index.json").exists());
    assert_eq!(whole.count(), 0, "nothing counts as there");
}

#[tokio::test]
async fn a_login_opens_the_registry() {
    let Some(server) = Server::start(true) else { return };
    server.fill(&image(server.dir.path(), "secret"), "a:1");
    let error = pull(&server.what("a:1"), &quiet).await.unwrap_err().to_string();
    assert!(error.contains("log in by `docker login 127.0.0.1:"), "{error}");
    // "karl:geheim" in base64.
    let logins = json!({
        "auths": { format!("127.0.0.1:{}", server.registry.port()): { "auth": "a2FybDpnZWhlaW0=" } },
    });
    fs::write(server.dir.path().join("config.json"), logins.to_string()).unwrap();
    let pulled = pull(&server.what("a:1"), &quiet).await.unwrap();
    assert_eq!(greeting(&pulled.layout), "secret on amd64");
}

#[tokio::test]
async fn a_damaged_layer_is_refused_and_not_kept() {
    let Some(server) = Server::start(false) else { return };
    let layout = image(server.dir.path(), "good");
    server.fill(&layout, "a:1");
    // The registry's own file of the layer is changed.
    let data = server.registry.data();
    let find = Command::new("find").arg(&data).args(["-name", "data", "-size", "-2k"]).output();
    for path in String::from_utf8(find.unwrap().stdout).unwrap().lines() {
        let mut bytes = fs::read(path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
    let error = pull(&server.what("a:1"), &quiet).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("digest"), "{error}");
    let again = pull(&server.what("a:1"), &quiet).await;
    assert!(again.is_err(), "it does not count as there");
}
