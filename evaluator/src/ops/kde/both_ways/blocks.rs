//! One head as the kernel visits it: blocks of queries, and the columns that each block sees.

use std::ops::Range;

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};

use super::{
    super::columns::{Columns, Rows},
    KdeBothWays,
};
use crate::ops::values;

/// One head of one sequence.
pub(super) struct Head<'a> {
    pub(super) q: Rows<'a>,
    pub(super) k: Rows<'a>,
    pub(super) v: Rows<'a>,
    pub(super) number: usize,
    pub(super) d: usize,
    /// Rows, padding included, and those that are there.
    pub(super) n: usize,
    pub(super) there: usize,
}

impl<'a> Head<'a> {
    pub(super) fn new(task: usize, [q, k, v]: [&'a FlexTensor; 3], form: &KdeBothWays) -> Self {
        let [batch, n, heads, d] = dims(q);
        let rows = |x| Rows::of(values(x), task, batch, heads, d);
        Head {
            q: rows(q),
            k: rows(k),
            v: rows(v),
            number: task % heads,
            d,
            n,
            there: form.there(task / heads, n),
        }
    }
}

pub(super) fn dims(x: &FlexTensor) -> [usize; 4] {
    let shape = x.shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// The blocks of a head.
pub(super) struct Blocks<'a> {
    size: usize,
    /// Positions in the order of codes; empty without a heavy part.
    queries: &'a [f32],
    keys: &'a [f32],
    drawn: &'a [f32],
    log_weights: &'a [f32],
    /// The block of each drawn key.
    own: Vec<usize>,
    there: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(head: &Head<'_>, places: &'a [f32], form: &KdeBothWays) -> Self {
        let (sorted, draw) = places.split_at(places.len() - 2 * form.samples);
        let (queries, keys) = sorted.split_at(sorted.len() / 2);
        let (drawn, log_weights) = draw.split_at(form.samples);
        let mut of_keys = vec![0; head.n];
        for (place, key) in keys.iter().enumerate() {
            of_keys[*key as usize] = place / form.block;
        }
        let heavy = form.block > 0;
        Blocks {
            size: if heavy { form.block } else { head.there },
            queries,
            keys,
            drawn,
            log_weights,
            own: drawn
                .iter()
                .filter(|_| heavy)
                .map(|l| of_keys[*l as usize])
                .collect(),
            there: head.there,
        }
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (size, there) = (self.size, self.there);
        (0..there)
            .step_by(size)
            .map(move |start| start..(start + size).min(there))
    }

    pub(super) fn query(&self, place: usize) -> usize {
        self.queries.get(place).map_or(place, |q| *q as usize)
    }

    /// Gathers the keys of a block: the heavy ones, the drawn ones, and those of them that are heavy already.
    pub(super) fn gather(&self, block: Range<usize>, head: &Head<'_>, columns: &mut Columns) {
        let number = block.start / self.size;
        columns.clear();
        if !self.keys.is_empty() {
            columns.index.extend(self.keys[block].iter().map(|k| *k as usize));
        }
        columns.bias.resize(columns.index.len(), 0.0);
        let mut draw = |heavy: bool| {
            for (s, (l, log_weight)) in self.drawn.iter().zip(self.log_weights).enumerate() {
                if (self.own.get(s) == Some(&number)) == heavy {
                    columns.index.push(*l as usize);
                    columns.bias.push(*log_weight);
                    columns.left_out += usize::from(heavy);
                }
            }
        };
        draw(false);
        draw(true);
        columns.gather(head.k, head.v);
    }
}
