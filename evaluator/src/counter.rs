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

use crate::model::Pass;

static MACS: AtomicU64 = AtomicU64::new(0);
static SKIPPED_FORWARD: AtomicU64 = AtomicU64::new(0);
static SKIPPED_BACKWARD: AtomicU64 = AtomicU64::new(0);
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

/// Notes multiply-adds that a formula counts and that were left out, as for rows that an expert had no room for.
/// Called where they are left out, so that executed and skipped work together are the formula's, exactly.
pub fn add_skipped(pass: Pass) {
    SKIPPED_FORWARD.fetch_add(pass.forward, Ordering::Relaxed);
    SKIPPED_BACKWARD.fetch_add(pass.backward, Ordering::Relaxed);
}

/// Does `work` without noting the backward part of what it leaves out: a forward pass that nothing goes back through.
pub fn without_backward<T>(work: impl FnOnce() -> T) -> T {
    let (result, skipped) = count_skipped(work);
    SKIPPED_BACKWARD.fetch_sub(skipped.backward, Ordering::Relaxed);
    result
}

/// Does `work`, of which the backward part is noted only where something goes back through it.
pub fn back_where<T>(goes_back: bool, work: impl FnOnce() -> T) -> T {
    if goes_back { work() } else { without_backward(work) }
}

/// Multiply-adds left out since the process began. The backward ones are noted with the forward ones: whoever tracks
/// gradients is taken to go back too.
pub fn skipped() -> Pass {
    Pass {
        forward: SKIPPED_FORWARD.load(Ordering::Relaxed),
        backward: SKIPPED_BACKWARD.load(Ordering::Relaxed),
    }
}

/// Multiply-adds that `work` leaves out.
pub fn count_skipped<T>(work: impl FnOnce() -> T) -> (T, Pass) {
    let before = skipped();
    let result = work();
    (result, skipped() - before)
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

/// Does `work` without noting what techniques do in it: models that are tried out beside the one that is made.
pub fn without_activity<T>(work: impl FnOnce() -> T) -> T {
    let before = activity();
    let result = work();
    *ACTIVITY.lock().unwrap_or_else(PoisonError::into_inner) = before;
    result
}

/// What each technique did since the process began.
pub fn activity() -> BTreeMap<String, u64> {
    ACTIVITY.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
