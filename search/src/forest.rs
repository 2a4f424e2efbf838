//! A random forest of regression trees (Breiman 2001) with mean and variance (Hutter et al. 2011, 2014).
//!
//! Rows are points of the unit cube whose inactive coordinates are `None`: they go their own way at each split. Names
//! are split into one against all others, ordered values at a threshold drawn between two neighbours, so that the mean
//! of many trees is smooth.

mod tree;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use self::tree::Tree;

/// A coordinate's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Ordered: split at a threshold.
    Ordered,
    /// So many names, each a slice of the unit interval of the same width.
    Names(usize),
}

/// A fitted forest.
pub(crate) struct Forest {
    trees: Vec<Tree>,
}

impl Forest {
    /// Trees on bootstrap samples of the rows, each with one target; `rows` must not be empty.
    pub(crate) fn fit(
        kinds: &[Kind],
        rows: &[Vec<Option<f64>>],
        targets: &[f64],
        trees: usize,
        rng: &mut ChaCha8Rng,
    ) -> Forest {
        let tree = |_| {
            let sample = (0..rows.len()).map(|_| rng.random_range(0..rows.len())).collect();
            Tree::fit(kinds, rows, targets, sample, rng)
        };
        Forest {
            trees: (0..trees).map(tree).collect(),
        }
    }

    /// Mean and variance at a point: over the trees, and within their leaves.
    pub(crate) fn predict(&self, row: &[Option<f64>]) -> (f64, f64) {
        let n = self.trees.len() as f64;
        let (mut sum, mut squares, mut within) = (0.0, 0.0, 0.0);
        for tree in &self.trees {
            let (mean, variance) = tree.predict(row);
            sum += mean;
            squares += mean * mean;
            within += variance;
        }
        let mean = sum / n;
        (mean, (squares / n - mean * mean).max(0.0) + within / n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal_rng;

    #[test]
    fn a_forest_learns_a_function_and_doubts_where_it_knows_nothing() {
        let mut rng = proposal_rng(0, 0);
        let rows: Vec<_> = (0..300)
            .map(|_| vec![Some(rng.random::<f64>() * 0.8), Some(rng.random())])
            .collect();
        let goal = |row: &[Option<f64>]| row[0].map_or(0.0, |x| (6.0 * x).sin());
        let targets: Vec<f64> = rows.iter().map(|r| goal(r)).collect();
        let forest = Forest::fit(&[Kind::Ordered; 2], &rows, &targets, 30, &mut rng);
        let error = (0..100).map(|i| {
            let row = [Some(f64::from(i) * 0.008), Some(0.3)];
            (forest.predict(&row).0 - goal(&row)).powi(2)
        });
        let error = error.sum::<f64>() / 100.0;
        assert!(error < 0.02, "{error}, the variance of the target is about 0.5");
        assert!(forest.predict(&[Some(0.4), Some(0.5)]).1 < 0.2);
    }

    #[test]
    fn names_and_what_is_inactive_are_told_apart() {
        // the middle name is high, inactive rows are higher still
        let mut rng = proposal_rng(0, 0);
        let rows: Vec<_> = (0..120)
            .map(|i| vec![(i % 4 < 3).then(|| (f64::from(i % 4) + 0.5) / 3.0)])
            .collect();
        let targets: Vec<f64> = (0..120).map(|i| [0.0, 5.0, 0.0, 9.0][i % 4]).collect();
        let forest = Forest::fit(&[Kind::Names(3)], &rows, &targets, 20, &mut rng);
        for i in 0..4 {
            assert!((forest.predict(&rows[i]).0 - targets[i]).abs() < 0.2, "{i}");
        }
    }

    #[test]
    fn a_constant_is_learnt_without_doubt() {
        let mut rng = proposal_rng(0, 0);
        let rows = vec![vec![Some(0.5)]; 9];
        let forest = Forest::fit(&[Kind::Ordered], &rows, &[3.0; 9], 10, &mut rng);
        assert_eq!(forest.predict(&[Some(0.1)]), (3.0, 0.0));
    }
}
