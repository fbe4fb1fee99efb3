//! Instances as local machines: booting, ending and capturing them.
//!
//! Each instance has a queue of its own: jobs of one are done in order, those of others beside it.
//! What is done is told to the records; what has to be known is asked of them when it is needed.
//!
//! | file | what |
//! |---|---|
//! | `instance.rs` | one instance: its queue, its machine |
//! | `roots.rs` | the layers that a machine stands on, and the ones made of it |
//! | `volumes.rs`, `disks.rs` | volumes beside the root: their files, and the devices in a machine |
//! | `layout.rs` | disks of what is on the layers |
//! | `reach.rs` | its ports, at an address of this host |
//! | `sessions.rs` | the built-in agent of session manager |
//! | `remote.rs` | agents that are not built in |
//! | `shell.rs` | its shells |
//! | `sever.rs` | web sockets that can be cut |
//! | `host.rs` | whether this host can run machines |

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use karat_layers::Store;
use karat_machine::runtime::{Machine, MachineRecord, recover};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aws::{Disks, Front, Job};

mod disks;
pub(crate) mod host;
mod instance;
mod layout;
mod reach;
mod remote;
mod roots;
mod sessions;
mod sever;
mod shell;
mod volumes;

pub(crate) use roots::Root;
pub(crate) use sever::Severable;

/// Where an instance finds the lab itself, as a client finds it at its own address.
const INSIDE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 250);

/// Serves the lab to whoever connects to a socket.
pub(crate) type Serve = Arc<dyn Fn(TcpListener) -> JoinHandle<()> + Send + Sync>;

/// What all instances share.
pub(crate) struct Hub {
    /// One folder for each instance.
    dir: PathBuf,
    store: Store,
    cache: PathBuf,
    supervisor: PathBuf,
    front: Arc<Front>,
    serve: Serve,
    queues: Mutex<BTreeMap<String, Queue>>,
    /// Those that run, by the ids of their instances.
    running: Mutex<BTreeMap<String, Machine>>,
    agents: sessions::Agents,
    lines: sever::Lines,
    remote: remote::Remote,
    volumes: volumes::Volumes,
    tasks: TaskTracker,
    /// The lab ends.
    end: CancellationToken,
    /// One base is made at a time.
    making: tokio::sync::Mutex<()>,
}

/// The way to an instance's task.
struct Queue {
    work: mpsc::UnboundedSender<Job>,
    /// It is to be terminated: what takes time may be left.
    gone: CancellationToken,
}

/// All machines of a lab. They end with it.
pub(crate) struct Machines {
    hub: Arc<Hub>,
    dispatcher: tokio::task::JoinHandle<()>,
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.dispatcher.abort();
        self.hub.end.cancel();
    }
}

impl Machines {
    /// Takes up what the records say: instances that ran boot again.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(crate) fn start(
        front: Arc<Front>,
        supervisor: PathBuf,
        serve: Serve,
    ) -> karat_layers::Result<Self> {
        let (work, mut jobs) = mpsc::unbounded_channel();
        let base = &front.settings.dir;
        let hub = Arc::new(Hub {
            dir: base.join("instances"),
            store: Store::open(front.settings.store())?,
            cache: front.settings.cache.clone(),
            supervisor,
            serve,
            queues: Mutex::default(),
            running: Mutex::default(),
            agents: sessions::Agents::default(),
            lines: sever::Lines::default(),
            remote: remote::Remote::default(),
            volumes: volumes::Volumes::new(base),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            making: tokio::sync::Mutex::default(),
            front: Arc::clone(&front),
        });
        // Disks are laid out beside the instances, before there is one.
        if let Err(error) = std::fs::create_dir_all(&hub.dir) {
            tracing::warn!(%error, "cannot make the folder of the instances");
        }
        let disks: Weak<dyn Disks> = Arc::downgrade(&hub) as _;
        // There is one hub for each front.
        let _ = front.disks.set(disks);
        hub.sweep();
        hub.sweep_volumes();
        if let Err(error) = hub.collect() {
            tracing::warn!(error = chain(&error), "cannot collect what nothing needs");
        }
        let taken_up = front.take_up(work);
        let dispatching = Arc::clone(&hub);
        let dispatcher = tokio::spawn(async move {
            for job in taken_up {
                dispatching.dispatch(job);
            }
            while let Some(job) = jobs.recv().await {
                dispatching.dispatch(job);
            }
        });
        Ok(Self { hub, dispatcher })
    }

    /// Serves a web socket that asks for a session.
    pub(crate) fn serve_session(
        &self,
        id: String,
        socket: karat_ssm::Socket,
        cut: CancellationToken,
    ) {
        let hub = Arc::clone(&self.hub);
        self.hub.tasks.spawn(async move {
            let serving = hub.serve_session(&id, socket, cut);
            tokio::select! {
                () = serving => {}
                () = hub.end.cancelled() => {}
            }
        });
    }

    /// Serves the control channel of an instance's own agent.
    pub(crate) fn serve_agent(&self, instance: String, socket: karat_ssm::Socket) {
        let hub = Arc::clone(&self.hub);
        self.hub.tasks.spawn(async move {
            let serving = hub.serve_agent(&instance, socket);
            tokio::select! {
                () = serving => {}
                () = hub.end.cancelled() => {}
            }
        });
    }

    /// Powers all of them off and waits until they are.
    pub(crate) async fn stop(self) {
        self.dispatcher.abort();
        self.hub.end.cancel();
        self.hub.tasks.close();
        self.hub.tasks.wait().await;
    }
}

impl Hub {
    fn queues(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a job to its instance's task, which is started if there is none.
    fn dispatch(self: &Arc<Self>, job: Job) {
        if let Job::EndSession { session } = &job {
            self.agents.end(session);
            self.remote.end(session, "");
        }
        if let Job::Cut { instance, lasts } = &job {
            self.lines.cut(instance, Duration::from_millis(*lasts));
        }
        if self.end.is_cancelled() {
            return;
        }
        match &job {
            Job::CaptureVolume { volume, snapshot } => {
                let capture = Arc::clone(self).capture_volume(volume.clone(), snapshot.clone());
                self.tasks.spawn(capture);
            }
            Job::Grow { volume } => {
                self.tasks.spawn(Arc::clone(self).grow_volume(volume.clone()));
            }
            Job::SweepVolumes => self.sweep_volumes(),
            _ => {}
        }
        let Some(id) = job.instance().map(str::to_owned) else { return };
        let ends = matches!(job, Job::Terminate { .. });
        let mut queues = self.queues();
        let queue = queues.entry(id.clone()).or_insert_with(|| {
            let (work, queue) = mpsc::unbounded_channel();
            let gone = self.end.child_token();
            let task = instance::One::new(Arc::clone(self), id, gone.clone());
            self.tasks.spawn(task.run(queue));
            Queue { work, gone }
        });
        if ends {
            queue.gone.cancel();
        }
        // A task that has ended has terminated its instance: there is nothing left to be done.
        let _ = queue.work.send(job);
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Machine>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine of an instance, while it runs.
    fn machine(&self, id: &str) -> Option<Machine> {
        self.running().get(id).cloned()
    }

    /// The folder of an instance.
    fn folder(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Removes what was made of instances and is in no snapshot, volume or instance any more.
    fn collect(&self) -> karat_layers::Result<()> {
        if self.front.settings.store.is_some() {
            // Another lab may have layers there.
            return Ok(());
        }
        let mut used = self.front.layers_in_use();
        let folders = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let parents = folders.map(|folder| folder.path().join("parent"));
        used.extend(parents.filter_map(|path| std::fs::read_to_string(path).ok()));
        let mut keep = Vec::new();
        for layer in self.store.layers()? {
            let made = &self.store.info(layer)?.provenance["from"]["lab"];
            let of_instance = made.as_str().is_some_and(|id| id.starts_with("i-"));
            let name = layer.to_string();
            if !of_instance || used.iter().any(|used| used.trim() == name) {
                keep.push(layer);
            }
        }
        self.store.gc(&keep).map(drop)
    }

    /// Removes folders of instances that are no more, and what a lab that was killed left of
    /// others.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let left = if self.front.has_instance(&id) {
                // The folder stays.
                recover(&record(&id, &entry.path().join("nothing")))
            } else {
                recover(&record(&id, &entry.path()))
            };
            if let Err(error) = left {
                tracing::warn!(id, %error, "cannot remove what is left of an instance");
            }
        }
    }
}

fn record(id: &str, work_dir: &Path) -> MachineRecord {
    MachineRecord { id: id.to_owned(), work_dir: work_dir.to_owned(), keeper: None }
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
