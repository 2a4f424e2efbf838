//! Attention by kernel density estimation (`KDEformer`, 2302.02451): sampled keys stand for long blocks of the past.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::{About, State, Variant, variant::extend_cache};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{KdeBlocks, Ops, kde_attention, kde_draw, write_rows},
    parameter::{Declared, Values, int},
};

const KEYS_SAMPLED: &str = "kde_keys_sampled";

/// Recent tokens exactly, dyadic blocks of earlier ones through weighted samples of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kde {
    samples: usize,
    leaf: usize,
}

impl Kde {
    fn blocks(&self) -> KdeBlocks {
        KdeBlocks {
            leaf: self.leaf,
            samples: self.samples,
        }
    }

    /// Draws the blocks that become past between `from` and `to` tokens.
    fn draw<B: Ops>(&self, v: Tensor<B, 4>, from: usize, to: usize) -> Tensor<B, 4> {
        let [b, _, h, _] = v.dims();
        let rows = self.blocks().drawn(from)..self.blocks().drawn(to);
        counter::add_activity(KEYS_SAMPLED, b * h * rows.len() * self.samples);
        kde_draw(v, rows, self.blocks())
    }
}

impl Variant for Kde {
    const ABOUT: About = About {
        name: "kde",
        doc: "recent tokens exactly, longer blocks of the past through samples of their keys; cost grows with the logarithm of the context",
        paper: "2302.02451",
    };

    const ACTIVITY: Option<&'static str> = Some(KEYS_SAMPLED);

    const REMEMBERS_EACH_TOKEN: bool = true;

    const OWN_KEYS: bool = true;

    fn parameters() -> Vec<ParameterInfo> {
        let samples = int(
            "kde_samples",
            "keys drawn of a past block; blocks of no more keys are attended exactly",
            1,
            1024,
            32,
        );
        let leaf = int(
            "kde_leaf",
            "tokens of a block on the diagonal, attended exactly",
            1,
            256,
            32,
        );
        let leaves = Domain::categorical([32, 64, 128, 256].map(spaces::Value::Int).to_vec());
        [
            samples
                .unit("keys")
                .search(Domain::int(16, 128, true, 1).expect("not empty")),
            leaf.unit("tokens").search(leaves.expect("not empty")),
        ]
        .map(|parameter| parameter.when("attention == 'kde'"))
        .to_vec()
    }

    fn read(values: Values) -> Self {
        Kde {
            samples: values.int("kde_samples"),
            leaf: values.int("kde_leaf"),
        }
    }

    fn check(&self, context: usize) -> Result<(), String> {
        let Kde { samples, leaf } = self;
        if self.blocks().drawn(context) > 0 {
            return Ok(());
        }
        Err(format!(
            "kde_leaf {leaf} and kde_samples {samples} leave nothing to sample within context {context}, so it would be full attention; use smaller ones, a longer context or attention = 'full'"
        ))
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let once = (plan.heads * plan.depth * self.blocks().pairs(n)) as u64;
        // scores and weighted sum; backwards the scores again and one product for each of p, v, q and k
        Pass {
            forward: 2 * once,
            backward: 5 * once,
        }
    }

    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
        2 * (plan.heads * plan.depth * self.blocks().pairs_at(position)) as u64
    }

    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
        let draws = self.blocks().drawn(capacity) * 2 * self.samples;
        (plan.heads * (2 * plan.depth * capacity + draws)) as u64
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        let draws = self.draw(v.clone(), 0, q.dims()[1]);
        kde_attention(q, k, v, draws, 0, self.blocks())
    }

    fn state<B: Ops>(
        &self,
        plan: &AttentionPlan,
        batch: usize,
        capacity: usize,
        device: &B::Device,
    ) -> State<B> {
        let empty = || Tensor::zeros([batch, capacity, plan.heads, plan.depth], device);
        let draws = [batch, self.blocks().drawn(capacity), plan.heads, 2 * self.samples];
        // keys and values of all tokens, because longer blocks are drawn of them later, and the draws so far
        State::new(vec![empty(), empty(), Tensor::zeros(draws, device)])
    }

    fn extend<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let before = state.taken;
        let (keys, values, _) = extend_cache(k, v, state);
        let first = self.blocks().drawn(before);
        if self.blocks().drawn(state.taken) > first {
            let draws = self.draw(values.clone(), before, state.taken);
            state.replace(2, |all| write_rows(all, draws, first));
        }
        kde_attention(q, keys, values, state.parts[2].clone(), before, self.blocks())
    }
}
