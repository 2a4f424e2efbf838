//! Channel mixing of RWKV-4 (2305.13048): `σ(W_r x_r) · (W_v max(W_k x_k, 0)²)`, where `x_r` and `x_k` are mixes of a
//! token and the one before it.

use burn::{
    module::Module,
    tensor::{
        Tensor,
        activation::{relu, sigmoid},
        backend::Backend,
    },
};

use super::About;
use crate::{
    counter,
    model::{Initial, Matrix, Part, Parts, Pass, Trainable, join, matrix_pass},
    ops::Ops,
    techniques::{
        attention::Place,
        token_shift::{last, mixed, previous},
    },
};

pub(super) const ABOUT: About = About {
    name: "channel_mix",
    doc: "a gated network of squared rectifiers that also sees the token before",
    paper: "2305.13048",
};

/// The counter that is above zero once it has run.
pub(crate) const ACTIVITY: &str = "channel_mix_tokens";

/// The normalised token before, `[b, 1, width]`; `None` before the first one.
pub(crate) type Last<B> = Option<Tensor<B, 3>>;

/// A network of channel mixing.
#[derive(Module, Debug)]
pub struct ChannelMix<B: Backend> {
    /// `[width, width]`
    pub receptance: Matrix<B>,
    /// `[hidden, width]`
    pub key: Matrix<B>,
    /// `[width, hidden]`
    pub value: Matrix<B>,
    /// Share of the token itself in what receptances see, `[1, width]`.
    pub mix_receptance: Matrix<B>,
    /// Share of the token itself in what keys see, `[1, width]`.
    pub mix_key: Matrix<B>,
}

pub(super) fn parameters(width: u64, hidden: u64) -> u64 {
    2 * width * hidden + width * width + 2 * width
}

pub(super) fn training_pass(width: u64, hidden: u64, tokens: u64, trainable: Trainable) -> Pass {
    let form = trainable.feed_forward();
    let pass = |input, out| matrix_pass(tokens, input, out, true, form);
    pass(width, width) + pass(width, hidden) + pass(hidden, width)
}

impl<B: Ops> ChannelMix<B> {
    pub(super) fn new(hidden: usize, place: Place, initial: &mut Initial<B>) -> Self {
        let width = place.width;
        let receptance = initial.matrix(width, width);
        let key = initial.matrix(hidden, width);
        let value = initial.residual_matrix(width, hidden);
        // the released initialisation: later layers look less at the token before
        let height = 1.0 - place.layer as f64 / place.layers as f64;
        let mix = || {
            let values = (0..width).map(|i| (i as f64 / width as f64).powf(height) as f32);
            Matrix::dense(initial.given(values.collect(), [1, width]))
        };
        ChannelMix {
            receptance,
            key,
            value,
            mix_receptance: mix(),
            mix_key: mix(),
        }
    }

    /// `x [b, n, width]` to the same shape; `before` remembers the token before and then the last of these.
    pub(super) fn forward(&self, x: Tensor<B, 3>, before: Option<&mut Last<B>>) -> Tensor<B, 3> {
        let [b, n, _] = x.dims();
        counter::add_activity(ACTIVITY, b * n);
        let before = before.and_then(|before| before.replace(last(&x)));
        let previous = previous(&x, before);
        let see = |mix: &Matrix<B>| match mix.as_dense() {
            Some(mix) => mixed(&x, &previous, mix),
            None => x.clone(),
        };
        let k = relu(self.key.apply(see(&self.mix_key)));
        let gate = sigmoid(self.receptance.apply(see(&self.mix_receptance)));
        gate * self.value.apply(k.clone() * k)
    }
}

impl<B: Backend> Parts<B> for ChannelMix<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        let path = join(path, "mlp");
        visitor(&join(&path, "r_proj"), Part::Matrix(&mut self.receptance));
        visitor(&join(&path, "k_proj"), Part::Matrix(&mut self.key));
        visitor(&join(&path, "v_proj"), Part::Matrix(&mut self.value));
        visitor(&join(&path, "mix_r"), Part::Small(&mut self.mix_receptance));
        visitor(&join(&path, "mix_k"), Part::Small(&mut self.mix_key));
    }
}
