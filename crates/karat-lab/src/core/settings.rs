//! The lab's configuration file, `lab.toml`. Everything has a default.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::catalogue::{self, Entry};

/// What stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The account that asks.
    pub account: String,
    /// Its name, where AWS shows one.
    pub user: String,
    /// The region that `karat lab env` sets.
    pub region: String,
    /// All regions there are.
    pub regions: Vec<String>,
    /// What instances are.
    pub instances: Instances,
    /// How long states last, in milliseconds.
    pub durations: Durations,
    /// What there may be at most.
    pub quotas: Quotas,
    /// Whether the catalogue that comes with the lab is there, beside `image`.
    pub default_images: bool,
    /// The network of the host that instances have their public addresses from; the last two
    /// numbers are the instances'.
    pub addresses: Ipv4Addr,
    /// Where the layers of machines' disks lie, otherwise the folder `store` of the lab's own. Several
    /// labs may have the same one.
    pub store: Option<PathBuf>,
    /// The key of KMS that sessions are encrypted with, by its id, ARN or alias.
    pub session_key: Option<String>,
    /// Base images of one's own.
    pub image: Vec<Entry>,
    /// Where the lab keeps what it has.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Where packages and other things lie that can be fetched again.
    #[serde(skip)]
    pub cache: PathBuf,
    /// The program that behaves as a machine's supervisor; without, instances are records.
    #[serde(skip)]
    pub supervisor: Option<PathBuf>,
}

impl Settings {
    /// Where the layers of machines' disks lie.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.dir.join("store"))
    }

    /// All base images: one's own, then those that come with the lab.
    #[must_use]
    pub fn images(&self) -> Vec<Entry> {
        let own = self.image.iter().cloned();
        let given = if self.default_images { catalogue::defaults() } else { Vec::new() };
        own.chain(given).collect()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            account: "111122223333".into(),
            user: "lab".into(),
            region: "us-east-1".into(),
            regions: [
                "us-east-1",
                "us-east-2",
                "us-west-1",
                "us-west-2",
                "ca-central-1",
                "sa-east-1",
                "eu-central-1",
                "eu-north-1",
                "eu-west-1",
                "eu-west-2",
                "eu-west-3",
                "ap-northeast-1",
                "ap-northeast-2",
                "ap-northeast-3",
                "ap-south-1",
                "ap-southeast-1",
                "ap-southeast-2",
            ]
            .map(str::to_owned)
            .into(),
            instances: Instances::default(),
            durations: Durations::default(),
            quotas: Quotas::default(),
            default_images: true,
            addresses: Ipv4Addr::new(127, 100, 0, 0),
            store: None,
            session_key: None,
            image: Vec::new(),
            dir: PathBuf::new(),
            cache: karat_layers::default_cache_dir(),
            supervisor: None,
        }
    }
}

/// What instances are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instances {
    /// Machines where the lab runs as root, records otherwise.
    #[default]
    Auto,
    /// A local machine each. Needs root.
    Machines,
    /// Records alone: every call answers, nothing boots.
    Records,
}

/// How long states last, in milliseconds. Where work has to be done, a state lasts as long as the
/// work if that is longer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Durations {
    /// An instance is pending.
    pub pending: i64,
    /// An instance is stopping.
    pub stopping: i64,
    /// An instance is shutting down.
    pub shutting_down: i64,
    /// A terminated instance is still shown.
    pub terminated_shown: i64,
    /// An image is pending, beside its snapshots.
    pub image: i64,
    /// A copy of an image or a snapshot is pending.
    pub copy: i64,
    /// A snapshot is pending.
    pub snapshot: i64,
    /// A volume is being created, attached, detached or deleted.
    pub volume: i64,
    /// An import task takes, if its disk is unpacked by then.
    pub import: i64,
    /// A role, a profile or its change is not seen by EC2 yet.
    pub iam: i64,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            pending: 300,
            stopping: 300,
            shutting_down: 300,
            terminated_shown: 3_600_000,
            image: 500,
            copy: 500,
            snapshot: 300,
            volume: 100,
            import: 2000,
            iam: 0,
        }
    }
}

/// What there may be at most in a region, as in a new account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Virtual processors of running instances.
    pub vcpus: u32,
    /// Security groups.
    pub security_groups: usize,
    /// Rules in a security group, in one direction.
    pub rules: usize,
    /// Key pairs.
    pub key_pairs: usize,
    /// Images.
    pub images: usize,
    /// Snapshots that are not completed.
    pub pending_snapshots: usize,
    /// Copies of snapshots into a region that are under way.
    pub snapshot_copies: usize,
    /// VPCs.
    pub vpcs: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            vcpus: 256,
            security_groups: 2500,
            rules: 60,
            key_pairs: 5000,
            images: 50_000,
            pending_snapshots: 100,
            snapshot_copies: 20,
            vpcs: 5,
        }
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It says what cannot be understood.
    #[error("{path}: {text}")]
    Syntax {
        /// Which.
        path: String,
        /// Where and what.
        text: String,
    },
    /// It says what cannot be.
    #[error("{0}")]
    Wrong(String),
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or says what cannot be.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: name.clone(), source })?;
        Self::parse(&text, &name)
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    /// When it says what cannot be.
    pub fn parse(text: &str, name: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|e| SettingsError::Syntax {
            path: name.to_owned(),
            text: e.to_string().trim_end().to_owned(),
        })?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let wrong = |text: String| Err(SettingsError::Wrong(text));
        if self.account.len() != 12 || !self.account.bytes().all(|b| b.is_ascii_digit()) {
            return wrong(format!("the account \"{}\" is not a number of 12 digits", self.account));
        }
        if !self.regions.contains(&self.region) {
            return wrong(format!("the region \"{}\" is not among the regions", self.region));
        }
        let [first, _, third, fourth] = self.addresses.octets();
        if (first, third, fourth) != (127, 0, 0) {
            return wrong(format!(
                "the addresses {} are not of the form 127.N.0.0",
                self.addresses
            ));
        }
        let wrong_id = |entry: &&Entry| {
            entry.id.as_deref().is_some_and(|id| {
                let digits = id.strip_prefix("ami-").unwrap_or_default();
                !matches!(digits.len(), 8 | 17) || !digits.bytes().all(|b| b.is_ascii_hexdigit())
            })
        };
        if let Some(entry) = self.image.iter().find(wrong_id) {
            let id = entry.id.as_deref().unwrap_or_default();
            return wrong(format!(
                "the id \"{id}\" of the image \"{}\" is not ami- and 8 or 17 hexadecimal digits",
                entry.name
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_and_errors_name_the_line() {
        let settings = Settings::parse("", "lab.toml").unwrap();
        assert_eq!(settings.region, "us-east-1");
        let error = Settings::parse("acount = \"1\"", "lab.toml").unwrap_err().to_string();
        assert!(error.contains("lab.toml") && error.contains("acount"), "{error}");
        let error = Settings::parse("region = \"mars-1\"", "x").unwrap_err().to_string();
        assert!(error.contains("mars-1"), "{error}");
    }

    #[test]
    fn an_image_of_ones_own_is_read() {
        let text = r#"
            [[image]]
            name = "corp-base-1"
            id = "ami-0123456789abcdef0"
            owner = "444455556666"
        "#;
        let settings = Settings::parse(text, "lab.toml").unwrap();
        assert_eq!(settings.image[0].id.as_deref(), Some("ami-0123456789abcdef0"));
        let text = "[[image]]\nname = \"x\"\nid = \"ami-1\"\n";
        let error = Settings::parse(text, "x").unwrap_err().to_string();
        assert!(error.contains("\"ami-1\" of the image \"x\""), "{error}");
    }
}
