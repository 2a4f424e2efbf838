//! Results of stages, kept by what they follow from: trials that share a training or a pruned model make it once.
//!
//! A trial is a chain: a base or fresh weights, the training, pruning with its recovery, then what is done to the final
//! weights. The model after the training and the one after recovery are kept, each in one file under the key of
//! everything that it follows from. What is charged to a trial is what it would have cost alone; what it did cost is told beside.

mod key;
mod result;
mod shelf;

pub use self::shelf::Shelf;
pub(crate) use self::{
    key::Keys,
    result::{Recording, StageResult},
    shelf::{Claim, Found},
};
