//! Debian's `docker-registry`, filled by `skopeo`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a registry may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry on 127.0.0.1 that ends when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl Registry {
    /// Starts a registry; `None` where `docker-registry` or `skopeo` is not installed. `passwords`
    /// are lines of an htpasswd file (bcrypt); without them anybody is let in.
    ///
    /// # Errors
    /// When it does not come up; what it said is in the error.
    pub fn start(passwords: Option<&str>) -> io::Result<Option<Self>> {
        for program in ["docker-registry", "skopeo"] {
            let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            if version.is_err() {
                return Ok(None);
            }
        }
        let folder = tempfile::Builder::new().prefix("karat-registry-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: json\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            at("data").display()
        );
        if let Some(lines) = passwords {
            fs::write(at("passwords"), lines)?;
            config += &format!(
                "auth:\n  htpasswd:\n    realm: r\n    path: {}\n",
                at("passwords").display()
            );
        }
        fs::write(at("config.yml"), config)?;
        let log = fs::File::create(at("log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut registry = Self { child, port: 0, folder };
        let begun = Instant::now();
        loop {
            let said = fs::read_to_string(registry.folder.path().join("log"))?;
            if let Some(port) = listens_at(&said) {
                registry.port = port;
                return Ok(Some(registry));
            }
            if registry.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("the registry does not come up: {said}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with what it keeps.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// An address below it, as `docker://127.0.0.1:PORT/REST`.
    pub fn address(&self, rest: &str) -> String {
        format!("docker://127.0.0.1:{}/{rest}", self.port)
    }

    /// Copies an image there. `from` is in skopeo's form, such as `oci:FOLDER`; `login` is
    /// `USER:PASSWORD`.
    ///
    /// # Errors
    /// When skopeo fails; what it said is in the error.
    pub fn fill(&self, from: &str, name: &str, login: Option<&str>) -> io::Result<()> {
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--all", "--insecure-policy", "--dest-tls-verify=false", "--quiet"]);
        copy.args(login.into_iter().flat_map(|login| ["--dest-creds", login]));
        let done = copy.arg(from).arg(self.address(name)).stdin(Stdio::null()).output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

/// The port in the line that it writes when it listens.
fn listens_at(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}
