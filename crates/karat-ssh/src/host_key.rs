//! Whether a host is the one it says it is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::{HashAlg, PublicKey};

use crate::config::{SshConfig, host_port, path};
use crate::error::SshError;

/// The host keys that were seen in a run, kept across reconnections.
#[derive(Clone, Debug, Default)]
pub struct SeenHostKeys(Arc<Mutex<HashMap<String, PublicKey>>>);

impl SeenHostKeys {
    fn get(&self, host: &str) -> Option<PublicKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    fn keep(&self, host: &str, key: &PublicKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), key.clone());
    }
}

/// What a host's key is compared with.
#[derive(Clone, Debug)]
enum Trust {
    Anything,
    Pinned(String),
    KnownHosts(PathBuf),
    FirstSeen(SeenHostKeys),
}

/// Checks the key of one host.
#[derive(Clone, Debug)]
pub(crate) struct HostKeyCheck {
    host: String,
    port: u16,
    trust: Trust,
}

/// The fingerprint as OpenSSH shows it: the algorithm and `SHA256:…`.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

impl HostKeyCheck {
    /// The check for the machine, or for a bastion (`pinned` false), whose key is never the one
    /// of `ssh_host_key`.
    pub(crate) fn new(
        config: &SshConfig,
        host: &str,
        port: u16,
        pinned: bool,
        seen: &SeenHostKeys,
    ) -> Self {
        let trust = if pinned && !config.ssh_host_key.is_empty() {
            Trust::Pinned(config.ssh_host_key.trim().to_owned())
        } else {
            match config.ssh_host_key_checking.as_str() {
                "off" => Trust::Anything,
                "known_hosts" => {
                    let given = if config.ssh_known_hosts_file.is_empty() {
                        "~/.ssh/known_hosts"
                    } else {
                        &config.ssh_known_hosts_file
                    };
                    Trust::KnownHosts(path(given).unwrap_or_default())
                }
                _ => Trust::FirstSeen(seen.clone()),
            }
        };
        Self { host: host.to_owned(), port, trust }
    }

    /// The keys that would be accepted, where they are known beforehand: the server is asked for
    /// one of their kinds first.
    pub(crate) fn expected(&self) -> Vec<PublicKey> {
        match &self.trust {
            Trust::Anything => Vec::new(),
            Trust::Pinned(text) => PublicKey::from_openssh(text).into_iter().collect(),
            Trust::KnownHosts(file) => self.known(file),
            Trust::FirstSeen(seen) => {
                seen.get(&host_port(&self.host, self.port)).into_iter().collect()
            }
        }
    }

    fn known(&self, file: &std::path::Path) -> Vec<PublicKey> {
        russh::keys::known_hosts::known_host_keys_path(&self.host, self.port, file)
            .unwrap_or_default()
            .into_iter()
            .map(|(_, key)| key)
            .collect()
    }

    /// Accepts or refuses the key that the host showed.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<(), SshError> {
        let host = host_port(&self.host, self.port);
        let same = |other: &PublicKey| other.key_data() == key.key_data();
        let mismatch = |expected: String, place: String| SshError::HostKeyMismatch {
            host: host.clone(),
            found: fingerprint(key),
            expected,
            place,
        };
        match &self.trust {
            Trust::Anything => Ok(()),
            Trust::Pinned(text) => {
                let shown = key.fingerprint(HashAlg::Sha256).to_string();
                match PublicKey::from_openssh(text) {
                    Ok(pinned) if same(&pinned) => Ok(()),
                    Ok(pinned) => Err(mismatch(fingerprint(&pinned), "ssh_host_key".into())),
                    Err(_) if *text == shown => Ok(()),
                    Err(_) => Err(mismatch(text.clone(), "ssh_host_key".into())),
                }
            }
            Trust::KnownHosts(file) => {
                let known = self.known(file);
                if known.iter().any(same) {
                    return Ok(());
                }
                if known.is_empty() {
                    return Err(SshError::HostKeyUnknown {
                        host,
                        found: fingerprint(key),
                        place: file.clone(),
                    });
                }
                let expected: Vec<_> = known.iter().map(fingerprint).collect();
                Err(mismatch(expected.join(", "), file.display().to_string()))
            }
            Trust::FirstSeen(seen) => match seen.get(&host) {
                None => {
                    seen.keep(&host, key);
                    Ok(())
                }
                Some(first) if same(&first) => Ok(()),
                Some(first) => {
                    Err(mismatch(fingerprint(&first), "the first connection of this run".into()))
                }
            },
        }
    }
}
