//! Time mixing of RWKV-4 (2305.13048): a weighted sum of the past that fades at a learnt rate for each channel.
//!
//! Receptance, key and value are projected from mixes of a token and the one before it. Queries are receptances.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{About, Heads, Own, Place, Start, State, Variant};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{Ops, empty_state, wkv, wkv_extend},
    parameter::Values,
    techniques::token_shift::{last, mixed, previous},
};

/// The past fades at a learnt rate for each channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rwkv {
    /// Components of the residual stream, of which the state remembers one token.
    width: usize,
}

/// Part of the state: the last token, `[b, 1, 1, width]`; numerators, denominators and exponents
/// `[b, 1, heads, depth]` come before it.
const LAST: usize = 3;

/// Weights by their place in the list.
const DECAY: usize = 3;
const BONUS: usize = 4;

impl Variant for Rwkv {
    const ABOUT: About = About {
        name: "rwkv",
        doc: "a sum of the past that fades at a learnt rate for each channel; trained and decoded by one scan of constant state",
        paper: "2305.13048",
    };

    const ACTIVITY: Option<&'static str> = Some("rwkv_tokens");

    const ROTARY: bool = false;

    const WEIGHS_COMPONENTS: bool = true;

    const OWN_KEYS: bool = true;

    fn read(values: Values) -> Self {
        Rwkv {
            width: values.int("width"),
        }
    }

    fn weights(&self, plan: &AttentionPlan, place: Place) -> Vec<Own> {
        let (layer, layers, width) = (place.layer as f64, place.layers as f64, place.width);
        // 0 in the first layer and 1 in the last; 1 in the first and nearly 0 in the last
        let depth = layer / (layers - 1.0).max(1.0);
        let height = 1.0 - layer / layers;
        let mix = |name, value: &dyn Fn(f64) -> f64| Own {
            name,
            shape: [1, width],
            heads: Heads::None,
            start: Start::Values(
                (0..width)
                    .map(|i| value(i as f64 / width as f64) as f32)
                    .collect(),
            ),
        };
        let channels = plan.heads * plan.depth;
        let channel = |name, value: &dyn Fn(usize) -> f64| Own {
            name,
            shape: [1, channels],
            heads: Heads::Columns,
            start: Start::Values((0..channels).map(|i| value(i) as f32).collect()),
        };
        let along = |i: usize| i as f64 / (channels as f64 - 1.0).max(1.0);
        vec![
            mix("mix_r", &|x| x.powf(0.5 * height)),
            mix("mix_k", &|x| x.powf(height)),
            mix("mix_v", &|x| x.powf(height) + 0.3 * depth),
            channel("decay", &|i| -5.0 + 8.0 * along(i).powf(0.7 + 1.3 * depth)),
            channel("bonus", &|i| 0.3f64.ln() + 0.5 * (((i + 1) % 3) as f64 - 1.0)),
        ]
    }

    /// Nothing beside the projections: the scan is elementwise.
    fn training_pass(&self, _: &AttentionPlan, _: usize) -> Pass {
        Pass::default()
    }

    fn decoding_macs(&self, _: &AttentionPlan, _: usize) -> u64 {
        0
    }

    fn state_values(&self, plan: &AttentionPlan, _: usize) -> u64 {
        (3 * plan.heads * plan.depth + self.width) as u64
    }

    fn inputs<B: Ops>(
        &self,
        x: Tensor<B, 3>,
        own: &[Tensor<B, 2>],
        state: Option<&mut State<B>>,
    ) -> [Tensor<B, 3>; 3] {
        let before = state.map(|state| {
            let [b, _, width] = x.dims();
            let before = state.take(LAST).reshape([b, 1, width]);
            state.parts[LAST] = last(&x).reshape([b, 1, 1, width]);
            before
        });
        let previous = previous(&x, before);
        [0, 1, 2].map(|i| mixed(&x, &previous, own[i].clone()))
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        let [b, n, h, d] = q.dims();
        counter::add_activity("rwkv_tokens", b * n);
        let rows = [q, k, v].map(|x| x.reshape([b, n, h * d]));
        wkv(rows, [own[DECAY].clone(), own[BONUS].clone()]).reshape([b, n, h, d])
    }

    fn state<B: Ops>(&self, plan: &AttentionPlan, batch: usize, _: usize, device: &B::Device) -> State<B> {
        let (h, d) = (plan.heads, plan.depth);
        let sums = empty_state::<B>(batch, h * d, device).map(|x| x.reshape([batch, 1, h, d]));
        let mut parts = sums.to_vec();
        parts.push(Tensor::zeros([batch, 1, 1, self.width], device));
        State::new(parts)
    }

    fn extend<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let [b, n, h, d] = q.dims();
        let rows = [q, k, v].map(|x| x.reshape([b, n, h * d]));
        let before = [0, 1, 2].map(|part| state.take(part).reshape([b, h * d]));
        let (o, after) = wkv_extend(rows, [own[DECAY].clone(), own[BONUS].clone()], before);
        for (part, x) in after.into_iter().enumerate() {
            state.parts[part] = x.reshape([b, 1, h, d]);
        }
        state.taken += n;
        o.reshape([b, n, h, d])
    }
}
