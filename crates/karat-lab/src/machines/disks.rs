//! The disks of a machine beside its root: nodes in its `/dev`, those of partitions as they come
//! and go.
//!
//! A disk is called as Xen's drivers do, `/dev/xvdf`, with links under the name that was asked for,
//! `/dev/sdf`, and one of the form `/dev/nvme1n1`. Where this host's kernel reads no partition
//! tables, it is told what is in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use karat_disk::{PartitionTable, partition_table};
use karat_machine::runtime::{Disk, DiskPartition, Machine};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::aws::Beside;

/// How often it is looked for partitions.
const LOOK: Duration = Duration::from_millis(50);
/// How long a table stays as it is before it is taken for finished.
const SETTLED: Duration = Duration::from_millis(100);
/// How long a program may have the disk open before the kernel is told of partitions all the same.
const PATIENCE: Duration = Duration::from_secs(10);
/// When something is tried again that was refused.
const AGAIN: Duration = Duration::from_secs(1);

/// The disks of a machine that runs.
pub(super) struct Disks {
    machine: Machine,
    shown: Arc<Mutex<Vec<Shown>>>,
    watching: JoinHandle<()>,
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// A disk with nodes in the machine.
struct Shown {
    volume: String,
    names: Names,
    disk: Arc<Disk>,
    nodes: BTreeMap<u32, DiskPartition>,
    /// What the table said last, and since when it does.
    table: BTreeMap<u32, (u64, u64)>,
    since: Instant,
    refused: Option<Instant>,
}

/// What a disk is called in the machine: the node, and links to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    node: String,
    links: Vec<String>,
}

impl Names {
    /// `number` counts the disks, from 1. `None` for what is no name.
    fn of(asked: &str, number: usize) -> Option<Self> {
        let asked = asked.strip_prefix("/dev/").unwrap_or(asked);
        if asked.is_empty() || !asked.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let rest = asked.strip_prefix("xvd").or_else(|| asked.strip_prefix("sd"));
        let mut links: Vec<String> = rest.map(|rest| format!("sd{rest}")).into_iter().collect();
        let nvme = format!("nvme{number}n1");
        let node = rest.map_or_else(|| asked.to_owned(), |rest| format!("xvd{rest}"));
        if node != nvme {
            links.push(nvme);
        }
        Some(Self { node, links })
    }

    fn partition(&self, number: u32) -> Self {
        let of = |name: &str| {
            let between = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
            format!("{name}{between}{number}")
        };
        Self { node: of(&self.node), links: self.links.iter().map(|name| of(name)).collect() }
    }

    async fn show(&self, machine: &Machine, device: (u64, u64)) {
        if let Err(error) = machine.show_device(&self.node, device).await {
            tracing::warn!(self.node, %error, "a device is not shown");
            return;
        }
        for link in &self.links {
            if let Err(error) = machine.link_device(link, &self.node).await {
                tracing::debug!(link, %error, "a device lacks a name");
            }
        }
    }

    async fn hide(&self, machine: &Machine) {
        for name in self.links.iter().chain([&self.node]) {
            // A machine that ends has none.
            let _ = machine.remove_file(&format!("/dev/{name}")).await;
        }
    }
}

impl Disks {
    /// Shows disks in a machine, and their partitions from then on.
    pub(super) async fn new(machine: Machine, plugged: Vec<(Beside, Arc<Disk>)>) -> Self {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let watching = tokio::spawn(watch(machine.clone(), Arc::clone(&shown)));
        let disks = Self { machine, shown, watching };
        for (beside, disk) in plugged {
            disks.show(beside, disk).await;
        }
        disks
    }

    /// Shows one more.
    pub(super) async fn show(&self, beside: Beside, disk: Arc<Disk>) {
        let mut shown = self.shown.lock().await;
        let free = |number: &usize| {
            let name = format!("nvme{number}n1");
            !shown.iter().any(|s| s.names.node == name || s.names.links.contains(&name))
        };
        let number = (1..).find(free).unwrap_or(1);
        let Some(names) = Names::of(&beside.device, number) else {
            tracing::warn!(beside.volume, beside.device, "no disk can have that name");
            return;
        };
        names.show(&self.machine, disk.device()).await;
        let mut one = Shown {
            volume: beside.volume,
            names,
            disk,
            nodes: BTreeMap::new(),
            table: BTreeMap::new(),
            since: Instant::now(),
            refused: None,
        };
        // Nobody writes its table yet.
        one.read_table();
        one.tell_kernel();
        one.follow(&self.machine).await;
        shown.push(one);
    }

    /// Takes one away.
    pub(super) async fn hide(&self, volume: &str) {
        let mut shown = self.shown.lock().await;
        let Some(at) = shown.iter().position(|s| s.volume == volume) else { return };
        let gone = shown.swap_remove(at);
        for number in gone.nodes.keys() {
            gone.names.partition(*number).hide(&self.machine).await;
        }
        gone.names.hide(&self.machine).await;
    }
}

async fn watch(machine: Machine, shown: Arc<Mutex<Vec<Shown>>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        for one in shown.lock().await.iter_mut() {
            one.look();
            one.follow(&machine).await;
        }
    }
}

impl Shown {
    /// Reads the partition table. Says whether it has changed.
    fn read_table(&mut self) -> bool {
        let bytes = rustix::fs::seek(self.disk.opened(), rustix::fs::SeekFrom::End(0));
        let (kind, found) = partition_table(self.disk.opened(), bytes.unwrap_or_default());
        let table: BTreeMap<u32, (u64, u64)> = match kind {
            PartitionTable::Gpt | PartitionTable::Mbr => {
                found.into_iter().map(|p| (p.number, (p.start, p.len))).collect()
            }
            PartitionTable::None => BTreeMap::new(),
        };
        let changed = table != self.table;
        self.table = table;
        changed
    }

    fn look(&mut self) {
        if self.read_table() {
            self.since = Instant::now();
            self.refused = None;
        }
        let waits = self.refused.is_some_and(|at| at.elapsed() < AGAIN);
        if waits || self.since.elapsed() < SETTLED || self.is_known() {
            return;
        }
        // Whoever writes a table has it read again, which the kernel begins with forgetting.
        if self.since.elapsed() < PATIENCE && self.disk.is_open_elsewhere() {
            return;
        }
        self.tell_kernel();
        if !self.is_known() {
            self.refused = Some(Instant::now());
        }
    }

    /// Whether the kernel knows all partitions of the table.
    fn is_known(&self) -> bool {
        let known = self.disk.partitions().unwrap_or_default();
        self.table.iter().all(|(number, place)| is_at(known.get(number), *place))
    }

    /// Tells the kernel what is in the table.
    fn tell_kernel(&self) {
        let mut known = self.disk.partitions().unwrap_or_default();
        let table = &self.table;
        if !table.is_empty() {
            // Numbers above 4 may be parts of an extended partition, which the kernel has read.
            let stays = |number: &u32, found: &DiskPartition| match table.get(number) {
                Some(place) => is_at(Some(found), *place),
                None => *number > 4,
            };
            known.retain(|number, found| {
                stays(number, found) || self.disk.remove_partition(*number).is_err()
            });
        }
        for (number, (start, len)) in table {
            if !known.contains_key(number)
                && let Err(error) = self.disk.add_partition(*number, *start, *len)
            {
                tracing::debug!(self.volume, number, %error, "a partition is refused");
            }
        }
    }

    /// Gives the machine nodes of the partitions that the kernel knows.
    async fn follow(&mut self, machine: &Machine) {
        let Ok(known) = self.disk.partitions() else { return };
        if known == self.nodes {
            return;
        }
        for (number, _) in self.nodes.iter().filter(|(n, p)| known.get(n) != Some(p)) {
            self.names.partition(*number).hide(machine).await;
        }
        for (number, partition) in known.iter().filter(|(n, p)| self.nodes.get(n) != Some(p)) {
            self.names.partition(*number).show(machine, partition.device).await;
        }
        self.nodes = known;
    }
}

/// Whether a partition is where the table has it. The kernel shows just the head of an extended one.
fn is_at(found: Option<&DiskPartition>, (start, len): (u64, u64)) -> bool {
    found.is_some_and(|p| p.start == start && (p.len == len || p.len <= 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_have_the_names_that_programs_look_for() {
        let names = |asked| {
            let names = Names::of(asked, 2)?;
            let first = names.partition(1);
            Some([vec![names.node], names.links, vec![first.node], first.links].concat().join(" "))
        };
        let both = Some("xvdf sdf nvme2n1 xvdf1 sdf1 nvme2n1p1".to_owned());
        assert_eq!(names("/dev/sdf"), both);
        assert_eq!(names("/dev/xvdf"), both);
        assert_eq!(names("xvdf"), both);
        assert_eq!(names("/dev/hdb"), Some("hdb nvme2n1 hdb1 nvme2n1p1".into()));
        for wrong in ["/dev/", "/dev/../etc/passwd", "/dev/a b"] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
    }
}
