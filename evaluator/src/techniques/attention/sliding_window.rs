//! Sliding-window attention (2004.05150): each token sees itself and the `window - 1` tokens before; in both directions
//! itself and `window - 1` tokens around it, as many before as behind or one more behind.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::{
    About, State, Variant,
    variant::{as_remembered, attend_to_cache, cache, one_by_one, remember},
};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{Band, Lengths, Ops, attention},
    parameter::{Declared, Values, int},
};

/// Every token sees itself and the `window - 1` tokens before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlidingWindow {
    pub(super) window: usize,
}

impl SlidingWindow {
    /// Pairs of a token with one it sees, over a whole sequence.
    fn pairs(&self, n: usize) -> usize {
        pairs(self.window, n)
    }

    /// The same in both directions: those up to each token and those from it on, without counting it twice.
    fn pairs_both_ways(&self, n: usize) -> usize {
        let [before, behind] = self.sides();
        pairs(before + 1, n) + pairs(behind + 1, n) - n
    }

    /// Tokens seen before and behind a token.
    fn sides(&self) -> [usize; 2] {
        [(self.window - 1) / 2, self.window / 2]
    }

    /// What is seen of all that may be.
    fn seen(&self, all: Band) -> Band {
        let [before, behind] = match all.ahead {
            0 => [self.window - 1, 0],
            _ => self.sides(),
        };
        Band {
            window: before + 1,
            ahead: behind,
            ..all
        }
    }
}

/// Pairs of a token with itself or one of the `window - 1` tokens before.
fn pairs(window: usize, n: usize) -> usize {
    let ramp = window.min(n);
    ramp * (ramp + 1) / 2 + (n - ramp) * window
}

impl Variant for SlidingWindow {
    const ABOUT: About = About {
        name: "sliding_window",
        doc: "every token sees a window of recent ones; cost and cache stop growing at the window",
        paper: "2004.05150",
    };

    const ACTIVITY: Option<&'static str> = Some("sliding_window_pairs_skipped");

    const KEEPS_KEYS_AND_VALUES: bool = true;

    const BOTH_WAYS: Option<&'static str> = Some("sliding_window");

    fn parameters() -> Vec<ParameterInfo> {
        let search = Domain::int(8, 128, true, 1).expect("not empty");
        let window = int(
            "window",
            "tokens that a token sees, itself included",
            1,
            65_536,
            32,
        );
        vec![
            window
                .unit("tokens")
                .when("attention == 'sliding_window'")
                .search(search),
        ]
    }

    fn read(values: Values) -> Self {
        SlidingWindow {
            window: values.int("window"),
        }
    }

    fn check(&self, context: usize) -> Result<(), String> {
        let window = self.window;
        if window < context {
            return Ok(());
        }
        Err(format!(
            "window {window} is not below context {context}, so it would be full attention; use a smaller window or attention = 'full'"
        ))
    }

    fn band(&self, all: Band) -> Option<Band> {
        Some(self.seen(all))
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let forward = 2 * (plan.heads * plan.depth * self.pairs(n)) as u64;
        Pass {
            forward,
            backward: 2 * forward,
        }
    }

    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
        2 * (plan.heads * plan.depth * self.window.min(position + 1)) as u64
    }

    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
        2 * (plan.kv_heads * plan.depth * self.window.min(capacity)) as u64
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        let n = q.dims()[1];
        counter::add_activity("sliding_window_pairs_skipped", n * (n + 1) / 2 - self.pairs(n));
        attention(q, k, v, self.seen(Band::causal(n)))
    }

    fn training_pass_both_ways(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let forward = 2 * (plan.heads * plan.depth * self.pairs_both_ways(n)) as u64;
        Pass {
            forward,
            backward: 2 * forward,
        }
    }

    fn whole_both_ways<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        lengths: Option<&Lengths>,
    ) -> Tensor<B, 4> {
        let n = q.dims()[1];
        counter::add_activity("sliding_window_pairs_skipped", n * n - self.pairs_both_ways(n));
        attention(q, k, v, self.seen(Band::whole(n, lengths.cloned())))
    }

    fn state<B: Ops>(
        &self,
        plan: &AttentionPlan,
        batch: usize,
        capacity: usize,
        device: &B::Device,
    ) -> State<B> {
        // keys, already turned to their positions, and values, written in a ring
        cache(plan, batch, self.window.min(capacity), device)
    }

    fn extend<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let [b, n, g, d] = k.dims();
        let rows = state.cached_rows();
        let now = state.taken;
        if n > 1 {
            // a prompt: at the start it is a whole sequence of its own; later it goes token by token
            if now > 0 {
                return one_by_one([q, k, v], |[q, k, v]| self.extend(q, k, v, own, state));
            }
            let [seen_k, seen_v] = match &state.packed {
                Some([rows, _]) => [&k, &v].map(|x| as_remembered(x.clone(), rows.bits())),
                None => [k.clone(), v.clone()],
            };
            let output = self.whole(q, seen_k, seen_v, own);
            for i in n.saturating_sub(rows)..n {
                let at = |x: &Tensor<B, 4>| x.clone().slice([0..b, i..i + 1, 0..g, 0..d]);
                remember(at(&k), at(&v), state, i % rows);
            }
            state.taken = n;
            return output;
        }
        self.append(k, v, state);
        // positions are in the keys already, so the order within the ring does not matter
        let filled = rows.min(now + 1);
        let band = Band {
            offset: filled - 1,
            ..Band::causal(filled)
        };
        attend_to_cache(q, state, band, |[q, k, v], band| attention(q, k, v, band))
    }

    fn append<B: Ops>(&self, k: Tensor<B, 4>, v: Tensor<B, 4>, state: &mut State<B>) {
        let at = state.taken % state.cached_rows();
        remember(k, v, state, at);
        state.taken += 1;
    }
}
