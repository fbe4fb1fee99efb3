//! The environment variables that the program reads, in one list.
//!
//! Components read no environment; the AWS and GCP clients that come with their own variables are
//! the exception, and are documented with their sources.

use std::path::PathBuf;

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, for the manual.
    pub(crate) doc: &'static str,
}

/// All of them, for the manual and `karat --help`.
pub(crate) const ALL: &[Variable] = &[
    Variable { name: "PKR_VAR_name", doc: "Value of the variable `name`." },
    Variable { name: "PACKER_NO_COLOR", doc: "Any value: no colours. So does `NO_COLOR`." },
    Variable { name: "PACKER_LOG", doc: "Anything but empty and 0: log to stderr." },
    Variable { name: "PACKER_LOG_PATH", doc: "Log to this file instead." },
    Variable { name: "KARAT_LOG", doc: "Filter of the log, such as `karat_machine=debug`." },
    Variable {
        name: "KARAT_STATE_DIR",
        doc: "Folder of journal, layers and records. Otherwise `$XDG_STATE_HOME/karat`, for root \
              `/var/lib/karat`, else `~/.local/state/karat`.",
    },
    Variable {
        name: "KARAT_CACHE_DIR",
        doc: "Folder of what can be fetched again. Otherwise `$XDG_CACHE_HOME/karat`, for root \
              `/var/cache/karat`, else `~/.cache/karat`.",
    },
    Variable {
        name: "PACKER_CACHE_DIR",
        doc: "Folder of what can be fetched again, in a folder `karat` in it, unless \
              `KARAT_CACHE_DIR` is set.",
    },
    Variable {
        name: "PACKER_CONFIG",
        doc: "Nothing: what Packer's own settings file can say has no meaning here. Nor have \
              `PACKER_CONFIG_DIR`, `PACKER_PLUGIN_PATH`, `PACKER_PLUGIN_MIN_PORT`, \
              `PACKER_PLUGIN_MAX_PORT`, `PACKER_FORCE_GOB`, `PACKER_GITHUB_API_TOKEN`, \
              `PACKER_GETTER_READ_TIMEOUT`, `PACKER_WRAP_COOKIE` and `CHECKPOINT_DISABLE`: there \
              are no plugins to be fetched and no news to be asked for.",
    },
    Variable {
        name: "PACKER_RUN_UUID",
        doc: "Set for the scripts of a run: its id, as `build.PackerRunUUID`.",
    },
    Variable {
        name: "KARAT_FAULT",
        doc: "Failures on request, to rehearse them: `kill@STEP:before`, `fail@STEP:after`, …; \
              `list` prints the points that a run passes.",
    },
    Variable {
        name: "SSH_AUTH_SOCK",
        doc: "Socket of the ssh agent, unless `ssh_agent_socket` is set.",
    },
    Variable {
        name: "AWS_PROFILE",
        doc: "What AWS's own programs read counts here too: `AWS_ACCESS_KEY_ID` and its kin, \
              `AWS_REGION`, `AWS_ENDPOINT_URL` and those of single services, `AWS_CONFIG_FILE`, web \
              identities and the roles of containers and machines. Options of the template win.",
    },
    Variable {
        name: "VAULT_ADDR",
        doc: "Server that `vault` asks; otherwise `https://127.0.0.1:8200`. `VAULT_TOKEN` has to be \
              set; `VAULT_NAMESPACE`, `VAULT_CACERT` and `VAULT_SKIP_VERIFY` mean what they mean \
              to Vault.",
    },
    Variable {
        name: "CONSUL_HTTP_ADDR",
        doc: "Server that `consul_key` asks; otherwise `127.0.0.1:8500`. `CONSUL_HTTP_TOKEN`, \
              `CONSUL_HTTP_TOKEN_FILE`, `CONSUL_HTTP_AUTH`, `CONSUL_HTTP_SSL`, \
              `CONSUL_HTTP_SSL_VERIFY`, `CONSUL_CACERT` and `CONSUL_NAMESPACE` mean what they mean \
              to Consul.",
    },
    Variable {
        name: "http_proxy",
        doc: "Proxy for packages, archives and disk images that are fetched; `https_proxy` and \
              `no_proxy` as well. apt's own configuration is followed, too.",
    },
    Variable {
        name: "TERM",
        doc: "`dumb`: neither colours nor live progress, as when the output is no terminal.",
    },
    Variable {
        name: "PATH",
        doc: "Where programs such as `systemd-nspawn` and `slirp4netns` are found.",
    },
    Variable {
        name: "TMPDIR",
        doc: "Folder of short-lived files while a boot loader is put together. Otherwise `/tmp`.",
    },
];

fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn dir(own: &str, xdg: &str, root: &str, home: &str) -> PathBuf {
    if let Some(dir) = set(own) {
        return dir;
    }
    if let Some(dir) = set(xdg) {
        return dir.join("karat");
    }
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from(root);
    }
    std::env::home_dir().unwrap_or_else(|| PathBuf::from(".")).join(home)
}

/// Folder of journal, layers and records.
pub(crate) fn state_dir() -> PathBuf {
    dir("KARAT_STATE_DIR", "XDG_STATE_HOME", "/var/lib/karat", ".local/state/karat")
}

/// Folder of what can be fetched again.
pub(crate) fn cache_dir() -> PathBuf {
    if let (None, Some(dir)) = (set("KARAT_CACHE_DIR"), set("PACKER_CACHE_DIR")) {
        return dir.join("karat");
    }
    dir("KARAT_CACHE_DIR", "XDG_CACHE_HOME", "/var/cache/karat", ".cache/karat")
}

/// The text of `KARAT_FAULT`.
pub(crate) fn fault() -> Option<String> {
    std::env::var("KARAT_FAULT").ok().filter(|text| !text.is_empty())
}

/// Where logs go, if anywhere: a file, or stderr for an empty path.
pub(crate) fn log() -> Option<PathBuf> {
    let on = std::env::var("PACKER_LOG").is_ok_and(|v| !v.is_empty() && v != "0")
        || std::env::var_os("KARAT_LOG").is_some();
    on.then(|| set("PACKER_LOG_PATH").unwrap_or_default())
}
