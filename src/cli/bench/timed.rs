//! How long things take: on the clock, and of this thread's processor time.

use std::time::Instant;

use nix::time::{ClockId, clock_gettime};
use search::{Ask, AskError, Proposal, Sampler};
use serde::Serialize;

/// A time twice: processor time is right where other work shares the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Processor time of the thread.
    pub(super) cpu_ms: f64,
    /// Time on the clock.
    pub(super) wall_ms: f64,
}

/// Runs `work` and says what it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (start, cpu) = (Instant::now(), cpu_ms());
    let done = work();
    let cost = Cost {
        cpu_ms: cpu_ms() - cpu,
        wall_ms: 1e3 * start.elapsed().as_secs_f64(),
    };
    (done, cost)
}

fn cpu_ms() -> f64 {
    // Linux and macOS both have the clock; where it is refused there is no time to tell
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(f64::NAN, |t| 1e3 * t.tv_sec() as f64 + 1e-6 * t.tv_nsec() as f64)
}

/// The cost in the middle, by processor time.
pub(super) fn middle(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.cpu_ms.total_cmp(&b.cpu_ms));
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}

/// A sampler that notes what each proposal costs.
pub(super) struct Timed {
    inner: Box<dyn Sampler + Send>,
    /// One for each proposal.
    pub(super) costs: Vec<Cost>,
}

impl Timed {
    pub(super) fn new(inner: Box<dyn Sampler + Send>) -> Timed {
        Timed { inner, costs: vec![] }
    }
}

impl Sampler for Timed {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let (proposal, cost) = timed(|| self.inner.ask(ask));
        self.costs.push(cost);
        proposal
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sleep_takes_time_but_no_processor() {
        let ((), cost) = timed(|| std::thread::sleep(Duration::from_millis(30)));
        assert!(cost.wall_ms >= 30.0 && cost.cpu_ms < 15.0, "{cost:?}");
        let (sum, cost) = timed(|| (0..20_000_000u64).fold(0, |a, b| std::hint::black_box(a ^ b)));
        assert!(cost.cpu_ms > 0.0, "{sum} {cost:?}");
    }
}
