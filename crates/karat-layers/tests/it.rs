//! Layers as their users see them. Most need root, and some the system's package archives; without
//! root those tests end at once and say so.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

mod it {
    mod bootstrap;
    mod import;
    mod layers;
    mod support;
}
