//! Waiting until a machine can be reached, and saying what it is waited for.

use std::time::Duration;

use karat_component::Events;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::SshError;

/// What is waited for is said again only after this long, unless it changed.
const SAY_AGAIN: Duration = Duration::from_secs(15);

/// What is waited for is said at most this often.
const SAY_AT_MOST: Duration = Duration::from_secs(3);

/// A duration in seconds, as people write it.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 || duration >= Duration::from_secs(10) {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// One round of waiting: its limits and what it has said.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    address: String,
    limit: Duration,
    handshakes: u32,
    start: Instant,
    attempt: u32,
    failed_handshakes: u32,
    said: Option<(Instant, String)>,
    events: &'a Events,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(
        address: String,
        limit: Duration,
        handshakes: u32,
        events: &'a Events,
    ) -> Self {
        Self {
            address,
            limit,
            handshakes: handshakes.max(1),
            start: Instant::now(),
            attempt: 0,
            failed_handshakes: 0,
            said: None,
            events,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// How much time is left; at least a moment, so that one attempt is always made.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.elapsed()).max(Duration::from_millis(100))
    }

    /// Takes note of a failed attempt and waits before the next, or gives up.
    pub(crate) async fn failed(
        &mut self,
        error: SshError,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        if !error.is_passing() {
            return Err(error);
        }
        self.attempt += 1;
        if error.is_handshake() {
            self.failed_handshakes += 1;
            if self.failed_handshakes >= self.handshakes {
                return Err(error);
            }
        }
        let delay = self.delay(error.is_handshake());
        if self.elapsed() + delay >= self.limit {
            return Err(SshError::Timeout {
                address: self.address.clone(),
                waited: self.limit,
                last: error.to_string(),
            });
        }
        self.say(&error);
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = cancel.cancelled() => Err(SshError::Cancelled),
        }
    }

    /// Short at first, since a machine that boots may answer any moment. A refused login waits
    /// longer: servers punish those who knock too often.
    fn delay(&self, handshake: bool) -> Duration {
        if handshake {
            return Duration::from_secs(u64::from(self.failed_handshakes).clamp(1, 5));
        }
        Duration::from_millis((100u64 << self.attempt.min(5)).min(2000))
    }

    fn say(&mut self, error: &SshError) {
        let text = error.to_string();
        let due = match &self.said {
            None => true,
            Some((when, said)) if *said == text => when.elapsed() >= SAY_AGAIN,
            Some((when, _)) => when.elapsed() >= SAY_AT_MOST,
        };
        if due {
            self.events.message(format!(
                "waiting for ssh ({} of {}): {text}",
                seconds(self.elapsed()),
                seconds(self.limit)
            ));
            self.said = Some((Instant::now(), text));
        }
    }
}
