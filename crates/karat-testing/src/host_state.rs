//! A picture of what a run could leave on a host, to be compared before and after.
//!
//! Other work may go on beside the test: mounts, processes and control groups count only where
//! they have to do with the folder of the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Lookout {
    /// The folder of the test; mounts and processes that name it belong to it.
    pub mark: PathBuf,
    /// Folders whose files are listed.
    pub folders: Vec<PathBuf>,
    /// Paths that may come and change, by their beginnings.
    pub free: Vec<PathBuf>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// Mounts of any process that name the mark.
    pub mounts: BTreeSet<String>,
    /// Network interfaces of the host.
    pub links: BTreeSet<String>,
    /// Named network namespaces.
    pub namespaces: BTreeSet<String>,
    /// Processes whose command, environment, folder or mounts name the mark.
    pub processes: BTreeSet<String>,
    /// Control groups of machines that the journal of the test names.
    pub cgroups: BTreeSet<String>,
    /// Files by path: kind, size and inode.
    pub files: BTreeMap<PathBuf, String>,
}

impl HostState {
    /// Looks at the host.
    pub fn look(lookout: &Lookout) -> Self {
        let mut state = Self {
            links: lines("ip", &["-brief", "link"]),
            namespaces: lines("ip", &["netns"]),
            ..Self::default()
        };
        let mark = lookout.mark.to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.chars().all(|c| c.is_ascii_digit()) && name != std::process::id().to_string() {
                state.add_process(&name, &entry.path(), &mark);
            }
        }
        let ids = machine_ids(&lookout.folders);
        if !ids.is_empty() {
            groups(Path::new("/sys/fs/cgroup"), 4, &ids, &mut state.cgroups);
        }
        for folder in &lookout.folders {
            list(folder, &lookout.free, &mut state.files);
        }
        state
    }

    fn add_process(&mut self, pid: &str, dir: &Path, mark: &str) {
        let read = |name: &str| {
            let bytes = fs::read(dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        // A zombie whose parent has not looked at it yet is nothing that was left.
        let stat = read("stat");
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        if matches!(state, None | Some("Z" | "X")) {
            return;
        }
        let command = read("cmdline");
        let mounts = read("mountinfo");
        let marked: BTreeSet<String> =
            mounts.lines().filter(|line| line.contains(mark)).map(target).collect();
        let cwd = fs::read_link(dir.join("cwd")).unwrap_or_default();
        if command.contains(mark)
            || read("environ").contains(mark)
            || cwd.to_string_lossy().contains(mark)
            || !marked.is_empty() && !host_mounts(dir)
        {
            self.processes.insert(format!("{pid} {command}"));
        }
        self.mounts.extend(marked);
    }

    /// What is here and was not there, and the other way round, in lines; empty when equal.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let mut out = Vec::new();
        let sets = [
            ("mount", &before.mounts, &self.mounts),
            ("link", &before.links, &self.links),
            ("namespace", &before.namespaces, &self.namespaces),
            ("process", &before.processes, &self.processes),
            ("control group", &before.cgroups, &self.cgroups),
        ];
        for (what, before, now) in sets {
            out.extend(now.difference(before).map(|x| format!("new {what}: {x}")));
            out.extend(before.difference(now).map(|x| format!("lost {what}: {x}")));
        }
        for (path, now) in &self.files {
            match before.files.get(path) {
                None => out.push(format!("new file: {} ({now})", path.display())),
                Some(then) if then != now => {
                    out.push(format!("changed file: {} ({then} to {now})", path.display()));
                }
                Some(_) => {}
            }
        }
        let lost = before.files.keys().filter(|path| !self.files.contains_key(*path));
        out.extend(lost.map(|path| format!("lost file: {}", path.display())));
        out
    }

    /// Looks until the host is as it was before, or `patience` is over; gives what differs then.
    /// Processes that were told to end need a moment.
    pub fn settle(&self, lookout: &Lookout, patience: Duration) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let differences = Self::look(lookout).differences(self);
            if differences.is_empty() || begun.elapsed() > patience {
                return differences;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Whether a process sees the mounts of the host itself.
fn host_mounts(dir: &Path) -> bool {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    own.is_some() && fs::read_link(dir.join("ns/mnt")).ok() == own
}

/// The mount point and what is mounted, of a line of `mountinfo`.
fn target(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    let kind = line.split_once(" - ").map(|(_, rest)| rest).unwrap_or_default();
    format!("{} {kind}", fields.get(4).copied().unwrap_or_default())
}

fn lines(program: &str, arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(program).args(arguments).output();
    let Ok(output) = output else { return BTreeSet::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// The ids of the machines that the journals in these folders name.
fn machine_ids(folders: &[PathBuf]) -> BTreeSet<String> {
    const START: &[u8] = b"karat-";
    const LENGTH: usize = 16;
    let mut ids = BTreeSet::new();
    for folder in folders {
        for name in ["journal.db", "journal.db-wal"] {
            let bytes = fs::read(folder.join(name)).unwrap_or_default();
            let good = |b: &&[u8]| {
                b.starts_with(START)
                    && b[START.len()..].iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            };
            let found = bytes.windows(START.len() + LENGTH).filter(good);
            ids.extend(found.map(|b| String::from_utf8_lossy(b).into_owned()));
        }
    }
    ids
}

fn groups(dir: &Path, depth: usize, ids: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            found.insert(entry.path().display().to_string());
        }
        if depth > 0 {
            groups(&entry.path(), depth - 1, ids, found);
        }
    }
}

fn list(path: &Path, free: &[PathBuf], found: &mut BTreeMap<PathBuf, String>) {
    if free.iter().any(|free| {
        path.as_os_str().as_encoded_bytes().starts_with(free.as_os_str().as_encoded_bytes())
    }) {
        return;
    }
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if meta.is_dir() {
        // A folder's inode may change when it is made anew; what counts is that it is there.
        found.insert(path.to_owned(), "folder".into());
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            list(&entry.path(), free, found);
        }
    } else {
        let facts = format!("{:o}, {} bytes, inode {}", meta.mode(), meta.len(), meta.ino());
        found.insert(path.to_owned(), facts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_files_of_the_mark_are_seen_and_their_end_too() {
        let dir = tempfile::Builder::new().prefix("karat-look-").tempdir().unwrap();
        let free = vec![dir.path().join("free")];
        let lookout = Lookout { mark: dir.path().into(), folders: vec![dir.path().into()], free };
        fs::create_dir(dir.path().join("kept")).unwrap();
        let before = HostState::look(&lookout);
        assert_eq!(before.settle(&lookout, Duration::ZERO), Vec::<String>::new());

        let mut child = Command::new("sleep").arg("60").current_dir(&dir).spawn().unwrap();
        fs::write(dir.path().join("free-of-choice"), "x").unwrap();
        fs::write(dir.path().join("kept/new"), "x").unwrap();
        let found = HostState::look(&lookout).differences(&before);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with(&format!("new process: {} sleep", child.id())), "{found:?}");
        assert!(found[1].starts_with("new file: ") && found[1].contains("kept/new"), "{found:?}");

        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(dir.path().join("kept/new")).unwrap();
        assert_eq!(before.settle(&lookout, Duration::from_secs(5)), Vec::<String>::new());
    }
}
