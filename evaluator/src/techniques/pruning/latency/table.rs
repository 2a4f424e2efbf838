//! What sizes of layers take, and which sizes lose least within a time.

use search::allocation::{Choice, allocate};
use serde::{Deserialize, Serialize};

use super::{
    LayerSize, Structure, Times,
    sizes::{Part, parts},
};
use crate::model::ModelPlan;

/// Parts that the whole time is divided into for the choice.
const UNITS: f64 = 1e4;

/// What the loss rises by with each size: of each part, of each of its layers.
pub type Losses = Vec<Vec<Vec<f64>>>;

/// What each size takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeTable {
    /// Milliseconds for a token of the unpruned model.
    pub whole_ms: f64,
    /// The share of them that is left where every layer has its smallest sizes.
    pub rest: f64,
    /// What can be cut.
    pub parts: Vec<TimedPart>,
}

/// A structure of layers that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedPart {
    /// The layers, from 0.
    pub layers: Vec<usize>,
    /// What they have a number of.
    pub structure: Structure,
    /// The sizes, rising; the last one is that of the unpruned model.
    pub sizes: Vec<usize>,
    /// What one of the layers takes more with each than with the smallest, as a share of the unpruned model's time; rising.
    pub shares: Vec<f64>,
}

/// The sizes that lose least within a time.
pub(super) struct Chosen {
    pub(super) layers: Vec<LayerSize>,
    /// What they take.
    pub(super) share: f64,
    /// What they lose, if losses add up.
    pub(super) loss: f64,
}

impl TimeTable {
    /// Has every size timed, in all layers that are alike at once: products as they follow one another in the whole model,
    /// whose weights do not all stay in the caches.
    ///
    /// # Errors
    /// Those of `times`.
    pub fn measure<E>(plan: &ModelPlan, times: &mut Times<E>) -> Result<TimeTable, E> {
        let (mut wholes, mut timed) = (vec![], vec![]);
        for part in parts(plan) {
            let mut shares = vec![];
            for keep in &part.sizes[..part.sizes.len() - 1] {
                let mut cut = plan.clone();
                for layer in &part.layers {
                    part.structure.cut(&mut cut.layers[*layer], *keep);
                }
                let [whole, ms] = times(&cut)?;
                wholes.push(whole);
                shares.push(ms / whole);
            }
            timed.push(part.timed(shares));
        }
        let sum: f64 = timed.iter().map(TimedPart::most).sum();
        // times are noisy: parts may seem to take more together than the whole
        for part in timed.iter_mut().filter(|_| sum > 1.0) {
            part.shares.iter_mut().for_each(|share| *share /= sum);
        }
        wholes.sort_by(f64::total_cmp);
        Ok(TimeTable {
            whole_ms: wholes[wholes.len() / 2],
            rest: (1.0 - sum).max(0.0),
            parts: timed,
        })
    }

    /// The lowest share of the time that some sizes reach.
    pub fn least(&self) -> f64 {
        units(self.rest) as f64 / UNITS
    }

    /// The sizes of the layers of `plan` that lose least within a share of its time; `None` where none are within it.
    pub(super) fn choose(&self, plan: &ModelPlan, losses: &Losses, share: f64) -> Option<Chosen> {
        let budget = (share * UNITS + 1e-6).floor();
        let budget = (budget.max(0.0) as u64).checked_sub(units(self.rest))?;
        let of_layers = || {
            self.parts.iter().zip(losses).flat_map(|(part, losses)| {
                let layers = part.layers.iter().zip(losses);
                layers.map(move |(layer, losses)| (part, *layer, losses))
            })
        };
        let choices: Vec<Vec<Choice>> = of_layers()
            .map(|(part, _, losses)| {
                let sizes = part.shares.iter().zip(losses);
                let choice = |(share, loss): (&f64, &f64)| Choice {
                    cost: units(*share),
                    loss: *loss,
                };
                sizes.map(choice).collect()
            })
            .collect();
        let taken = allocate(&choices, budget)?;
        let whole = plan.layers.iter().map(|layer| LayerSize {
            neurons: layer.feed_forward.hidden(),
            kv_heads: layer.attention.kv_heads,
        });
        let mut chosen = Chosen {
            layers: whole.collect(),
            share: self.rest,
            loss: 0.0,
        };
        for ((part, layer, losses), size) in of_layers().zip(taken) {
            chosen.share += part.shares[size];
            chosen.loss += losses[size];
            let layer = &mut chosen.layers[layer];
            match part.structure {
                Structure::Heads => layer.kv_heads = part.sizes[size],
                Structure::Neurons => layer.neurons = part.sizes[size],
            }
        }
        Some(chosen)
    }
}

impl Part {
    /// With the shares of the whole time that all but its own size were measured to take.
    fn timed(self, mut shares: Vec<f64>) -> TimedPart {
        shares.push(1.0);
        // more is never faster, and nothing slower than the whole; where it seems so, it is noise
        let mut most = 0.0f64;
        for share in &mut shares {
            most = most.max(share.min(1.0));
            *share = most;
        }
        let (least, layers) = (shares[0], self.layers.len() as f64);
        TimedPart {
            layers: self.layers,
            structure: self.structure,
            sizes: self.sizes,
            shares: shares.iter().map(|share| (share - least) / layers).collect(),
        }
    }
}

impl TimedPart {
    /// What its layers together take more with their own size than with the smallest.
    fn most(&self) -> f64 {
        self.layers.len() as f64 * self.shares.last().copied().unwrap_or(0.0)
    }
}

/// A share of the time in whole units, rounded up, so that what sums up to a budget is within it.
fn units(share: f64) -> u64 {
    (share * UNITS - 1e-6).ceil().max(0.0) as u64
}
