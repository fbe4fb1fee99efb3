//! What scripts of a dead run still run.

use std::io;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// The variable that every script gets, and all that it starts, with the run's UUID.
pub(super) const RUN: &str = "PACKER_RUN_UUID";

/// Ends all that local scripts of a run have started and that is still there. It is known by the
/// run's UUID in its environment, so that nothing has to be written down before a script is started.
///
/// Only for runs whose process is dead. Returns how many processes were ended.
///
/// # Errors
/// When the processes cannot be listed. Processes of other users are not looked at.
pub fn end_leftovers(run_uuid: &str) -> io::Result<usize> {
    let wanted = format!("{RUN}={run_uuid}");
    let mut ended = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| *pid != getpid()) else { continue };
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes())
            && kill_process(pid, Signal::KILL).is_ok()
        {
            ended += 1;
        }
    }
    Ok(ended)
}
