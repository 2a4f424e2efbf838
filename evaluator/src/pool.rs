//! The threads that kernels share their rows out to.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How often a thread that is kept awake looks for work before it offers its core to other programs.
const LOOKS_BEFORE_YIELDING: u32 = 32;

/// Runs `work` on a thread of the pool: a kernel that shares its rows out then starts at once, instead of waking another
/// thread for each call, which costs more than a small product itself.
pub(crate) fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::join(work, || ()).0
}

/// Keeps the other threads of the pool awake while `work` runs. For decoding: its products take microseconds each, less
/// than a thread that has gone to sleep needs to wake. Takes effect on a thread of the pool.
pub(crate) fn awake<T>(work: impl FnOnce() -> T) -> T {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let Some(this) = rayon::current_thread_index() else {
        return work();
    };
    let done = AtomicBool::new(false);
    rayon::in_place_scope(|scope| {
        // also when the work panics, or the scope would wait for ever
        let _done = Done(&done);
        let done = &done;
        scope.spawn_broadcast(move |_, context| {
            // this thread meets its own copy while it waits for another one in the middle of the work
            if context.index() == this {
                return;
            }
            let mut idle = 0u32;
            while !done.load(Relaxed) {
                if rayon::yield_now() == Some(rayon::Yield::Executed) {
                    continue;
                }
                // work comes within microseconds, which is what giving the core to others takes
                idle = idle.wrapping_add(1);
                if idle.is_multiple_of(LOOKS_BEFORE_YIELDING) {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        });
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_once_and_can_share_its_rows_and_nest() {
        use rayon::prelude::*;
        let squares = || (0..1000u64).into_par_iter().map(|x| x * x).sum::<u64>();
        let sum = on_pool(|| awake(|| (0..100).map(|_| awake(squares)).sum::<u64>()));
        assert_eq!(sum, 100 * 332_833_500);
    }

    #[test]
    fn a_panic_passes_through() {
        let result = std::panic::catch_unwind(|| on_pool(|| awake(|| panic!("as it should"))));
        assert!(result.is_err());
    }
}
