//! Bottleneck adapters (1902.00751): `h + W_up σ(W_down h + b_down) + b_up` with a frozen base, `σ` the rectifier.
//!
//! `W_up` is zero at the start, so the model begins as the base. Their `σ` forbids merging: the served model keeps them,
//! and its files, its costs and its decoding have them.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::relu, backend::Backend},
};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::{About, freeze_but};
use crate::{
    counter,
    model::{Form, Initial, Matrix, Model, ModelPlan, Part, Parts, Pass, Trainable, join, matrix_pass},
    ops::Ops,
    parameter::{Declared, Values, choice, int},
};

pub(super) const ABOUT: About = About {
    name: "adapter",
    doc: "the base is frozen and small networks in its blocks are trained, which the served model keeps",
    paper: "1902.00751, 2005.00247, 2110.04366",
};

/// The counter of tokens that went through adapters.
pub(super) const ACTIVITY: &str = "adapter_tokens";

/// Where a block has adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// Behind the attention and behind the feed-forward part (1902.00751).
    Houlsby,
    /// Behind the feed-forward part alone (2005.00247).
    Pfeiffer,
    /// Beside the feed-forward part: both read the normalised stream (2110.04366).
    Parallel,
}

/// The adapters of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterPlan {
    /// Where they are.
    pub kind: AdapterKind,
    /// Neurons of each.
    pub size: usize,
}

pub(super) fn parameters() -> Vec<ParameterInfo> {
    let adapter = "fine_tune == 'adapter'";
    vec![
        choice(
            "adapter_kind",
            "where a block's adapters are: behind both of its parts, behind the second, or beside it",
            &["houlsby", "pfeiffer", "parallel"],
        )
        .when(adapter),
        int("adapter_size", "neurons of an adapter", 1, 1024, 16)
            .when(adapter)
            .search(Domain::int(1, 64, true, 1).expect("not empty")),
    ]
}

impl AdapterPlan {
    pub(super) fn read(values: Values) -> Self {
        AdapterPlan {
            kind: match values.text("adapter_kind") {
                "pfeiffer" => AdapterKind::Pfeiffer,
                "parallel" => AdapterKind::Parallel,
                _ => AdapterKind::Houlsby,
            },
            size: values.int("adapter_size"),
        }
    }

    /// The plan of a base with these adapters.
    ///
    /// # Errors
    /// A sentence where the base has adapters, or goes back through its blocks by parts.
    pub(super) fn put_on(self, mut base: ModelPlan) -> Result<ModelPlan, String> {
        if base.layers.iter().any(|layer| layer.adapters.is_some()) {
            return Err(
                "fine_tune = 'adapter' and the base has adapters already; use fine_tune = 'full' or 'lora'"
                    .into(),
            );
        }
        if base.reversible.is_some() {
            return Err(
                "fine_tune = 'adapter' leaves the first attention without a gradient, and a base of reversible layers goes back through it; use fine_tune = 'lora' or 'full'"
                    .into(),
            );
        }
        for layer in &mut base.layers {
            layer.adapters = Some(self);
        }
        Ok(base)
    }

    /// Whether there is one behind the attention.
    pub(crate) fn follows_attention(self) -> bool {
        self.kind == AdapterKind::Houlsby
    }

    /// The matrix that reads the normalised stream beside the feed-forward part, below the block's path, if there is one.
    pub(crate) fn beside(self) -> Option<String> {
        (self.kind == AdapterKind::Parallel).then(|| format!("{FEED_FORWARD}.down"))
    }

    /// Their names in files, below the block's.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let first = self.follows_attention().then_some(ATTENTION);
        first.into_iter().chain([FEED_FORWARD])
    }

    /// Weights of a block's adapters: `2 d m + d + m` each.
    pub(crate) fn parameters(self, width: u64) -> u64 {
        let size = self.size as u64;
        self.names().count() as u64 * (2 * width * size + width + size)
    }

    /// Multiply-adds of a block's adapters for one token.
    pub(crate) fn serving_macs(self, width: u64) -> u64 {
        self.names().count() as u64 * 2 * width * self.size as u64
    }

    /// The pass of one adapter over `tokens`; `upstream` tells whether its input wants a gradient.
    pub(crate) fn pass(self, width: u64, tokens: u64, upstream: bool, trainable: Trainable) -> Pass {
        let (size, form) = (self.size as u64, trainable.adapters());
        let hidden = upstream || form == Form::Trained || trainable.vectors();
        matrix_pass(tokens, width, size, upstream, form) + matrix_pass(tokens, size, width, hidden, form)
    }
}

const ATTENTION: &str = "attention_adapter";
const FEED_FORWARD: &str = "feed_forward_adapter";

/// One adapter.
#[derive(Module, Debug)]
pub struct Adapter<B: Backend> {
    /// `[size, width]`
    pub down: Matrix<B>,
    /// `[size]`
    pub down_bias: Param<Tensor<B, 1>>,
    /// `[width, size]`
    pub up: Matrix<B>,
    /// `[width]`
    pub up_bias: Param<Tensor<B, 1>>,
}

/// The adapters of one block.
#[derive(Module, Debug)]
pub struct Adapters<B: Backend> {
    attention: Option<Adapter<B>>,
    feed_forward: Adapter<B>,
    #[module(skip)]
    plan: AdapterPlan,
}

impl<B: Ops> Adapter<B> {
    fn new(size: usize, width: usize, initial: &mut Initial<B>) -> Self {
        let down = initial.normal(size, width, 1.0 / (width as f32).sqrt());
        let up = initial.given(vec![0.0; width * size], [width, size]);
        let bias = |n| Param::from_tensor(Tensor::zeros([n], initial.device()));
        Adapter {
            down: Matrix::dense(down),
            down_bias: bias(size),
            up: Matrix::dense(up),
            up_bias: bias(width),
        }
    }

    /// What it adds, for `x [b, n, width]`.
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [b, n, _] = x.dims();
        counter::add_activity(ACTIVITY, b * n);
        let hidden = relu(self.down.apply(x) + self.down_bias.val().unsqueeze::<3>());
        self.up.apply(hidden) + self.up_bias.val().unsqueeze::<3>()
    }
}

impl<B: Ops> Adapters<B> {
    /// Fresh ones, which change nothing yet.
    pub(crate) fn new(plan: AdapterPlan, width: usize, initial: &mut Initial<B>) -> Self {
        Adapters {
            attention: plan
                .follows_attention()
                .then(|| Adapter::new(plan.size, width, initial)),
            feed_forward: Adapter::new(plan.size, width, initial),
            plan,
        }
    }

    /// What the attention adds to the stream, given what it gave, `[b, n, width]`.
    pub(crate) fn after_attention(&self, y: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.attention {
            Some(adapter) => y.clone() + adapter.forward(y),
            None => y,
        }
    }

    /// What the feed-forward part adds to the stream, given what it read and what it gave, `[b, n, width]` each.
    pub(crate) fn after_feed_forward(&self, normal: Tensor<B, 3>, y: Tensor<B, 3>) -> Tensor<B, 3> {
        let read = match self.plan.kind {
            AdapterKind::Parallel => normal,
            AdapterKind::Houlsby | AdapterKind::Pfeiffer => y.clone(),
        };
        y + self.feed_forward.forward(read)
    }
}

impl<B: Backend> Parts<B> for Adapter<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        visitor(&join(path, "down"), Part::Matrix(&mut self.down));
        visitor(&join(path, "down_bias"), Part::Vector(&mut self.down_bias));
        visitor(&join(path, "up"), Part::Matrix(&mut self.up));
        visitor(&join(path, "up_bias"), Part::Vector(&mut self.up_bias));
    }
}

impl<B: Backend> Parts<B> for Adapters<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        if let Some(adapter) = &mut self.attention {
            adapter.each_part(&join(path, ATTENTION), visitor);
        }
        self.feed_forward.each_part(&join(path, FEED_FORWARD), visitor);
    }
}

/// Whether a weight of this path is an adapter's.
pub(crate) fn is_of_adapter(path: &str) -> bool {
    [ATTENTION, FEED_FORWARD]
        .iter()
        .any(|name| path.split('.').any(|part| part == *name))
}

/// Puts fresh adapters into every block and freezes everything else.
pub fn attach<B: Ops>(model: &mut Model<B>, plan: AdapterPlan, width: usize, initial: &mut Initial<B>) {
    for block in &mut model.blocks {
        block.adapters = Some(Adapters::new(plan, width, initial));
    }
    freeze_but(model, |name, _| is_of_adapter(name));
}
