//! Local machines on real Debian roots. Needs root and the packages `systemd-container`,
//! `slirp4netns` (or `passt`), `mmdebstrap` and `openssh-client`; without root the tests say that
//! they do nothing. Roots are made once, in `$KARAT_TEST_CACHE` or beside the build.

#![expect(clippy::unwrap_used, reason = "a test may fail by a panic, helpers of tests too")]

mod basics;
mod common;
mod communicator;
mod endings;
mod network;
