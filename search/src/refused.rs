//! Why candidates were refused, and those that came close.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use spaces::{Limit, Space};

use crate::{AskError, Verdict, variation};

/// How many of the points closest to the limits are kept for repair.
const KEPT: usize = 32;

/// Counts refusals during one search for an admissible candidate.
pub(crate) struct Refused {
    looked_at: usize,
    /// How often each reason for an invalid candidate was given; ordered, so that ties do not depend on a hash.
    invalid: BTreeMap<String, usize>,
    limits: Vec<Broken>,
    /// The least violating points of the unit cube, least first.
    nearest: Vec<(f64, Vec<f64>)>,
}

/// How often a limit was broken and the value that came nearest to it.
struct Broken {
    limit: Limit,
    count: usize,
    closest: Option<f64>,
}

impl Refused {
    pub(crate) fn new(limits: &[Limit]) -> Self {
        let unbroken = |limit: &Limit| Broken {
            limit: limit.clone(),
            count: 0,
            closest: None,
        };
        Refused {
            looked_at: 0,
            invalid: BTreeMap::new(),
            limits: limits.iter().map(unbroken).collect(),
            nearest: Vec::new(),
        }
    }

    /// Notes a candidate that cannot be built.
    pub(crate) fn invalid(&mut self, reason: String) -> Verdict {
        self.looked_at += 1;
        *self.invalid.entry(reason).or_default() += 1;
        Verdict::Invalid
    }

    /// Notes what is known about a candidate; the sum of its violations if it breaks a limit.
    pub(crate) fn violation(&mut self, known: &BTreeMap<String, f64>) -> Option<f64> {
        self.looked_at += 1;
        let mut total = None;
        for broken in &mut self.limits {
            // a metric that has to be measured breaks nothing yet
            let Some(value) = known.get(&broken.limit.metric) else {
                continue;
            };
            if broken.limit.holds(*value) {
                continue;
            }
            let violation = broken.limit.violation(*value);
            if broken
                .closest
                .is_none_or(|best| violation < broken.limit.violation(best))
            {
                broken.closest = Some(*value);
            }
            broken.count += 1;
            total = Some(total.unwrap_or(0.0) + violation);
        }
        total
    }

    /// Keeps a point for repair if it is among those that came closest to the limits.
    pub(crate) fn keep_if_near(&mut self, violation: f64, unit: Vec<f64>) {
        let at = self.nearest.partition_point(|(v, _)| *v <= violation);
        if at < KEPT {
            self.nearest.insert(at, (violation, unit));
            self.nearest.truncate(KEPT);
        }
    }

    /// Variations of the points that came closest to the limits; none if no limit was broken.
    pub(crate) fn repairs(&self, space: &Space, count: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
        let mut points = Vec::new();
        while points.len() < count {
            let Some((_, near)) = self.nearest.choose(rng) else {
                break;
            };
            let mut unit = near.clone();
            variation::mutate(space, &mut unit, 2.0 / space.len() as f64, rng);
            points.push(unit);
        }
        points
    }

    /// What to tell the user after a search in vain; `complete` if every point of the space was looked at.
    pub(crate) fn into_error(self, tried: usize, complete: bool) -> AskError {
        let Refused { looked_at, .. } = self;
        if looked_at == 0 || (complete && tried > 0) {
            let refused = looked_at;
            return AskError::Exhausted { tried, refused };
        }
        let worst = self.limits.into_iter().max_by_key(|b| b.count);
        match worst.and_then(|b| b.closest.map(|closest| (b.limit, closest))) {
            Some((limit, closest)) => AskError::NothingFeasible {
                looked_at,
                limit,
                closest,
            },
            None => AskError::NothingValid {
                looked_at,
                reason: self
                    .invalid
                    .into_iter()
                    .max_by_key(|(_, count)| *count)
                    .map_or_else(String::new, |(reason, _)| reason),
            },
        }
    }
}
