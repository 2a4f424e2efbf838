//! Which keys each query sees, and what that costs.

use std::ops::Range;

use crate::{counter, model::Pass, ops::Lengths};

/// Which keys each query sees: query `i` stands at position `offset + i` of `keys` keys, and sees itself, the
/// `window - 1` positions before and the `ahead` positions behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Position of the first query among the keys.
    pub offset: usize,
    /// Number of keys that are filled; the key tensor may be longer.
    pub keys: usize,
    /// Keys seen at most up to the query's own position; `usize::MAX` for all.
    pub window: usize,
    /// Keys seen at most behind the query's own position: 0 where attention is causal.
    pub ahead: usize,
    /// Where sequences are padded, how many positions of each are there, as queries and as keys.
    pub lengths: Option<Lengths>,
    /// Whether the queries are of another sequence, which is not padded, so that lengths are those of keys alone.
    pub across: bool,
}

impl Band {
    /// Causal over a whole sequence of `n`.
    pub fn causal(n: usize) -> Band {
        Band {
            offset: 0,
            keys: n,
            window: usize::MAX,
            ahead: 0,
            lengths: None,
            across: false,
        }
    }

    /// All of another sequence of `keys`.
    pub fn across(keys: usize, lengths: Option<Lengths>) -> Band {
        Band {
            across: true,
            ..Band::whole(keys, lengths)
        }
    }

    /// All of a sequence of `n`, in both directions.
    pub fn whole(n: usize, lengths: Option<Lengths>) -> Band {
        Band {
            ahead: usize::MAX,
            lengths,
            ..Band::causal(n)
        }
    }

    /// The keys that query `i` sees of a sequence without padding.
    pub fn row(&self, i: usize) -> Range<usize> {
        let at = self.offset + i + 1;
        let end = at.saturating_add(self.ahead).min(self.keys);
        at.saturating_sub(self.window).min(end)..end
    }

    /// Pairs of query and key for `queries` queries of a sequence without padding.
    pub fn pairs(&self, queries: usize) -> usize {
        (0..queries).map(|i| self.row(i).len()).sum()
    }

    /// The band of one sequence, and its queries of `queries`, padding left out.
    pub(super) fn of(&self, sequence: usize, queries: usize) -> (Band, usize) {
        let length = self.lengths.as_ref().map(|lengths| lengths.of(sequence));
        let band = Band {
            keys: length.unwrap_or(self.keys),
            lengths: None,
            ..*self
        };
        let there = length.filter(|_| !self.across);
        (band, there.unwrap_or(queries))
    }

    /// Pairs of `batch` sequences, and those that padding leaves out.
    fn pairs_of(&self, batch: usize, queries: usize) -> [usize; 2] {
        let all = batch * self.pairs(queries);
        if self.lengths.is_none() {
            return [all, 0];
        }
        let there = |b| {
            let (band, queries) = self.of(b, queries);
            band.pairs(queries)
        };
        let done: usize = (0..batch).map(there).sum();
        [done, all - done]
    }

    /// Counts so many products of `values` multiply-adds for each pair, and notes what padding leaves out of them and of
    /// the way back.
    pub(in crate::ops) fn count_forward(&self, batch: usize, queries: usize, values: usize, products: Pass) {
        let [done, left_out] = self.pairs_of(batch, queries);
        counter::add_macs(products.forward as usize * values * done);
        counter::add_skipped(products * (values * left_out) as u64);
    }

    /// Counts so many products of `values` multiply-adds for each pair, on the way back.
    pub(in crate::ops) fn count_backward(&self, batch: usize, queries: usize, values: usize, products: Pass) {
        let [done, _] = self.pairs_of(batch, queries);
        counter::add_macs(products.backward as usize * values * done);
    }
}
