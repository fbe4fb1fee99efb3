//! Both ends of session manager together, over real connections.

mod rig;
mod sessions;
mod ssh;
