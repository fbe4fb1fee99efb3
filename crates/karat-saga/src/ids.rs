//! Ids of runs and sagas: ULIDs, so that they sort by the time at which they were made.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use ulid::{Generator, Ulid};

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not {what} id: expected 26 letters and digits, such as 01K9Z3V0E8M2T5RX7Q4C6B1DNA"
)]
pub struct ParseIdError {
    text: String,
    what: &'static str,
}

/// Makes ids that grow strictly within this process, even within one millisecond.
fn next_ulid() -> Ulid {
    static GENERATOR: Mutex<Generator> = Mutex::new(Generator::new());
    let mut generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    match generator.generate() {
        Ok(id) => id,
        Err(overflow) => overflow.commit_overflow_increment(),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Ulid);

        impl $name {
            /// A new id, greater than every earlier one of this process.
            #[must_use]
            pub fn generate() -> Self {
                Self(next_ulid())
            }

            /// When the id was made: milliseconds since 1970-01-01 UTC.
            #[must_use]
            pub fn timestamp_ms(&self) -> u64 {
                self.0.timestamp_ms()
            }
        }

        impl $name {
            /// The same id as a UUID of version 7 (RFC 9562), whose time it shares.
            #[must_use]
            pub fn to_uuid(&self) -> String {
                let mut bytes = self.0.0.to_be_bytes();
                bytes[6] = bytes[6] & 0x0f | 0x70;
                bytes[8] = bytes[8] & 0x3f | 0x80;
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Ulid::from_string(text).map(Self).map_err(|_| ParseIdError {
                    text: text.chars().take(80).collect(),
                    what: $what,
                })
            }
        }
    };
}

id!(
    /// Names one run of the program, as `karat runs` lists them.
    RunId,
    "a run"
);
id!(
    /// Names one saga in the journal.
    SagaId,
    "a saga"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_survive_their_text() {
        let ids: Vec<RunId> = (0..1000).map(|_| RunId::generate()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        for id in &ids {
            assert_eq!(id.to_string().parse::<RunId>().as_ref(), Ok(id));
        }
        assert!("".parse::<SagaId>().is_err());
        assert!("not an id".parse::<RunId>().unwrap_err().to_string().contains("`not an id`"));
    }
}
