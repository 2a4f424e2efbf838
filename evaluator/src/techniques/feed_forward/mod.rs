//! The feed-forward part of a block: one gated network, a mixture of them, or channel mixing.
//!
//! A variant is one file, its plan and module in the two lists below, and the arms that the compiler then asks for.

mod channel_mix;
mod dense;
mod moe;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

pub(crate) use self::channel_mix::{ACTIVITY as CHANNEL_MIX_ACTIVITY, Last};
pub(super) use self::moe::routers;
pub use self::{
    channel_mix::ChannelMix,
    dense::Gated,
    moe::{Mixture, MixturePlan, Router},
};
use super::About;
use crate::{
    model::{Initial, Part, Parts, Pass, Trainable},
    ops::Ops,
    parameter::{Declared, Values, choice, float},
    techniques::attention::Place,
};

/// Hidden neurons come in multiples of this, so that rows of weights fill vector registers.
const HIDDEN_MULTIPLE: usize = 8;

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
}

/// A feed-forward part.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has one for each layer")]
pub enum FeedForward<B: Backend> {
    /// One gated network.
    Dense(Gated<B>),
    /// A mixture of gated networks.
    Moe(Mixture<B>),
    /// Channel mixing.
    ChannelMix(ChannelMix<B>),
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
        }
    }

    /// The mixture, if this is one.
    pub fn mixture(&self) -> Option<&MixturePlan> {
        match self {
            FeedForwardPlan::Dense { .. } | FeedForwardPlan::ChannelMix { .. } => None,
            FeedForwardPlan::Moe(plan) => Some(plan),
        }
    }

    /// Whether rows may be left out in training, so that [`FeedForwardPlan::training_pass`] is the most and not exact.
    pub fn may_drop(&self) -> bool {
        self.mixture().is_some_and(MixturePlan::may_drop)
    }

    /// Networks: 1, or the number of experts.
    pub fn networks(&self) -> usize {
        match self {
            FeedForwardPlan::Dense { .. } | FeedForwardPlan::ChannelMix { .. } => 1,
            FeedForwardPlan::Moe(plan) => plan.experts,
        }
    }

    /// All weights.
    pub fn parameters(&self, width: u64) -> u64 {
        match self {
            FeedForwardPlan::Dense { hidden } => dense::parameters(width, *hidden as u64),
            FeedForwardPlan::Moe(plan) => plan.parameters(width),
            FeedForwardPlan::ChannelMix { hidden } => channel_mix::parameters(width, *hidden as u64),
        }
    }

    /// Weights that one token passes through.
    pub fn active_parameters(&self, width: u64) -> u64 {
        match self {
            FeedForwardPlan::Dense { hidden } => dense::parameters(width, *hidden as u64),
            FeedForwardPlan::Moe(plan) => plan.active_parameters(width),
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

    /// Multiply-adds of one token when the model is served.
    pub fn serving_macs(&self, width: u64) -> u64 {
        match self {
            // the vectors that mix a token with the one before multiply no matrix
            FeedForwardPlan::ChannelMix { .. } => self.training_pass(width, 1, Trainable::All).forward,
            _ => self.active_parameters(width),
        }
    }

    /// Multiply-adds of one token where the second moments of what each matrix is given are summed.
    pub(crate) fn calibration_macs(&self, width: u64) -> u64 {
        let met = self.mixture().map_or(1, |plan| plan.top_k as u64);
        let seen = self.matrices_of_one(width).map(|(_, input)| input * input);
        self.serving_macs(width) + met * seen.iter().sum::<u64>()
    }

    /// Rows and columns of its matrices, those of every expert, without routers.
    pub(crate) fn matrices(&self, width: u64) -> impl Iterator<Item = (u64, u64)> {
        std::iter::repeat_n(self.matrices_of_one(width), self.networks()).flatten()
    }

    fn matrices_of_one(&self, width: u64) -> [(u64, u64); 3] {
        let hidden = self.hidden() as u64;
        let first = match self {
            FeedForwardPlan::ChannelMix { .. } => width,
            _ => hidden,
        };
        [(first, width), (hidden, width), (width, hidden)]
    }

    /// Multiply-adds over `tokens`, forward and backward; the input always wants a gradient. No row is left out.
    pub fn training_pass(&self, width: u64, tokens: u64, trainable: Trainable) -> Pass {
        match self {
            FeedForwardPlan::Dense { hidden } => {
                dense::training_pass(width, *hidden as u64, tokens, trainable)
            }
            FeedForwardPlan::Moe(plan) => plan.training_pass(width, tokens, trainable),
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
            FeedForwardPlan::ChannelMix { hidden } => {
                FeedForward::ChannelMix(ChannelMix::new(*hidden, place, initial))
            }
        }
    }

    /// `x [b, n, width]` to the same shape, and in training the auxiliary loss of a router; with `before`, `x` continues it.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 3>,
        before: Option<&mut Last<B>>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        match self {
            FeedForward::Dense(network) => (network.forward(x), None),
            FeedForward::Moe(mixture) => mixture.forward(x),
            FeedForward::ChannelMix(network) => (network.forward(x, before), None),
        }
    }
}

impl<B: Backend> FeedForward<B> {
    /// Whether a token's output depends on the token before it.
    pub(crate) fn looks_back(&self) -> bool {
        matches!(self, FeedForward::ChannelMix(_))
    }

    /// The gated networks: the one, every expert, or none where there is channel mixing.
    pub fn networks_mut(&mut self) -> Vec<&mut Gated<B>> {
        match self {
            FeedForward::Dense(network) => vec![network],
            FeedForward::Moe(mixture) => mixture.experts.iter_mut().collect(),
            FeedForward::ChannelMix(_) => vec![],
        }
    }
}

impl<B: Backend> Parts<B> for FeedForward<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        match self {
            FeedForward::Dense(network) => network.each_part(path, visitor),
            FeedForward::Moe(mixture) => mixture.each_part(path, visitor),
            FeedForward::ChannelMix(network) => network.each_part(path, visitor),
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
