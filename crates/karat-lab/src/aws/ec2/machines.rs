//! Between the records and the machines: what a machine is made of, and what became of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{PoisonError, Weak};

use super::groups;
use super::images::base_entry;
use super::instances;
use super::launch::free_address;
use super::model::{
    AttachmentState, Content, Instance, InstanceState, Rule, Snapshot, SnapshotState, Volume,
    VolumeState,
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

/// A volume beside an instance's root.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub(crate) volume: String,
    /// What it was asked to be called in the machine.
    pub(crate) device: String,
}

/// What a volume's disk begins with.
#[derive(Clone, Debug)]
pub(crate) enum Begins {
    Empty,
    Blocks(Vec<(u32, Vec<u8>)>),
    /// The files of a machine, to be laid out as a disk of so many bytes.
    Files(Box<Root>, u64),
}

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

    /// The volumes that an instance has beside its root.
    pub(crate) fn volumes_beside(&self, id: &str) -> Vec<Beside> {
        let time = now();
        let inner = self.lock();
        let Some(instance) = inner.state.instances.get(id) else { return Vec::new() };
        let beside = |v: &Volume| {
            let at = v.attachment.as_ref()?;
            let has = at.instance == id
                && at.device != instance.root_device
                && at.state != AttachmentState::Detaching
                && v.phase.at(time) != VolumeState::Deleted;
            has.then(|| Beside { volume: v.id.clone(), device: at.device.clone() })
        };
        inner.state.volumes.iter().filter_map(beside).collect()
    }

    /// The size of a volume in bytes.
    pub(crate) fn volume_bytes(&self, id: &str) -> Option<u64> {
        let inner = self.lock();
        inner.state.volumes.get(id).map(|v| u64::from(v.ebs.size) * GIB)
    }

    /// What the disk of a volume begins with. May take its time.
    ///
    /// # Errors
    /// Why that is not known.
    pub(crate) fn begins(&self, id: &str) -> Result<Begins, String> {
        let gone = || format!("the volume {id} is not there");
        let (content, snapshot) = {
            let inner = self.lock();
            let volume = inner.state.volumes.get(id).ok_or_else(gone)?;
            (volume.content.clone(), volume.ebs.snapshot.clone())
        };
        let files = matches!(content, Content::Layer(_) | Content::Base(_));
        if let Some(snapshot) = snapshot.as_ref().filter(|_| files) {
            self.lay_out(snapshot);
        }
        let inner = self.lock();
        let blocks = |id: &str| inner.database.blocks(id).map_err(|e| e.to_string());
        let from = snapshot.as_ref().and_then(|id| inner.state.snapshots.get(id));
        let bytes = || {
            let size = from.map(|s| s.size).or(inner.state.volumes.get(id).map(|v| v.ebs.size));
            u64::from(size.unwrap_or(1)) * GIB
        };
        Ok(match content {
            Content::Empty => Begins::Empty,
            Content::Blocks(id) => Begins::Blocks(blocks(&id)?),
            Content::Volume(_) => return Err("its snapshot was not finished".into()),
            _ if from.is_some_and(|s| s.laid_out) => {
                Begins::Blocks(blocks(&snapshot.unwrap_or_default())?)
            }
            Content::Layer(layer) => Begins::Files(Box::new(Root::Layer(layer)), bytes()),
            Content::Base(name) => Begins::Files(Box::new(self.base_root(&name)?), bytes()),
        })
    }

    /// A machine has a volume.
    pub(crate) fn volume_attached(&self, id: &str) {
        self.change(|inner, _| volumes::attached(&mut inner.state, id));
    }

    /// A machine has a volume no more.
    pub(crate) fn volume_detached(&self, id: &str) {
        self.change(|inner, _| volumes::detached(&mut inner.state, id));
    }

    /// Keeps the blocks of a volume as those of its snapshot. Says whether they are all there still:
    /// what is no snapshot's may be removed before it is this one's.
    pub(crate) fn blocks_captured(
        &self,
        snapshot: &str,
        blocks: Result<Vec<(u32, Vec<u8>)>, String>,
    ) -> bool {
        self.change(|inner, time| {
            if inner.state.snapshots.get(snapshot).is_none() {
                return true;
            }
            let content = match blocks {
                Ok(blocks) if !blocks.iter().all(|(_, digest)| self.blocks.has(digest)) => {
                    return false;
                }
                Ok(blocks) => match inner.database.put_blocks(snapshot, &blocks) {
                    Ok(()) => Ok(Content::Blocks(snapshot.to_owned())),
                    Err(error) => Err(error.to_string()),
                },
                Err(why) => Err(why),
            };
            volumes::captured(&mut inner.state, snapshot, content, time);
            true
        })
    }

    /// The volumes whose disks are needed.
    pub(crate) fn volumes_in_use(&self) -> BTreeSet<String> {
        let time = now();
        let inner = self.lock();
        let alive = inner.state.volumes.iter().filter(|v| v.phase.at(time) != VolumeState::Deleted);
        let mut used: BTreeSet<String> = alive.map(|v| v.id.clone()).collect();
        used.extend(inner.state.snapshots.iter().filter(|s| s.phase.waits()).filter_map(|s| {
            let Content::Volume(id) = &s.content else { return None };
            Some(id.clone())
        }));
        used
    }

    /// Gives the blocks that volumes had from snapshots that are gone, where they are gone as well.
    pub(crate) fn forget_volumes(&self) {
        self.change(|inner, time| {
            let gone =
                |v: &Volume| volumes::has_own_blocks(v) && v.phase.at(time) == VolumeState::Deleted;
            for id in inner.state.volumes.keys_where(gone) {
                match inner.database.drop_blocks(&id) {
                    Ok(alone) => alone.iter().for_each(|digest| {
                        if let Err(error) = self.blocks.remove(digest) {
                            tracing::warn!(%error, "a block is not removed");
                        }
                    }),
                    Err(error) => tracing::warn!(%error, "blocks of a volume are not removed"),
                }
                if let Some(volume) = inner.state.volumes.get_mut(&id) {
                    volume.content = Content::Empty;
                }
            }
        });
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
            // What was under way with volumes is done by machines that start.
            for id in state.volumes.keys_where(|v| v.attachment.is_some()) {
                volumes::attached(state, &id);
                volumes::detached(state, &id);
            }
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
                if let Job::Capture { snapshot, .. } | Job::CaptureVolume { snapshot, .. } = job {
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
        let content = layer.map(Content::Layer);
        self.change(|inner, time| volumes::captured(&mut inner.state, snapshot, content, time));
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
        let snapshot = s.id.clone();
        let of = state.volumes.get(volume).and_then(|v| v.attachment.as_ref());
        let root = of.filter(|at| {
            state.instances.get(&at.instance).is_some_and(|i| i.root_device == at.device)
        });
        Some(match root {
            Some(at) => Job::Capture { instance: at.instance.clone(), snapshot, reboot: false },
            None => Job::CaptureVolume { volume: volume.clone(), snapshot },
        })
    };
    state.snapshots.iter().filter(waits).filter_map(job).collect()
}

fn in_network(address: &str, network: Ipv4Addr) -> bool {
    let found: Option<Ipv4Addr> = address.parse().ok();
    found.is_some_and(|found| found.octets()[..2] == network.octets()[..2])
}
