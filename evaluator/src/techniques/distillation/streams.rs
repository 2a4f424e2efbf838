//! What blocks of a teacher and a student are given and give, kept while a batch goes through.

use std::{
    any::Any,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{Tensor, backend::Backend};

use crate::{
    model::{Block, Model},
    ops::{Lengths, Ops},
    techniques::pruning::Watched,
};

/// The residual stream around one block, `[b, n, width]` each.
#[derive(Clone, Debug)]
pub(super) struct Around<B: Backend> {
    pub(super) before: Tensor<B, 3>,
    pub(super) after: Tensor<B, 3>,
    /// How many tokens of each row are no padding, where that is known.
    pub(super) lengths: Option<Lengths>,
}

/// The stream around one block in the last pass through it. A model and the one inside of it that has no gradients share it, so
/// the backend is that of whichever went through last.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastPass(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl LastPass {
    /// Takes in the stream before and after the block.
    pub(crate) fn see<B: Backend>(
        &self,
        before: Tensor<B, 3>,
        after: Tensor<B, 3>,
        lengths: Option<&Lengths>,
    ) {
        let around = Around {
            before,
            after,
            lengths: lengths.cloned(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(around));
    }

    /// Gives it away, so that what it hangs on is not kept.
    fn take<B: Backend>(&self) -> Option<Around<B>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        last.downcast().ok().map(|around| *around)
    }
}

/// Has these blocks keep what goes through them from now on.
pub(super) fn keep<B: Backend>(model: &mut Model<B>, blocks: Range<usize>) {
    for block in &mut model.blocks[blocks] {
        block.watched = Some(Watched::LastPass(LastPass::default()));
    }
}

/// What went through a block that keeps it, in a pass that is done.
pub(super) fn taken<B: Backend>(block: &Block<B>) -> Around<B> {
    match &block.watched {
        Some(Watched::LastPass(last)) => last.take().expect("the model went through its blocks"),
        _ => unreachable!("only blocks that keep their stream are asked for it"),
    }
}

/// The mean, `[1]`, over the tokens of `x [b, n]` that are no padding.
pub(super) fn mean_of_present<B: Ops>(x: Tensor<B, 2>, lengths: Option<&Lengths>) -> Tensor<B, 1> {
    match lengths {
        None => x.mean(),
        Some(lengths) => {
            let there = lengths.present::<B>(x.dims()[1], &x.device());
            (x * there.clone()).sum() / there.sum()
        }
    }
}
