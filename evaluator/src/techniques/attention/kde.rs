//! Attention by kernel density estimation (`KDEformer`, 2302.02451): sampled keys stand for long blocks of the past; in
//! both directions for the whole sequence, beside blocks of queries and keys that hash alike.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::{About, State, Variant, variant::extend_cache};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{KdeBlocks, KdeBothWays, Lengths, Ops, kde_attention, kde_both_ways, kde_draw, write_rows},
    parameter::{Declared, Values, int},
};

const KEYS_SAMPLED: &str = "kde_keys_sampled";

/// Recent tokens exactly, dyadic blocks of earlier ones through weighted samples of their keys; in both directions tokens of
/// one block exactly, all others through samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kde {
    samples: usize,
    leaf: usize,
    // files from before there was a form in both directions have neither
    #[serde(default)]
    block: usize,
    #[serde(default)]
    bits: usize,
}

impl Kde {
    fn blocks(&self) -> KdeBlocks {
        KdeBlocks {
            leaf: self.leaf,
            samples: self.samples,
        }
    }

    fn both_ways(&self, lengths: Option<&Lengths>) -> KdeBothWays {
        KdeBothWays {
            block: self.block,
            bits: self.bits,
            samples: self.samples,
            lengths: lengths.cloned(),
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

    const BOTH_WAYS: Option<&'static str> = Some("kde");

    fn parameters() -> Vec<ParameterInfo> {
        let samples = int(
            "kde_samples",
            "keys drawn of a past block; blocks of no more keys are attended exactly; in both directions keys drawn of the whole sequence",
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
        let block = int(
            "kde_block",
            "queries and keys of a block of those that hash alike, attended exactly in both directions; 0 for sampling only",
            0,
            1024,
            16,
        );
        let bits = int(
            "kde_bits",
            "random hyperplanes whose sides queries and keys are sorted by",
            1,
            10,
            4,
        );
        let of = |values: &[i64]| {
            let values = values.iter().copied().map(Value::Int).collect();
            Domain::categorical(values).expect("not empty")
        };
        let both_ways = "attention == 'kde' and kind in ['encoder', 'dual_encoder', 'encoder_decoder']";
        vec![
            samples
                .unit("keys")
                .when("attention == 'kde'")
                .search(Domain::int(16, 128, true, 1).expect("not empty")),
            leaf.unit("tokens")
                .when("attention == 'kde' and kind in ['decoder', 'encoder_decoder']")
                .search(of(&[32, 64, 128, 256])),
            block
                .unit("tokens")
                .when(both_ways)
                .search(of(&[0, 16, 32, 64, 128])),
            bits.when("kde_block > 0")
                .search(Domain::int(2, 10, false, 1).expect("not empty")),
        ]
    }

    fn read(values: Values) -> Self {
        Kde {
            samples: values.int("kde_samples"),
            leaf: values.int("kde_leaf"),
            block: values.int("kde_block"),
            bits: values.int("kde_bits"),
        }
    }

    fn check(&self, context: usize) -> Result<(), String> {
        let Kde { samples, leaf, .. } = self;
        if self.blocks().drawn(context) > 0 {
            return Ok(());
        }
        Err(format!(
            "kde_leaf {leaf} and kde_samples {samples} leave nothing to sample within context {context}, so it would be full attention; use smaller ones, a longer context or attention = 'full'"
        ))
    }

    fn check_both_ways(&self, context: usize) -> Result<(), String> {
        let Kde { samples, block, .. } = self;
        if samples + block < context {
            return Ok(());
        }
        Err(format!(
            "kde_samples {samples} and kde_block {block} together are not below context {context}, so it would cost as much as full attention; use smaller ones, a longer context or attention = 'full'"
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

    fn training_pass_both_ways(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let form = self.both_ways(None);
        let codes = (plan.heads * form.code_macs(n, plan.depth)) as u64;
        let once = (plan.heads * plan.depth * form.pairs(n)) as u64;
        // the same products as in the causal form; nothing flows back through codes
        Pass {
            forward: codes + 2 * once,
            backward: 5 * once,
        }
    }

    fn whole_both_ways<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        lengths: Option<&Lengths>,
    ) -> Tensor<B, 4> {
        let [b, _, h, _] = q.dims();
        counter::add_activity(KEYS_SAMPLED, b * h * self.samples);
        kde_both_ways(q, k, v, &self.both_ways(lengths))
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
        extend_cache(k, v, state);
        let (keys, values) = (state.parts[0].clone(), state.parts[1].clone());
        let first = self.blocks().drawn(before);
        if self.blocks().drawn(state.taken) > first {
            let draws = self.draw(values.clone(), before, state.taken);
            state.replace(2, |all| write_rows(all, draws, first));
        }
        kde_attention(q, keys, values, state.parts[2].clone(), before, self.blocks())
    }
}
