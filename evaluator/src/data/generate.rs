//! Distinct random examples, the same ones on any number of threads.

use std::collections::HashSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{DataError, options::wrong};

/// Attempts that are made side by side.
const CHUNK: u64 = 8192;

/// Tokens that are kept in memory at most, three bytes each; the published ListOps takes 196 million.
pub(super) const MOST_TOKENS: usize = 250_000_000;

/// Refuses what could fill the memory of a worker.
pub(super) fn check_size(examples: usize, longest: usize) -> Result<(), DataError> {
    if examples.saturating_mul(longest) <= MOST_TOKENS {
        return Ok(());
    }
    let message = format!(
        "{examples} examples of up to {longest} tokens are more than {MOST_TOKENS} tokens; use at most {} examples",
        MOST_TOKENS / longest
    );
    Err(wrong("train_examples", message))
}

/// The first `wanted` distinct sequences that `attempt` accepts, in the order of the attempts.
///
/// Each attempt draws from a random stream of its own, so it may stop early, and threads do not matter.
///
/// # Errors
/// [`DataError::TooFew`] with the given remedy where two hundred attempts for each example do not suffice.
pub(super) fn distinct<T: Send + Clone + Eq + std::hash::Hash>(
    wanted: usize,
    seed: u64,
    remedy: &'static str,
    attempt: impl Fn(&mut ChaCha8Rng) -> Option<Vec<T>> + Sync,
) -> Result<Vec<Vec<T>>, DataError> {
    let root = ChaCha8Rng::seed_from_u64(seed);
    let limit = 200 * wanted as u64 + 500_000;
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(wanted);
    for start in (0..limit).step_by(CHUNK as usize) {
        let accepted: Vec<Vec<T>> = (start..start + CHUNK)
            .into_par_iter()
            .filter_map(|stream| {
                let mut rng = root.clone();
                rng.set_stream(stream);
                attempt(&mut rng)
            })
            .collect();
        for example in accepted {
            if kept.len() < wanted && seen.insert(example.clone()) {
                kept.push(example);
            }
        }
        if kept.len() == wanted {
            return Ok(kept);
        }
    }
    Err(DataError::TooFew {
        found: kept.len(),
        wanted,
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn examples_are_distinct_and_do_not_depend_on_threads() {
        let make = || {
            distinct(5_000, 3, "", |rng| {
                let x: u32 = rng.random_range(0..20_000);
                x.is_multiple_of(2).then(|| vec![x])
            })
            .unwrap()
        };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(make)
        };
        let (one, three) = (on(1), on(3));
        assert_eq!(one, three);
        assert_eq!(one.iter().collect::<HashSet<_>>().len(), 5_000);
    }

    #[test]
    fn more_than_memory_holds_is_refused() {
        assert!(check_size(98_000, 2_001).is_ok());
        let message = check_size(1_000_000, 2_048).unwrap_err().to_string();
        assert!(
            message.contains("1000000 examples") && message.contains("at most 122070"),
            "{message}"
        );
        assert!(check_size(usize::MAX, 3).is_err());
    }

    #[test]
    fn an_exhausted_space_is_told() {
        let message = distinct(10, 0, "raise keys", |rng| Some(vec![rng.random_range(0..4u8)]))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("only 4 of 10") && message.contains("raise keys"),
            "{message}"
        );
    }
}
