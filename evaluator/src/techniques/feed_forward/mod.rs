//! The feed-forward part of a block: one gated network, a mixture of them, or channel mixing.
//!
//! A variant is one file, its plan and module in the two lists below, and the arms that the compiler then asks for.

mod channel_mix;
mod contextual;
mod dense;
mod moe;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

pub(crate) use self::channel_mix::{ACTIVITY as CHANNEL_MIX_ACTIVITY, Last};
pub(crate) use self::contextual::{ACTIVITY as CONTEXTUAL_ACTIVITY, Seen};
pub(super) use self::moe::routers;
pub(crate) use self::moe::routers_that_look_back;
pub use self::{
    channel_mix::ChannelMix,
    contextual::{Contextual, ContextualPlan, Predictor},
    dense::Gated,
    moe::{Mixture, MixturePlan, Router},
};
use super::About;
use crate::{
    model::{Initial, Part, Parts, Pass, Trainable},
    ops::{Lengths, Ops},
    parameter::{Declared, Values, choice, float},
    techniques::attention::Place,
};

/// Hidden neurons come in multiples of this, so that rows of weights fill vector registers.
pub(crate) const HIDDEN_MULTIPLE: usize = 8;

/// The shape of a feed-forward part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "feed_forward", rename_all = "snake_case")]
pub enum FeedForwardPlan {
    /// One gated network.
    Dense {
        /// Its hidden neurons.
        hidden: usize,
    },
    /// A mixture of gated networks.
    Moe(MixturePlan),
    /// Channel mixing.
    ChannelMix {
        /// Its hidden neurons.
        hidden: usize,
    },
    /// One gated network of which each token goes through some neurons, in serving.
    Contextual(ContextualPlan),
}

/// A feed-forward part.
#[derive(Module, Debug)]
pub enum FeedForward<B: Backend> {
    /// One gated network.
    Dense(Gated<B>),
    /// A mixture of gated networks.
    Moe(Mixture<B>),
    /// Channel mixing.
    ChannelMix(ChannelMix<B>),
    /// One gated network of chosen neurons.
    Contextual(Contextual<B>),
}

impl FeedForwardPlan {
    /// Reads the parameters of the family for the layer of this number, from 0.
    ///
    /// # Errors
    /// A sentence about a mixture that cannot be built or cannot learn.
    pub(crate) fn read(values: Values, width: usize, layer: usize) -> Result<Self, String> {
        let wanted = values.float("ffn_ratio") * width as f64 / HIDDEN_MULTIPLE as f64;
        let hidden = (wanted.round() as usize).max(1) * HIDDEN_MULTIPLE;
        if values.text("feed_forward") == channel_mix::ABOUT.name {
            return Ok(FeedForwardPlan::ChannelMix { hidden });
        }
        // the last of every few layers is a mixture, so that there is one wherever there are enough layers (2112.06905)
        let every = values.int("moe_every").max(1);
        if values.int("experts") > 1 && (layer + 1).is_multiple_of(every) {
            Ok(FeedForwardPlan::Moe(MixturePlan::read(values, hidden)?))
        } else {
            Ok(FeedForwardPlan::Dense { hidden })
        }
    }

    /// Hidden neurons of the network, or of each expert.
    pub fn hidden(&self) -> usize {
        match self {
            FeedForwardPlan::Dense { hidden } | FeedForwardPlan::ChannelMix { hidden } => *hidden,
            FeedForwardPlan::Moe(plan) => plan.hidden,
            FeedForwardPlan::Contextual(plan) => plan.hidden,
        }
    }

    /// The same with another number of hidden neurons.
    pub fn with_hidden(&self, hidden: usize) -> Self {
        match self {
            FeedForwardPlan::Dense { .. } => FeedForwardPlan::Dense { hidden },
            FeedForwardPlan::ChannelMix { .. } => FeedForwardPlan::ChannelMix { hidden },
            FeedForwardPlan::Moe(plan) => FeedForwardPlan::Moe(MixturePlan {
                hidden,
                ..plan.clone()
            }),
            FeedForwardPlan::Contextual(plan) => {
                FeedForwardPlan::Contextual(ContextualPlan { hidden, ..*plan })
            }
        }
    }

    /// How neurons are chosen, if they are.
    pub fn contextual(&self) -> Option<ContextualPlan> {
        match self {
            FeedForwardPlan::Contextual(plan) => Some(*plan),
            _ => None,
        }
    }

    /// The mixture, if this is one.
    pub fn mixture(&self) -> Option<&MixturePlan> {
        match self {
            FeedForwardPlan::Moe(plan) => Some(plan),
            _ => None,
        }
    }

    /// Whether rows may be left out in training, so that [`FeedForwardPlan::training_pass`] is the most and not exact.
    pub fn may_drop(&self) -> bool {
        self.mixture().is_some_and(MixturePlan::may_drop)
    }

    /// Networks: 1, or the number of experts.
    pub fn networks(&self) -> usize {
        match self {
            FeedForwardPlan::Moe(plan) => plan.experts,
            _ => 1,
        }
    }

    /// Networks that each token passes through.
    pub fn networks_met(&self) -> usize {
        self.mixture().map_or(1, |plan| plan.top_k)
    }

    /// The matrices `[out, in]` of one of its networks.
    pub fn matrices(&self, width: usize) -> [[usize; 2]; 3] {
        let hidden = self.hidden();
        match self {
            FeedForwardPlan::Dense { .. } | FeedForwardPlan::Moe(_) | FeedForwardPlan::Contextual(_) => {
                [[hidden, width], [hidden, width], [width, hidden]]
            }
            FeedForwardPlan::ChannelMix { .. } => [[width, width], [hidden, width], [width, hidden]],
        }
    }

    /// All weights.
    pub fn parameters(&self, width: u64) -> u64 {
        match self {
            FeedForwardPlan::Dense { hidden } => dense::parameters(width, *hidden as u64),
            FeedForwardPlan::Moe(plan) => plan.parameters(width),
            FeedForwardPlan::Contextual(plan) => plan.parameters(width),
            FeedForwardPlan::ChannelMix { hidden } => channel_mix::parameters(width, *hidden as u64),
        }
    }

    /// Weights that one token of a sequence of `n` passes through, in the mean.
    pub fn active_parameters(&self, width: u64, n: u64) -> u64 {
        match self {
            FeedForwardPlan::Dense { hidden } => dense::parameters(width, *hidden as u64),
            FeedForwardPlan::Moe(plan) => plan.active_parameters(width, n),
            FeedForwardPlan::Contextual(plan) => plan.active_parameters(width),
            FeedForwardPlan::ChannelMix { hidden } => channel_mix::parameters(width, *hidden as u64),
        }
    }

    /// Numbers remembered of one sequence: the token before, where there is channel mixing.
    pub fn state_values(&self, width: u64) -> u64 {
        match self {
            FeedForwardPlan::ChannelMix { .. } => width,
            _ => 0,
        }
    }

    /// Multiply-adds of a sequence of `n` tokens when the model is served.
    pub fn serving_macs(&self, width: u64, n: u64) -> u64 {
        match self {
            // a second matrix of a router's noise is of training alone
            FeedForwardPlan::Moe(plan) => plan.serving_macs(width, n),
            FeedForwardPlan::Contextual(plan) => plan.serving_macs(width, n),
            _ => self.training_pass(width, [1, n], Trainable::All).forward,
        }
    }

    /// Multiply-adds over sequences of `n` tokens without padding, forward and backward; the input always wants a
    /// gradient. No row is left out.
    pub fn training_pass(&self, width: u64, [sequences, n]: [u64; 2], trainable: Trainable) -> Pass {
        let tokens = sequences * n;
        match self {
            FeedForwardPlan::Dense { hidden } => {
                dense::training_pass(width, *hidden as u64, tokens, trainable)
            }
            FeedForwardPlan::Moe(plan) => plan.training_pass(width, [sequences, n], trainable),
            FeedForwardPlan::Contextual(plan) => plan.training_pass(width, tokens, trainable),
            FeedForwardPlan::ChannelMix { hidden } => {
                channel_mix::training_pass(width, *hidden as u64, tokens, trainable)
            }
        }
    }
}

impl<B: Ops> FeedForward<B> {
    /// A fresh network.
    pub(crate) fn new(plan: &FeedForwardPlan, place: Place, initial: &mut Initial<B>) -> Self {
        let width = place.width;
        match plan {
            FeedForwardPlan::Dense { hidden } => FeedForward::Dense(Gated::new(width, *hidden, initial)),
            FeedForwardPlan::Moe(plan) => FeedForward::Moe(Mixture::new(plan, width, initial)),
            FeedForwardPlan::Contextual(plan) => {
                FeedForward::Contextual(Contextual::new(*plan, width, initial))
            }
            FeedForwardPlan::ChannelMix { hidden } => {
                FeedForward::ChannelMix(ChannelMix::new(*hidden, place, initial))
            }
        }
    }

    /// `x [b, n, width]` to the same shape, and in training the auxiliary loss of a router; with `before`, `x` continues it,
    /// and `lengths` tells where padding begins.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 3>,
        before: Option<&mut Last<B>>,
        lengths: Option<&Lengths>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        match self {
            FeedForward::Dense(network) => (network.forward(x), None),
            FeedForward::Moe(mixture) => mixture.forward(x, lengths),
            FeedForward::ChannelMix(network) => (network.forward(x, before), None),
            FeedForward::Contextual(network) => (network.forward(x), None),
        }
    }
}

impl<B: Backend> FeedForward<B> {
    /// Whether a token's output depends on the token before it.
    pub(crate) fn looks_back(&self) -> bool {
        matches!(self, FeedForward::ChannelMix(_))
    }

    /// The gated networks of a model that is not compressed: the one, every expert, or none where there is channel mixing.
    pub fn networks_mut(&mut self) -> Vec<&mut Gated<B>> {
        match self {
            FeedForward::Dense(network) => vec![network],
            FeedForward::Moe(mixture) => mixture.experts.iter_mut().collect(),
            FeedForward::ChannelMix(_) | FeedForward::Contextual(_) => vec![],
        }
    }
}

impl<B: Backend> Parts<B> for FeedForward<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        match self {
            FeedForward::Dense(network) => network.each_part(path, visitor),
            FeedForward::Moe(mixture) => mixture.each_part(path, visitor),
            FeedForward::ChannelMix(network) => network.each_part(path, visitor),
            FeedForward::Contextual(network) => network.each_part(path, visitor),
        }
    }
}

/// What the variants say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![dense::ABOUT, moe::ABOUT, channel_mix::ABOUT]
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let ratios = [1.0, 2.0, 3.0, 4.0].map(Value::Float).to_vec();
    let ratio = float(
        "ffn_ratio",
        "hidden neurons of the feed-forward part over width",
        0.125,
        16.0,
        3.0,
    );
    let kind = choice(
        "feed_forward",
        "what follows each attention: gated networks, or the channel mixing of RWKV",
        &["gated", channel_mix::ABOUT.name],
    );
    let mut all = vec![
        kind,
        ratio.search(Domain::categorical(ratios).expect("not empty")),
    ];
    all.extend(moe::parameters());
    all
}
