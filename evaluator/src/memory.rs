//! Memory in use: exact live bytes on the host, from a counting allocator, and the process's own high-water mark.

use std::fs;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that are live on the host's heap now.
pub fn live_bytes() -> u64 {
    ALLOCATOR.current_usage() as u64
}

/// The most bytes that were live on the host's heap at once while `work` ran, beyond those live before.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = live_bytes();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    (result, (ALLOCATOR.peak_usage() as u64).saturating_sub(before))
}

/// The most bytes of physical memory this process has held; `None` where the system does not tell.
pub fn process_peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_counted_to_the_byte_order() {
        let (_, peak) = peak_bytes(|| {
            drop(vec![1u8; 3 << 20]);
            vec![1u8; 1 << 20]
        });
        assert!((3 << 20..(3 << 20) + 100_000).contains(&peak), "{peak}");
        assert!(process_peak_bytes().is_some_and(|b| b > 1 << 20));
    }
}
