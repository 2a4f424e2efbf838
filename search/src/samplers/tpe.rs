//! Tree-structured Parzen estimator (Bergstra et al. 2011), for many objectives (Ozaki et al. 2022).
//!
//! One mixture describes the good trials and one the bad ones, with those that failed or still run; of many draws from
//! the good one the best ratio is proposed. The settings follow Watanabe 2023 (Scott's rule, expected improvement as
//! weights, a tenth of the trials is good), except for the score: the ratio of the joint densities knows how parameters
//! go together, the product of the marginal ratios learns each from few trials, and their product does better than
//! either on ZDT1, DTLZ2, Kursawe's problem and conditional spaces.

mod axis;
mod parzen;
mod split;

use rand_chacha::ChaCha8Rng;
use spaces::Candidate;

use self::{
    axis::Axis,
    parzen::Parzen,
    split::{Split, split},
};
use super::{Method, Sampler, sobol::Sobol};
use crate::{Ask, AskError, Proposal, Verdict};

pub(super) const METHOD: Method = Method {
    name: "tpe",
    doc: "densities of good and bad trials, for conditional spaces and moderate budgets",
    paper: "Ozaki et al., JAIR 2022; Watanabe 2023",
    build: || Box::new(Tpe),
};

/// Trials before the densities are looked at.
const START: usize = 10;
/// Share of the finished trials that is good.
const GOOD_SHARE: f64 = 0.1;
/// Most good trials.
const GOOD_MOST: usize = 25;
/// Draws from the good mixture for one proposal.
const DRAWS: usize = 64;

/// The sampler; it has no state.
pub(super) struct Tpe;

impl Sampler for Tpe {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let (space, history) = (&ask.problem.space, ask.history);
        if history.len() < START || history.values().count() < 2 {
            return Sobol.ask(ask);
        }
        let enough = (GOOD_SHARE * history.trials().len() as f64).ceil() as usize;
        let Split { good, weights, bad } = split(history.trials(), enough.clamp(2, GOOD_MOST));
        let axes: Vec<Axis> = space.parameters().iter().map(|p| Axis::new(&p.domain)).collect();
        let encode = |candidate: &Candidate| space.encode(candidate);
        let pending = history.pending().iter().map(|p| &p.proposal.candidate);
        let bad = bad.into_iter().map(|t| &t.candidate).chain(pending);
        let good = Parzen::new(
            &axes,
            good.into_iter().map(|t| encode(&t.candidate)).collect(),
            weights,
        );
        let bad: Vec<_> = bad.map(encode).collect();
        let equal = vec![1.0; bad.len()];
        let bad = Parzen::new(&axes, bad, equal);

        // half of the draws take all coordinates from one good trial, half each from another
        let mut together = false;
        let mut draw = |rng: &mut ChaCha8Rng| {
            together = !together;
            good.draw(together, rng)
        };
        let mut scored: Vec<(f64, Candidate)> = Vec::with_capacity(DRAWS);
        for _ in 0..DRAWS {
            let candidate = space.decode(&draw(&mut ask.rng));
            let point = encode(&candidate);
            scored.push((good.log_score(&point) - bad.log_score(&point), candidate));
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let candidates = scored.into_iter().map(|(_, candidate)| candidate).collect();
        for verdict in ask.screen(candidates)? {
            if let Verdict::Admissible(proposal) = verdict {
                return Ok(proposal);
            }
        }
        ask.first(draw)
    }
}
