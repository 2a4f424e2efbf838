//! DyLoRA (2210.07558): low-rank additions of which each step uses the first `r'` rows of `A` and columns of `B`, at the
//! scale `α/r'`, with `r'` drawn evenly from a range. Served at the highest rank.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use spaces::ParameterInfo;

use burn::tensor::backend::Backend;

use super::{About, lora::LoraPlan};
use crate::{
    counter,
    model::{Matrix, Part, Parts},
    parameter::{Declared, Values, int},
};

pub(super) const ABOUT: About = About {
    name: "dylora",
    doc: "low-rank additions that are trained at a rank drawn anew in each step, merged on export",
    paper: "2210.07558",
};

/// The counter of steps below the highest rank.
pub(super) const ACTIVITY: &str = "dylora_steps_below_rank";

/// Settings of the method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DyloraPlan {
    /// The additions; their rank is the highest one.
    pub lora: LoraPlan,
    /// The lowest rank.
    pub lowest: usize,
}

pub(super) fn parameters() -> Vec<ParameterInfo> {
    vec![
        int(
            "dylora_min_rank",
            "lowest rank that a step draws; the highest is lora_rank",
            1,
            1024,
            1,
        )
        .when("fine_tune == 'dylora'"),
    ]
}

impl DyloraPlan {
    pub(super) fn read(values: Values) -> Self {
        DyloraPlan {
            lora: LoraPlan::read(values),
            lowest: values.int("dylora_min_rank"),
        }
    }

    /// # Errors
    /// A sentence where there is only one rank to draw.
    pub(super) fn check(self) -> Result<(), String> {
        if self.lowest < self.lora.rank {
            return Ok(());
        }
        Err(format!(
            "dylora_min_rank {} is not below lora_rank {}, so every step would have one rank; use a smaller one, or fine_tune = 'lora'",
            self.lowest, self.lora.rank
        ))
    }

    /// The rank of a step.
    pub fn rank(self, seed: u64, step: u64) -> usize {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(step);
        random.random_range(self.lowest..=self.lora.rank)
    }

    /// Has the additions use the rank of this step.
    pub(crate) fn draw<B: Backend>(self, model: &mut impl Parts<B>, seed: u64, step: u64) {
        let rank = self.rank(seed, step);
        counter::add_activity(ACTIVITY, usize::from(rank < self.lora.rank));
        use_rank(model, rank);
    }

    /// Has the additions use all of their rank again.
    pub(crate) fn restore<B: Backend>(self, model: &mut impl Parts<B>) {
        use_rank(model, self.lora.rank);
    }
}

/// Has every low-rank addition use its first `rank` rows and columns.
pub fn use_rank<B: Backend>(model: &mut impl Parts<B>, rank: usize) {
    model.each_part("", &mut |_, part| {
        if let Part::Matrix(Matrix::LowRank(low_rank)) = part {
            low_rank.use_rank(rank);
        }
    });
}
