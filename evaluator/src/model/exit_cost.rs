//! Matrix work of texts and tokens that leave early, by formula.

use super::{ModelPlan, Trainable, plan::Projection};

impl ModelPlan {
    /// Multiply-adds to serve one full-length text that leaves after `depth` layers; with all of them without exits, those of
    /// [`ModelPlan::serving_macs`].
    pub fn exiting_macs(&self, depth: usize) -> u64 {
        let heads = self
            .early_exit
            .map_or(1, |exits| exits.heads(depth, self.layers.len()));
        let head = self.kind.head_pass(self, 1, self.context, Trainable::All).forward;
        self.reading_macs(self.context, depth) + heads as u64 * head
    }

    /// Multiply-adds of a kind that writes for the token at `position`, from 0, which leaves after `depth` layers: those layers,
    /// the heads that it passes, and its keys and values in the layers that it skips.
    pub fn leaving_macs(&self, position: usize, depth: usize) -> u64 {
        let layers = self.layers.len();
        let heads = self.early_exit.map_or(1, |exits| exits.heads(depth, layers)) as u64;
        let copied = (depth..layers).map(|layer| {
            let attention = &self.layers[layer].attention;
            attention.macs(self.width, Projection::is_of_keys) - self.left_out_of_keys(layer)
        });
        self.blocks_decoding_macs(position, depth)
            + copied.sum::<u64>()
            + heads * self.tied_head_pass(1, Trainable::All).forward
    }

    /// Multiply-adds of `batch` sequences of a kind that writes for the token at `position` of each, from 0; several at once ask
    /// no exit.
    pub fn batch_decoding_macs(&self, batch: usize, position: usize) -> u64 {
        if batch == 1 {
            return self.decoding_macs(position);
        }
        let blocks = self.blocks_decoding_macs(position, self.layers.len());
        batch as u64 * blocks + self.tied_head_pass(batch, Trainable::All).forward
    }
}
