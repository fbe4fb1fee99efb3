//! A real OpenSSH server for tests: own keys, own configuration, own port, own users.
//!
//! It runs in a mount and a process namespace of its own, so that the machine's users, keys and
//! configuration are neither used nor touched, and nothing of it outlives the [`Sshd`]. That
//! needs root, as does the server itself to log in other users.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::port::free_port;

/// The user that every server knows, besides root. Its home is [`Sshd::home`].
pub const USER: &str = "karat-test";

/// The password of [`USER`].
pub const PASSWORD: &str = "correct horse";

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is stopped, with all its connections, when dropped.
#[derive(Debug)]
pub struct Sshd {
    folder: TempDir,
    port: u16,
    lines: Vec<String>,
    child: Option<Child>,
}

/// Why tests that need a server cannot run here; `None` where they can.
pub fn missing() -> Option<String> {
    for program in ["/usr/sbin/sshd", "/usr/bin/ssh-keygen", "/usr/bin/unshare", "/usr/bin/openssl"]
    {
        if !Path::new(program).exists() {
            return Some(format!("{program} is not installed"));
        }
    }
    let root = fs::metadata("/proc/self").is_ok_and(|m| {
        use std::os::unix::fs::MetadataExt;
        m.uid() == 0
    });
    (!root).then(|| "only root can start a server that logs in users".to_owned())
}

impl Sshd {
    /// Starts a server. `lines` are added to its configuration, before its own.
    ///
    /// # Errors
    /// When a program is missing or the server does not come up; its log is in the error.
    pub fn start(lines: &[&str]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("karat-sshd-").tempdir()?;
        // The user has to get through to its home.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let mut server = Self {
            folder,
            port: free_port()?,
            lines: lines.iter().map(|l| (*l).to_owned()).collect(),
            child: None,
        };
        server.new_host_key()?;
        server.make_users()?;
        fs::write(server.path("authorized_keys"), "")?;
        fs::set_permissions(server.path("authorized_keys"), fs::Permissions::from_mode(0o644))?;
        server.resume()?;
        Ok(server)
    }

    /// A file name inside the server's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The home of [`USER`], writable to it.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The public host key in OpenSSH's format.
    ///
    /// # Errors
    /// When the key file cannot be read.
    pub fn host_key(&self) -> io::Result<String> {
        fs::read_to_string(self.path("host_key.pub"))
    }

    /// Gives the server another host key. A running one takes it after [`Sshd::resume`].
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn new_host_key(&self) -> io::Result<()> {
        for name in ["host_key", "host_key.pub"] {
            let _ = fs::remove_file(self.path(name));
        }
        self.keygen("host_key", &["-t", "ed25519"], "").map(|_| ())
    }

    /// Makes a key pair `name` and `name.pub`; `kind` are arguments of `ssh-keygen`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn keygen(&self, name: &str, kind: &[&str], passphrase: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-N", passphrase, "-C", name]).args(kind).arg("-f").arg(&path);
        run(command)?;
        Ok(path)
    }

    /// Lets a key made by [`Sshd::keygen`] log in as root and as [`USER`].
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn authorize(&self, key: &Path) -> io::Result<()> {
        let public = fs::read_to_string(key.with_extension("pub"))?;
        let mut list = fs::OpenOptions::new().append(true).open(self.path("authorized_keys"))?;
        list.write_all(public.as_bytes())
    }

    /// A fresh key that may log in.
    ///
    /// # Errors
    /// As [`Sshd::keygen`] and [`Sshd::authorize`].
    pub fn user_key(&self) -> io::Result<PathBuf> {
        let key = self.keygen("user_key", &["-t", "ed25519"], "")?;
        self.authorize(&key)?;
        Ok(key)
    }

    /// Ends the server and every connection to it at once, as a power failure would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            // What ran inside ends a moment later.
            let start = Instant::now();
            while TcpStream::connect(("127.0.0.1", self.port)).is_ok() && start.elapsed() < PATIENCE
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Starts the server again on the same port, ending a running one.
    ///
    /// # Errors
    /// When it does not come up; its log is in the error.
    pub fn resume(&mut self) -> io::Result<()> {
        self.kill();
        self.write_config()?;
        let log = fs::File::create(self.path("log"))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        command.arg(
            "mount -t tmpfs -o mode=755 none /run && mkdir /run/sshd && \
             for f in passwd group shadow; do mount --bind \"$0/$f\" /etc/$f; done && \
             exec /usr/sbin/sshd -D -e -f \"$0/config\"",
        );
        command.arg(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn()?);
        let start = Instant::now();
        while !self.answers() {
            let over = match &mut self.child {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if over || start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("sshd did not come up: {}", self.log())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut banner = [0; 4];
        let _ = stream.set_read_timeout(Some(PATIENCE));
        stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
    }

    fn write_config(&self) -> io::Result<()> {
        let folder = self.folder.path().display();
        let mut text: String = self.lines.iter().map(|l| format!("{l}\n")).collect();
        text.push_str(&format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey {folder}/host_key\n\
             PidFile none\nStrictModes no\nPermitRootLogin yes\nUseDNS no\nPrintMotd no\n\
             UsePAM no\nPasswordAuthentication no\nAuthorizedKeysFile {folder}/authorized_keys\n\
             MaxStartups 100\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\n",
            self.port
        ));
        fs::write(self.path("config"), text)
    }

    fn make_users(&self) -> io::Result<()> {
        let home = self.home();
        fs::create_dir(&home)?;
        std::os::unix::fs::chown(&home, Some(USER_ID), Some(USER_ID))?;
        let mut openssl = Command::new("openssl");
        openssl.args(["passwd", "-6", PASSWORD]);
        let hash = run(openssl)?;
        // What root's shell reads at its start on this machine is nobody's business here, and may
        // be slow.
        let root = self.path("root");
        fs::create_dir(&root)?;
        let others = fs::read_to_string("/etc/passwd")?;
        let others = others.lines().filter(|line| !line.starts_with("root:"));
        let mut users = format!("root:x:0:0:root:{}:/bin/bash\n", root.display());
        users.extend(others.map(|line| format!("{line}\n")));
        users.push_str(&format!("{USER}:x:{USER_ID}:{USER_ID}::{}:/bin/sh\n", home.display()));
        readable(&self.path("passwd"), &users)?;
        extend("/etc/group", &self.path("group"), &format!("{USER}:x:{USER_ID}:\n"))?;
        let line = format!("{USER}:{}:19000:0:99999:7:::\n", hash.trim());
        extend("/etc/shadow", &self.path("shadow"), &line)
    }
}

const USER_ID: u32 = 54_321;

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An ssh agent for tests, ended when dropped.
#[derive(Debug)]
pub struct Agent {
    folder: TempDir,
    child: Child,
}

impl Agent {
    /// Starts an agent that holds the keys of these files.
    ///
    /// # Errors
    /// When it does not come up or takes a key not.
    pub fn start(keys: &[&Path]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("karat-agent-").tempdir()?;
        let socket = folder.path().join("socket");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let agent = Self { folder, child };
        let start = Instant::now();
        while !socket.exists() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            let mut add = Command::new("ssh-add");
            add.env("SSH_AUTH_SOCK", &socket).arg("-q").arg(key);
            run(add)?;
        }
        Ok(agent)
    }

    /// What `SSH_AUTH_SOCK` has to be.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn extend(system: &str, to: &Path, line: &str) -> io::Result<()> {
    let mut text = fs::read_to_string(system)?;
    text.push_str(line);
    readable(to, &text)
}

/// Writes a file that everybody may read.
fn readable(to: &Path, text: &str) -> io::Result<()> {
    fs::write(to, text)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))
}

fn run(mut command: Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {words}")))
}
