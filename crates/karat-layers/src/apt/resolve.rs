//! Resolving: which package files a set of names means today, decided by `apt` itself.
//!
//! `apt-get` of the host runs on configuration, lists and a package state of its own, so neither
//! the host's package state nor its lists have a say. Of the host's configuration only `Acquire`
//! options (proxies, credentials, checks of dates) are taken over.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::lock::FORMAT;
use super::narrow::{Lists, field, relations};
use super::{AptSource, Lock, LockedPackage, ReleaseFile};
use crate::run::{PATH, run};
use crate::store::lock_file;
use crate::{Control, Digest, Error, Result};

/// What to resolve.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) architecture: &'a str,
    pub(crate) sources: &'a [AptSource],
    /// Names as `apt-get install` takes them: `nginx`, `nginx=1.22.1-9`, `nginx/bookworm`.
    pub(crate) packages: &'a [String],
    /// Install what the packages recommend, too.
    pub(crate) recommends: bool,
    /// The package state of the system below; `None` starts from nothing.
    pub(crate) status: Option<&'a [u8]>,
    /// Take every package of priority `required` into a new system.
    pub(crate) required: bool,
    /// How old package lists may be.
    pub(crate) max_age: Duration,
    /// Identifies the request in the lock.
    pub(crate) digest: Digest,
}

/// A directory with apt's private configuration.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Opens (or makes) the private directory for a set of sources.
    pub(crate) fn open(cache: &Path, sources: &[AptSource], architecture: &str) -> Result<Self> {
        let mut places: Vec<_> =
            sources.iter().map(|s| (&s.uri, &s.suites, &s.components)).collect();
        places.sort();
        let text = serde_json::json!([architecture, places]).to_string();
        let name = Digest::of(text).to_string();
        let dir = cache.join("apt").join(&name[..20]);
        for part in ["lists/partial", "cache/archives/partial", "sources", "state"] {
            let at = dir.join(part);
            fs::create_dir_all(&at).map_err(Error::io("make the directory", &at))?;
        }
        Ok(Self { dir })
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("apt.conf")
    }

    /// Writes the configuration. The host's own files are read only through `apt-config`.
    fn configure(&self, request: &Request<'_>, control: &Control) -> Result<()> {
        let mut config = acquire_options(control)?;
        let dir = self.dir.display();
        config.push_str(&format!(
            "Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
             Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{dir}/sources\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::State \"{dir}/state\";\nDir::State::lists \"{dir}/lists\";\n\
             Dir::State::status \"{dir}/state/status\";\n\
             Dir::Cache \"{dir}/cache\";\nDir::Cache::pkgcache \"pkgcache.bin\";\n\
             Dir::Cache::srcpkgcache \"srcpkgcache.bin\";\n\
             APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Install-Recommends \"{recommends}\";\nAPT::Install-Suggests \"false\";\n\
             APT::Sandbox::User \"root\";\nAPT::Update::Error-Mode \"any\";\n\
             APT::Get::Assume-Yes \"true\";\nAcquire::Languages \"none\";\n\
             Acquire::GzipIndexes \"false\";\nAcquire::Retries \"3\";\nQuiet \"1\";\n",
            arch = request.architecture,
            recommends = request.recommends,
        ));
        write(&self.config_path(), config.as_bytes())?;
        let text: Vec<String> = request.sources.iter().map(AptSource::to_deb822).collect();
        write(&self.dir.join("sources/karat.sources"), text.join("\n").as_bytes())?;
        write(&self.dir.join("state/status"), request.status.unwrap_or_default())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("apt-get");
        command
            .args(args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("APT_CONFIG", self.config_path());
        command
    }

    fn update(&self, request: &Request<'_>, control: &Control) -> Result<()> {
        let stamp = self.dir.join("updated");
        let age = fs::metadata(&stamp).and_then(|meta| meta.modified()).ok();
        let age = age.and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age < request.max_age) {
            return Ok(());
        }
        control.phase("updating package lists");
        run(&mut self.command(&["update"]), "apt", control)?;
        fs::write(&stamp, b"").map_err(Error::io("write", &stamp))
    }

    /// The package index files and the address that their file names are relative to.
    fn indexes(&self, control: &Control) -> Result<Vec<(PathBuf, String)>> {
        let args = ["indextargets", "--format", "$(FILENAME) $(REPO_URI)", "Created-By: Packages"];
        let out = run(&mut self.command(&args), "apt", control)?;
        let mut found = Vec::new();
        for line in String::from_utf8_lossy(&out).lines() {
            if let Some((file, uri)) = line.split_once(' ') {
                found.push((PathBuf::from(file), uri.to_owned()));
            }
        }
        Ok(found)
    }

    /// What apt would do. It looks at the packages that can matter; when it finds no way with
    /// these, at all of them, so that what it says is what it always says.
    fn plan(
        &self,
        lists: &Lists<'_>,
        indexes: &[(PathBuf, String)],
        names: &[String],
        request: &Request<'_>,
        control: &Control,
    ) -> Result<Vec<Step>> {
        let mut args = vec!["--simulate", "install", "--"];
        args.extend(names.iter().map(String::as_str));
        let folder = self.dir.join("narrow");
        let files: Vec<PathBuf> = indexes.iter().map(|(file, _)| file.clone()).collect();
        if lists.narrow(&files, names, request.status, request.recommends, &folder)? {
            let option = format!("Dir::State::lists={}", folder.display());
            let mut command = self.command(&["-o", &option]);
            command.args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
            if let Ok(out) = run(command.args(&args), "apt", control) {
                return plan(&String::from_utf8_lossy(&out));
            }
            control.check()?;
        }
        let out = run(&mut self.command(&args), "apt", control);
        plan(&String::from_utf8_lossy(&out.map_err(|error| explain(error, names))?))
    }

    fn releases(&self) -> Result<Vec<ReleaseFile>> {
        let dir = self.dir.join("lists");
        let mut out = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let at = entry.map_err(Error::io("list", &dir))?.path();
            let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.ends_with("_InRelease") && !name.ends_with("_Release") {
                continue;
            }
            let text = fs::read(&at).map_err(Error::io("read", &at))?;
            let date = release_date(&String::from_utf8_lossy(&text)).ok_or_else(|| {
                Error::Packages(format!("the archive's release file {name} has no valid `Date`"))
            })?;
            out.push(ReleaseFile { name, sha256: Digest::of(&text), date });
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }
}

/// Writes a file unless it says so already: apt makes its caches anew when the time of one of
/// these files changes.
fn write(at: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(at).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(at, bytes).map_err(Error::io("write", at))
}

/// The host's `Acquire` options, less those about what to fetch and how to store it.
fn acquire_options(control: &Control) -> Result<String> {
    let mut command = Command::new("apt-config");
    command.arg("dump").env_clear().env("PATH", PATH).env("LC_ALL", "C");
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let out = run(&mut command, "apt", control)?;
    const NOT: [&str; 3] = ["Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes"];
    let mut config = String::new();
    for line in String::from_utf8_lossy(&out).lines() {
        if line.starts_with("Acquire::") && !NOT.iter().any(|not| line.starts_with(not)) {
            config.push_str(line);
            config.push('\n');
        }
    }
    // Proxies from the environment count as well, as they do for apt itself.
    for (name, option) in [("http_proxy", "http"), ("https_proxy", "https")] {
        if let Ok(value) = std::env::var(name)
            && !value.contains(['"', '\n'])
        {
            config.push_str(&format!("Acquire::{option}::Proxy \"{value}\";\n"));
        }
    }
    Ok(config)
}

fn release_date(text: &str) -> Option<i64> {
    let value = text.lines().find_map(|line| line.strip_prefix("Date:"))?.trim();
    let value = value.replace(" UTC", " +0000").replace(" GMT", " +0000");
    jiff::fmt::rfc2822::parse(&value).ok().map(|time| time.timestamp().as_second())
}

/// One paragraph of an index, with the fields that matter here.
#[derive(Debug, Clone, Default)]
struct Stanza {
    architecture: String,
    filename: String,
    size: u64,
    sha256: Option<Digest>,
    essential: bool,
    depends: Vec<String>,
    pre_depends: Vec<String>,
    provides: Vec<String>,
    base: usize,
}

fn parse_stanza(stanza: &str, base: usize) -> Stanza {
    let text = |name| field(stanza, name).unwrap_or_default().to_owned();
    let names =
        |name| relations(field(stanza, name)).flatten().map(str::to_owned).collect::<Vec<_>>();
    Stanza {
        architecture: text("Architecture"),
        filename: text("Filename"),
        size: text("Size").parse().unwrap_or(0),
        sha256: text("SHA256").parse().ok(),
        essential: field(stanza, "Essential") == Some("yes"),
        depends: names("Depends"),
        pre_depends: names("Pre-Depends"),
        provides: names("Provides"),
        base,
    }
}

/// A step of apt's plan.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Unpack { name: String, version: String, architecture: String },
    Configure(String),
}

fn plan(out: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for line in out.lines() {
        let Some((verb, rest)) = line.split_once(' ') else { continue };
        let bad = || Error::Packages(format!("apt said `{line}`, which was not understood"));
        match verb {
            "Inst" => {
                let (name, rest) = rest.split_once(' ').ok_or_else(bad)?;
                let inner = rest.split_once('(').ok_or_else(bad)?.1;
                let inner = inner.split_once(')').ok_or_else(bad)?.0;
                let version = inner.split(' ').next().ok_or_else(bad)?;
                let architecture = inner.rsplit_once('[').ok_or_else(bad)?.1.trim_end_matches(']');
                steps.push(Step::Unpack {
                    name: name.to_owned(),
                    version: version.to_owned(),
                    architecture: architecture.to_owned(),
                });
            }
            "Conf" => {
                let name = rest.split(' ').next().ok_or_else(bad)?;
                steps.push(Step::Configure(name.to_owned()));
            }
            "Remv" => {
                let name = rest.split(' ').next().unwrap_or(rest);
                return Err(Error::Packages(format!(
                    "installing these packages would remove `{name}`, which conflicts with them; \
                     remove it by a provisioner first, or leave the other package out"
                )));
            }
            _ => {}
        }
    }
    Ok(steps)
}

/// Resolves a request to a lock.
pub(crate) fn resolve(cache: &Path, request: &Request<'_>, control: &Control) -> Result<Lock> {
    let apt = Apt::open(cache, request.sources, request.architecture)?;
    let _lock = lock_file(&apt.dir.join("lock"), control)?;
    apt.configure(request, control)?;
    apt.update(request, control)?;
    control.phase("resolving packages");
    let indexes = apt.indexes(control)?;
    let texts: Vec<String> = indexes
        .iter()
        .map(|(file, _)| fs::read_to_string(file).map_err(Error::io("read", file)))
        .collect::<Result<_>>()?;
    let lists = Lists::new(&texts);
    let mut names: Vec<String> = Vec::new();
    if request.status.is_none() {
        names = lists.basic(request.required);
        names.push("apt".into());
    }
    names.extend(request.packages.iter().cloned());
    for name in &names {
        if name.is_empty() || name.starts_with('-') || name.contains(char::is_whitespace) {
            return Err(Error::Packages(format!("`{name}` is not the name of a package")));
        }
    }
    let steps = apt.plan(&lists, &indexes, &names, request, control)?;
    let found = choose(&steps, &lists)?;
    let releases = apt.releases()?;
    let packages = order(&steps, &found, &indexes, request, &names)?;
    Ok(Lock {
        format: FORMAT,
        request: request.digest,
        architecture: request.architecture.to_owned(),
        epoch: releases.iter().map(|release| release.date).max().unwrap_or(0),
        sources: request.sources.to_vec(),
        releases,
        packages,
    })
}

/// Turns apt's own words into an error about the package.
fn explain(error: Error, names: &[String]) -> Error {
    let Error::Command { log, .. } = &error else { return error };
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("E: ") || line.contains(" : Depends:"))
        .collect();
    if lines.is_empty() {
        return error;
    }
    let bad = names.iter().find(|name| lines.iter().any(|line| line.contains(name.as_str())));
    let hint = match bad {
        Some(name) => format!("check the name `{name}`, the suite and the components"),
        None => "check the names of the packages, the suite and the components".to_owned(),
    };
    Error::Packages(format!("apt cannot install the packages: {}; {hint}", lines.join("; ")))
}

/// Finds the index paragraph of each package of the plan.
fn choose(steps: &[Step], lists: &Lists<'_>) -> Result<HashMap<String, Stanza>> {
    let wanted: HashMap<&str, (&str, &str)> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Unpack { name, version, architecture } => {
                Some((name.as_str(), (version.as_str(), architecture.as_str())))
            }
            Step::Configure(_) => None,
        })
        .collect();
    let mut found: HashMap<String, Stanza> = HashMap::new();
    for (name, (version, architecture)) in &wanted {
        let same = lists.of(name).iter().filter(|(_, s)| field(s, "Version") == Some(*version));
        let mut parsed = same.map(|(base, stanza)| parse_stanza(stanza, *base));
        if let Some(stanza) = parsed.find(|stanza| stanza.architecture == *architecture) {
            found.insert((*name).to_owned(), stanza);
        }
    }
    for name in wanted.keys() {
        match found.get(*name) {
            Some(stanza) if stanza.sha256.is_some() => {}
            _ => {
                return Err(Error::Packages(format!(
                    "package `{name}` has no entry with a SHA-256 digest in the package lists"
                )));
            }
        }
    }
    Ok(found)
}

/// Orders the packages as apt unpacks them, and notes what must be configured in between.
fn order(
    steps: &[Step],
    found: &HashMap<String, Stanza>,
    indexes: &[(PathBuf, String)],
    request: &Request<'_>,
    names: &[String],
) -> Result<Vec<LockedPackage>> {
    let asked: HashSet<&str> = names
        .iter()
        .map(|name| name.split(['=', '/', ':', '+']).next().unwrap_or(name))
        .chain(names.iter().map(String::as_str))
        .collect();
    let mut providers: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, stanza) in found {
        providers.entry(name).or_default().push(name);
        for virtual_name in &stanza.provides {
            providers.entry(virtual_name).or_default().push(name);
        }
    }
    let mut first: HashSet<&str> = HashSet::new();
    if request.status.is_none() {
        let mut pending: Vec<&str> =
            found.iter().filter(|(_, s)| s.essential).map(|(name, _)| name.as_str()).collect();
        while let Some(name) = pending.pop() {
            if first.insert(name)
                && let Some(stanza) = found.get(name)
            {
                for wanted in stanza.depends.iter().chain(&stanza.pre_depends) {
                    pending.extend(providers.get(wanted.as_str()).into_iter().flatten());
                }
            }
        }
    }
    let mut configured: HashSet<&str> = first.clone();
    let mut waiting: Vec<&str> = Vec::new();
    let mut unpacked: HashSet<&str> = HashSet::new();
    let mut packages = Vec::new();
    for step in steps {
        match step {
            Step::Configure(name) => {
                if !configured.contains(name.as_str()) {
                    waiting.push(name);
                }
            }
            Step::Unpack { name, version, architecture } => {
                let stanza = &found[name];
                let needs = stanza.pre_depends.iter().any(|wanted| {
                    providers.get(wanted.as_str()).into_iter().flatten().any(|provider| {
                        unpacked.contains(provider) && !configured.contains(provider)
                    })
                });
                let mut configure_before = Vec::new();
                if needs && !first.contains(name.as_str()) {
                    configured.extend(waiting.iter().copied());
                    configure_before = waiting.drain(..).map(str::to_owned).collect();
                }
                unpacked.insert(name);
                let base = indexes[stanza.base].1.trim_end_matches('/');
                packages.push(LockedPackage {
                    name: name.clone(),
                    version: version.clone(),
                    architecture: architecture.clone(),
                    url: format!("{base}/{}", stanza.filename),
                    sha256: stanza.sha256.unwrap_or(Digest([0; 32])),
                    size: stanza.size,
                    essential: first.contains(name.as_str()),
                    automatic: !asked.contains(name.as_str()) && !stanza.essential,
                    configure_before,
                });
            }
        }
    }
    // Essential packages first; the sort is stable, so apt's order stays within each half.
    packages.sort_by_key(|package| !package.essential);
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn plans_are_read() {
        let out = "NOTE: x\nInst libc6 [2.35-1] (2.36-9 Debian:12.15/oldstable, Sec:12 [amd64]) []\nConf libc6 (2.36-9 Debian [amd64])\n";
        let steps = plan(out).unwrap();
        let unpack = Step::Unpack {
            name: "libc6".into(),
            version: "2.36-9".into(),
            architecture: "amd64".into(),
        };
        assert_eq!(steps, [unpack, Step::Configure("libc6".into())]);
        assert!(plan("Remv apache2 [2.4]").unwrap_err().to_string().contains("`apache2`"));
    }

    #[test]
    fn dates_of_releases() {
        assert_eq!(
            release_date("Suite: x\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n"),
            Some(1_789_199_741)
        );
        assert_eq!(release_date("Suite: x\n"), None);
    }

    /// Plans with all packages and with those that can matter, on what this system is set up with.
    #[test]
    fn narrow_lists_give_the_plans_of_whole_ones() {
        let suite = super::super::sources::host_suite().unwrap_or_default();
        let sources = crate::system_sources(&suite).unwrap_or_default();
        let status = fs::read("/var/lib/dpkg/status").unwrap_or_default();
        let Some(architecture) = Command::new("dpkg")
            .arg("--print-architecture")
            .output()
            .ok()
            .filter(|_| !sources.is_empty() && !status.is_empty())
        else {
            let _ = writeln!(std::io::stderr(), "skipped: this is no Debian system");
            return;
        };
        let architecture = String::from_utf8(architecture.stdout).unwrap();
        let (cache, control) = (tempfile::tempdir().unwrap(), Control::default());
        let lists_of = |apt: &Apt| apt.indexes(&control).unwrap();
        let mut steps = 0;
        for (packages, recommends, status) in [
            (&["nginx"][..], false, Some(&status[..])),
            (&["nginx", "postfix"], true, Some(&status)),
            (&["podman"], true, None),
            (&["git", "python3-numpy", "default-mta"], false, None),
        ] {
            let packages: Vec<String> = packages.iter().map(|name| (*name).to_owned()).collect();
            let request = Request {
                architecture: architecture.trim(),
                sources: &sources,
                packages: &packages,
                recommends,
                status,
                required: true,
                max_age: Duration::from_secs(3600),
                digest: Digest([0; 32]),
            };
            let apt = Apt::open(cache.path(), &sources, request.architecture).unwrap();
            apt.configure(&request, &control).unwrap();
            apt.update(&request, &control).unwrap();
            let indexes = lists_of(&apt);
            let texts: Vec<String> =
                indexes.iter().map(|(file, _)| fs::read_to_string(file).unwrap()).collect();
            let lists = Lists::new(&texts);
            let mut names = if status.is_none() { lists.basic(true) } else { Vec::new() };
            names.extend(packages.iter().cloned());
            let narrow = apt.plan(&lists, &indexes, &names, &request, &control).unwrap();
            let folder = apt.dir.join("narrow");
            assert!(folder.exists(), "{names:?}: the lists were not narrowed");
            let size = |dir: &Path| -> u64 {
                let files = indexes.iter().map(|(file, _)| dir.join(file.file_name().unwrap()));
                files.map(|file| fs::metadata(file).unwrap().len()).sum()
            };
            assert!(size(&folder) < size(&apt.dir.join("lists")), "{names:?}");
            let mut command = apt.command(&["--simulate", "install", "--"]);
            let whole = run(command.args(&names), "apt", &control).unwrap();
            assert_eq!(narrow, plan(&String::from_utf8_lossy(&whole)).unwrap(), "{names:?}");
            steps += narrow.len();
        }
        assert!(steps > 100, "{steps} steps are too few to compare");
    }
}
