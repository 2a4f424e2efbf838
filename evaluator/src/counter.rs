//! Counters of what was really executed: matrix work and the activity of techniques.
//!
//! One trial is one process, so the counters are global to the process.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

static MACS: AtomicU64 = AtomicU64::new(0);
static ACTIVITY: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Adds executed multiply-adds of matrix work. Called where the work is done, never from a formula.
pub fn add_macs(macs: usize) {
    MACS.fetch_add(macs as u64, Ordering::Relaxed);
}

/// Multiply-adds executed since the process began.
pub fn macs() -> u64 {
    MACS.load(Ordering::Relaxed)
}

/// Multiply-adds that `work` executes.
pub fn count_macs<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = macs();
    let result = work();
    (result, macs() - before)
}

/// Notes that a technique did something `n` times.
pub fn add_activity(name: &str, n: usize) {
    let mut counts = ACTIVITY.lock().unwrap_or_else(PoisonError::into_inner);
    match counts.get_mut(name) {
        Some(count) => *count += n as u64,
        None => {
            counts.insert(name.to_owned(), n as u64);
        }
    }
}

/// What each technique did since the process began.
pub fn activity() -> BTreeMap<String, u64> {
    ACTIVITY.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
