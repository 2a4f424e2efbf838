//! Movement pruning (2005.07683): weights go that a training moves towards zero, however large they are. The score of a weight is
//! the sum of `-w · ∂L/∂w` over the steps of the training: above zero where a step against the gradient takes it away from zero.
//!
//! As in the paper scores are compared within a matrix, and gradients are not clipped in them. What is removed stays removed
//! here, where the paper lets a weight come back: the training then holds what is left alone.

use super::About;

pub(super) const ABOUT: About = About {
    name: "movement",
    doc: "of each matrix the weights go that training moves towards zero, whatever their size; needs sparsity_recovery, in which scores are summed up",
    paper: "2005.07683",
};

/// The counter of steps whose gradients are in the scores.
pub(crate) const ACTIVITY: &str = "movement_steps";
