//! One gated network (2002.05202): `W_down (silu(W_gate x) · W_up x)`.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::About;
use crate::{
    model::{Initial, Matrix, Part, Parts, Pass, Trainable, join, matrix_pass},
    ops::{Ops, swiglu},
};

pub(super) const ABOUT: About = About {
    name: "dense",
    doc: "one gated network for every token",
    paper: "2002.05202",
};

/// A gated network.
#[derive(Module, Debug)]
pub struct Gated<B: Backend> {
    /// `[hidden, width]`
    pub gate: Matrix<B>,
    /// `[hidden, width]`
    pub up: Matrix<B>,
    /// `[width, hidden]`
    pub down: Matrix<B>,
}

pub(super) fn parameters(width: u64, hidden: u64) -> u64 {
    3 * width * hidden
}

pub(super) fn training_pass(width: u64, hidden: u64, tokens: u64, trainable: Trainable) -> Pass {
    let form = trainable.feed_forward();
    matrix_pass(tokens, width, hidden, true, form) * 2 + matrix_pass(tokens, hidden, width, true, form)
}

impl<B: Ops> Gated<B> {
    pub(super) fn new(width: usize, hidden: usize, initial: &mut Initial<B>) -> Self {
        Gated {
            gate: initial.matrix(hidden, width),
            up: initial.matrix(hidden, width),
            down: initial.residual_matrix(width, hidden),
        }
    }

    pub(super) fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        self.down
            .apply(swiglu(self.gate.apply(x.clone()), self.up.apply(x)))
    }
}

impl<B: Backend> Gated<B> {
    /// Multiply-adds of one row in a training.
    pub(super) fn row_pass(&self) -> Pass {
        self.gate.row_pass() + self.up.row_pass() + self.down.row_pass()
    }

    pub(super) fn each_part_as(
        &mut self,
        path: &str,
        names: [&str; 3],
        visitor: &mut dyn FnMut(&str, Part<'_, B>),
    ) {
        let [gate, up, down] = names;
        visitor(&join(path, gate), Part::Matrix(&mut self.gate));
        visitor(&join(path, up), Part::Matrix(&mut self.up));
        visitor(&join(path, down), Part::Matrix(&mut self.down));
    }
}

impl<B: Backend> Parts<B> for Gated<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        self.each_part_as(&join(path, "mlp"), ["gate_proj", "up_proj", "down_proj"], visitor);
    }
}
