//! A local machine from its start to its end.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use karat_component::{ExitStatus, Output, Stream};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::error::{Result, RuntimeError};
use super::exec::{self, Exec};
use super::metadata::Tree;
use super::network::{self, Forward};
use super::recover::MachineRecord;
use super::rootfs::{NewFile, RootFs};
use super::spec::MachineSpec;
use super::wire::{self, Answer, Op};
use super::{METADATA_ADDRESS, RESOLVER_ADDRESS, dns, files, metadata};

/// How systemd started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootReport {
    /// What `systemctl is-system-running` says: `running`, `degraded`, …; `offline` without
    /// systemd.
    pub state: String,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// From the start to the last job's end.
    pub took: Duration,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Whether it powered off by itself; otherwise it was killed.
    pub orderly: bool,
}

/// A machine whose root is mounted, and which may run.
///
/// When the last clone is dropped, all its processes are killed and its mounts go; the writable
/// layer stays in the machine's folder.
#[derive(Clone, Debug)]
pub struct Machine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    spec: MachineSpec,
    warnings: Vec<String>,
    root: Mutex<Arc<RootFs>>,
    /// Whether the root is the one that the machine's first process sees.
    entered: AtomicBool,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    address: Option<Ipv4Addr>,
    servers: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl Machine {
    /// Mounts the root and starts systemd, or the idle process when the specification says so.
    ///
    /// # Errors
    /// When a program is missing, the layers cannot be mounted, or systemd does not start in time;
    /// nothing is left then.
    pub async fn start(
        spec: MachineSpec,
        cancel: &CancellationToken,
    ) -> Result<(Self, BootReport)> {
        let machine = Self::prepare(spec, cancel).await?;
        match machine.run(cancel).await {
            Ok(report) => Ok((machine, report)),
            Err(error) => {
                machine.kill().await?;
                Err(error)
            }
        }
    }

    /// Mounts the root and starts nothing: files can be read and written, at once.
    ///
    /// # Errors
    /// When the process is not root's or the layers cannot be mounted.
    pub async fn prepare(spec: MachineSpec, cancel: &CancellationToken) -> Result<Self> {
        spec.check()?;
        if !nix::unistd::geteuid().is_root() {
            return Err(RuntimeError::NotRoot);
        }
        let (upper, work) = (spec.upper(), spec.work_dir.join("work"));
        for dir in [&upper, &work] {
            fs::create_dir_all(dir).map_err(|e| RuntimeError::file("make", dir, e))?;
        }
        let program = match &spec.supervisor {
            Some(program) => program.clone(),
            None => PathBuf::from("/proc/self/exe"),
        };
        let client = Arc::new(Client::start(&program, &spec.id)?);
        let prepare = Op::Prepare(wire::Prepare {
            lower: spec.lower.clone(),
            upper,
            work,
            hostname: spec.host().to_owned(),
            machine_id: machine_id(&spec.id),
            resolv_conf: Some(format!("nameserver {RESOLVER_ADDRESS}\n")),
            binds: spec.binds.iter().map(|b| b.wire()).collect(),
            limits: spec.limits.wire(),
        });
        let mounted = async {
            let (answer, _) = client.call(prepare, &[]).await?;
            let Answer::Prepared { warnings } = answer else { return Err(RuntimeError::Gone) };
            Ok((warnings, Arc::new(fetch_root(&client).await?)))
        };
        match unless_cancelled(cancel, mounted).await {
            Ok((warnings, root)) => Ok(Self {
                inner: Arc::new(Inner {
                    client,
                    spec,
                    warnings,
                    root: Mutex::new(root),
                    entered: AtomicBool::new(false),
                    running: Mutex::default(),
                }),
            }),
            Err(error) => {
                client.close(false).await?;
                Err(error)
            }
        }
    }

    /// Starts what the specification says in a machine that was only prepared, or that has ended
    /// since, by a reboot say.
    ///
    /// # Errors
    /// When it does not start; the machine is still prepared then.
    pub async fn run(&self, cancel: &CancellationToken) -> Result<BootReport> {
        let started = std::time::Instant::now();
        self.inner.client.starts_again();
        self.inner.entered.store(false, Ordering::Release);
        if self.address().is_none() {
            unless_cancelled(cancel, self.connect_network()).await?;
        }
        let spec = &self.inner.spec;
        let mut report = if spec.boot {
            let result = unless_cancelled(cancel, self.boot()).await;
            if result.is_err() {
                let _ = self.inner.client.call(Op::Kill, &[]).await;
                self.wait_stopped(Duration::from_secs(10)).await;
            }
            result?
        } else {
            let enter = wire::Enter { hostname: spec.host().to_owned() };
            self.inner.client.call(Op::Enter(enter), &[]).await?;
            self.refresh_root().await?;
            BootReport { state: "offline".into(), failed_units: Vec::new(), took: Duration::ZERO }
        };
        report.took = started.elapsed();
        Ok(report)
    }

    async fn refresh_root(&self) -> Result<()> {
        let root = Arc::new(fetch_root(&self.inner.client).await?);
        *self.inner.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
        self.inner.entered.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether its first process lives, so that files and devices go where that one sees them. Before,
    /// what is put in `/dev` or another place that is mounted over would lie below.
    #[must_use]
    pub fn is_entered(&self) -> bool {
        self.inner.entered.load(Ordering::Acquire)
    }

    async fn connect_network(&self) -> Result<()> {
        let Inner { client, spec, .. } = &*self.inner;
        let outbound = network::choose_outbound(spec.network)?;
        let own = || outbound.as_ref().map_or(Ipv4Addr::LOCALHOST, network::own_address);
        let address = spec.addresses.first().copied().unwrap_or_else(own);
        let mut loopback = vec![METADATA_ADDRESS, RESOLVER_ADDRESS];
        loopback.extend(&spec.addresses);
        let ask_host = outbound.is_some();
        client.call(Op::Network(wire::Network { loopback, outbound }), &[]).await?;

        let mut names: dns::Names = spec
            .names
            .iter()
            .map(|(name, ip)| (name.trim_end_matches('.').to_ascii_lowercase(), *ip))
            .collect();
        names.insert(spec.host().to_ascii_lowercase(), address);
        names.entry("metadata.google.internal".into()).or_insert(METADATA_ADDRESS);
        let resolver = SocketAddr::from((RESOLVER_ADDRESS, 53));
        let udp = network::datagram(client, resolver).await?;
        let tcp = network::listen(client, resolver).await?;
        let http = network::listen(client, (METADATA_ADDRESS, 80).into()).await?;
        let tree = Tree::new(spec, &address.to_string());
        let mut running = self.running();
        running.address = Some(address);
        running.servers.push(tokio::spawn(dns::serve(udp, tcp, names, ask_host)));
        running.servers.push(tokio::spawn(metadata::serve(
            http,
            tree,
            spec.metadata.service.clone(),
        )));
        Ok(())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn boot(&self) -> Result<BootReport> {
        let Inner { client, spec, .. } = &*self.inner;
        let nspawn = network::find_program("systemd-nspawn").ok_or(RuntimeError::Missing {
            program: "systemd-nspawn",
            package: "systemd-container",
        })?;
        let path = spec.console();
        let console = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| RuntimeError::file("write", &path, e))?;
        let mut cmdline = spec.metadata.datasource.cmdline();
        cmdline.extend(spec.cmdline.iter().cloned());
        let boot = Op::Boot(wire::Boot {
            nspawn,
            name: spec.id.clone(),
            hostname: spec.host().to_owned(),
            machine_id: machine_id(&spec.id),
            cmdline,
            env: spec.env.clone(),
        });
        if let Err(error) = client.call(boot, &[console.as_raw_fd()]).await {
            return Err(match error {
                RuntimeError::Refused { what, errno: None } if what.contains("ended") => {
                    self.ended_early()
                }
                other => other,
            });
        }
        self.refresh_root().await?;
        let ready = tokio::time::timeout(spec.boot_deadline, self.wait_ready()).await;
        match ready {
            Ok(result) => result?,
            Err(_) => return Err(self.not_ready().await),
        }
        self.ask_systemd().await
    }

    /// Waits for systemd's word that it has finished; asks it now and then, should it not send one.
    async fn wait_ready(&self) -> Result<()> {
        let mut state = self.inner.client.state();
        loop {
            {
                let now = state.borrow_and_update();
                if now.closed || now.stopped.is_some() {
                    drop(now);
                    return Err(self.ended_early());
                }
                if now.ready {
                    return Ok(());
                }
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return Err(RuntimeError::Gone) },
                () = tokio::time::sleep(Duration::from_secs(5)) => {
                    let said = self.systemctl(&["is-system-running"]).await.unwrap_or_default();
                    if matches!(said.trim(), "running" | "degraded") {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn ask_systemd(&self) -> Result<BootReport> {
        let state = self.systemctl(&["is-system-running"]).await?.trim().to_owned();
        let failed = self.systemctl(&["list-units", "--failed", "--plain", "--no-legend"]).await?;
        let failed_units = first_words(&failed);
        Ok(BootReport { state, failed_units, took: Duration::ZERO })
    }

    async fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        let mut argv = vec!["systemctl", "--no-pager"];
        argv.extend(arguments);
        Ok(self.output_of(Exec::new(argv)).await?.1)
    }

    /// Runs a command and gives its status and standard output. For short outputs.
    ///
    /// # Errors
    /// As [`Machine::exec`].
    pub async fn output_of(&self, mut exec: Exec) -> Result<(ExitStatus, String)> {
        let collected = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&collected);
        exec.output = Output::new(move |stream, bytes| {
            if stream == Stream::Stdout {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            }
        });
        let status = self.exec(exec).await?;
        let bytes = collected.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn ended_early(&self) -> RuntimeError {
        let console = self.inner.spec.console();
        RuntimeError::EndedEarly { tail: tail_of(&console), console }
    }

    async fn not_ready(&self) -> RuntimeError {
        let asked = self.systemctl(&["list-jobs", "--plain", "--no-legend"]);
        let jobs = match tokio::time::timeout(Duration::from_secs(5), asked).await {
            Ok(Ok(text)) => text
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        let console = self.inner.spec.console();
        RuntimeError::NotReady {
            after: self.inner.spec.boot_deadline,
            jobs,
            tail: tail_of(&console),
            console,
        }
    }

    /// What the machine was started from.
    pub fn spec(&self) -> &MachineSpec {
        &self.inner.spec
    }

    /// What could not be had on this host and is worth a remark.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// What [`recover`](super::recover()) needs should this process die.
    pub fn record(&self) -> MachineRecord {
        MachineRecord::of(&self.inner.spec, Some(self.inner.client.pid()))
    }

    /// The machine's own address in its own network; `None` until it runs. The host reaches it by
    /// [`Machine::connect`] and [`Machine::forward`] only.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.running().address
    }

    fn target(&self, port: u16) -> Result<SocketAddr> {
        let address = self.address().ok_or_else(|| RuntimeError::Specification {
            what: "the machine has no network until it runs".into(),
        })?;
        Ok((address, port).into())
    }

    /// Connects to a TCP port in the machine.
    ///
    /// # Errors
    /// When the machine does not run or nothing listens there.
    pub async fn connect(&self, port: u16) -> Result<TcpStream> {
        network::connect(&self.inner.client, self.target(port)?).await
    }

    /// Connects to an address as the machine sees it: its own loopback, or a host that it reaches.
    ///
    /// # Errors
    /// As [`Machine::connect`].
    pub async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream> {
        self.target(0)?;
        network::connect(&self.inner.client, address).await
    }

    /// Makes a port of the machine reachable at an address of the host, `127.0.0.1:0` for any free
    /// port, as long as the result lives.
    ///
    /// # Errors
    /// When the machine does not run or the address cannot be used.
    pub async fn forward(&self, listen: SocketAddr, port: u16) -> Result<Forward> {
        Forward::start(Arc::clone(&self.inner.client), listen, self.target(port)?).await
    }

    /// Listens on an address of the machine's network namespace: the machine's processes connect,
    /// this process accepts.
    ///
    /// # Errors
    /// When the machine does not run or the address is in use.
    pub async fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        self.target(0)?;
        network::listen(&self.inner.client, address).await
    }

    /// Runs a command and waits for its end and its output's.
    ///
    /// # Errors
    /// When it cannot be started, is cancelled, or the machine is gone. Its exit code is no error.
    pub async fn exec(&self, exec: Exec) -> Result<ExitStatus> {
        let status = exec::run(&self.inner.client, exec).await?;
        // A machine that ends kills what runs in it; that is not how the command ended.
        let killed =
            matches!(&status, ExitStatus::Signal(name) if name == "KILL" || name == "TERM");
        if killed && self.inner.spec.boot && self.is_ending().await {
            return Ok(ExitStatus::Disconnected);
        }
        Ok(status)
    }

    /// Whether the machine is about to end or has ended.
    async fn is_ending(&self) -> bool {
        if self.wait_stopped(Duration::from_millis(100)).await {
            return true;
        }
        let ask = exec::run(&self.inner.client, Exec::shell(IS_ALIVE));
        !matches!(ask.await, Ok(status) if status.success())
    }

    /// Removes a file of the machine; one that is not there is removed already.
    ///
    /// # Errors
    /// When it is a folder or cannot be removed.
    pub async fn remove_file(&self, path: &str) -> Result<()> {
        let path = in_machine(path);
        self.blocking(move |root| {
            root.remove_file(&path).map_err(|e| RuntimeError::file("remove", &path, e))
        })
        .await
    }

    /// Makes a node of a block device in the machine's `/dev`, in place of what has the name.
    ///
    /// # Errors
    /// When the machine does not run or the node cannot be made.
    pub async fn show_device(&self, name: &str, device: (u64, u64)) -> Result<()> {
        let path = Path::new("/dev").join(name);
        self.blocking(move |root| {
            root.make_device(&path, device).map_err(|e| RuntimeError::file("make", &path, e))
        })
        .await
    }

    /// Gives a device in the machine's `/dev` another name, in place of what has it.
    ///
    /// # Errors
    /// When the machine does not run or the link cannot be made.
    pub async fn link_device(&self, name: &str, to: &str) -> Result<()> {
        let (path, to) = (Path::new("/dev").join(name), to.to_owned());
        self.blocking(move |root| {
            root.make_link(&path, &to).map_err(|e| RuntimeError::file("make", &path, e))
        })
        .await
    }

    fn root(&self) -> Arc<RootFs> {
        Arc::clone(&self.inner.root.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RootFs) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.root();
        tokio::task::spawn_blocking(move || work(&root)).await.unwrap_or(Err(RuntimeError::Gone))
    }

    /// Copies a file of the host into the machine. The file appears whole or not at all. Without
    /// `mode` an existing file keeps its own and a new one gets 0644.
    ///
    /// # Errors
    /// When either cannot be used, or it is cancelled.
    pub async fn put_file(
        &self,
        from: &Path,
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let (from, to, cancel) = (from.to_owned(), in_machine(to), cancel.clone());
        self.blocking(move |root| files::put_file(root, &from, &to, mode, &cancel)).await
    }

    /// Writes what a reader gives to a file in the machine, as [`Machine::put_file`] does.
    ///
    /// # Errors
    /// When it cannot be read or written, or is cancelled.
    pub async fn put(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let path = in_machine(to);
        let begun = path.clone();
        let (new, file) = self
            .blocking(move |root| {
                NewFile::begin(root, &begun, mode)
                    .map_err(|e| RuntimeError::file("write", &begun, e))
            })
            .await?;
        let mut file = tokio::fs::File::from_std(file);
        let copied = async {
            let mut content = content;
            let write = |e| RuntimeError::file("write", &path, e);
            tokio::io::copy(&mut content, &mut file).await.map_err(write)?;
            file.flush().await.map_err(write)
        };
        unless_cancelled(cancel, copied).await?;
        self.blocking(move |_| new.finish().map_err(|e| RuntimeError::file("write", &path, e)))
            .await
    }

    /// Copies what is in a folder of the host into a folder of the machine, made if missing.
    /// Links are followed, modes kept.
    ///
    /// # Errors
    /// When something cannot be read or written, or it is cancelled.
    pub async fn put_dir(&self, from: &Path, to: &str, cancel: &CancellationToken) -> Result<()> {
        let (from, to, cancel) = (from.to_owned(), in_machine(to), cancel.clone());
        self.blocking(move |root| files::put_dir(root, &from, &to, &cancel)).await
    }

    /// Copies a file of the machine to the host; it appears whole or not at all.
    ///
    /// # Errors
    /// When either cannot be used, or it is cancelled.
    pub async fn get_file(&self, from: &str, to: &Path, cancel: &CancellationToken) -> Result<()> {
        let (from, to, cancel) = (in_machine(from), to.to_owned(), cancel.clone());
        self.blocking(move |root| files::get_file(root, &from, &to, &cancel)).await
    }

    /// Copies what is in a folder of the machine into a folder of the host, made if missing.
    ///
    /// # Errors
    /// When something cannot be read or written, or it is cancelled.
    pub async fn get_dir(&self, from: &str, to: &Path, cancel: &CancellationToken) -> Result<()> {
        let (from, to, cancel) = (in_machine(from), to.to_owned(), cancel.clone());
        self.blocking(move |root| files::get_dir(root, &from, &to, &cancel)).await
    }

    /// Reads a file of the machine that is known to be small.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>> {
        let path = in_machine(path);
        self.blocking(move |root| {
            let fail = |e| RuntimeError::file("read", &path, e);
            let mut content = Vec::new();
            let mut file = root.open_file(&path).map_err(fail)?;
            std::io::Read::read_to_end(&mut file, &mut content).map_err(fail)?;
            Ok(content)
        })
        .await
    }

    /// Whether a path of the machine leads to a folder; `None` when it leads to nothing.
    pub async fn is_dir(&self, path: &str) -> Option<bool> {
        let path = in_machine(path);
        let found = self.blocking(move |root| {
            let stat = root.stat(&path).map_err(|e| RuntimeError::file("read", &path, e))?;
            Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
        });
        found.await.ok()
    }

    /// Whether the machine runs: started and not ended since.
    pub fn is_running(&self) -> bool {
        let state = self.inner.client.state();
        let state = state.borrow();
        self.address().is_some() && !state.closed && state.stopped.is_none()
    }

    /// Whether the machine has ended because it wants to be started again: a reboot.
    pub fn wants_restart(&self) -> bool {
        // systemd-nspawn says so by this code.
        const FORCE_RESTART: i32 = 133;
        let state = self.inner.client.state();
        let state = state.borrow();
        matches!(state.stopped, Some((Some(FORCE_RESTART), _)))
    }

    /// Makes a machine that went away run again: waits for its end, if it is on its way there, and
    /// starts it. One that runs and is not about to end is left alone.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub async fn revive(&self, cancel: &CancellationToken) -> Result<()> {
        while self.is_running() {
            let asked = self.exec(Exec::shell(IS_ALIVE));
            let alive = unless_cancelled(cancel, asked).await;
            if matches!(&alive, Err(RuntimeError::Cancelled)) {
                return Err(RuntimeError::Cancelled);
            }
            if alive.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            unless_cancelled(cancel, async {
                self.wait_stopped(Duration::from_secs(1)).await;
                Ok(())
            })
            .await?;
        }
        self.run(cancel).await.map(drop)
    }

    /// Waits until the machine has ended by itself; `false` when it still runs after `patience`.
    pub async fn wait_stopped(&self, patience: Duration) -> bool {
        let mut state = self.inner.client.state();
        let ended = state.wait_for(|s| s.stopped.is_some() || s.closed);
        tokio::time::timeout(patience, ended).await.is_ok()
    }

    /// Powers off in order; kills it when that takes longer than `deadline`. Afterwards nothing
    /// of it is left but the writable layer, which is complete.
    ///
    /// # Errors
    /// When the process beside the machine cannot be waited for.
    pub async fn stop(&self, deadline: Duration) -> Result<Stopped> {
        let mut orderly = true;
        if self.is_running() && self.inner.spec.boot {
            let asked = self.inner.client.call(Op::PowerOff, &[]).await.is_ok();
            orderly = asked && self.wait_stopped(deadline).await;
        }
        self.finish(true).await?;
        Ok(Stopped { orderly })
    }

    /// Kills all of it at once.
    ///
    /// # Errors
    /// When the process beside the machine cannot be waited for.
    pub async fn kill(&self) -> Result<()> {
        self.finish(true).await
    }

    async fn finish(&self, graceful: bool) -> Result<()> {
        let mut running = std::mem::take(&mut *self.running());
        running.servers.drain(..).for_each(|server| server.abort());
        // A descriptor of the root keeps it mounted.
        if let Some(empty) = empty_root() {
            *self.inner.root.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(empty);
        }
        self.inner.client.close(graceful).await
    }
}

/// Succeeds where systemd is not on its way down. One that ends just now says nothing, or what
/// its absence looks like.
const IS_ALIVE: &str = "case $(systemctl is-system-running 2>/dev/null) in \
     running|degraded|starting|initializing|maintenance) ;; *) exit 1 ;; esac";

/// A root where nothing is: what remains after the end.
fn empty_root() -> Option<RootFs> {
    let null = fs::File::open("/dev/null").ok()?;
    Some(RootFs::new(null.into()))
}

async fn fetch_root(client: &Client) -> Result<RootFs> {
    let (_, fds) = client.call(Op::Root, &[]).await?;
    fds.into_iter().next().map(RootFs::new).ok_or(RuntimeError::Gone)
}

async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(RuntimeError::Cancelled),
        result = work => result,
    }
}

/// A path of the machine; relative ones start at root's home.
fn in_machine(path: &str) -> PathBuf {
    Path::new("/root").join(path)
}

/// The machine's id for systemd: 32 digits that depend on the machine's name alone.
fn machine_id(id: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(format!("karat machine {id}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn first_words(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The last lines of the console, each on a line of its own after a line break.
fn tail_of(console: &Path) -> String {
    let bytes = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2000)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(6)..];
    last.iter().map(|line| format!("\n    {}", line.trim_end())).collect()
}
