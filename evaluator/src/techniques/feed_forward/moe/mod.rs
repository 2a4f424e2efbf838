//! Mixture of experts (1701.06538): a router sends each token to a few of several networks.
//!
//! A router is one file with a type that implements [`Rule`], and one line in the list below. Dispatch is real: each
//! expert multiplies only the rows routed to it. Experts have a capacity in training alone: a served token always
//! reaches its experts, so that a sequence's output does not depend on the others of its batch, and decoding equals
//! the form of whole sequences.
//!
//! There is no expert choice (2202.09368): where each expert picks its tokens from the whole sequence, whether an early
//! token is picked depends on later ones. A decoder trained so has seen the future, and cannot decode as it was trained.

mod capacity;
mod dispatch;
mod gshard;
mod losses;
mod mixture;
mod noisy_top_k;
mod plan;
mod random;
mod switch;
mod top_k;

use burn::tensor::{Int, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

pub(super) use self::plan::parameters;
pub use self::{mixture::Mixture, plan::MixturePlan};
use super::{About, Gated};
use crate::{model::Matrix, ops::Ops, parameter::Values};

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

    /// Deviation of its initial weights, over the usual one.
    const INITIAL_SCALE: f32 = 1.0;

    /// The fewest experts for each token with which it learns.
    const LEAST_TOP_K: usize = 1;

    /// Reads its own parameters.
    fn read(values: Values) -> Self;

    /// Experts for each token.
    fn experts_per_token(values: Values) -> usize {
        values.int("top_k")
    }

    /// Sends tokens to experts.
    fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B>;
}

/// What a router decides on.
pub(crate) struct Request<'a, B: Backend> {
    /// The tokens, `[tokens, width]`.
    x: &'a Tensor<B, 2>,
    /// The router, `[experts, width]`.
    router: &'a Matrix<B>,
    /// The size of noise, `[experts, width]`, where the router is noisy.
    noise: Option<&'a Matrix<B>>,
    /// Experts for each token.
    top_k: usize,
    /// Whether gradients are tracked: noise, capacity and losses belong to training alone.
    training: bool,
}

/// What a router decided.
pub(crate) struct Routing<B: Backend> {
    /// The router's scores without noise on them, `[tokens, experts]`.
    logits: Tensor<B, 2>,
    /// What each expert's output is multiplied by, `[tokens, top_k]`.
    gates: Tensor<B, 2>,
    /// The expert of each place in `gates`, row by row; `None` where the token skips it.
    slots: Vec<Option<usize>>,
    /// How uneven the load is, `[1]`; only in training.
    balance: Option<Tensor<B, 1>>,
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

            fn initial_scale(&self) -> f32 {
                match self { $(Router::$router(_) => $module::$router::INITIAL_SCALE,)+ }
            }

            fn least_top_k(&self) -> usize {
                match self { $(Router::$router(_) => $module::$router::LEAST_TOP_K,)+ }
            }

            fn experts_per_token(&self, values: Values) -> usize {
                match self { $(Router::$router(_) => $module::$router::experts_per_token(values),)+ }
            }

            fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B> {
                match self { $(Router::$router(rule) => rule.route(request),)+ }
            }
        }

        /// What the routers say of themselves; the first one is the default.
        pub(in crate::techniques) fn routers() -> Vec<About> {
            vec![$($module::$router::ABOUT),+]
        }
    };
}

routers! { top_k::TopK, switch::Switch, gshard::Gshard, noisy_top_k::NoisyTopK }

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
