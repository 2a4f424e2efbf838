//! The whole decoder.

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, backend::Backend},
};

use super::{
    Block, Initial, Matrix, ModelPlan, NORM_EPSILON, Part, Parts, ROPE_THETA, Stream,
    block::{Angles, BlockState},
    join,
};
use crate::{
    ops::{Ops, rms_norm, rope_tables},
    techniques::reversible::Reversible,
};

/// A decoder language model with a tied head.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// Token embedding and, transposed, the head: `[vocabulary, width]`.
    pub embedding: Matrix<B>,
    /// The blocks.
    pub blocks: Vec<Block<B>>,
    norm: Param<Tensor<B, 1>>,
    // one table for all blocks: heads have one depth
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    /// The form of its two residual streams, where layers are reversible.
    #[module(skip)]
    pub reversible: Option<Reversible>,
}

/// What a forward pass gives.
pub struct Forward<B: Backend> {
    /// `[b, n, vocabulary]`
    pub logits: Tensor<B, 3>,
    /// Sum of the routers' balance losses, where there are routers.
    pub auxiliary: Option<Tensor<B, 1>>,
}

/// What decoding remembers of the tokens so far, for each block.
#[derive(Debug)]
pub struct Memory<B: Backend> {
    states: Vec<BlockState<B>>,
    position: usize,
}

impl<B: Backend> Memory<B> {
    /// Number of tokens taken in.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<B: Ops> Decoder<B> {
    /// A fresh model; one seed gives one model on every device.
    pub fn new(plan: &ModelPlan, seed: u64, device: &B::Device) -> Self {
        Self::build(plan, Initial::new(seed, plan.layers.len(), device.clone()))
    }

    /// The shape alone: weights that take no memory and are to be replaced.
    pub fn empty(plan: &ModelPlan, device: &B::Device) -> Self {
        Self::build(plan, Initial::blank(device.clone()))
    }

    fn build(plan: &ModelPlan, mut initial: Initial<B>) -> Self {
        let depth = plan.layers.first().map_or(2, |layer| layer.attention.depth);
        let (cos, sin) = rope_tables(plan.context, depth, ROPE_THETA, initial.device());
        Decoder {
            embedding: initial.matrix(plan.vocabulary, plan.width),
            blocks: (0..plan.layers.len())
                .map(|layer| Block::new(&plan.layers[layer], plan.place(layer), &mut initial))
                .collect(),
            norm: initial.ones(plan.width),
            cos,
            sin,
            reversible: plan.reversible,
        }
    }

    /// Where the weights are.
    pub fn device(&self) -> B::Device {
        self.cos.device()
    }

    /// Logits for every position of `tokens [b, n]`, each from the tokens up to it.
    ///
    /// # Panics
    /// If `n` is above the plan's context.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>) -> Forward<B> {
        let n = tokens.dims()[1];
        let mut x = Stream::start(self.embed(tokens), self.reversible);
        let mut auxiliary: Option<Tensor<B, 1>> = None;
        for block in &self.blocks {
            let (y, balance) = x.through(block, self.angles(0, n), None);
            x = y;
            auxiliary = match (auxiliary, balance) {
                (Some(sum), Some(balance)) => Some(sum + balance),
                (sum, balance) => sum.or(balance),
            };
        }
        Forward {
            logits: self.head(x.end()),
            auxiliary,
        }
    }

    /// An empty memory for `batch` sequences of up to `capacity` tokens.
    pub fn memory(&self, plan: &ModelPlan, batch: usize, capacity: usize) -> Memory<B> {
        let state = |layer: &super::LayerPlan| BlockState {
            attention: layer
                .attention
                .core
                .state(&layer.attention, batch, capacity, &self.device()),
            feed_forward: None,
        };
        Memory {
            states: plan.layers.iter().map(state).collect(),
            position: 0,
        }
    }

    /// Takes in `tokens [b, n]` after what the memory holds and gives the logits of the last one, `[b, vocabulary]`.
    ///
    /// # Panics
    /// If the memory's capacity or the plan's context is exceeded.
    pub fn extend(&self, tokens: Tensor<B, 2, Int>, memory: &mut Memory<B>) -> Tensor<B, 2> {
        let [b, n] = tokens.dims();
        let mut x = Stream::start(self.embed(tokens), self.reversible);
        for (block, state) in self.blocks.iter().zip(&mut memory.states) {
            x = x.through(block, self.angles(memory.position, n), Some(state)).0;
        }
        memory.position += n;
        let x = x.end();
        let width = x.dims()[2];
        self.head(x.slice([0..b, n - 1..n, 0..width])).squeeze_dim::<2>(1)
    }

    /// The rows of `tokens [b, n]`, `[b, n, width]`.
    pub(crate) fn embed(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [b, n] = tokens.dims();
        let x = self.embedding.rows(tokens.reshape([b * n]));
        let width = x.dims()[1];
        x.reshape([b, n, width])
    }

    /// Logits of what comes after the blocks.
    pub(crate) fn head(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.embedding
            .apply(rms_norm(x, self.norm.val(), NORM_EPSILON as f32))
    }

    pub(crate) fn angles(&self, from: usize, n: usize) -> Angles<B> {
        let half = self.cos.dims()[1];
        let rows = |table: &Tensor<B, 2>| table.clone().slice([from..from + n, 0..half]);
        (rows(&self.cos), rows(&self.sin))
    }
}

impl<B: Backend> Parts<B> for Decoder<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        visitor(
            &join(path, "model.embed_tokens"),
            Part::Matrix(&mut self.embedding),
        );
        for (i, block) in self.blocks.iter_mut().enumerate() {
            block.each_part(&join(path, &format!("model.layers.{i}")), visitor);
        }
        visitor(&join(path, "model.norm"), Part::Vector(&mut self.norm));
    }
}
