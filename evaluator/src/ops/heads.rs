//! Results of single heads put together.

use rayon::prelude::*;

/// Multiply-adds of scores that one core forms before another one is worth waking.
pub(super) const SHARE: usize = 1 << 15;

/// Puts the columns of each head back between those of the others: parts `[n, width]`, one for each sequence and head, to
/// `[b, n, heads, width]`.
pub(super) fn interleave<'a>(parts: impl Iterator<Item = &'a [f32]>, heads: usize, width: usize) -> Vec<f32> {
    let parts: Vec<&[f32]> = parts.collect();
    let of_sequence = parts[0].len() * heads;
    let mut all = vec![0.0f32; parts.len() / heads * of_sequence];
    all.par_chunks_mut(of_sequence)
        .zip(parts.par_chunks(heads))
        .for_each(|(sequence, parts)| {
            for (h, part) in parts.iter().enumerate() {
                for (r, row) in part.chunks_exact(width).enumerate() {
                    sequence[(r * heads + h) * width..][..width].copy_from_slice(row);
                }
            }
        });
    all
}
