//! The whole model.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, backend::Backend},
};

use super::{
    Block, Initial, Inputs, Kind, KindWeight, Matrix, ModelPlan, NORM_EPSILON, Part, Parts, ROPE_THETA,
    Stream,
    attention::{Angles, Sight},
    block::BlockState,
    integer::InIntegers,
    join,
};
use crate::{
    ops::{Lengths, Ops, rms_norm, rope_tables},
    techniques::{
        attention::State,
        dynamic::{early_exit::EarlyExit, token_keep::TokenKeep},
        reversible::Reversible,
    },
};

/// A model: embedding, blocks, a norm, and what its kind makes of them.
#[derive(Module, Debug)]
pub struct Model<B: Backend> {
    /// Token embedding and, transposed, the head of a decoder: `[vocabulary, width]`.
    pub embedding: Matrix<B>,
    /// The blocks.
    pub blocks: Vec<Block<B>>,
    /// The norm of what the half that reads gives to the one that writes, where there are halves.
    pub(super) reading_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) norm: Param<Tensor<B, 1>>,
    /// Weights of the kind's own, in the order of [`Kind::weights`].
    pub(super) own: Vec<Matrix<B>>,
    #[module(skip)]
    own_names: Vec<(&'static str, bool)>,
    #[module(skip)]
    pub(super) kind: Kind,
    // one table for all blocks: heads have one depth
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    /// Matrices that turn its residual stream after each block into a teacher's, while it is taught by one of another width.
    pub(crate) translations: Vec<Matrix<B>>,
    /// The form of its two residual streams, where layers are reversible.
    #[module(skip)]
    pub reversible: Option<Reversible>,
    /// Where a text can leave before the last layer, if it can.
    #[module(skip)]
    pub exits: Option<EarlyExit>,
    /// How many tokens each layer passes on, where not all.
    #[module(skip)]
    pub tokens: Option<TokenKeep>,
    /// What serves in the place of all of it, where it is packed for whole numbers alone.
    #[module(skip)]
    pub(super) integers: Option<Arc<InIntegers>>,
}

/// What a forward pass gives.
pub struct Forward<B: Backend> {
    /// `[examples, scored, outputs]`: of kinds that write `[b, n, vocabulary]`, of kinds that name a class `[examples, 1, classes]`.
    pub logits: Tensor<B, 3>,
    /// Sum of the routers' balance losses, where there are routers.
    pub auxiliary: Option<Tensor<B, 1>>,
}

/// What the first block is given.
pub(crate) struct Entered<B: Backend> {
    /// Embedded rows, `[rows, n, width]`.
    pub(crate) x: Tensor<B, 3>,
    /// Where their tokens stand.
    pub(crate) angles: Angles<B>,
    /// How many of each row are no padding, where there is padding.
    pub(crate) lengths: Option<Lengths>,
}

/// What decoding remembers of the tokens so far, for each block that writes.
#[derive(Clone, Debug)]
pub struct Memory<B: Backend> {
    pub(super) states: Vec<BlockState<B>>,
    pub(super) position: usize,
}

impl<B: Backend> Memory<B> {
    /// Number of tokens taken in.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<B: Backend> Model<B> {
    /// Blocks of the half that reads, before those that write; 0 where there are no halves.
    pub(crate) fn reading(&self) -> usize {
        self.kind.reading()
    }

    /// What the blocks are put to.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What the names of a block's weights begin with.
    pub(crate) fn block_path(&self, block: usize) -> String {
        self.kind.path(block)
    }
}

impl<B: Ops> Model<B> {
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
        let (cos, sin) = rope_tables(plan.positions(), depth, ROPE_THETA, initial.device());
        let weights = plan.kind.weights(plan);
        Model {
            embedding: initial.matrix(plan.vocabulary, plan.width),
            blocks: (0..plan.layers.len())
                .map(|layer| Block::new(&plan.layers[layer], plan.place(layer), &mut initial))
                .collect(),
            reading_norm: (plan.kind.reading() > 0).then(|| initial.ones(plan.width)),
            norm: initial.ones(plan.width),
            own: weights
                .iter()
                .map(|weight| initial.matrix(weight.shape[0], weight.shape[1]))
                .collect(),
            own_names: names_of(&weights),
            kind: plan.kind,
            translations: vec![],
            cos,
            sin,
            reversible: plan.reversible,
            exits: plan.early_exit,
            tokens: plan.tokens,
            integers: None,
        }
    }

    /// Keeps the blocks of these numbers alone, as many of each half as `plan` has.
    pub(crate) fn keep_blocks(&mut self, kept: &[usize], plan: &ModelPlan) {
        let all = std::mem::take(&mut self.blocks).into_iter().enumerate();
        self.blocks = all
            .filter(|(i, _)| kept.contains(i))
            .map(|(_, block)| block)
            .collect();
        self.kind = plan.kind;
    }

    /// Where the weights are.
    pub fn device(&self) -> B::Device {
        self.cos.device()
    }

    /// Logits for all that the model's kind foretells of these rows.
    ///
    /// # Panics
    /// If rows are longer than the plan's context, or a model of two halves is not given what it has written.
    pub fn forward(&self, inputs: impl Into<Inputs<B>>) -> Forward<B> {
        let mut inputs = inputs.into();
        if let Some(integers) = &self.integers {
            return Forward {
                logits: integers.forward(&inputs, &self.device()),
                auxiliary: None,
            };
        }
        if let Some(written) = inputs.written.take() {
            return self.forward_in_halves(inputs, written);
        }
        let entered = self.enter(inputs);
        if let Some(keep) = self.tokens {
            let kept = self.through_fewer(keep, entered);
            return Forward {
                logits: self.logits(kept.x, kept.lengths.as_ref()),
                auxiliary: kept.auxiliary,
            };
        }
        let Entered { x, angles, lengths } = entered;
        let (x, auxiliary) = Stream::start(x, self.reversible).through_all(&self.blocks, &angles);
        Forward {
            logits: self.logits(x.end(), lengths.as_ref()),
            auxiliary,
        }
    }

    /// An empty memory for `batch` sequences of up to `capacity` tokens.
    pub fn memory(&self, plan: &ModelPlan, batch: usize, capacity: usize) -> Memory<B> {
        let state = |(i, layer): (usize, &super::LayerPlan)| BlockState {
            attention: match &self.integers {
                Some(integers) => State::in_integers(integers.memory(i, batch, capacity)),
                None => layer
                    .attention
                    .core
                    .state(&layer.attention, batch, capacity, &self.device()),
            },
            crossed: None,
            feed_forward: None,
        };
        let writing = &plan.layers[plan.kind.reading()..];
        Memory {
            states: writing.iter().enumerate().map(state).collect(),
            position: 0,
        }
    }

    /// Takes in `tokens [b, n]` of a kind that writes after what the memory holds and gives the logits of the last one,
    /// `[b, vocabulary]`; with a memory of the first blocks alone, through those blocks alone. One token of one text leaves at
    /// the first exit that is sure, where there are exits; several at once are read by all blocks.
    ///
    /// # Panics
    /// If the memory's capacity or the plan's context is exceeded, or a model of two halves has not read anything
    /// ([`Model::read`]).
    pub fn extend(&self, tokens: Tensor<B, 2, Int>, memory: &mut Memory<B>) -> Tensor<B, 2> {
        self.extend_scored(tokens, 1, memory).squeeze_dim::<2>(1)
    }

    /// [`Model::extend`] with the logits of the last `scored` tokens, `[b, scored, vocabulary]`.
    ///
    /// # Panics
    /// As [`Model::extend`].
    pub fn extend_scored(
        &self,
        tokens: Tensor<B, 2, Int>,
        scored: usize,
        memory: &mut Memory<B>,
    ) -> Tensor<B, 3> {
        if let Some(integers) = &self.integers {
            return integers.extend(&tokens, scored, memory, &self.device());
        }
        let [b, n] = tokens.dims();
        if self.exits.is_some() && b * n == 1 && memory.states.len() == self.blocks.len() {
            return self.extend_until_sure(tokens, memory).logits;
        }
        let mut x = Stream::start(self.embed(tokens), self.reversible);
        let writing = &self.blocks[self.kind.reading()..];
        for (block, state) in writing.iter().zip(&mut memory.states) {
            x = x
                .through(block, self.angles(memory.position, n, Sight::Back), Some(state))
                .0;
        }
        memory.position += n;
        self.kind
            .logits(self, x.end().narrow(1, n - scored, scored), None)
    }

    /// Logits `[.., vocabulary]` of the head that is the embedding, for what comes out of the last block, `[.., width]`.
    pub(super) fn tied_logits(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let normal = self.normal(x);
        // a rotated stream has a matrix for the scale of its last norm
        let normal = match self.own.first() {
            Some(scale) => scale.apply(normal),
            None => normal,
        };
        self.embedding.apply(normal)
    }

    /// Names the kind's own weights anew, where their number has changed.
    pub(super) fn name_own(&mut self, weights: &[KindWeight]) {
        self.own_names = names_of(weights);
    }

    pub(super) fn embed(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [b, n] = tokens.dims();
        let x = self.embedding.rows(tokens.reshape([b * n]));
        let width = x.dims()[1];
        x.reshape([b, n, width])
    }

    /// The final norm of outputs `[.., width]`.
    pub(super) fn normal(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        rms_norm(x, self.norm.val(), NORM_EPSILON as f32)
    }

    /// What the first block is given.
    pub(crate) fn enter(&self, inputs: Inputs<B>) -> Entered<B> {
        let Inputs { tokens, lengths, .. } = inputs;
        let x = self.kind.enter(&self.own, self.embed(tokens));
        let lengths = lengths.map(|lengths| lengths.after(self.kind.leading()));
        let sight = if self.kind.sees_both_ways() {
            Sight::BothWays(lengths.clone())
        } else {
            Sight::Back
        };
        let angles = self.angles(0, x.dims()[1], sight);
        Entered { x, angles, lengths }
    }

    /// Logits of what comes after the blocks, `[rows, n, width]`.
    pub(crate) fn logits(&self, x: Tensor<B, 3>, lengths: Option<&Lengths>) -> Tensor<B, 3> {
        self.kind.logits(self, x, lengths)
    }

    /// Where the tokens of whole rows of `n` stand for the last block, and which of them see each other.
    pub(crate) fn last_angles(&self, n: usize, lengths: Option<Lengths>) -> Angles<B> {
        let sight = if self.kind.sees_both_ways() && self.reading() == 0 {
            Sight::BothWays(lengths)
        } else {
            Sight::Back
        };
        self.angles(0, n, sight)
    }

    pub(super) fn angles(&self, from: usize, n: usize, sight: Sight) -> Angles<B> {
        let half = self.cos.dims()[1];
        let rows = |table: &Tensor<B, 2>| table.clone().slice([from..from + n, 0..half]);
        Angles {
            turns: (rows(&self.cos), rows(&self.sin)),
            sight,
            source: None,
            asked: None,
        }
    }
}

fn names_of(weights: &[KindWeight]) -> Vec<(&'static str, bool)> {
    weights.iter().map(|weight| (weight.name, weight.small)).collect()
}

impl<B: Backend> Parts<B> for Model<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        visitor(
            &join(path, "model.embed_tokens"),
            Part::Matrix(&mut self.embedding),
        );
        for (i, block) in self.blocks.iter_mut().enumerate() {
            block.each_part(&join(path, &self.kind.path(i)), visitor);
        }
        if let Some(norm) = &mut self.reading_norm {
            visitor(&join(path, "model.encoder.norm"), Part::Vector(norm));
        }
        visitor(&join(path, "model.norm"), Part::Vector(&mut self.norm));
        for ((name, small), own) in self.own_names.iter().zip(&mut self.own) {
            let part = if *small {
                Part::Small(own)
            } else {
                Part::Matrix(own)
            };
            visitor(&join(path, name), part);
        }
        for (i, translation) in self.translations.iter_mut().enumerate() {
            visitor(
                &join(path, &format!("translations.{i}")),
                Part::Matrix(translation),
            );
        }
    }
}
