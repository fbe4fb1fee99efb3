//! Between the records and the machines: what a machine is made of, and what became of it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{PoisonError, Weak};

use super::groups;
use super::images::base_entry;
use super::instances;
use super::launch::free_address;
use super::model::{
    Content, Instance, InstanceState, Rule, Snapshot, SnapshotState, Volume, VolumeState,
};
use super::volumes;
use crate::aws::call::Job;
use crate::aws::front::{Front, Inner};
use crate::aws::state::State;
use crate::core::blocks::GIB;
use crate::core::faults::{Blow, Strike};
use crate::core::phase::{Millis, Phase, UNTIL_TOLD, now};
use crate::machines::Root;

/// How long before its end a spot instance is told, in milliseconds.
const NOTICE: u64 = 120_000;
const SPOT: (&str, &str) = ("Server.SpotInstanceTermination", "Spot instance termination");
const HARDWARE: (&str, &str) = ("Server.InternalError", "Internal error on launch or of the host");

/// What an instance's machine is started from.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) root: Root,
    pub(crate) hostname: String,
    pub(crate) private: Option<Ipv4Addr>,
    pub(crate) public: Option<String>,
}

/// The volume that an instance boots from.
fn root_volume<'a>(state: &'a State, instance: &Instance) -> Option<&'a Volume> {
    state.volumes.iter().find(|v| {
        let at = v.attachment.as_ref();
        at.is_some_and(|a| a.instance == instance.id && a.device == instance.root_device)
    })
}

impl Front {
    /// Changes the records outside of a call.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner, Millis) -> T) -> T {
        let mut inner = self.lock();
        let done = change(&mut inner, now());
        if let Err(error) = inner.commit() {
            tracing::error!(%error, "the records of an instance are not written");
        }
        done
    }

    /// Whether an instance is there and has not ended.
    pub(crate) fn has_instance(&self, id: &str) -> bool {
        let time = now();
        let inner = self.lock();
        let found = inner.state.instances.get(id);
        found.is_some_and(|i| i.phase.at(time) != InstanceState::Terminated)
    }

    /// What an instance is booted from.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn order(&self, id: &str) -> Result<Order, String> {
        let inner = self.lock();
        let instance = inner.state.instances.get(id).ok_or("the instance is not there")?;
        let volume = root_volume(&inner.state, instance).ok_or("it has no root volume")?;
        let root = match &volume.content {
            Content::Base(name) => self.base_root(name)?,
            Content::Layer(layer) => Root::Layer(layer.clone()),
            Content::Blocks(snapshot) => Root::Disk {
                snapshot: snapshot.clone(),
                blocks: inner.database.blocks(snapshot).map_err(|e| e.to_string())?,
                bytes: u64::from(volume.ebs.size) * GIB,
            },
            Content::Empty | Content::Volume(_) => {
                return Err("there is nothing on its root volume".into());
            }
        };
        Ok(Order {
            root,
            hostname: format!("ip-{}", instance.private_address.replace('.', "-")),
            private: instance.private_address.parse().ok(),
            public: instance.public_address.clone(),
        })
    }

    /// What the root of a base image is made from.
    fn base_root(&self, name: &str) -> Result<Root, String> {
        let entry = base_entry(&self.images, name)
            .ok_or_else(|| format!("the image \"{name}\" is not in lab.toml any more"))?;
        let base = entry
            .root
            .clone()
            .ok_or_else(|| format!("nothing says what the root of \"{name}\" is made from"))?;
        Ok(Root::Base { base, user: Some(entry.user.clone()) })
    }

    /// Makes the blocks of a snapshot that has files, as one of a machine has. What cannot be done
    /// is told by the log; the call then finds that there are no blocks.
    pub(crate) fn lay_out(&self, id: &str) {
        let _one = self.laying.lock().unwrap_or_else(PoisonError::into_inner);
        let root = |s: &Snapshot| match &s.content {
            Content::Layer(layer) => Some(Ok(Root::Layer(layer.clone()))),
            Content::Base(name) => Some(self.base_root(name)),
            Content::Empty | Content::Blocks(_) | Content::Volume(_) => None,
        };
        let ready = |s: &&Snapshot| !s.laid_out && s.phase.at(now()) == SnapshotState::Completed;
        let found = self.lock().state.snapshots.get(id).filter(ready).cloned();
        let Some(snapshot) = found else { return };
        let Some(root) = root(&snapshot) else { return };
        let Some(disks) = self.disks.get().and_then(Weak::upgrade) else { return };
        // What is no snapshot's may be removed before it is this one's.
        for _ in 0..3 {
            let made = root
                .clone()
                .and_then(|root| disks.lay_out(id, root, u64::from(snapshot.size) * GIB));
            let blocks = match made {
                Ok(blocks) => blocks,
                Err(why) => {
                    tracing::warn!(snapshot = id, why, "the files are not laid out as a disk");
                    return;
                }
            };
            let kept = self.change(|inner, _| {
                let Some(record) = inner.state.snapshots.get_mut(id) else { return true };
                if !blocks.iter().all(|(_, digest)| self.blocks.has(digest)) {
                    return false;
                }
                match inner.database.put_blocks(id, &blocks) {
                    Ok(()) => record.laid_out = true,
                    Err(error) => tracing::warn!(snapshot = id, %error, "blocks are not recorded"),
                }
                true
            });
            if kept {
                return;
            }
        }
    }

    /// Sends jobs to the machines from now on, and gives those that are left from another time.
    pub(crate) fn take_up(&self, to: tokio::sync::mpsc::UnboundedSender<Job>) -> Vec<Job> {
        let mut jobs = Vec::new();
        self.change(|inner, time| {
            let state = &mut inner.state;
            jobs.extend(pending_captures(state));
            for id in state.instances.keys_where(|_| true) {
                let Some(instance) = state.instances.get(&id) else { continue };
                let at = instance.phase.at(time);
                match at {
                    InstanceState::Pending | InstanceState::Running => {
                        let address = instance.public_address.as_ref().and_then(|address| {
                            let strange = !in_network(address, self.settings.addresses);
                            strange.then(|| free_address(state, &self.settings, time))?
                        });
                        if let Some(instance) = state.instances.get_mut(&id) {
                            instance.phase = Phase::until(
                                InstanceState::Pending,
                                UNTIL_TOLD,
                                InstanceState::Running,
                            );
                            if address.is_some() {
                                instance.public_address = address;
                            }
                        }
                        jobs.push(Job::Boot { instance: id });
                    }
                    InstanceState::Stopping => instances::machine_stopped(state, &id, time),
                    InstanceState::ShuttingDown => jobs.push(Job::Terminate { instance: id }),
                    InstanceState::Stopped | InstanceState::Terminated => {}
                }
            }
            inner.machines = Some(to);
        });
        jobs
    }

    /// Ends what waits for machines, where there are none.
    pub(crate) fn give_up_machines(&self) {
        self.change(|inner, time| {
            let state = &mut inner.state;
            for job in pending_captures(state) {
                if let Job::Capture { snapshot, .. } = job {
                    let why = "The lab runs without machines.".to_owned();
                    volumes::captured(state, &snapshot, Err(why), time);
                }
            }
            for id in state.instances.keys_where(|i| i.phase.waits()) {
                instances::machine_stopped(state, &id, time);
            }
        });
    }

    pub(crate) fn machine_started(&self, id: &str) {
        let lasts = self.settings.durations.pending;
        self.change(|inner, time| instances::machine_started(&mut inner.state, id, time, lasts));
    }

    /// Says whether the instance is terminated for it.
    pub(crate) fn machine_failed(&self, id: &str, why: &str) -> bool {
        self.change(|inner, time| instances::machine_failed(&mut inner.state, id, why, time))
    }

    pub(crate) fn machine_stopped(&self, id: &str) {
        self.change(|inner, time| instances::machine_stopped(&mut inner.state, id, time));
    }

    /// It powered itself off. Says whether it is to be terminated.
    pub(crate) fn machine_ended(&self, id: &str) -> bool {
        self.change(|inner, time| instances::ended_by_itself(&mut inner.state, id, time))
    }

    pub(crate) fn captured(&self, snapshot: &str, layer: Result<String, String>) {
        self.change(|inner, time| volumes::captured(&mut inner.state, snapshot, layer, time));
    }

    /// The layers that snapshots and volumes have.
    pub(crate) fn layers_in_use(&self) -> Vec<String> {
        let time = now();
        let inner = self.lock();
        let alive = |v: &&Volume| v.phase.at(time) != VolumeState::Deleted;
        let snapshots = inner.state.snapshots.iter().map(|s| &s.content);
        let contents =
            snapshots.chain(inner.state.volumes.iter().filter(alive).map(|v| &v.content));
        contents
            .filter_map(|content| match content {
                Content::Layer(layer) => Some(layer.clone()),
                _ => None,
            })
            .collect()
    }

    /// The root volume of an instance that is to be terminated, if that stays.
    pub(crate) fn surviving_root(&self, id: &str) -> Option<String> {
        let inner = self.lock();
        let volume = root_volume(&inner.state, inner.state.instances.get(id)?)?;
        (!volume.ebs.delete_on_termination).then(|| volume.id.clone())
    }

    pub(crate) fn volume_holds(&self, volume: &str, layer: &str) {
        self.change(|inner, _| {
            if let Some(volume) = inner.state.volumes.get_mut(volume) {
                volume.content = Content::Layer(layer.to_owned());
            }
        });
    }

    /// What befalls instances at once: which they are.
    ///
    /// # Errors
    /// When it cannot befall the one that is named.
    pub(crate) fn strike(&self, strike: &Strike) -> Result<Vec<String>, String> {
        let running = |i: &Instance, time| i.phase.at(time) == InstanceState::Running;
        self.change(|inner, time| {
            let found: Vec<String> = match &strike.instance {
                Some(id) => {
                    let instance = inner.state.instances.get(id).filter(|i| running(i, time));
                    let instance =
                        instance.ok_or_else(|| format!("there is no instance {id} that runs"))?;
                    if strike.blow == Blow::SpotInterruption && instance.spot.is_none() {
                        return Err(format!("{id} is no spot instance"));
                    }
                    vec![id.clone()]
                }
                None => inner.state.instances.keys_where(|i| {
                    running(i, time) && (strike.blow != Blow::SpotInterruption || i.spot.is_some())
                }),
            };
            let lasts = strike.delay_ms.unwrap_or_default();
            for id in &found {
                let instance = id.clone();
                match strike.blow {
                    Blow::InstanceLoss => self.lose(inner, id, HARDWARE, time),
                    Blow::SpotInterruption => {
                        let wait = strike.delay_ms.unwrap_or(NOTICE);
                        let at = time.saturating_add(Millis::try_from(wait).unwrap_or(Millis::MAX));
                        inner.interruptions.insert(instance, at);
                    }
                    Blow::SshCut => inner.send(Job::Cut { instance, lasts }),
                    Blow::FullDisk => inner.send(Job::Fill { instance }),
                }
            }
            Ok(found)
        })
    }

    fn lose(&self, inner: &mut Inner, id: &str, why: (&str, &str), time: Millis) {
        let due =
            if self.machines { UNTIL_TOLD } else { time + self.settings.durations.shutting_down };
        instances::lose(&mut inner.state, id, why.0, why.1, due);
        inner.send(Job::Terminate { instance: id.to_owned() });
    }

    /// Ends the spot instances whose time has come.
    pub(crate) fn end_interrupted(&self) {
        let time = now();
        if self.lock().interruptions.values().all(|at| *at > time) {
            return;
        }
        self.change(|inner, time| {
            let due = inner.interruptions.iter().filter(|(_, at)| **at <= time);
            let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
            for id in due {
                inner.interruptions.remove(&id);
                let alive = |i: &Instance| !i.phase.at(time).is_ending();
                if inner.state.instances.get(&id).is_some_and(alive) {
                    self.lose(inner, &id, SPOT, time);
                }
            }
        });
    }

    /// The TCP ports that the rules of an instance open to anybody.
    pub(crate) fn open_ports(&self, id: &str) -> Vec<(u16, u16)> {
        let inner = self.lock();
        groups::open_ports(rules(&inner.state, id), None)
    }

    /// Whether the rules of an instance let an address reach a port.
    pub(crate) fn may_reach(&self, id: &str, from: IpAddr, port: u16) -> bool {
        let inner = self.lock();
        let open = groups::open_ports(rules(&inner.state, id), Some(from));
        open.iter().any(|(low, high)| (*low..=*high).contains(&port))
    }
}

/// All lines of an instance's groups.
fn rules<'a>(state: &'a State, id: &str) -> impl Iterator<Item = &'a Rule> {
    let groups = state.instances.get(id).map(|i| i.groups.as_slice()).unwrap_or_default();
    groups.iter().filter_map(|group| state.groups.get(group)).flat_map(|group| &group.ingress)
}

/// Captures that were begun and not finished.
fn pending_captures(state: &State) -> Vec<Job> {
    let waits = |s: &&Snapshot| s.phase.waits() && s.phase.target() == SnapshotState::Completed;
    let job = |s: &Snapshot| {
        let Content::Volume(volume) = &s.content else { return None };
        let at = state.volumes.get(volume)?.attachment.as_ref()?;
        let (instance, snapshot) = (at.instance.clone(), s.id.clone());
        Some(Job::Capture { instance, snapshot, reboot: false })
    };
    state.snapshots.iter().filter(waits).filter_map(job).collect()
}

fn in_network(address: &str, network: Ipv4Addr) -> bool {
    let found: Option<Ipv4Addr> = address.parse().ok();
    found.is_some_and(|found| found.octets()[..2] == network.octets()[..2])
}
