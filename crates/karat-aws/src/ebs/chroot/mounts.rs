//! Steps `mount` and `leave`: the volume in this machine's tree, and out of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use karat_component::{Events, Output};
use karat_saga::{Step, StepContext, StepError};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::super::node;
use super::super::scope::{Scope, pause, say};
use super::super::source::SourceImage;
use super::commands::{Commands, quoted};
use super::config::Place;
use super::volume::{Attached, detach};

/// How long what is mounted may be in use.
const BUSY: Duration = Duration::from_secs(60);
/// How long the kernel may take to show a partition.
const APPEARS: Duration = Duration::from_secs(60);

/// Mounts the volume, and unmounts it whatever the end is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MountVolume {
    pub(crate) scope: Scope,
    pub(crate) place: Place,
}

/// Where the volume is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mounted {
    pub(crate) path: String,
}

impl Place {
    /// Where the volume of a device is mounted.
    fn path(&self, attached: &Attached, commands: &Commands) -> Result<String, StepError> {
        let name = Path::new(&attached.node).file_name().unwrap_or_default().to_string_lossy();
        let path = commands.text("mount_path", &self.path, &[("Device", &name)])?;
        let path = std::path::absolute(&path)
            .map_err(|e| StepError::because(format!("mount_path \"{path}\" is no path"), e))?;
        if path.parent().is_none() {
            return Err(StepError::new("mount_path is the root of this machine"));
        }
        Ok(path.display().to_string())
    }

    /// The device that has the root.
    fn partition(&self, attached: &Attached, virtualization: &str) -> String {
        let disk = &attached.node;
        if virtualization != "hvm" || self.partition == "0" || self.partition.is_empty() {
            return disk.clone();
        }
        // The template names it whole where it names it.
        let given = !self.nvme_device.is_empty() || self.partition.starts_with('p');
        let numbered = disk.ends_with(|c: char| c.is_ascii_digit());
        let between = if numbered && !given { "p" } else { "" };
        format!("{disk}{between}{}", self.partition)
    }

    async fn enter(
        &self,
        attached: &Attached,
        path: &str,
        virtualization: &str,
        commands: &Commands,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let place = quoted(path);
        commands.must(&format!("mkdir -p {place}"), cx.token()).await?;
        let device = self.partition(attached, virtualization);
        appeared(&device, cx).await?;
        say(cx, "Mounting the root device");
        let options: String = self.options.iter().map(|o| format!("-o {o} ")).collect();
        commands.must(&format!("mount {options}{} {place}", quoted(&device)), cx.token()).await?;
        cx.fault_point("mounted")?;
        let data = [("Device", attached.node.as_str()), ("MountPath", path)];
        given(&self.after, "post_mount_commands", &data, commands, cx).await?;
        for [kind, source, target] in &self.mounts {
            let inner = quoted(&inside(path, target));
            let how = match kind.as_str() {
                "bind" => "--bind".to_owned(),
                kind => format!("-t {}", quoted(kind)),
            };
            commands.must(&format!("mkdir -p {inner}"), cx.token()).await?;
            let mount = format!("mount {how} {} {inner}", quoted(source));
            commands.must(&mount, cx.token()).await?;
        }
        for file in &self.copies {
            let copy =
                format!("cp --remove-destination {} {}", quoted(file), quoted(&inside(path, file)));
            commands.must(&copy, cx.token()).await?;
        }
        Ok(())
    }
}

/// A path of the volume, as this machine sees it.
pub(super) fn inside(root: &str, path: &str) -> String {
    format!("{root}/{}", path.trim_start_matches('/'))
}

/// Waits until a device is there.
async fn appeared(device: &str, cx: &StepContext) -> Result<(), StepError> {
    let begun = tokio::time::Instant::now();
    while !Path::new(device).exists() {
        if begun.elapsed() > APPEARS {
            return Err(StepError::new(format!("{device} is not there")).with_hint(
                "mount_partition is the number of the root's partition, or \"0\" for the whole disk",
            ));
        }
        pause(cx, Duration::from_millis(200)).await?;
    }
    Ok(())
}

/// Runs the template's own commands.
async fn given(
    all: &[String],
    option: &str,
    data: &[(&str, &str)],
    commands: &Commands,
    cx: &StepContext,
) -> Result<(), StepError> {
    let events = cx.service::<Events>()?;
    for text in all {
        let command = commands.text(option, text, data)?;
        say(cx, format!("Running {command}"));
        let status = commands.run(&command, None, &Output::lines(&events), cx.token()).await?;
        if !status.success() {
            let what = format!("the command \"{command}\" of {option} failed: {status}");
            return Err(StepError::new(what));
        }
    }
    Ok(())
}

impl Step for MountVolume {
    const KIND: &'static str = "aws.mount";
    type Output = Mounted;

    async fn run(&self, cx: &StepContext) -> Result<Mounted, StepError> {
        let attached: Attached = cx.output(node::ATTACH)?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        let commands = Commands::new(cx, &self.place.wrapper);
        let path = self.place.path(&attached, &commands)?;
        let virtualization = match self.place.virtualization.as_str() {
            "" => source.virtualization.as_str(),
            given => given,
        };
        if is_mounted(&path) {
            // It was cut off in the middle.
            leave(&path, &self.place, &commands, cx).await?;
        }
        let data = [("Device", attached.node.as_str())];
        given(&self.place.before, "pre_mount_commands", &data, &commands, cx).await?;
        self.place.enter(&attached, &path, virtualization, &commands, cx).await?;
        Ok(Mounted { path })
    }

    async fn undo(&self, cx: &StepContext, _: Option<Mounted>) -> Result<(), StepError> {
        if cx.outputs().raw(node::ATTACH).is_none() {
            return Ok(());
        }
        let attached: Attached = cx.output(node::ATTACH)?;
        let commands = Commands::new(cx, &self.place.wrapper);
        let path = self.place.path(&attached, &commands)?;
        leave(&path, &self.place, &commands, cx).await
    }
}

/// Unmounts the volume and detaches it, so that a snapshot has all of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LeaveVolume {
    pub(crate) scope: Scope,
    pub(crate) place: Place,
}

impl Step for LeaveVolume {
    const KIND: &'static str = "aws.leave";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let mounted: Mounted = cx.output(node::MOUNT)?;
        let commands = Commands::new(cx, &self.place.wrapper);
        leave(&mounted.path, &self.place, &commands, cx).await?;
        detach(&self.scope, cx).await
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}

/// Everything that is mounted at a path or below it, the last first.
fn mounts(path: &str) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts_in(&table, path)
}

fn mounts_in(table: &str, path: &str) -> Vec<String> {
    let below = format!("{path}/");
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut found: Vec<String> =
        places.filter(|place| place == path || place.starts_with(&below)).collect();
    found.reverse();
    found
}

/// A path as the table writes it: blanks and their like as octal numbers.
fn unescaped(text: &str) -> String {
    let mut plain = text.to_owned();
    for (code, sign) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(code, sign);
    }
    plain
}

fn is_mounted(path: &str) -> bool {
    mounts(path).iter().any(|place| place == path)
}

/// Ends processes that have their root in a volume: those of provisioners that were cut off.
fn end_inside(path: &str) {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else { continue };
        let root =
            std::fs::read_link(process.path().join("root")).unwrap_or_else(|_| PathBuf::new());
        if root.starts_with(path) {
            // It may be gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Unmounts all of a volume.
async fn leave(
    path: &str,
    place: &Place,
    commands: &Commands,
    cx: &StepContext,
) -> Result<(), StepError> {
    let begun = tokio::time::Instant::now();
    end_inside(path);
    if is_mounted(path) {
        say(cx, "Unmounting the root device");
        for file in &place.copies {
            let remove = format!("rm -f {}", quoted(&inside(path, file)));
            commands.must(&remove, cx.token()).await?;
        }
    }
    while let Some(next) = mounts(path).into_iter().next() {
        match commands.must(&format!("umount {}", quoted(&next)), cx.token()).await {
            Err(_) if begun.elapsed() < BUSY && !cx.is_cancelled() => {
                end_inside(path);
                pause(cx, Duration::from_millis(300)).await?;
            }
            done => done?,
        }
    }
    // Not empty where it was there before.
    if Path::new(path).is_dir() {
        let _ = commands.must(&format!("rmdir {}", quoted(path)), cx.token()).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_undone_from_the_last_to_the_first() {
        let table = "22 1 0:20 / / rw - overlay overlay rw\n\
                     30 22 7:1 / /mnt/a\\040b rw - ext4 /dev/xvdf1 rw\n\
                     31 30 0:30 / /mnt/a\\040b/proc rw - proc proc rw\n\
                     32 22 0:31 / /mnt/a\\040bc rw - tmpfs tmpfs rw\n";
        assert_eq!(mounts_in(table, "/mnt/a b"), ["/mnt/a b/proc", "/mnt/a b"]);
    }

    #[test]
    fn partitions_have_the_names_of_their_kind_of_disk() {
        let place = |partition: &str, nvme: &str| Place {
            partition: partition.into(),
            nvme_device: nvme.into(),
            ..Place::default()
        };
        let at = |node: &str| Attached { device: node.into(), node: node.into() };
        let cases = [
            ("1", "", "/dev/xvdf", "hvm", "/dev/xvdf1"),
            ("0", "", "/dev/xvdf", "hvm", "/dev/xvdf"),
            ("1", "", "/dev/xvdf", "paravirtual", "/dev/xvdf"),
            ("1", "", "/dev/nvme1n1", "hvm", "/dev/nvme1n1p1"),
            ("p1", "/dev/nvme1n1", "/dev/nvme1n1", "hvm", "/dev/nvme1n1p1"),
        ];
        for (partition, nvme, node, virtualization, expected) in cases {
            assert_eq!(place(partition, nvme).partition(&at(node), virtualization), expected);
        }
    }
}
