//! The machines that this process runs, by id: what a stored step cannot hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::LazyMachine;

static MACHINES: Mutex<BTreeMap<String, Arc<LazyMachine>>> = Mutex::new(BTreeMap::new());

/// Keeps a machine until it is taken.
pub(super) fn put(id: &str, machine: Arc<LazyMachine>) {
    MACHINES.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), machine);
}

/// The machine, if this process runs it.
pub(super) fn get(id: &str) -> Option<Arc<LazyMachine>> {
    MACHINES.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
}

/// The machine, which is kept no longer.
pub(super) fn take(id: &str) -> Option<Arc<LazyMachine>> {
    MACHINES.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
}
