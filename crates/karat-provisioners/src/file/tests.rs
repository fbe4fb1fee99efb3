//! `file` with a machine that is this one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use karat_component::testing::{
    self, Component, Recorded, body, ends_when_cancelled, leaves_nothing, provision_context,
    provisioner,
};
use karat_component::{
    Communicator, CommunicatorError, ComponentError, EventKind, ExitStatus, RemoteCommand,
    RemoteScript,
};
use karat_testing::local_communicator::LocalCommunicator;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::File;

/// A machine's home and a folder here.
struct Bench {
    there: TempDir,
    here: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { there: tempfile::tempdir().unwrap(), here: tempfile::tempdir().unwrap() }
    }

    fn here(&self, name: &str) -> String {
        self.here.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.here.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        self.here(name)
    }

    fn there(&self, name: &str) -> std::path::PathBuf {
        self.there.path().join(name)
    }

    fn machine(&self) -> LocalCommunicator {
        LocalCommunicator::new(self.there.path())
    }

    async fn run(&self, options: Value) -> (Result<(), ComponentError>, Recorded) {
        let (events, recorded) = Recorded::new(&[]);
        let machine = Arc::new(self.machine());
        let cx = provision_context(machine, events, CancellationToken::new());
        (provisioner(File, &options).provision(&cx).await, recorded)
    }

    async fn ok(&self, options: Value) -> Recorded {
        let (result, recorded) = self.run(options).await;
        result.unwrap();
        recorded
    }
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{:?}: {e}", path.as_ref()))
}

fn errors(options: Value) -> String {
    Component::Provisioner(Arc::new(File)).errors(&body(&options)).join("\n")
}

#[test]
fn complies() {
    let component = Component::Provisioner(Arc::new(File));
    testing::options(&component, &body(&json!({ "source": "a", "destination": "/tmp/" })));
    testing::options(&component, &body(&json!({ "content": "a", "destination": "/tmp/b" })));
}

#[test]
fn what_is_wrong_is_told() {
    assert!(errors(json!({ "destination": "x" })).contains("Source must be specified"));
    assert!(errors(json!({ "source": "x" })).contains("needs the argument \"destination\""));
    let found = errors(json!({
        "source": "a", "content": "b", "destination": "c/", "direction": "downlod",
    }));
    for part in [
        "Direction must be one of: download, upload",
        "Did you mean \"download\"?",
        "\"content\" and a source exclude each other",
        "\"c/\" does not name a file",
    ] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
    let down = json!({ "content": "a", "destination": "c", "direction": "download" });
    assert!(errors(down).contains("A text can only be uploaded"));
}

#[tokio::test]
async fn files_keep_their_name_in_a_folder_and_their_mode() {
    let bench = Bench::new();
    let path = bench.write("a.sh", "text");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    std::fs::create_dir(bench.there("d")).unwrap();
    let recorded = bench.ok(json!({ "source": path, "destination": "d/" })).await;
    assert_eq!(recorded.said(), [format!("Uploading {path} => d/a.sh")]);
    assert_eq!(text(bench.there("d/a.sh")), "text");
    let mode = std::fs::metadata(bench.there("d/a.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    bench.ok(json!({ "source": path, "destination": "b" })).await;
    assert_eq!(text(bench.there("b")), "text");
}

#[tokio::test]
async fn a_folder_goes_whole_or_by_its_contents() {
    let bench = Bench::new();
    bench.write("src/one", "1");
    bench.write("src/sub/two", "2");
    let path = bench.here("src");
    bench.ok(json!({ "source": path, "destination": "w" })).await;
    assert_eq!(text(bench.there("w/src/sub/two")), "2");
    bench.ok(json!({ "source": format!("{path}/"), "destination": "c" })).await;
    assert_eq!(text(bench.there("c/sub/two")), "2");
    assert_eq!(text(bench.there("c/one")), "1");
}

#[tokio::test]
async fn texts_and_lists_of_files() {
    let bench = Bench::new();
    let recorded = bench.ok(json!({ "content": "hello\n", "destination": "motd" })).await;
    assert_eq!(recorded.said(), ["Uploading content => motd"]);
    assert_eq!(text(bench.there("motd")), "hello\n");
    bench.ok(json!({ "content": "", "destination": "empty" })).await;
    assert_eq!(text(bench.there("empty")), "");
    let sources = [bench.write("a", "1"), bench.write("b", "2")];
    bench.ok(json!({ "sources": sources, "destination": "./" })).await;
    assert_eq!((text(bench.there("a")), text(bench.there("b"))), ("1".into(), "2".into()));
}

#[tokio::test]
async fn what_makes_no_sense_is_told_before_anything_is_sent() {
    let bench = Bench::new();
    let sources = [bench.write("a", "1"), bench.write("b", "2")];
    let work = async { bench.run(json!({ "sources": sources, "destination": "x" })).await.0 };
    let error = leaves_nothing(&[bench.there.path()], work).await;
    assert!(error.to_string().contains("would both become \"x\""), "{error}");
    let sources = [bench.here("a"), bench.here("none")];
    let work = async { bench.run(json!({ "sources": sources, "destination": "./" })).await.0 };
    let error = leaves_nothing(&[bench.there.path()], work).await;
    assert!(error.to_string().contains("cannot read the source"), "{error}");
    assert!(error.hint().unwrap().contains("${path.root}"));
}

#[tokio::test]
async fn fetching_makes_the_folders_here() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.there("etc/sub")).unwrap();
    std::fs::write(bench.there("etc/a.log"), "A").unwrap();
    std::fs::write(bench.there("etc/b.log"), "B").unwrap();
    std::fs::write(bench.there("etc/sub/c"), "C").unwrap();
    let get = |source: &str, to: String| json!({ "source": source, "destination": to, "direction": "download" });
    let recorded = bench.ok(get("etc/a.log", bench.here("new/deep/x"))).await;
    assert_eq!(recorded.said(), [format!("Downloading etc/a.log => {}", bench.here("new/deep/x"))]);
    assert_eq!(text(bench.here("new/deep/x")), "A");
    bench.ok(get("etc/b.log", bench.here("dir/"))).await;
    assert_eq!(text(bench.here("dir/b.log")), "B");
    bench.ok(get("etc/", bench.here("all"))).await;
    assert_eq!(text(bench.here("all/sub/c")), "C");
    bench.ok(get("etc/*", bench.here("globbed"))).await;
    assert_eq!(text(bench.here("globbed/a.log")), "A");
    let (result, _) = bench.run(get("etc/*.none", bench.here("z"))).await;
    assert!(result.unwrap_err().to_string().contains("nothing on the machine matches"));
    let (result, _) = bench.run(get("etc", bench.here("f"))).await;
    assert!(result.unwrap_err().hint().unwrap().contains("with a \"/\" at its end"));
    let (result, _) = bench.run(get("etc/a.log", bench.here("dir"))).await;
    assert!(result.unwrap_err().to_string().contains("is a folder"));
}

#[tokio::test]
async fn big_files_tell_how_far_they_got() {
    let bench = Bench::new();
    let size = 5 << 20;
    let path = bench.write("big", &"x".repeat(size));
    let recorded = bench.ok(json!({ "source": path, "destination": "big" })).await;
    let last = recorded.events().into_iter().rev().find_map(|e| match e.kind {
        EventKind::Progress { done, total, unit, .. } => Some((done, total, unit)),
        _ => None,
    });
    assert_eq!(last, Some((size as u64, Some(size as u64), "bytes".to_owned())));
}

#[tokio::test]
async fn a_machine_that_is_away_is_waited_for() {
    let bench = Bench::new();
    let machine = bench.machine();
    machine.go_away(1);
    let (events, _) = Recorded::new(&[]);
    let cx = provision_context(Arc::new(machine.clone()), events, CancellationToken::new());
    let options = json!({ "content": "x", "destination": "x" });
    provisioner(File, &options).provision(&cx).await.unwrap();
    assert_eq!((text(bench.there("x")), machine.reconnects()), ("x".to_owned(), 1));
}

/// A machine whose transfers never end by themselves.
#[derive(Debug)]
struct Slow;

impl Slow {
    async fn wait(cancel: &CancellationToken) -> Result<(), CommunicatorError> {
        cancel.cancelled().await;
        Err(CommunicatorError::Cancelled)
    }
}

#[async_trait]
impl Communicator for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    async fn exec(&self, command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        Self::wait(&command.cancel).await.map(|()| ExitStatus::Code(0))
    }

    async fn run_script(&self, script: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
        Self::wait(&script.cancel).await.map(|()| ExitStatus::Code(0))
    }

    async fn upload(
        &self,
        _: &mut (dyn AsyncRead + Send + Unpin),
        _: &str,
        _: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::wait(cancel).await
    }

    async fn upload_dir(
        &self,
        _: &Path,
        _: &str,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::wait(cancel).await
    }

    async fn download(
        &self,
        _: &str,
        _: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::wait(cancel).await
    }

    async fn download_dir(
        &self,
        _: &str,
        _: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::wait(cancel).await
    }

    async fn reconnect(&self, cancel: &CancellationToken) -> Result<(), CommunicatorError> {
        Self::wait(cancel).await
    }
}

#[tokio::test]
async fn ends_at_once_when_cancelled() {
    let bench = Bench::new();
    let path = bench.write("a", "1");
    let goal = bench.here("b");
    for options in [
        json!({ "source": path, "destination": "x" }),
        json!({ "content": "x", "destination": "x" }),
        json!({ "source": "a*", "destination": goal, "direction": "download" }),
        json!({ "source": "a", "destination": goal, "direction": "download" }),
    ] {
        let prepared = provisioner(File, &options);
        ends_when_cancelled(&[bench.here.path()], |cancel| {
            let cx = provision_context(Arc::new(Slow), Recorded::new(&[]).0, cancel);
            let prepared = &prepared;
            async move { prepared.provision(&cx).await }
        })
        .await;
    }
}
