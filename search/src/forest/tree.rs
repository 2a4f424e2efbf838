//! One regression tree.

use rand::{RngExt, seq::index};
use rand_chacha::ChaCha8Rng;

use super::Kind;

/// Rows of a leaf that is not split further.
const LEAF: usize = 3;
/// Share of the coordinates that a split looks at (Hutter et al. 2011).
const FEATURES: f64 = 5.0 / 6.0;

/// Nodes, the root first.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

enum Node {
    Leaf {
        mean: f64,
        variance: f64,
    },
    Split {
        feature: usize,
        test: Test,
        yes: usize,
        no: usize,
    },
}

#[derive(Clone, Copy)]
enum Test {
    /// The parameter is active.
    Active,
    /// It is active and at most this.
    AtMost(f64),
    /// It is this one of so many names.
    Is(usize, usize),
}

impl Test {
    fn holds(self, value: Option<f64>) -> bool {
        match self {
            Test::Active => value.is_some(),
            Test::AtMost(threshold) => value.is_some_and(|v| v <= threshold),
            Test::Is(name, of) => value.is_some_and(|v| slot(v, of) == name),
        }
    }
}

/// What is left to do: rows that fall into the node.
struct Open {
    node: usize,
    rows: Vec<usize>,
}

impl Tree {
    pub(super) fn fit(
        kinds: &[Kind],
        rows: &[Vec<Option<f64>>],
        targets: &[f64],
        sample: Vec<usize>,
        rng: &mut ChaCha8Rng,
    ) -> Tree {
        let mut nodes = vec![leaf(&sample, targets)];
        let mut open = vec![Open {
            node: 0,
            rows: sample,
        }];
        let looked_at = ((kinds.len() as f64 * FEATURES).ceil() as usize).min(kinds.len());
        let mut sorted = Vec::new();
        while let Some(Open { node, rows: inside }) = open.pop() {
            let Node::Leaf { variance, .. } = nodes[node] else {
                continue;
            };
            if inside.len() <= LEAF || variance <= 0.0 {
                continue;
            }
            let mut best: Option<(f64, usize, Test)> = None;
            for feature in index::sample(rng, kinds.len(), looked_at) {
                sorted.clear();
                sorted.extend(inside.iter().map(|i| (rows[*i][feature], targets[*i])));
                if let Some((gain, test)) = split(kinds[feature], &mut sorted, rng)
                    && best.is_none_or(|(most, ..)| gain > most)
                {
                    best = Some((gain, feature, test));
                }
            }
            let Some((_, feature, test)) = best else { continue };
            let (yes, no): (Vec<usize>, Vec<usize>) =
                inside.into_iter().partition(|i| test.holds(rows[*i][feature]));
            let at = nodes.len();
            nodes.extend([leaf(&yes, targets), leaf(&no, targets)]);
            nodes[node] = Node::Split {
                feature,
                test,
                yes: at,
                no: at + 1,
            };
            open.extend([
                Open { node: at, rows: yes },
                Open {
                    node: at + 1,
                    rows: no,
                },
            ]);
        }
        Tree { nodes }
    }

    /// Mean and variance of the targets in the point's leaf.
    pub(super) fn predict(&self, row: &[Option<f64>]) -> (f64, f64) {
        let mut at = 0;
        loop {
            match &self.nodes[at] {
                Node::Leaf { mean, variance } => return (*mean, *variance),
                Node::Split {
                    feature,
                    test,
                    yes,
                    no,
                } => at = if test.holds(row[*feature]) { *yes } else { *no },
            }
        }
    }
}

fn leaf(rows: &[usize], targets: &[f64]) -> Node {
    let n = rows.len().max(1) as f64;
    let mean = rows.iter().map(|i| targets[*i]).sum::<f64>() / n;
    let variance = rows.iter().map(|i| (targets[*i] - mean).powi(2)).sum::<f64>() / n;
    // rounding leaves a little where all are equal
    let variance = if variance < 1e-24 { 0.0 } else { variance };
    Node::Leaf { mean, variance }
}

/// The best test on one coordinate with how much of the squared error it explains; `None` if nothing parts the rows.
fn split(kind: Kind, rows: &mut [(Option<f64>, f64)], rng: &mut ChaCha8Rng) -> Option<(f64, Test)> {
    let n = rows.len() as f64;
    let total: f64 = rows.iter().map(|r| r.1).sum();
    // what splitting `count` rows with that sum from the others explains
    let gain = |count: f64, sum: f64| {
        let rest = n - count;
        sum * sum / count + (total - sum).powi(2) / rest - total * total / n
    };
    let mut best: Option<(f64, Test)> = None;
    let mut offer = |count: f64, sum: f64, test: Test| {
        if count > 0.0 && count < n {
            let gain = gain(count, sum);
            if best.is_none_or(|(most, _)| gain > most) {
                best = Some((gain, test));
            }
        }
    };
    let active = rows.iter().filter(|r| r.0.is_some());
    let (count, sum) = active.fold((0.0, 0.0), |(c, s), r| (c + 1.0, s + r.1));
    offer(count, sum, Test::Active);
    match kind {
        Kind::Names(names) => {
            let mut sums = vec![(0.0, 0.0); names];
            for (value, target) in rows.iter() {
                if let Some(v) = value {
                    let cell = &mut sums[slot(*v, names)];
                    *cell = (cell.0 + 1.0, cell.1 + target);
                }
            }
            for (name, (count, sum)) in sums.into_iter().enumerate() {
                offer(count, sum, Test::Is(name, names));
            }
        }
        Kind::Ordered => {
            let key = |value: Option<f64>| value.unwrap_or(f64::INFINITY);
            rows.sort_unstable_by(|a, b| key(a.0).total_cmp(&key(b.0)).then(a.1.total_cmp(&b.1)));
            let (mut count, mut sum) = (0.0, 0.0);
            for pair in rows.windows(2) {
                count += 1.0;
                sum += pair[0].1;
                if let (Some(low), Some(high)) = (pair[0].0, pair[1].0)
                    && low < high
                {
                    offer(count, sum, Test::AtMost(low));
                }
            }
            // anywhere between the neighbours, and never so that rounding moves one of them across
            if let Some((gain, Test::AtMost(low))) = best {
                let next = rows.iter().filter_map(|r| r.0).find(|v| *v > low)?;
                let between = low + rng.random::<f64>() * (next - low);
                let threshold = if between < next { between } else { low };
                best = Some((gain, Test::AtMost(threshold)));
            }
        }
    }
    best
}

fn slot(unit: f64, of: usize) -> usize {
    ((unit * of as f64) as usize).min(of - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal_rng;

    #[test]
    fn the_best_split_by_hand() {
        let mut rows = [(Some(0.1), 1.0), (Some(0.2), 1.0), (Some(0.7), 4.0), (None, 1.0)];
        let (gain, test) = split(Kind::Ordered, &mut rows, &mut proposal_rng(0, 0)).unwrap();
        // 0.7 does not go alone (inactive rows stand with what is above): two ones against one and four
        assert!((gain - (2.0 + 12.5 - 12.25)).abs() < 1e-12, "{gain}");
        assert!(matches!(test, Test::AtMost(t) if (0.2..0.7).contains(&t)));
        let mut rows = [(Some(0.1), 1.0), (Some(0.5), 4.0), (Some(0.9), 1.0)];
        let (_, test) = split(Kind::Names(3), &mut rows, &mut proposal_rng(0, 0)).unwrap();
        assert!(matches!(test, Test::Is(1, 3)));
        let mut rows = [(Some(0.5), 4.0), (Some(0.5), 1.0)];
        assert!(split(Kind::Ordered, &mut rows, &mut proposal_rng(0, 0)).is_none());
    }
}
