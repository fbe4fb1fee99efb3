//! What a machine is made of.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Result, RuntimeError};
use super::metadata::MetadataService;
use super::wire::{BindMount, Limits as WireLimits};

/// All that a machine is started from.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Names the machine on this host, as long as it runs: letters, digits and hyphens, at most
    /// 64. Chosen before the start and stored, since [`recover`](super::recover()) finds by it what
    /// a dead run left.
    pub id: String,
    /// The host name inside; empty takes the id.
    pub hostname: String,
    /// Root directories of the read-only layers, the lowest first. Never written to.
    pub lower: Vec<PathBuf>,
    /// A folder of this machine alone, made if missing: `upper/` (the writable layer), `work/`
    /// (the kernel's), `console.log`. May not stand on an overlay.
    pub work_dir: PathBuf,
    /// What the metadata server tells.
    pub metadata: Metadata,
    /// Paths of the host shown inside.
    pub binds: Vec<Bind>,
    /// Environment of systemd and, with it, of commands.
    pub env: BTreeMap<String, String>,
    /// What it may use at most.
    pub limits: Limits,
    /// How packets leave it.
    pub network: Network,
    /// Whether systemd is started. Without it commands run in the machine's namespaces with an
    /// idle first process: fast, and enough for packages and files.
    pub boot: bool,
    /// How long systemd may take until it has nothing left to start.
    pub boot_deadline: Duration,
    /// Words added to the kernel command line that the machine sees.
    pub cmdline: Vec<String>,
    /// Further addresses of the machine's own, by the first of which it then is known and reached.
    pub addresses: Vec<Ipv4Addr>,
    /// Names that the machine's resolver answers itself.
    pub names: BTreeMap<String, Ipv4Addr>,
    /// The program that behaves as keeper when its first argument is
    /// [`SUPERVISOR_COMMAND`](super::SUPERVISOR_COMMAND); by default the running one.
    pub supervisor: Option<PathBuf>,
}

impl MachineSpec {
    /// A machine that boots, with network and without limits.
    pub fn new(id: impl Into<String>, lower: Vec<PathBuf>, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            id: id.into(),
            hostname: String::new(),
            lower,
            work_dir: work_dir.into(),
            metadata: Metadata::default(),
            binds: Vec::new(),
            env: BTreeMap::new(),
            limits: Limits::default(),
            network: Network::Outbound,
            boot: true,
            boot_deadline: Duration::from_secs(300),
            cmdline: Vec::new(),
            addresses: Vec::new(),
            names: BTreeMap::new(),
            supervisor: None,
        }
    }

    /// The writable layer.
    pub fn upper(&self) -> PathBuf {
        self.work_dir.join("upper")
    }

    /// The console's log.
    pub fn console(&self) -> PathBuf {
        self.work_dir.join("console.log")
    }

    /// The host name inside.
    pub fn host(&self) -> &str {
        if self.hostname.is_empty() { &self.id } else { &self.hostname }
    }

    /// Checks what can be checked without touching anything.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(RuntimeError::Specification { what });
        let name = |text: &str, dots: bool| {
            !text.is_empty()
                && text.len() <= 64
                && !text.starts_with(['-', '.'])
                && !text.ends_with(['-', '.'])
                && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || dots && c == '.')
        };
        if !name(&self.id, false) {
            return wrong(format!(
                "\"{}\" is no name for a machine: use letters, digits and hyphens, at most 64",
                self.id
            ));
        }
        if !name(self.host(), true) {
            return wrong(format!(
                "\"{}\" is no host name: use letters, digits, hyphens and dots, at most 64",
                self.host()
            ));
        }
        if self.lower.is_empty() {
            return wrong("a machine needs at least one layer".into());
        }
        if let Some(path) = self.lower.iter().find(|path| !path.is_absolute()) {
            return wrong(format!("the layer's path \"{}\" must be absolute", path.display()));
        }
        if !self.work_dir.is_absolute() {
            let path = self.work_dir.display();
            return wrong(format!("the machine's folder \"{path}\" must be absolute"));
        }
        if let Some(bind) = self.binds.iter().find(|b| !b.target.is_absolute()) {
            let path = bind.target.display();
            return wrong(format!("the path \"{path}\" in the machine must be absolute"));
        }
        Ok(())
    }
}

/// A path of the host shown inside the machine.
#[derive(Clone, Debug)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the machine. Where nothing is, an empty file or folder is made, in the writable layer
    /// too unless it is below `/run` or `/tmp`.
    pub target: PathBuf,
    /// Whether the machine may only read it.
    pub read_only: bool,
}

impl Bind {
    pub(crate) fn wire(&self) -> BindMount {
        BindMount {
            source: self.source.clone(),
            target: self.target.clone(),
            read_only: self.read_only,
        }
    }
}

/// What a machine may use at most. A host that cannot hold a limit gives a remark in
/// [`Machine::warnings`](super::Machine::warnings).
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processors, also parts of one.
    pub cpus: Option<f64>,
}

impl Limits {
    pub(crate) fn wire(&self) -> WireLimits {
        WireLimits { memory_bytes: self.memory_bytes, processes: self.processes, cpus: self.cpus }
    }
}

/// How packets leave a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// By `slirp4netns` or `pasta`, whichever is installed, in this order.
    #[default]
    Outbound,
    /// By `slirp4netns`.
    Slirp4netns,
    /// By `pasta`.
    Pasta,
    /// Not at all: only the metadata server and names given in the specification are there.
    Closed,
}

/// What the metadata server tells, and so what cloud-init does.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The instance's id; empty takes the machine's id. A new one makes cloud-init run all again.
    pub instance_id: String,
    /// Public keys in OpenSSH's format, for the image's default user.
    pub public_keys: Vec<String>,
    /// User data as it is served; by default an empty `#cloud-config`.
    pub user_data: Vec<u8>,
    /// Vendor data as it is served. By default it keeps cloud-init from writing into the image
    /// what belongs to an instance: host name, locale, package sources. User data goes before it.
    pub vendor_data: Vec<u8>,
    /// More paths below `/latest/meta-data/` with what they answer, `placement/region` say.
    pub paths: BTreeMap<String, String>,
    /// Which data source cloud-init is told to use.
    pub datasource: Datasource,
    /// Answers all requests in place of what stands above.
    pub service: Option<Arc<dyn MetadataService>>,
}

/// The host name is set already; `locale: false` and `preserve_sources_list` leave the image's own.
const VENDOR_DATA: &[u8] = b"#cloud-config
preserve_hostname: true
locale: false
apt:
  preserve_sources_list: true
";

impl Default for Metadata {
    fn default() -> Self {
        Self {
            instance_id: String::new(),
            public_keys: Vec::new(),
            user_data: b"#cloud-config\n{}\n".to_vec(),
            vendor_data: VENDOR_DATA.to_vec(),
            paths: BTreeMap::new(),
            datasource: Datasource::NoCloud,
            service: None,
        }
    }
}

/// Which of cloud-init's data sources reads the metadata server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Datasource {
    /// NoCloud, told by the machine's command line.
    #[default]
    NoCloud,
    /// Amazon's.
    Ec2,
    /// The image decides for itself.
    Image,
}

impl Datasource {
    /// Words for the machine's kernel command line. In a container cloud-init reads that of
    /// process 1, so that no file in the image is needed.
    pub(crate) fn cmdline(self) -> Vec<String> {
        match self {
            Self::NoCloud => vec![
                format!("ds=nocloud-net;s=http://{}/nocloud/", super::METADATA_ADDRESS),
                "network-config=disabled".into(),
            ],
            Self::Ec2 => vec!["ci.ds=Ec2".into(), "network-config=disabled".into()],
            Self::Image => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_names_and_paths_are_told() {
        let good = MachineSpec::new("web-1", vec!["/a".into()], "/w");
        good.check().unwrap();
        assert_eq!(good.host(), "web-1");
        type Change = fn(&mut MachineSpec);
        let cases: [(Change, &str); 4] = [
            (|s| s.id = "a b".into(), "\"a b\" is no name for a machine"),
            (|s| s.hostname = "-x".into(), "\"-x\" is no host name"),
            (|s| s.lower.clear(), "at least one layer"),
            (|s| s.lower = vec!["x".into()], "\"x\" must be absolute"),
        ];
        for (change, expected) in cases {
            let mut spec = good.clone();
            change(&mut spec);
            let text = spec.check().unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
