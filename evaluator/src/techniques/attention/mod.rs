//! Attention: how queries, keys and values become the output.
//!
//! A variant is one file with a type that implements [`Variant`], and one line in the list below.

mod full;
mod linear;
mod sliding_window;

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use spaces::ParameterInfo;

use super::About;
use crate::{
    model::{AttentionPlan, Pass},
    ops::Ops,
    parameter::{Values, choice, int},
};

/// A way to attend, by its settings.
pub(crate) trait Variant: Copy {
    /// What it says of itself.
    const ABOUT: About;

    /// The counter that is above zero once it has run; `None` for the form that saves nothing.
    const ACTIVITY: Option<&'static str> = None;

    /// Parameters of its own.
    fn parameters() -> Vec<ParameterInfo> {
        vec![]
    }

    /// Reads its own parameters.
    fn read(values: Values) -> Self;

    /// Multiply-adds of one head group's work over a whole sequence of `n`, forward and backward.
    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass;

    /// Multiply-adds to decode the token at `position`.
    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64;

    /// Numbers remembered of one sequence of up to `capacity` tokens.
    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64;

    /// Whole sequences at once: `q [b, n, h, d]`, `k` and `v` `[b, n, g, d]` to `[b, n, h, d]`.
    fn whole<B: Ops>(&self, q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4>;

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
        state: &mut State<B>,
    ) -> Tensor<B, 4>;
}

/// What decoding remembers of earlier tokens.
#[derive(Clone, Debug)]
pub enum State<B: Backend> {
    /// Keys and values of earlier tokens, `[b, capacity, g, d]`, written in a ring.
    Cache {
        /// The keys, already turned to their positions.
        k: Tensor<B, 4>,
        /// The values.
        v: Tensor<B, 4>,
        /// Number of tokens taken in.
        taken: usize,
    },
    /// Sums over earlier tokens.
    Sums {
        /// `Σ φ(k) vᵀ`, `[b, g, d, d]`
        s: Tensor<B, 4>,
        /// `Σ φ(k)`, `[b, g, d]`
        z: Tensor<B, 3>,
    },
}

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
            /// Reads the variant that `attention` names.
            pub(crate) fn read(values: Values) -> Core {
                let name = values.text("attention");
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

            /// Multiply-adds over a whole sequence of `n`, forward and backward.
            pub fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
                match self {
                    $(Core::$variant(v) => v.training_pass(plan, n),)+
                }
            }

            /// Multiply-adds to decode the token at `position`.
            pub fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
                match self {
                    $(Core::$variant(v) => v.decoding_macs(plan, position),)+
                }
            }

            /// Numbers remembered of one sequence of up to `capacity` tokens.
            pub fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
                match self {
                    $(Core::$variant(v) => v.state_values(plan, capacity),)+
                }
            }

            /// Whole sequences at once.
            pub fn whole<B: Ops>(&self, q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
                match self {
                    $(Core::$variant(core) => core.whole(q, k, v),)+
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
                state: &mut State<B>,
            ) -> Tensor<B, 4> {
                match self {
                    $(Core::$variant(core) => core.extend(q, k, v, state),)+
                }
            }
        }

        /// What the variants say of themselves.
        pub(super) fn about() -> Vec<About> {
            vec![$($module::$variant::ABOUT),+]
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
    sliding_window::SlidingWindow,
    linear::Linear,
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

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let mut all = vec![
        choice("attention", "how a token looks at earlier ones", &names),
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
    all
}

/// Takes a tensor out of its place, leaving an empty one, so that an in-place operation finds itself its only owner.
fn take<B: Backend, const D: usize>(place: &mut Tensor<B, D>) -> Tensor<B, D> {
    let empty = Tensor::empty([0; D], &place.device());
    std::mem::replace(place, empty)
}

fn replace<B: Backend, const D: usize>(
    place: &mut Tensor<B, D>,
    change: impl FnOnce(Tensor<B, D>) -> Tensor<B, D>,
) {
    let tensor = take(place);
    *place = change(tensor);
}
