//! One instance: the jobs of its queue, and the machine behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use karat_layers::Digest;
use karat_machine::runtime::{
    BootReport, Datasource, Disk, Exec, Machine, MachineSpec, Metadata, RuntimeError, recover,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::disks::Disks;
use super::roots::NoRoot;
use super::{Hub, INSIDE, chain, reach, record};
use crate::aws::{Beside, Imds, Job};

/// How long a machine may take to power off before it is killed.
const STOPPING: Duration = Duration::from_secs(60);
/// The same when the whole lab ends.
const LEAVING: Duration = Duration::from_secs(10);
/// What user data starts may take its time, as on an instance.
const BOOTING: Duration = Duration::from_secs(24 * 3600);
/// How often a machine is asked what it listens at, where a rule opens many ports.
const LOOK: Duration = Duration::from_secs(1);

/// An instance's task.
pub(super) struct One {
    hub: Arc<Hub>,
    id: String,
    gone: CancellationToken,
    live: Option<Live>,
}

/// A machine that runs.
struct Live {
    machine: Machine,
    starting: JoinHandle<Result<BootReport, RuntimeError>>,
    address: Option<Ipv4Addr>,
    ports: BTreeMap<u16, JoinHandle<()>>,
    /// Serves the lab inside.
    inside: Option<JoinHandle<()>>,
    disks: Disks,
    /// It has to be looked at again what is reachable: some rule opens many ports, or none is open
    /// for a time.
    wide: bool,
    closed_until: Instant,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.starting.abort();
        self.ports.values().for_each(JoinHandle::abort);
        self.inside.iter().for_each(JoinHandle::abort);
    }
}

/// What is left to be done after a job.
#[derive(PartialEq, Eq)]
enum Then {
    Go,
    End,
}

impl One {
    pub(super) fn new(hub: Arc<Hub>, id: String, gone: CancellationToken) -> Self {
        Self { hub, id, gone, live: None }
    }

    /// Does the jobs of the queue until the instance is terminated or the lab ends.
    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        loop {
            let end = self.hub.end.clone();
            let machine = self.live.as_ref().map(|live| live.machine.clone());
            let wide = self.live.as_ref().is_some_and(|live| live.wide);
            let then = tokio::select! {
                biased;
                () = end.cancelled() => break,
                job = queue.recv() => match job {
                    Some(job) => self.does(job).await,
                    None => break,
                },
                () = ended(machine) => self.ended().await,
                () = tokio::time::sleep(LOOK), if wide => {
                    self.reach().await;
                    Then::Go
                }
            };
            if then == Then::End {
                self.hub.queues().remove(&self.id);
                return;
            }
        }
        self.power_off(LEAVING).await;
    }

    async fn does(&mut self, job: Job) -> Then {
        match job {
            Job::Boot { .. } => return self.boot_first().await,
            Job::Stop { force, .. } => {
                self.power_off(if force { Duration::ZERO } else { STOPPING }).await;
                self.hub.front.machine_stopped(&self.id);
            }
            Job::Terminate { .. } => return self.terminate().await,
            Job::Reboot { .. } => {
                if self.live.is_some() {
                    self.power_off(STOPPING).await;
                    self.boot_again().await;
                }
            }
            Job::Capture { snapshot, reboot, .. } => self.capture(&snapshot, reboot).await,
            Job::Reach { .. } => self.reach().await,
            Job::Cut { lasts, .. } => self.cut(lasts).await,
            Job::Fill { .. } => self.fill().await,
            Job::Attach { volume, .. } => self.attach(&volume).await,
            Job::Detach { volume, .. } => self.detach(volume).await,
            Job::EndSession { .. }
            | Job::CopyBlocks { .. }
            | Job::DropBlocks { .. }
            | Job::DropObjects { .. }
            | Job::CaptureVolume { .. }
            | Job::Grow { .. }
            | Job::SweepVolumes => {}
        }
        Then::Go
    }

    /// Boots for a call or after a restart of the lab, and records what came of it.
    async fn boot_first(&mut self) -> Then {
        if self.live.is_some() {
            return Then::Go;
        }
        match self.boot().await {
            Ok(()) => self.hub.front.machine_started(&self.id),
            Err(NoRoot::Cancelled) => {}
            Err(NoRoot::Failed(why)) => {
                tracing::warn!(id = self.id, why, "an instance does not start");
                if self.hub.front.machine_failed(&self.id, &why) {
                    self.remove().await;
                    return Then::End;
                }
            }
        }
        Then::Go
    }

    /// Boots what was running; one that does not start again has stopped.
    async fn boot_again(&mut self) {
        if let Err(NoRoot::Failed(why)) = self.boot().await {
            tracing::warn!(id = self.id, why, "an instance does not start again");
            self.hub.front.machine_failed(&self.id, &why);
        }
    }

    async fn boot(&mut self) -> Result<(), NoRoot> {
        let booted = self.start_machine().await;
        if booted.is_err() {
            self.hub.volumes.unplug_all(&self.id);
        }
        booted
    }

    async fn start_machine(&mut self) -> Result<(), NoRoot> {
        let order = self.hub.front.order(&self.id).map_err(NoRoot::Failed)?;
        let parent = self.hub.root(&self.id, order.root, &self.gone).await?;
        let mut lower = self.hub.store.lower_dirs(parent)?;
        lower.reverse();
        let mut spec = MachineSpec::new(&self.id, lower, self.hub.folder(&self.id));
        spec.hostname = order.hostname;
        spec.boot_deadline = BOOTING;
        spec.supervisor = Some(self.hub.supervisor.clone());
        spec.addresses = order.private.into_iter().chain([INSIDE]).collect();
        spec.metadata = Metadata {
            instance_id: self.id.clone(),
            datasource: Datasource::Ec2,
            service: Some(Arc::new(Imds::new(Arc::clone(&self.hub.front), &self.id))),
            ..Metadata::default()
        };
        let failed = |error: RuntimeError| match error {
            RuntimeError::Cancelled => NoRoot::Cancelled,
            other => NoRoot::Failed(chain(&other)),
        };
        let plugged = self.plug_all().await;
        let machine = Machine::prepare(spec, &self.gone).await.map_err(failed)?;
        let (runs, cancel) = (machine.clone(), self.gone.clone());
        let mut starting = tokio::spawn(async move { runs.run(&cancel).await });
        // As soon as its first process lives it runs, however long its start takes.
        loop {
            tokio::select! {
                done = &mut starting => {
                    let report = done.unwrap_or(Err(RuntimeError::Gone));
                    if let Err(error) = report {
                        let _ = machine.kill().await;
                        return Err(failed(error));
                    }
                    starting = tokio::spawn(async move { report });
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    if machine.is_entered() {
                        break;
                    }
                }
            }
        }
        let disks = Disks::new(machine.clone(), plugged).await;
        let address = reach::address(order.public.as_deref());
        let ports = BTreeMap::new();
        let inside = match machine.listen((INSIDE, 80).into()).await {
            Ok(listener) => Some((self.hub.serve)(listener)),
            Err(error) => {
                tracing::warn!(id = self.id, %error, "an instance does not find the lab");
                None
            }
        };
        self.hub.running().insert(self.id.clone(), machine.clone());
        self.live = Some(Live {
            machine,
            starting,
            address,
            ports,
            inside,
            disks,
            wide: false,
            closed_until: Instant::now(),
        });
        self.reach().await;
        Ok(())
    }

    /// Makes devices of the volumes beside the root. Without one the machine starts all the same.
    async fn plug_all(&self) -> Vec<(Beside, Arc<Disk>)> {
        let mut plugged = Vec::new();
        for beside in self.hub.front.volumes_beside(&self.id) {
            match self.hub.plug(&self.id, &beside.volume).await {
                Ok(disk) => plugged.push((beside, disk)),
                Err(why) => {
                    tracing::warn!(id = self.id, beside.volume, why, "a volume is no disk");
                }
            }
        }
        plugged
    }

    /// Gives the machine a volume, now or when it boots.
    async fn attach(&mut self, volume: &str) {
        let beside = self.hub.front.volumes_beside(&self.id);
        if let Some(beside) = beside.into_iter().find(|b| b.volume == volume)
            && let Some(live) = &self.live
        {
            match self.hub.plug(&self.id, volume).await {
                Ok(disk) => live.disks.show(beside, disk).await,
                Err(why) => tracing::warn!(id = self.id, volume, why, "a volume is no disk"),
            }
        }
        self.hub.front.volume_attached(volume);
    }

    /// Takes a volume from the machine. It is free when nothing uses it any more.
    async fn detach(&mut self, volume: String) {
        if let Some(live) = &self.live {
            live.disks.hide(&volume).await;
        }
        self.hub.volumes.unplug(&volume);
        let hub = Arc::clone(&self.hub);
        self.hub.tasks.spawn(async move {
            tokio::select! {
                () = hub.volumes.freed(&volume) => hub.front.volume_detached(&volume),
                () = hub.end.cancelled() => {}
            }
        });
    }

    /// Serves the ports that the rules open, and no others.
    async fn reach(&mut self) {
        let Some(live) = &mut self.live else { return };
        let Some(address) = live.address else { return };
        let open = self.hub.front.open_ports(&self.id);
        let (mut ports, wide) = reach::wanted(&open, &BTreeSet::new());
        if wide {
            ports = reach::wanted(&open, &reach::listened(&live.machine).await).0;
        }
        let closed = live.closed_until > Instant::now();
        if closed {
            ports.clear();
        }
        live.wide = wide || closed;
        live.ports.retain(|port, task| {
            let stays = ports.contains(port) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for port in ports {
            live.ports.entry(port).or_insert_with(|| {
                let (hub, id) = (Arc::clone(&self.hub), self.id.clone());
                tokio::spawn(reach::serve(hub, id, live.machine.clone(), address, port))
            });
        }
    }

    /// Ends all connections, and lets none begin for some milliseconds.
    async fn cut(&mut self, lasts: u64) {
        let Some(live) = &mut self.live else { return };
        live.ports.values().for_each(JoinHandle::abort);
        live.ports.clear();
        live.closed_until = Instant::now() + Duration::from_millis(lasts);
        self.reach().await;
    }

    /// Leaves no room in the temporary folders.
    async fn fill(&self) {
        let Some(live) = &self.live else { return };
        let full = "for folder in /tmp /var/tmp /dev/shm; do \
            mountpoint -q $folder || mount -t tmpfs -o mode=1777 none $folder; \
            mount -o remount,nr_blocks=1 $folder; dd if=/dev/zero of=$folder/.full bs=4k count=1; \
            done";
        if let Err(error) = live.machine.exec(Exec::shell(full)).await {
            tracing::warn!(id = self.id, %error, "cannot fill an instance's folders");
        }
    }

    /// The machine has ended by itself.
    async fn ended(&mut self) -> Then {
        let Some(live) = self.take() else { return Then::Go };
        let restarts = live.machine.wants_restart();
        if let Err(error) = live.machine.kill().await {
            tracing::warn!(id = self.id, %error, "an instance that has ended");
        }
        drop(live);
        if restarts {
            self.boot_again().await;
            return Then::Go;
        }
        if self.hub.front.machine_ended(&self.id) { self.terminate().await } else { Then::Go }
    }

    /// The machine, which is about to end.
    fn take(&mut self) -> Option<Live> {
        self.hub.running().remove(&self.id);
        self.hub.lines.forget(&self.id);
        self.hub.remote.forget(&self.id);
        self.hub.volumes.unplug_all(&self.id);
        self.live.take()
    }

    /// Ends the machine; its disk stays.
    async fn power_off(&mut self, patience: Duration) {
        let Some(live) = self.take() else { return };
        let ended = if patience.is_zero() {
            live.machine.kill().await
        } else {
            live.machine.stop(patience).await.map(drop)
        };
        if let Err(error) = ended {
            tracing::warn!(id = self.id, %error, "an instance does not end");
        }
    }

    async fn terminate(&mut self) -> Then {
        let kept = self.hub.front.surviving_root(&self.id);
        self.power_off(if kept.is_some() { STOPPING } else { Duration::ZERO }).await;
        if let Some(volume) = kept {
            match self.layer(self.hub.folder(&self.id).join("upper")).await {
                Ok(layer) => self.hub.front.volume_holds(&volume, &layer.to_string()),
                Err(why) => tracing::warn!(id = self.id, why, "a volume is not kept"),
            }
        }
        self.remove().await;
        self.hub.front.machine_stopped(&self.id);
        self.hub.sweep_volumes();
        Then::End
    }

    /// Removes all that is left of it.
    async fn remove(&self) {
        let record = record(&self.id, &self.hub.folder(&self.id));
        let removed = tokio::task::spawn_blocking(move || recover(&record)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(id = self.id, %error, "cannot remove what is left of an instance");
        }
    }

    /// Makes a layer of what it has written, for a snapshot.
    async fn capture(&mut self, snapshot: &str, reboot: bool) {
        let runs = self.live.is_some();
        if runs && reboot {
            self.power_off(STOPPING).await;
        }
        let folder = self.hub.folder(&self.id);
        let (upper, copy) = (folder.join("upper"), folder.join(format!("{snapshot}.upper")));
        let copied = match std::fs::create_dir_all(&upper) {
            Ok(()) => self.hub.copy(&upper, &copy).await,
            Err(error) => Err(format!("cannot make its folder: {error}")),
        };
        if runs && reboot {
            self.boot_again().await;
        }
        let layer = match copied {
            Ok(()) => self.layer(copy.clone()).await,
            Err(why) => Err(why),
        };
        let _ = tokio::fs::remove_dir_all(&copy).await;
        if self.hub.end.is_cancelled() && layer.is_err() {
            // The lab ends: it is done when it starts again.
            return;
        }
        self.hub.front.captured(snapshot, layer.map(|digest| digest.to_string()));
    }

    async fn layer(&self, upper: std::path::PathBuf) -> Result<Digest, String> {
        let failed = |error| match error {
            NoRoot::Cancelled => "the lab ended".to_owned(),
            NoRoot::Failed(why) => why,
        };
        let order = self.hub.front.order(&self.id)?;
        let parent = self.hub.root(&self.id, order.root, &self.hub.end).await.map_err(failed)?;
        self.hub.capture(&self.id, parent, upper).await.map_err(failed)
    }
}

/// Waits for the end of a machine, for ever where there is none.
async fn ended(machine: Option<Machine>) {
    const EVER: Duration = Duration::from_secs(365 * 24 * 3600);
    match machine {
        Some(machine) => while !machine.wait_stopped(EVER).await {},
        None => std::future::pending().await,
    }
}
