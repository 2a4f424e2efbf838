//! Attention: how queries, keys and values become the output.
//!
//! A variant is one file with a type that implements `Variant`, and one line in the list below.

mod aft;
mod cross;
mod full;
mod kde;
mod linear;
mod lsh;
mod rwkv;
mod sliding_window;
mod tiled;
mod variant;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{ParameterInfo, Value};

use self::variant::Variant;
pub(crate) use self::variant::as_remembered;
pub use self::variant::{Heads, Own, Place, Start, State};
use super::About;
use crate::{
    model::{AttentionPlan, Pass},
    ops::{Band, Lengths, Ops},
    parameter::{Declared, Values, choice, int},
};

macro_rules! variants {
    ($($module:ident :: $variant:ident),+ $(,)?) => {
        /// The chosen variant with its settings.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "attention", rename_all = "snake_case")]
        pub enum Core {
            $(
                #[doc = "See the module of that name."]
                $variant($module::$variant),
            )+
        }

        impl Core {
            fn read(name: &str, values: Values) -> Core {
                $(if name == $module::$variant::ABOUT.name {
                    return Core::$variant($module::$variant::read(values));
                })+
                unreachable!("the catalogue allows only names of this list, not '{name}'")
            }

            /// The name that chooses this variant.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Core::$variant(_) => $module::$variant::ABOUT.name,)+
                }
            }

            /// The counter that is above zero once this variant has run.
            pub(crate) fn activity(&self) -> Option<&'static str> {
                match self {
                    $(Core::$variant(_) => $module::$variant::ACTIVITY,)+
                }
            }

            /// Whether queries and keys come from one projection.
            pub fn shares_keys(&self) -> bool {
                match self {
                    $(Core::$variant(_) => $module::$variant::SHARED_KEYS,)+
                }
            }

            /// Whether queries and keys are turned by their positions.
            pub fn is_rotary(&self) -> bool {
                match self {
                    $(Core::$variant(_) => $module::$variant::ROTARY,)+
                }
            }

            /// Whether it has a weight of its own for each component of the residual stream.
            pub(crate) fn weighs_components(&self) -> bool {
                match self {
                    $(Core::$variant(_) => $module::$variant::WEIGHS_COMPONENTS,)+
                }
            }

            /// Whether a state holds each token in a place of its own.
            pub(crate) fn remembers_each_token(&self) -> bool {
                match self {
                    $(Core::$variant(_) => $module::$variant::REMEMBERS_EACH_TOKEN,)+
                }
            }

            /// Whether a state is a cache of keys and values, which can be kept in few bits.
            pub(crate) fn keeps_keys_and_values(&self) -> bool {
                match self {
                    $(Core::$variant(_) => $module::$variant::KEEPS_KEYS_AND_VALUES,)+
                }
            }

            /// Whether each query head has a key/value head of its own.
            fn has_own_keys(&self) -> bool {
                match self {
                    $(Core::$variant(_) => $module::$variant::OWN_KEYS,)+
                }
            }

            fn check_context(&self, context: usize, both_ways: bool) -> Result<(), String> {
                match self {
                    $(Core::$variant(core) if both_ways => core.check_both_ways(context),)+
                    $(Core::$variant(core) => core.check(context),)+
                }
            }

            /// Whether it has a form that sees later tokens too.
            pub fn sees_both_ways(&self) -> bool {
                match self {
                    $(Core::$variant(core) => core.sees_both_ways(),)+
                }
            }

            /// Of `all` that the model's kind lets a token see, what it does, where it takes of each as a softmax says.
            pub(crate) fn band(&self, all: Band) -> Option<Band> {
                match self {
                    $(Core::$variant(core) => core.band(all),)+
                }
            }

            /// Weights of its own, beside the projections.
            pub fn weights(&self, plan: &AttentionPlan, place: Place) -> Vec<Own> {
                match self {
                    $(Core::$variant(core) => core.weights(plan, place),)+
                }
            }

            /// What queries, keys and values are projected from.
            pub fn inputs<B: Ops>(
                &self,
                x: Tensor<B, 3>,
                own: &[Tensor<B, 2>],
                state: Option<&mut State<B>>,
            ) -> [Tensor<B, 3>; 3] {
                match self {
                    $(Core::$variant(core) => core.inputs(x, own, state),)+
                }
            }

            /// Multiply-adds over a whole sequence of `n`, forward and backward.
            pub fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
                match self {
                    $(Core::$variant(v) => v.training_pass(plan, n),)+
                }
            }

            /// Of the backward multiply-adds of `n`, those that are not done where queries want no gradient.
            pub(crate) fn backward_of_queries(&self, plan: &AttentionPlan, n: usize) -> u64 {
                match self {
                    $(Core::$variant(v) => v.backward_of_queries(plan, n),)+
                }
            }

            /// Multiply-adds to decode the token at `position`.
            pub fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
                match self {
                    $(Core::$variant(v) => v.decoding_macs(plan, position),)+
                }
            }

            /// Multiply-adds to take in `n` tokens at once, several of them, where nothing is remembered.
            pub(crate) fn prompt_macs(&self, plan: &AttentionPlan, n: usize) -> u64 {
                match self {
                    $(Core::$variant(v) => v.prompt_macs(plan, n),)+
                }
            }

            /// Numbers remembered of one sequence of up to `capacity` tokens.
            pub fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
                match self {
                    $(Core::$variant(v) => v.state_values(plan, capacity),)+
                }
            }

            /// Whole sequences at once.
            pub fn whole<B: Ops>(
                &self,
                q: Tensor<B, 4>,
                k: Tensor<B, 4>,
                v: Tensor<B, 4>,
                own: &[Tensor<B, 2>],
            ) -> Tensor<B, 4> {
                match self {
                    $(Core::$variant(core) => core.whole(q, k, v, own),)+
                }
            }

            /// Multiply-adds over a whole sequence of `n` in both directions, forward and backward.
            pub fn training_pass_both_ways(&self, plan: &AttentionPlan, n: usize) -> Pass {
                match self {
                    $(Core::$variant(v) => v.training_pass_both_ways(plan, n),)+
                }
            }

            /// Whole sequences at once, in both directions.
            pub fn whole_both_ways<B: Ops>(
                &self,
                q: Tensor<B, 4>,
                k: Tensor<B, 4>,
                v: Tensor<B, 4>,
                lengths: Option<&Lengths>,
            ) -> Tensor<B, 4> {
                match self {
                    $(Core::$variant(core) => core.whole_both_ways(q, k, v, lengths),)+
                }
            }

            /// An empty state for `batch` sequences of up to `capacity` tokens.
            pub fn state<B: Ops>(
                &self,
                plan: &AttentionPlan,
                batch: usize,
                capacity: usize,
                device: &B::Device,
            ) -> State<B> {
                match self {
                    $(Core::$variant(core) => core.state(plan, batch, capacity, device),)+
                }
            }

            /// The tokens after those that the state remembers.
            pub fn extend<B: Ops>(
                &self,
                q: Tensor<B, 4>,
                k: Tensor<B, 4>,
                v: Tensor<B, 4>,
                own: &[Tensor<B, 2>],
                state: &mut State<B>,
            ) -> Tensor<B, 4> {
                match self {
                    $(Core::$variant(core) => core.extend(q, k, v, own, state),)+
                }
            }

            /// Has a state remember the next token, which looks at nothing; of variants that keep keys and values.
            pub(crate) fn append<B: Ops>(&self, k: Tensor<B, 4>, v: Tensor<B, 4>, state: &mut State<B>) {
                match self {
                    $(Core::$variant(core) => core.append(k, v, state),)+
                }
            }
        }

        /// What the variants say of themselves.
        pub(super) fn about() -> Vec<About> {
            vec![$($module::$variant::ABOUT),+]
        }

        /// How a configuration asks for each variant that sees later tokens too.
        pub(crate) fn both_ways() -> Vec<&'static str> {
            [$($module::$variant::BOTH_WAYS),+].into_iter().flatten().collect()
        }

        fn own_parameters() -> Vec<ParameterInfo> {
            let mut all = vec![];
            $(all.extend($module::$variant::parameters());)+
            all
        }
    };
}

variants! {
    full::Full,
    tiled::Tiled,
    sliding_window::SlidingWindow,
    linear::Linear,
    rwkv::Rwkv,
    lsh::Lsh,
    aft::Aft,
    kde::Kde,
}

impl Core {
    /// Full attention.
    pub fn full() -> Core {
        Core::Full(full::Full {})
    }

    /// Attention over a window of recent tokens.
    pub fn sliding_window(window: usize) -> Core {
        Core::SlidingWindow(sliding_window::SlidingWindow { window })
    }

    /// The window, where there is one.
    pub fn window(&self) -> Option<usize> {
        match self {
            Core::SlidingWindow(core) => Some(core.window),
            _ => None,
        }
    }
}

/// Layers whose attention can be chosen one by one.
const CHOSEN_LAYERS: usize = 8;
/// The value of a layer that has the attention of the model.
const SAME: &str = "same";

fn layer_parameter(layer: usize) -> String {
    format!("attention_layer_{}", layer + 1)
}

/// The attention of each of `layers` layers.
///
/// Settings of a variant that only single layers have are the declared ones. `both_ways` says whether tokens see later
/// ones, so that settings of that form count.
///
/// # Errors
/// A sentence on the value that has no meaning beside another one.
pub(crate) fn read(
    values: Values,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    context: usize,
    both_ways: bool,
) -> Result<Vec<Core>, String> {
    let mut all: BTreeMap<String, Value> = own_parameters()
        .into_iter()
        .map(|p| (p.name, p.default))
        .collect();
    all.extend(values.0.iter().map(|(name, value)| (name.clone(), value.clone())));
    let all = Values(&all);
    let main = values.text("attention");
    let cores = (0..layers).map(|layer| {
        let name = match values.text(&layer_parameter(layer)) {
            "" | SAME => main,
            name => name,
        };
        let core = Core::read(name, all);
        if core.has_own_keys() && kv_heads != heads {
            return Err(format!(
                "kv_heads {kv_heads} with {name} attention, whose heads share nothing; use kv_heads = 0"
            ));
        }
        core.check_context(context, both_ways)?;
        Ok(core)
    });
    cores.collect()
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let mut all = vec![
        choice("attention", "how a token looks at other ones", &names),
        int("heads", "query heads; must divide width", 1, 128, 4),
        int(
            "kv_heads",
            "key/value heads, shared by groups of query heads (2305.13245); 0 for as many as heads",
            0,
            128,
            0,
        ),
    ];
    all.extend(own_parameters());
    let kinds: Vec<&str> = std::iter::once(SAME).chain(names).collect();
    all.extend((0..CHOSEN_LAYERS).map(|layer| {
        choice(
            &layer_parameter(layer),
            "attention of this layer alone; its settings are the declared ones unless the model has the same",
            &kinds,
        )
        .when(&format!("layers >= {}", layer + 1))
    }));
    all
}
