//! The matrices of a plan's blocks, routers and adapters left out: those that compression after training is about.

use super::{ModelPlan, plan::Projection};
use crate::techniques::fine_tuning::adapter::is_of_adapter;

/// A matrix `[out, input]` of a block, or several alike, as those of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockMatrix {
    pub(crate) out: usize,
    pub(crate) input: usize,
    /// How many there are.
    pub(crate) copies: usize,
    /// How many of these a token meets.
    pub(crate) met: usize,
    layer: usize,
    /// Whether it is given what another half has read.
    is_of_read: bool,
}

impl BlockMatrix {
    /// One of an attention of this layer, which may look at what another half has read.
    fn of(projection: Projection, layer: usize, is_of_read: bool) -> Self {
        BlockMatrix {
            out: projection.out,
            input: projection.input,
            copies: 1,
            met: 1,
            layer,
            is_of_read: is_of_read && projection.is_of_keys(),
        }
    }

    /// Its layer's number in its half, from 0.
    pub(crate) fn place(&self, plan: &ModelPlan) -> usize {
        plan.place(self.layer).layer
    }

    /// Rows that it and those like it are given of `batch` examples of `n` tokens a row.
    pub(crate) fn rows(&self, plan: &ModelPlan, batch: usize, n: usize) -> usize {
        let seen = plan.seen(if self.is_of_read { 0 } else { self.layer }, n);
        batch * plan.kind.form().texts() * seen * self.met
    }
}

/// Whether the matrix of this path is one of a block, and no embedding, head, adapter or what a kind has of its own.
pub(crate) fn is_block_matrix(path: &str) -> bool {
    path.contains(".layers.") && !is_of_adapter(path)
}

/// The layer that a matrix of this path belongs to, counted from 0 in its half; `None` outside blocks.
pub(crate) fn layer_of(path: &str) -> Option<usize> {
    let (_, rest) = path.split_once(".layers.")?;
    rest.split_once('.')?.0.parse().ok()
}

impl ModelPlan {
    /// The matrices of all blocks.
    pub(crate) fn block_matrices(&self) -> impl Iterator<Item = BlockMatrix> + '_ {
        (0..self.layers.len()).flat_map(|layer| self.matrices_of(layer))
    }

    /// Multiply-adds to read one batch and to sum up what each of these matrices is given.
    pub(crate) fn calibration_macs(&self, batch: usize, n: usize) -> u64 {
        let seen = self
            .block_matrices()
            .map(|m| m.rows(self, batch, n) * m.input * m.input);
        self.forward_macs(batch, n) + seen.sum::<usize>() as u64
    }

    fn matrices_of(&self, layer: usize) -> Vec<BlockMatrix> {
        let plan = &self.layers[layer];
        let one = |is_of_read| move |p: Projection| BlockMatrix::of(p, layer, is_of_read);
        let own = plan.attention.projections(self.width).into_iter().map(one(false));
        let cross = plan.cross.iter().flat_map(|cross| cross.projections(self.width));
        let networks = plan.feed_forward.matrices(self.width);
        let networks = networks.into_iter().map(|[out, input]| BlockMatrix {
            out,
            input,
            copies: plan.feed_forward.networks(),
            met: plan.feed_forward.networks_met(),
            layer,
            is_of_read: false,
        });
        own.chain(cross.map(one(true))).chain(networks).collect()
    }

    /// Weights that sparse storage leaves out, in all.
    pub(super) fn left_out(&self) -> u64 {
        self.block_matrices()
            .map(|m| m.copies as u64 * self.left_out_of(&m))
            .sum()
    }

    /// The same of those that a token meets.
    pub(super) fn left_out_of_met(&self) -> u64 {
        self.block_matrices()
            .map(|m| m.met as u64 * self.left_out_of(&m))
            .sum()
    }

    /// Multiply-adds that sparse storage leaves out where a batch of `batch` examples of `n` tokens a row is read.
    pub(crate) fn left_out_of_reading(&self, batch: usize, n: usize) -> u64 {
        self.block_matrices()
            .map(|m| m.rows(self, batch, n) as u64 * self.left_out_of(&m))
            .sum()
    }

    /// Multiply-adds that sparse storage leaves out of one position in a layer: of matrices that are given what another half has read, or of the others.
    pub(super) fn left_out_in(&self, layer: usize, is_of_read: bool) -> u64 {
        let given = self
            .matrices_of(layer)
            .into_iter()
            .filter(|m| m.is_of_read == is_of_read);
        given.map(|m| m.met as u64 * self.left_out_of(&m)).sum()
    }

    /// The same of what makes keys and values of a layer's own attention.
    pub(super) fn left_out_of_keys(&self, layer: usize) -> u64 {
        let projections = self.layers[layer].attention.projections(self.width);
        let keys = projections.into_iter().filter(Projection::is_of_keys);
        keys.map(|p| self.left_out_of(&BlockMatrix::of(p, layer, false)))
            .sum()
    }

    fn left_out_of(&self, m: &BlockMatrix) -> u64 {
        self.sparsity
            .and_then(|form| form.at_layer(m.place(self)))
            .map_or(0, |form| m.out * m.input - form.shape(m.out, m.input).nonzeros()) as u64
    }
}
