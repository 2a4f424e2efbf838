//! A limit on failed logins.
//!
//! Secrets have 256 random bits, so nothing is guessed here; the limit keeps a script from filling the log.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Failures allowed within [`WINDOW`].
const ALLOWED: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered; beyond that, those whose window is over are forgotten.
const REMEMBERED: usize = 10_000;

/// Failed logins by address.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failures: Mutex<HashMap<Option<IpAddr>, (Instant, u32)>>,
}

impl Attempts {
    /// How long the address must wait before its next attempt, if it must.
    pub(super) fn wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(|e| e.into_inner());
        let (since, count) = *failures.get(&address)?;
        let left = (since + WINDOW).saturating_duration_since(now);
        (count >= ALLOWED && !left.is_zero()).then_some(left)
    }

    /// Notes a failure.
    pub(super) fn failed(&self, address: Option<IpAddr>, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(|e| e.into_inner());
        let fresh = |since: Instant| now.duration_since(since) < WINDOW;
        if failures.len() >= REMEMBERED {
            failures.retain(|_, (since, _)| fresh(*since));
        }
        let entry = failures.entry(address).or_insert((now, 0));
        if !fresh(entry.0) {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_after_ten_failures_and_others_do_not() {
        let attempts = Attempts::default();
        let start = Instant::now();
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        for _ in 0..9 {
            attempts.failed(here, start);
        }
        assert_eq!(attempts.wait(here, start), None);
        attempts.failed(here, start);
        assert_eq!(attempts.wait(here, start), Some(WINDOW));
        assert_eq!(attempts.wait(None, start), None);
        let later = start + WINDOW;
        assert_eq!(attempts.wait(here, later), None);
        attempts.failed(here, later);
        assert_eq!(attempts.wait(here, later), None, "a new window counts from one");
    }
}
