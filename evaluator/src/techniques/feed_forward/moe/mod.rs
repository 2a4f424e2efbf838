//! Mixture of experts (1701.06538): a router sends each token to a few of several networks.
//!
//! A router is one file with a type that implements [`Rule`], and one line in the list below. Dispatch is real: each
//! expert multiplies only the rows routed to it. Where tokens choose, experts have a capacity in training alone: a
//! served token always reaches its experts, so that a sequence's output does not depend on the others of its batch, and
//! decoding equals the form of whole sequences. Where experts choose, they choose in each sequence by itself.

mod capacity;
mod dispatch;
mod expert_choice;
mod gshard;
mod losses;
mod mixture;
mod noisy_top_k;
mod plan;
mod random;
mod routing;
mod switch;
mod top_k;

use burn::tensor::{Int, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

pub(super) use self::plan::parameters;
use self::routing::{Request, Routing};
pub use self::{mixture::Mixture, plan::MixturePlan};
use super::{About, Gated};
use crate::{ops::Ops, parameter::Values};

pub(super) const ABOUT: About = About {
    name: "moe",
    doc: "a router sends each token to top_k of several networks; more weights at the same work for each token",
    paper: "1701.06538",
};

/// A router, by its settings.
pub(crate) trait Rule: Copy {
    /// What it says of itself.
    const ABOUT: About;

    /// Whether a second matrix tells the size of noise on its logits, in training.
    const IS_NOISY: bool = false;

    /// Whether it may leave out rows in training.
    const MAY_DROP: bool = false;

    /// Whether where a token goes depends on later ones, so that nothing that writes can have it.
    const LOOKS_AHEAD: bool = false;

    /// Deviation of its initial weights, over the usual one.
    const INITIAL_SCALE: f32 = 1.0;

    /// The fewest experts for each token with which it learns.
    const LEAST_TOP_K: usize = 1;

    /// Reads its own parameters.
    fn read(values: Values) -> Self;

    /// Experts for each token; 0 where experts choose tokens.
    fn experts_per_token(values: Values) -> usize {
        values.int("top_k")
    }

    /// Rows that all `experts` together are given of a sequence of `n` tokens without padding, with room for each.
    fn expert_rows(&self, n: usize, _experts: usize, top_k: usize) -> usize {
        n * top_k
    }

    /// Sends tokens to experts.
    fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B>;
}

macro_rules! routers {
    ($($module:ident :: $router:ident),+ $(,)?) => {
        /// The chosen router with its settings.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Router {
            $(
                #[doc = "See the module of that name."]
                $router($module::$router),
            )+
        }

        impl Router {
            fn read(values: Values) -> Router {
                let name = values.text("router");
                $(if name == $module::$router::ABOUT.name {
                    return Router::$router($module::$router::read(values));
                })+
                unreachable!("the catalogue allows only names of this list, not '{name}'")
            }

            /// The name that chooses this router.
            pub fn name(&self) -> &'static str {
                match self { $(Router::$router(_) => $module::$router::ABOUT.name,)+ }
            }

            fn is_noisy(&self) -> bool {
                match self { $(Router::$router(_) => $module::$router::IS_NOISY,)+ }
            }

            fn may_drop(&self) -> bool {
                match self { $(Router::$router(_) => $module::$router::MAY_DROP,)+ }
            }

            /// Whether where a token goes depends on later ones.
            pub(crate) fn looks_ahead(&self) -> bool {
                match self { $(Router::$router(_) => $module::$router::LOOKS_AHEAD,)+ }
            }

            fn initial_scale(&self) -> f32 {
                match self { $(Router::$router(_) => $module::$router::INITIAL_SCALE,)+ }
            }

            fn least_top_k(&self) -> usize {
                match self { $(Router::$router(_) => $module::$router::LEAST_TOP_K,)+ }
            }

            fn experts_per_token(&self, values: Values) -> usize {
                match self { $(Router::$router(_) => $module::$router::experts_per_token(values),)+ }
            }

            fn expert_rows(&self, n: usize, experts: usize, top_k: usize) -> usize {
                match self { $(Router::$router(rule) => rule.expert_rows(n, experts, top_k),)+ }
            }

            fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B> {
                match self { $(Router::$router(rule) => rule.route(request),)+ }
            }
        }

        /// What the routers say of themselves; the first one is the default.
        pub(in crate::techniques) fn routers() -> Vec<About> {
            vec![$($module::$router::ABOUT),+]
        }

        /// The names of routers that what writes can have.
        pub(crate) fn routers_that_look_back() -> Vec<&'static str> {
            [$((!$module::$router::LOOKS_AHEAD).then_some($module::$router::ABOUT.name)),+]
                .into_iter()
                .flatten()
                .collect()
        }
    };
}

routers! {
    top_k::TopK,
    switch::Switch,
    gshard::Gshard,
    noisy_top_k::NoisyTopK,
    expert_choice::ExpertChoice,
}

impl Default for Router {
    fn default() -> Self {
        Router::TopK(top_k::TopK {})
    }
}

/// The places of the `k` largest scores of each row, `[tokens, k]`. The choice itself has no gradient.
fn largest<B: Backend>(scores: &Tensor<B, 2>, k: usize) -> Tensor<B, 2, Int> {
    scores.clone().detach().topk_with_indices(k, 1).1
}

/// Chosen experts on the host, row by row.
fn on_host<B: Backend>(chosen: Tensor<B, 2, Int>) -> Vec<usize> {
    chosen.into_data().iter::<i64>().map(|e| e as usize).collect()
}
