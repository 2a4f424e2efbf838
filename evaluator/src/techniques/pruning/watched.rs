//! What is seen of the residual stream around a block while a model reads.

use burn::tensor::{Tensor, backend::Backend};

use super::{influence::Cosines, slice::Spread};
use crate::{
    ops::{Lengths, Ops},
    techniques::distillation::LastPass,
};

/// What a block's stream is watched for.
#[derive(Clone, Debug)]
pub(crate) enum Watched {
    /// How far the block turns it.
    Influence(Cosines),
    /// Where it lies.
    Spread(Spread),
    /// What it is in each pass, for whoever teaches or is taught.
    LastPass(LastPass),
}

impl Watched {
    /// Takes in the stream before and after the block, each `[b, n, width]`; padding is left out where `lengths` tell it. Of
    /// two streams it is their mean, which the head reads.
    pub(crate) fn see<B: Ops>(&self, before: Tensor<B, 3>, after: Tensor<B, 3>, lengths: Option<&Lengths>) {
        match self {
            Watched::Influence(cosines) => cosines.see(before, after, lengths),
            Watched::Spread(spread) => spread.see(before, after, lengths),
            Watched::LastPass(last) => last.see(before, after, lengths),
        }
    }
}

/// `x [b, n, _]` with zeros for padding.
pub(super) fn without_padding<B: Backend>(x: Tensor<B, 3>, lengths: Option<&Lengths>) -> Tensor<B, 3> {
    match lengths {
        None => x,
        Some(lengths) => {
            let there = lengths.present::<B>(x.dims()[1], &x.device());
            x * there.unsqueeze_dim::<3>(2)
        }
    }
}
