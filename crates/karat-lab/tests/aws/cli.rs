//! A lab for one test, and the `aws` command line pointed at it by the environment alone.
//!
//! The command line is a Python program that takes a second to start. Where its modules can be
//! imported, one process of it serves a whole test.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use karat_lab::core::settings::Settings;
use karat_lab::{Lab, Options};
use serde_json::Value;

/// On a busy computer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A lab, and the command line's environment.
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    /// The command line, once it was needed.
    program: RefCell<Option<Program>>,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

/// Takes lists of arguments, and gives back the exit code and what was printed. The models of the
/// services, which are large, are read once.
const SERVE: &str = r#"
import io, json, sys
from awscli.clidriver import create_clidriver
out, loader = sys.stdout, None
for line in sys.stdin:
    sys.stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    driver = create_clidriver()
    if loader is None:
        loader = driver.session.get_component("data_loader")
    else:
        driver.session.register_component("data_loader", loader)
    try:
        code = driver.main(json.loads(line))
    except SystemExit as end:
        code = end.code
    texts = [stream.buffer.getvalue().decode() for stream in (sys.stdout, sys.stderr)]
    out.write(json.dumps([code or 0, *texts]) + "\n")
    out.flush()
"#;

/// A process of the command line that serves many calls.
struct Program {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// None where its modules cannot be imported.
    fn start(mut command: Command) -> Option<Self> {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = piped.args(["-c", SERVE]).spawn().ok()?;
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, to, from };
        program.call(&["--version"]).map(|_| program)
    }

    /// Whether it went well, and both outputs.
    fn call(&mut self, args: &[&str]) -> Option<(bool, String, String)> {
        let mut line = serde_json::to_vec(args).unwrap();
        line.push(b'\n');
        self.to.write_all(&line).ok()?;
        let mut answer = String::new();
        self.from.read_line(&mut answer).ok()?;
        let (code, out, err): (i64, String, String) = serde_json::from_str(&answer).ok()?;
        Some((code == 0, out, err))
    }
}

/// What `aws` said.
#[derive(Debug)]
pub(crate) struct Said {
    /// The JSON it printed; null for nothing.
    pub(crate) json: Value,
    /// The error's code, if it failed.
    pub(crate) code: Option<String>,
    pub(crate) stderr: String,
}

/// Whether `aws` is there and reads `AWS_ENDPOINT_URL`, as it does from 1.29 and 2.13 on.
fn reads_endpoint() -> bool {
    static READS: OnceLock<bool> = OnceLock::new();
    *READS.get_or_init(|| {
        let Ok(output) = Command::new("aws").arg("--version").output() else { return false };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = said.strip_prefix("aws-cli/").unwrap_or_default();
        let mut parts = version.split(['.', ' ']).map(|part| part.parse::<u32>().unwrap_or(0));
        let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        (major == 1 && minor >= 29) || (major == 2 && minor >= 13) || major > 2
    })
}

/// A lab with settings of one's own; none where `aws` is not installed.
pub(crate) fn bench_with(change: impl FnOnce(&mut Settings)) -> Option<Bench> {
    if !reads_endpoint() {
        let note = b"skipped: the program aws, from 1.29 or 2.13 on, is not installed\n";
        let _ = std::io::stderr().write_all(note);
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut settings = Settings::default();
    for duration in [
        &mut settings.durations.pending,
        &mut settings.durations.stopping,
        &mut settings.durations.shutting_down,
        &mut settings.durations.image,
        &mut settings.durations.copy,
        &mut settings.durations.snapshot,
        &mut settings.durations.volume,
    ] {
        *duration = 0;
    }
    change(&mut settings);
    let lab = runtime.block_on(start(dir.path(), settings));
    Some(Bench { lab, program: RefCell::new(None), runtime, dir })
}

async fn start(dir: &Path, settings: Settings) -> Lab {
    let listen = "127.0.0.1:0".parse().unwrap();
    Lab::start(Options { dir: dir.join("lab"), listen, settings }).await.unwrap()
}

/// A lab as it comes, whose states take no time.
pub(crate) fn bench() -> Option<Bench> {
    bench_with(|_| {})
}

impl Bench {
    /// Ends the lab and starts it again from the same folder.
    pub(crate) fn restart(self) -> Self {
        let Self { lab, runtime, dir, .. } = self;
        lab.stop().unwrap();
        let lab = runtime.block_on(start(dir.path(), Settings::default()));
        Self { lab, program: RefCell::new(None), runtime, dir }
    }

    /// A folder for the test's files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, args: &[&str]) -> (bool, String, String) {
        let mut program = self.program.borrow_mut();
        if program.is_none() {
            *program = Program::start(self.pointed("python3"));
        }
        if let Some(program) = program.as_mut() {
            return program.call(args).expect("the command line answers");
        }
        let output = self.command().args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// The command line, pointed at the lab.
    pub(crate) fn command(&self) -> Command {
        self.pointed("aws")
    }

    /// A program whose environment is pointed at the lab.
    pub(crate) fn pointed(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        for name in ["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.lab.running().environment());
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.env("AWS_MAX_ATTEMPTS", "1").env("AWS_PAGER", "").env("NO_PROXY", "*");
        command
    }

    /// Runs a line; arguments with spaces in them come in `more`.
    pub(crate) fn aws_with(&self, line: &str, more: &[&str]) -> Said {
        let mut args: Vec<&str> = line.split_whitespace().collect();
        args.extend(more);
        args.extend(["--output", "json"]);
        let (success, out, stderr) = self.run(&args);
        let json = match out.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or(Value::String(text.to_owned())),
        };
        // An error occurred (CODE) when calling …
        let code = stderr
            .split_once("An error occurred (")
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(code, _)| code.to_owned());
        assert_eq!(success, code.is_none(), "{line}: {stderr}");
        Said { json, code, stderr }
    }

    /// Runs a line that has to succeed.
    pub(crate) fn aws(&self, line: &str) -> Value {
        self.ok(line, &[])
    }

    /// The same with arguments that have spaces in them.
    pub(crate) fn ok(&self, line: &str, more: &[&str]) -> Value {
        let said = self.aws_with(line, more);
        assert_eq!(said.code, None, "{line} {more:?}: {}", said.stderr);
        said.json
    }

    /// Runs a line that has to fail, and gives the error's code.
    pub(crate) fn refused(&self, line: &str) -> String {
        let said = self.aws_with(line, &[]);
        said.code.unwrap_or_else(|| panic!("{line} succeeded: {}", said.json))
    }

    /// Runs a line until what it says is as it should be.
    pub(crate) fn until(&self, line: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let said = self.aws(line);
            if holds(&said) {
                return said;
            }
            assert!(started.elapsed() < PATIENCE, "{line}: {said:#}");
        }
    }

    /// Types of what is left over.
    pub(crate) fn left(&self) -> Vec<String> {
        self.lab.audit().into_iter().map(|item| item.kind).collect()
    }
}

/// A text of an answer.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
