//! States that change by themselves after a time.
//!
//! Nothing ticks: a phase holds its state and the next one with the time it is due, and whoever
//! looks says what time it is. A stuck one is due never.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970.
pub type Millis = i64;

/// Due when something says so, or never.
pub const UNTIL_TOLD: Millis = Millis::MAX;

/// A state, and the one it turns into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase<S> {
    now: S,
    next: Option<(Millis, S)>,
}

impl<S: Copy + PartialEq> Phase<S> {
    /// A state that stays.
    pub const fn fixed(state: S) -> Self {
        Self { now: state, next: None }
    }

    /// A state that becomes another at a time.
    pub const fn until(state: S, due: Millis, then: S) -> Self {
        Self { now: state, next: Some((due, then)) }
    }

    /// The state at a time.
    pub fn at(&self, time: Millis) -> S {
        match self.next {
            Some((due, then)) if due <= time => then,
            _ => self.now,
        }
    }

    /// What it turns into, if anything.
    pub fn target(&self) -> S {
        self.next.map_or(self.now, |(_, then)| then)
    }

    /// When the present state began or will end: the time the next one is due.
    pub fn due(&self) -> Option<Millis> {
        self.next.map(|(due, _)| due)
    }

    /// Whether it waits for word of a job.
    pub fn waits(&self) -> bool {
        self.due() == Some(UNTIL_TOLD)
    }

    /// The job is done: the next state is due at `time`.
    pub fn told(&mut self, time: Millis) {
        if let Some((due, _)) = &mut self.next {
            *due = time.min(*due);
        }
    }
}

/// The present.
pub fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// A time as AWS writes it: `2024-01-31T10:20:30.000Z`.
#[must_use]
pub fn rfc3339(time: Millis) -> String {
    let stamp = jiff::Timestamp::from_millisecond(time).unwrap_or_default();
    format!("{}", stamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
}

/// A time as seconds since 1970, as AWS's JSON has it.
#[must_use]
pub fn seconds(time: Millis) -> f64 {
    Duration::from_millis(u64::try_from(time).unwrap_or(0)).as_secs_f64()
}

/// Reads a time as clients write it: RFC 3339, or seconds since 1970.
#[must_use]
pub fn parse_time(text: &str) -> Option<Millis> {
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Some(stamp.as_millisecond());
    }
    text.parse::<i64>().ok()?.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_turns_when_it_is_due() {
        let mut phase = Phase::until("pending", 100, "running");
        assert_eq!((phase.at(99), phase.at(100)), ("pending", "running"));
        phase = Phase::until("pending", UNTIL_TOLD, "running");
        assert!(phase.waits());
        assert_eq!(phase.at(1 << 60), "pending");
        phase.told(5);
        assert_eq!(phase.at(5), "running");
        assert_eq!(Phase::fixed("stopped").at(9), "stopped");
    }

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse_time("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(parse_time("1700000000"), Some(1_700_000_000_000));
        assert_eq!(parse_time("soon"), None);
        assert!((seconds(1500) - 1.5).abs() < f64::EPSILON);
    }
}
