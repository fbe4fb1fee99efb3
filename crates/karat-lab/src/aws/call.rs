//! What a service works with while it answers a call.

use super::agents::Agents;
use super::error::{AwsError, Result};
use super::params::Params;
use super::sessions::Sessions;
use super::state::State;
use crate::core::blocks::BlockStore;
use crate::core::phase::{Millis, Phase, UNTIL_TOLD};
use crate::core::records::Database;
use crate::core::settings::Settings;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) arn: String,
    /// The unique id of the user or role session.
    pub(crate) id: String,
}

/// What has to be done outside of the lock, once the call has been recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Boot an instance's machine.
    Boot { instance: String },
    /// Power off an instance's machine; it stays.
    Stop { instance: String, force: bool },
    /// End an instance's machine and remove its disk.
    Terminate { instance: String },
    /// Power off and boot again.
    Reboot { instance: String },
    /// Make a layer of a volume's content for its snapshot. The machine is stopped for it, if it
    /// may be, and booted again.
    Capture { instance: String, snapshot: String, reboot: bool },
    /// Give a running machine a volume as a disk.
    Attach { instance: String, volume: String },
    /// Take a volume from a machine, as soon as nothing in it uses it.
    Detach { instance: String, volume: String },
    /// Keep the blocks of a volume that is no root for its snapshot.
    CaptureVolume { volume: String, snapshot: String },
    /// A volume has become larger.
    Grow { volume: String },
    /// Remove what is left of volumes that are gone.
    SweepVolumes,
    /// Security groups changed: what is reachable has to be looked at again.
    Reach { instance: String },
    /// End an instance's connections, and let none begin for so many milliseconds.
    Cut { instance: String, lasts: u64 },
    /// Leave no room in an instance's temporary folders.
    Fill { instance: String },
    /// End a session with an instance.
    EndSession { session: String },
    /// Give a snapshot the blocks of another.
    CopyBlocks { from: String, to: String },
    /// Forget the blocks of a snapshot.
    DropBlocks { snapshot: String },
    /// Remove the files of what was an object.
    DropObjects { files: Vec<String> },
}

impl Job {
    /// The instance whose machine it is for, if it is for one.
    pub(crate) fn instance(&self) -> Option<&str> {
        match self {
            Self::Boot { instance }
            | Self::Stop { instance, .. }
            | Self::Terminate { instance }
            | Self::Reboot { instance }
            | Self::Capture { instance, .. }
            | Self::Cut { instance, .. }
            | Self::Fill { instance }
            | Self::Attach { instance, .. }
            | Self::Detach { instance, .. }
            | Self::Reach { instance } => Some(instance),
            Self::EndSession { .. }
            | Self::CopyBlocks { .. }
            | Self::DropBlocks { .. }
            | Self::DropObjects { .. }
            | Self::CaptureVolume { .. }
            | Self::Grow { .. }
            | Self::SweepVolumes => None,
        }
    }
}

/// A call under way.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) database: &'a Database,
    pub(crate) blocks: &'a BlockStore,
    pub(crate) settings: &'a Settings,
    pub(crate) params: &'a Params,
    pub(crate) action: &'a str,
    pub(crate) region: &'a str,
    pub(crate) caller: &'a Caller,
    pub(crate) now: Millis,
    /// Instances are machines.
    pub(crate) machines: bool,
    /// What was made after this is not seen.
    pub(crate) horizon: Millis,
    /// What is made never leaves its first state.
    pub(crate) stuck: bool,
    /// Under which name the client knows the lab.
    pub(crate) host: &'a str,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) agents: &'a mut Agents,
    pub(crate) jobs: &'a mut Vec<Job>,
}

impl Call<'_> {
    /// The account that asks.
    pub(crate) fn account(&self) -> &str {
        &self.caller.account
    }

    /// A phase that lasts for a time.
    pub(crate) fn phase<S: Copy + PartialEq>(&self, first: S, lasts: Millis, then: S) -> Phase<S> {
        let due = if self.stuck { UNTIL_TOLD } else { self.now + lasts };
        Phase::until(first, due, then)
    }

    /// Whether what was made at a time is seen already.
    pub(crate) fn sees(&self, made: Millis) -> bool {
        made <= self.horizon
    }

    /// An ARN of this region and account.
    pub(crate) fn arn(&self, service: &str, rest: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{rest}", self.region, self.account())
    }

    /// An id is given and has the form of its kind.
    pub(crate) fn check_id(&self, id: &str, prefix: &str, code: &str) -> Result<()> {
        let digits = id.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
        let good = digits.is_some_and(|d| {
            (d.len() == 8 || d.len() == 17) && d.bytes().all(|b| b.is_ascii_hexdigit())
        });
        if good {
            return Ok(());
        }
        Err(AwsError::new(
            &format!("{code}.Malformed"),
            format!("Invalid id: \"{id}\" (expecting \"{prefix}-...\")"),
        ))
    }
}
