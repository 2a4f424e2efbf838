//! Which weights a training changes, and what that costs a matrix.

use super::Pass;

/// Which weights a training changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trainable {
    /// All of them.
    All,
    /// Only low-rank additions.
    LowRank {
        /// Their rank.
        rank: u64,
        /// On the feed-forward matrices too, not only on those of the attention.
        feed_forward: bool,
    },
    /// Only vectors: scales of norms, and biases of adapters.
    Vectors,
    /// Only the last blocks, so many of them, and the final norm.
    LastBlocks(usize),
    /// Only this block.
    OneBlock(usize),
    /// Only what is in no block: embedding, head and last norm.
    Others,
    /// Only what names a class from the last block's outputs.
    Head,
    /// Only vectors that multiply keys, values and hidden neurons.
    Scales,
    /// Only adapters.
    Adapters,
}

/// How one matrix takes part in a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Trained,
    Frozen,
    LowRank(u64),
}

impl Trainable {
    /// What is trained of one block, where there are so many.
    pub(super) fn of_block(self, block: usize, blocks: usize) -> Trainable {
        match self {
            Trainable::LastBlocks(last) if block + last >= blocks => Trainable::All,
            Trainable::OneBlock(one) if one == block => Trainable::All,
            Trainable::LastBlocks(_) | Trainable::OneBlock(_) | Trainable::Others | Trainable::Head => {
                Trainable::LastBlocks(0)
            }
            other => other,
        }
    }

    /// The form of an attention's projections.
    pub(super) fn attention(self) -> Form {
        match self {
            Trainable::All => Form::Trained,
            Trainable::LowRank { rank, .. } => Form::LowRank(rank),
            _ => Form::Frozen,
        }
    }

    /// The form of feed-forward matrices.
    pub(crate) fn feed_forward(self) -> Form {
        match self {
            Trainable::All => Form::Trained,
            Trainable::LowRank {
                rank,
                feed_forward: true,
            } => Form::LowRank(rank),
            _ => Form::Frozen,
        }
    }

    /// The form of routers, embedding and the head that it is.
    pub(crate) fn others(self) -> Form {
        match self {
            Trainable::All | Trainable::Others => Form::Trained,
            _ => Form::Frozen,
        }
    }

    /// The form of what names a class.
    pub(super) fn head(self) -> Form {
        match self {
            Trainable::Head => Form::Trained,
            other => other.others(),
        }
    }

    /// The form of adapters.
    pub(crate) fn adapters(self) -> Form {
        match self {
            Trainable::All | Trainable::Adapters => Form::Trained,
            _ => Form::Frozen,
        }
    }

    /// Whether a block's vectors are trained.
    pub(crate) fn vectors(self) -> bool {
        matches!(self, Trainable::All | Trainable::Vectors)
    }

    /// Whether something between an attention's input and its core is trained.
    pub(super) fn before_the_core(self) -> bool {
        matches!(
            self,
            Trainable::All | Trainable::LowRank { .. } | Trainable::Scales
        )
    }
}

/// The pass of a matrix `[out, input]` over `tokens` rows; `upstream` tells whether the input wants a gradient.
pub(crate) fn matrix_pass(tokens: u64, input: u64, out: u64, upstream: bool, form: Form) -> Pass {
    let once = tokens * input * out;
    let upstream = u64::from(upstream);
    match form {
        Form::Trained => Pass {
            forward: once,
            backward: once * (1 + upstream),
        },
        Form::Frozen => Pass {
            forward: once,
            backward: once * upstream,
        },
        Form::LowRank(rank) => {
            let (down, up) = (tokens * rank * input, tokens * rank * out);
            Pass {
                forward: once + down + up,
                backward: once * upstream + down * (1 + upstream) + 2 * up,
            }
        }
    }
}
