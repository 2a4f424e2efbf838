//! The residual stream in another basis, with fewer components: what slicing (`SliceGPT`, 2401.15024) does to weights.
//!
//! With an orthonormal basis `Q [width, kept]`, `x' = Qᵀ x` takes the place of the stream `x`. A norm without a scale turns
//! with its input, so each norm's scale `g` goes into the matrices that read it, `W diag(g) Q`, and what writes to the stream
//! becomes `Qᵀ W`. The norm then takes the mean over fewer components; a scale of `√(width / kept)` makes up for it. A head
//! that is the embedding cannot take in the final norm's scale, since its rows are looked up too: that scale becomes the
//! matrix `Qᵀ diag(g) Q`.

use burn::{
    module::Param,
    tensor::{Tensor, backend::Backend},
};

use super::{Attention, Block, Matrix, Model, ModelPlan};
use crate::{counter, ops::Ops, techniques::feed_forward::FeedForward};

/// The directions of the residual stream that are kept.
pub(crate) struct Basis<B: Backend> {
    /// `[kept, width]`
    rows: Tensor<B, 2>,
}

impl<B: Ops> Basis<B> {
    /// Of orthonormal rows `[kept, width]`.
    pub(crate) fn new(rows: Tensor<B, 2>) -> Self {
        Basis { rows }
    }

    /// Of a matrix `[out, width]` that reads the stream behind a norm of this scale.
    fn read(&self, matrix: &mut Matrix<B>, scale: &Tensor<B, 1>) {
        change(matrix, |w| self.turned(w * scale.clone().unsqueeze()));
    }

    /// Of a matrix `[width, in]` that writes to the stream.
    fn write(&self, matrix: &mut Matrix<B>) {
        change(matrix, |w| product(self.rows.clone(), w));
    }

    /// Of rows `[n, width]` that are put into the stream.
    fn hold(&self, matrix: &mut Matrix<B>) {
        change(matrix, |w| self.turned(w));
    }

    /// `w Q` of `w [n, width]`.
    fn turned(&self, w: Tensor<B, 2>) -> Tensor<B, 2> {
        product(w, self.rows.clone().transpose())
    }

    /// Takes a norm's scale out of it.
    fn take_scale(&self, norm: &mut Param<Tensor<B, 1>>) -> Tensor<B, 1> {
        let [kept, width] = self.rows.dims();
        let scale = norm.val().detach();
        let even = (width as f64 / kept as f64).sqrt();
        *norm = Param::from_tensor(Tensor::full([kept], even, &scale.device()));
        scale
    }

    fn attention(&self, attention: &mut Attention<B>, queries: &Tensor<B, 1>, keys: &Tensor<B, 1>) {
        self.read(&mut attention.query, queries);
        if let Some(key) = &mut attention.key {
            self.read(key, keys);
        }
        self.read(&mut attention.value, keys);
        self.write(&mut attention.output);
    }

    /// `source` is the scale of the norm of what another half has read.
    fn block(&self, block: &mut Block<B>, source: Option<&Tensor<B, 1>>) {
        let scale = self.take_scale(&mut block.attention_norm);
        self.attention(&mut block.attention, &scale, &scale);
        if let (Some(cross), Some(source)) = (&mut block.cross, source) {
            let scale = self.take_scale(&mut cross.norm);
            self.attention(&mut cross.attention, &scale, source);
        }
        let scale = self.take_scale(&mut block.feed_forward_norm);
        if let FeedForward::Moe(mixture) = &mut block.feed_forward {
            for router in std::iter::once(&mut mixture.router).chain(&mut mixture.noise) {
                self.read(router, &scale);
            }
        }
        for network in block.feed_forward.networks_mut() {
            self.read(&mut network.gate, &scale);
            self.read(&mut network.up, &scale);
            self.write(&mut network.down);
        }
    }
}

/// A counted product in 32 bits, whatever activations are multiplied in: it makes weights.
fn product<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Tensor<B, 2> {
    let ([rows, inner], [_, columns]) = (a.dims(), b.dims());
    counter::add_macs(rows * inner * columns);
    a.matmul(b)
}

fn change<B: Ops>(matrix: &mut Matrix<B>, how: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>) {
    if let Some(weight) = matrix.as_dense() {
        *matrix = Matrix::dense(how(weight.detach()).detach());
    }
}

impl<B: Ops> Model<B> {
    /// Turns the residual stream into these components; `plan` is that of the model as it is then.
    pub(crate) fn rotate(&mut self, basis: &Basis<B>, plan: &ModelPlan) {
        basis.hold(&mut self.embedding);
        let source = self.reading_norm.as_mut().map(|norm| basis.take_scale(norm));
        for block in &mut self.blocks {
            basis.block(block, source.as_ref());
        }
        let scale = basis.take_scale(&mut self.norm);
        let weights = plan.kind.weights(plan);
        for (own, weight) in self.own.iter_mut().zip(&weights) {
            // a small one is a token that is put before rows, the others read what comes out of the blocks
            if weight.small {
                basis.hold(own);
            } else {
                basis.read(own, &scale);
            }
        }
        if plan.rotated {
            let turned = basis.turned(basis.rows.clone() * scale.unsqueeze());
            self.own.push(Matrix::dense(turned.detach()));
        }
        self.name_own(&weights);
    }
}

impl ModelPlan {
    /// Elements of all matrices that read from the residual stream, write to it or are put into it.
    pub(crate) fn matrices_on_stream(&self) -> u64 {
        let of_blocks = self.block_matrices().map(|m| m.copies * m.out * m.input);
        let mixtures = self
            .layers
            .iter()
            .filter_map(|layer| layer.feed_forward.mixture());
        let routers = mixtures.map(|mixture| mixture.router_matrices() * mixture.experts * self.width);
        let own = self
            .kind
            .weights(self)
            .into_iter()
            .map(|weight| weight.shape[0] * weight.shape[1]);
        let all = of_blocks.sum::<usize>() + routers.sum::<usize>() + own.sum::<usize>();
        (self.vocabulary * self.width + all) as u64
    }
}
