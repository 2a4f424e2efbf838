//! One request for a proposal, and the screening that every proposal passes.

use std::collections::{BTreeMap, HashSet};

use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use spaces::{Candidate, Limit};

use crate::{
    History, Known, Oracle, Problem, grid,
    refused::Refused,
    text::{exact, limit_text},
};

/// Batches drawn from the sampler itself; without limits nearly every proposal is the first draw.
const OWN_ROUNDS: [usize; 4] = [1, 15, 64, 256];
/// Further batches, half fresh and half repaired from what came closest to the limits.
const WIDE_ROUNDS: usize = 16;
/// Most candidates in one question to the oracle.
const BATCH: usize = 1024;
/// Spaces with at most this many points are searched in full before the search gives up.
const GRID: usize = 20_000;

/// What a sampler proposes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// What to try.
    pub candidate: Candidate,
    /// Its exactly known metrics, by name, in the direction in which they are measured.
    #[serde(default)]
    pub known: BTreeMap<String, f64>,
}

/// Why there is no proposal; says what to change.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AskError {
    /// A finite space is used up.
    #[error(
        "all {tried} configurations that can be tried have been tried, {refused} others break a limit or cannot \
         be built; widen a range or end the study"
    )]
    Exhausted {
        /// Distinct points finished or pending.
        tried: usize,
        /// Points that the oracle refused.
        refused: usize,
    },
    /// No candidate keeps the limits.
    #[error(
        "none of {looked_at} configurations keeps {}; the closest has {}: relax the limit to that or widen the space",
        limit_text(limit),
        exact(&limit.metric, *closest)
    )]
    NothingFeasible {
        /// Distinct candidates that the oracle was asked about.
        looked_at: usize,
        /// The limit that was broken most often.
        limit: Limit,
        /// The value nearest to it that was seen.
        closest: f64,
    },
    /// No candidate can be built.
    #[error(
        "none of {looked_at} configurations can be built, most often because {reason}; change the ranges so that some \
         fit together"
    )]
    NothingValid {
        /// Distinct candidates that the oracle was asked about.
        looked_at: usize,
        /// The reason given most often.
        reason: String,
    },
    /// An oracle that breaks its contract.
    #[error("the oracle answered {answered} times about {asked} candidates; it must answer once for each")]
    Oracle {
        /// Number of candidates.
        asked: usize,
        /// Number of answers.
        answered: usize,
    },
}

/// What the screening says about one candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may be proposed.
    Admissible(Proposal),
    /// It is finished, pending, or earlier in the same list.
    Duplicate,
    /// It cannot be built.
    Invalid,
    /// It breaks limits on known metrics, by this much in units of the limits.
    OverLimit(f64),
}

/// The random numbers of one proposal: they depend on the study's seed and the trial's number alone.
pub fn proposal_rng(seed: u64, number: u32) -> ChaCha8Rng {
    stream(seed, number.into())
}

/// A stream of random numbers of its own; those up to `u32::MAX` belong to the trials of that number.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// One request for a proposal: everything a sampler may look at.
pub struct Ask<'a> {
    /// What is searched.
    pub problem: &'a Problem,
    /// What has been tried.
    pub history: &'a History,
    /// Number of the trial that the proposal becomes.
    pub number: u32,
    /// The only source of chance.
    pub rng: ChaCha8Rng,
    oracle: &'a mut dyn Oracle,
}

impl<'a> Ask<'a> {
    /// A request for the proposal of trial `number`.
    pub fn new(problem: &'a Problem, history: &'a History, oracle: &'a mut dyn Oracle, number: u32) -> Self {
        Ask {
            problem,
            history,
            number,
            rng: proposal_rng(problem.seed, number),
            oracle,
        }
    }

    /// The first admissible point of those that `draw` gives, each a point of the unit cube.
    ///
    /// When hundreds of draws are refused, a small space is walked in full; a large one is searched with uniform
    /// draws and with variations of the points that came closest to the limits.
    ///
    /// # Errors
    /// [`AskError`] when nothing admissible turns up within about 17,000 candidates.
    pub fn first(&mut self, mut draw: impl FnMut(&mut ChaCha8Rng) -> Vec<f64>) -> Result<Proposal, AskError> {
        let mut refused = Refused::new(&self.problem.limits);
        for size in OWN_ROUNDS {
            let points = (0..size).map(|_| draw(&mut self.rng)).collect();
            if let Some(proposal) = self.first_of(points, &mut refused)? {
                return Ok(proposal);
            }
        }
        if let Some(points) = grid::points(&self.problem.space, GRID) {
            return self.first_of_grid(points);
        }
        let dimensions = self.problem.space.len();
        for _ in 0..WIDE_ROUNDS {
            let mut points = refused.repairs(&self.problem.space, BATCH / 2, &mut self.rng);
            points.resize_with(BATCH, || uniform(dimensions, &mut self.rng));
            if let Some(proposal) = self.first_of(points, &mut refused)? {
                return Ok(proposal);
            }
        }
        Err(refused.into_error(self.history.len(), false))
    }

    /// The proposal of exactly this point; `None` where it is finished or pending, cannot be built or breaks a limit on
    /// known metrics.
    ///
    /// # Errors
    /// [`AskError::Oracle`] if the oracle does not answer once.
    pub fn exactly(&mut self, candidate: Candidate) -> Result<Option<Proposal>, AskError> {
        Ok(match self.screen(vec![candidate])?.pop() {
            Some(Verdict::Admissible(proposal)) => Some(proposal),
            _ => None,
        })
    }

    /// Judges each candidate: new, buildable, within the limits on known metrics. One question to the oracle.
    ///
    /// # Errors
    /// [`AskError::Oracle`] if the oracle does not answer once for each candidate.
    pub fn screen(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Verdict>, AskError> {
        self.judge(candidates, &mut Refused::new(&self.problem.limits))
    }

    fn judge(&mut self, candidates: Vec<Candidate>, refused: &mut Refused) -> Result<Vec<Verdict>, AskError> {
        let mut verdicts = vec![Verdict::Duplicate; candidates.len()];
        let (mut places, mut fresh, mut met) = (Vec::new(), Vec::new(), HashSet::new());
        for (i, candidate) in candidates.into_iter().enumerate() {
            let key = candidate.key();
            if !self.history.contains(key) && met.insert(key) {
                places.push(i);
                fresh.push(candidate);
            }
        }
        if fresh.is_empty() {
            return Ok(verdicts);
        }
        let answers = self.oracle.known(&fresh);
        if answers.len() != fresh.len() {
            return Err(AskError::Oracle {
                asked: fresh.len(),
                answered: answers.len(),
            });
        }
        for ((place, candidate), known) in places.into_iter().zip(fresh).zip(answers) {
            verdicts[place] = match known {
                Known::Invalid(reason) => refused.invalid(reason),
                Known::Values(known) => match known.iter().find(|(_, v)| !v.is_finite()) {
                    Some((metric, value)) => refused.invalid(format!("{metric} would be {value}")),
                    None => match refused.violation(&known) {
                        None => Verdict::Admissible(Proposal { candidate, known }),
                        Some(violation) => Verdict::OverLimit(violation),
                    },
                },
            };
        }
        Ok(verdicts)
    }

    fn first_of(
        &mut self,
        points: Vec<Vec<f64>>,
        refused: &mut Refused,
    ) -> Result<Option<Proposal>, AskError> {
        let space = &self.problem.space;
        let candidates = points.iter().map(|unit| space.decode(unit)).collect();
        for (unit, verdict) in points.into_iter().zip(self.judge(candidates, refused)?) {
            match verdict {
                Verdict::Admissible(proposal) => return Ok(Some(proposal)),
                Verdict::OverLimit(violation) => refused.keep_if_near(violation, unit),
                Verdict::Duplicate | Verdict::Invalid => {}
            }
        }
        Ok(None)
    }

    fn first_of_grid(&mut self, mut points: Vec<Candidate>) -> Result<Proposal, AskError> {
        let mut refused = Refused::new(&self.problem.limits);
        points.shuffle(&mut self.rng);
        for batch in points.chunks(BATCH) {
            for verdict in self.judge(batch.to_vec(), &mut refused)? {
                if let Verdict::Admissible(proposal) = verdict {
                    return Ok(proposal);
                }
            }
        }
        Err(refused.into_error(self.history.len(), true))
    }
}

/// A uniform point of the unit cube.
pub(crate) fn uniform(dimensions: usize, rng: &mut impl Rng) -> Vec<f64> {
    (0..dimensions).map(|_| rng.random()).collect()
}
