//! What an attention variant is: its settings, its weights, its cost, its work, and what decoding remembers.

use burn::tensor::{Tensor, backend::Backend};
use spaces::ParameterInfo;

use super::About;
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{Band, Lengths, Ops, PackedRows, integer::KeysAndValues, packed_attention, write_rows},
    parameter::Values,
    techniques::quantization::cache::ACTIVITY as CACHE_ACTIVITY,
};

/// A way to attend, by its settings.
pub(crate) trait Variant: Copy {
    /// What it says of itself.
    const ABOUT: About;

    /// The counter that is above zero once it has run; `None` for the form that saves nothing.
    const ACTIVITY: Option<&'static str> = None;

    /// Whether queries and keys come from one projection.
    const SHARED_KEYS: bool = false;

    /// Whether queries and keys are turned by their positions.
    const ROTARY: bool = true;

    /// Whether each query head has a key/value head of its own.
    const OWN_KEYS: bool = false;

    /// Whether it has a weight of its own for each component of the residual stream, which then cannot be turned.
    const WEIGHS_COMPONENTS: bool = false;

    /// Whether a state holds each token in a place of its own, so that the last ones are forgotten by lowering
    /// [`State::taken`].
    const REMEMBERS_EACH_TOKEN: bool = false;

    /// Whether a state is a cache of keys and values, as [`cache`] makes it.
    const KEEPS_KEYS_AND_VALUES: bool = false;

    /// How a configuration asks for a form of it that sees later tokens too, as encoders do; `None` where there is none.
    const BOTH_WAYS: Option<&'static str> = None;

    /// Parameters of its own.
    fn parameters() -> Vec<ParameterInfo> {
        vec![]
    }

    /// Reads its own parameters.
    fn read(values: Values) -> Self;

    /// Whether it has a meaning for sequences of `context` tokens.
    ///
    /// # Errors
    /// A sentence on the value that has none, and what to use instead.
    fn check(&self, _context: usize) -> Result<(), String> {
        Ok(())
    }

    /// The same for its form that sees later tokens too.
    ///
    /// # Errors
    /// A sentence on the value that has none, and what to use instead.
    fn check_both_ways(&self, context: usize) -> Result<(), String> {
        self.check(context)
    }

    /// Whether it has, with these settings, a form that sees later tokens too.
    fn sees_both_ways(&self) -> bool {
        Self::BOTH_WAYS.is_some()
    }

    /// Of `all` that the model's kind lets a token see, what it does, where it takes of each as a softmax says; `None` for
    /// other forms.
    fn band(&self, _all: Band) -> Option<Band> {
        None
    }

    /// Weights of its own, beside the projections.
    fn weights(&self, _plan: &AttentionPlan, _place: Place) -> Vec<Own> {
        vec![]
    }

    /// Multiply-adds of one sequence of `n` beside the projections, forward and backward.
    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass;

    /// Of the backward multiply-adds of `n`, those that are not done where queries want no gradient.
    fn backward_of_queries(&self, _plan: &AttentionPlan, _n: usize) -> u64 {
        0
    }

    /// Multiply-adds to decode the token at `position`, beside the projections.
    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64;

    /// Multiply-adds to take in `n` tokens at once, several of them, where nothing is remembered, beside the projections.
    fn prompt_macs(&self, plan: &AttentionPlan, n: usize) -> u64 {
        self.training_pass(plan, n).forward
    }

    /// Numbers remembered of one sequence of up to `capacity` tokens.
    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64;

    /// What queries, keys and values are projected from, of `x [b, n, width]`; `state` remembers earlier tokens.
    fn inputs<B: Ops>(
        &self,
        x: Tensor<B, 3>,
        _own: &[Tensor<B, 2>],
        _state: Option<&mut State<B>>,
    ) -> [Tensor<B, 3>; 3] {
        [x.clone(), x.clone(), x]
    }

    /// Whole sequences at once: `q [b, n, h, d]`, `k` and `v` `[b, n, g, d]` to `[b, n, h, d]`.
    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
    ) -> Tensor<B, 4>;

    /// Multiply-adds in both directions, as [`Variant::training_pass`], of a sequence without padding.
    fn training_pass_both_ways(&self, _plan: &AttentionPlan, _n: usize) -> Pass {
        unreachable!("a plan takes no variant that only looks back")
    }

    /// The same as [`Variant::whole`] in both directions; what padding holds changes no output before it.
    fn whole_both_ways<B: Ops>(
        &self,
        _q: Tensor<B, 4>,
        _k: Tensor<B, 4>,
        _v: Tensor<B, 4>,
        _lengths: Option<&Lengths>,
    ) -> Tensor<B, 4> {
        unreachable!("a plan takes no variant that only looks back")
    }

    /// An empty state.
    fn state<B: Ops>(
        &self,
        plan: &AttentionPlan,
        batch: usize,
        capacity: usize,
        device: &B::Device,
    ) -> State<B>;

    /// The same as [`Variant::whole`] for the tokens after those that the state remembers.
    fn extend<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4>;

    /// Has a state remember the next token, `k` and `v` `[b, 1, g, d]`, which looks at nothing; of variants that keep keys and
    /// values.
    fn append<B: Ops>(&self, _k: Tensor<B, 4>, _v: Tensor<B, 4>, _state: &mut State<B>) {
        unreachable!("a plan takes no exits with a variant that keeps no keys and values")
    }
}

/// Where an attention stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of its layer, from 0.
    pub layer: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Components of the residual stream.
    pub width: usize,
    /// Tokens of a full-length sequence.
    pub context: usize,
}

/// A weight of a variant's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Own {
    /// Its name in files.
    pub name: &'static str,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Whether it has as many rows, or else columns, for each head, and loses them with it.
    pub heads: Heads,
    /// What it begins with.
    pub start: Start,
}

/// Which side of a weight belongs to heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// Neither.
    None,
    /// The rows, as many for each head.
    Rows,
    /// The columns, as many for each head.
    Columns,
}

/// What a weight begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// Normal values of this deviation.
    Normal(f32),
    /// These values, row after row.
    Values(Vec<f32>),
}

/// What decoding remembers of earlier tokens; each variant says what its parts are.
#[derive(Clone, Debug)]
pub struct State<B: Backend> {
    /// Tensors of the variant's own making.
    pub parts: Vec<Tensor<B, 4>>,
    /// Keys and values in few bits, in place of the first two parts.
    pub packed: Option<[PackedRows<B>; 2]>,
    /// Keys and values of a model in whole numbers, which has nothing else here.
    pub whole: Option<KeysAndValues>,
    /// Number of tokens taken in.
    pub taken: usize,
}

impl<B: Backend> State<B> {
    /// A state that has taken in nothing.
    pub(super) fn new(parts: Vec<Tensor<B, 4>>) -> Self {
        State {
            parts,
            packed: None,
            whole: None,
            taken: 0,
        }
    }

    /// The state of a model in whole numbers, which has taken in nothing.
    pub(crate) fn in_integers(whole: KeysAndValues) -> Self {
        State {
            whole: Some(whole),
            ..State::new(vec![])
        }
    }

    /// Tokens that a cache has room for.
    pub(super) fn cached_rows(&self) -> usize
    where
        B: Ops,
    {
        match &self.packed {
            Some([rows, _]) => rows.rows(),
            None => self.parts[0].dims()[1],
        }
    }

    /// Takes a part out of its place, so that an in-place operation finds itself its only owner.
    pub(super) fn take(&mut self, part: usize) -> Tensor<B, 4> {
        let place = &mut self.parts[part];
        let empty = Tensor::empty([0; 4], &place.device());
        std::mem::replace(place, empty)
    }

    /// Changes a part in its place.
    pub(super) fn replace(&mut self, part: usize, change: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 4>) {
        let tensor = self.take(part);
        self.parts[part] = change(tensor);
    }
}

/// An empty cache of `rows` tokens' keys and values, parts 0 and 1 of the state `[b, rows, g, d]`, or packed.
pub(super) fn cache<B: Ops>(plan: &AttentionPlan, batch: usize, rows: usize, device: &B::Device) -> State<B> {
    let shape = [batch, rows, plan.kv_heads, plan.depth];
    let Some(form) = plan.cache else {
        return State::new(vec![Tensor::zeros(shape, device), Tensor::zeros(shape, device)]);
    };
    State {
        packed: Some([(); 2].map(|()| PackedRows::empty(shape, form.bits, device))),
        ..State::new(vec![])
    }
}

/// Writes keys and values over rows of a cache from `at` on.
pub(super) fn remember<B: Ops>(k: Tensor<B, 4>, v: Tensor<B, 4>, state: &mut State<B>, at: usize) {
    if let Some([keys, values]) = state.packed.take() {
        counter::add_activity(CACHE_ACTIVITY, 2 * k.dims()[1]);
        let bits = keys.bits();
        let write = |rows: PackedRows<B>, x| rows.write(PackedRows::of(x, bits), at);
        state.packed = Some([write(keys, k), write(values, v)]);
    } else {
        state.replace(0, |cache| write_rows(cache, k, at));
        state.replace(1, |cache| write_rows(cache, v, at));
    }
}

/// Attention to a cache; `attend` is that of floats.
pub(super) fn attend_to_cache<B: Ops>(
    q: Tensor<B, 4>,
    state: &State<B>,
    band: Band,
    attend: impl FnOnce([Tensor<B, 4>; 3], Band) -> Tensor<B, 4>,
) -> Tensor<B, 4> {
    match state.packed.clone() {
        None => attend([q, state.parts[0].clone(), state.parts[1].clone()], band),
        Some(packed) if q.dims()[1] == 1 => packed_attention(q, packed, band),
        // for many queries rows are worth unpacking once
        Some(packed) => {
            let [k, v] = packed.map(|rows| rows.unpack(band.keys));
            attend([q, k, v], band)
        }
    }
}

/// Keys or values as a cache gives them back.
pub(crate) fn as_remembered<B: Ops>(x: Tensor<B, 4>, bits: usize) -> Tensor<B, 4> {
    let n = x.dims()[1];
    PackedRows::of(x, bits).unpack(n)
}

/// Appends keys and values to a cache of the whole past; what the new tokens see of it.
pub(super) fn extend_cache<B: Ops>(k: Tensor<B, 4>, v: Tensor<B, 4>, state: &mut State<B>) -> Band {
    let (taken, n) = (state.taken, k.dims()[1]);
    remember(k, v, state, taken);
    state.taken += n;
    Band {
        offset: taken,
        ..Band::causal(taken + n)
    }
}

/// Takes in several tokens one after the other, each as `step` does it.
pub(super) fn one_by_one<B: Backend>(
    inputs: [Tensor<B, 4>; 3],
    mut step: impl FnMut([Tensor<B, 4>; 3]) -> Tensor<B, 4>,
) -> Tensor<B, 4> {
    let n = inputs[0].dims()[1];
    let outputs = (0..n).map(|i| step(inputs.each_ref().map(|x| x.clone().narrow(1, i, 1))));
    Tensor::cat(outputs.collect(), 1)
}
