//! One choice for each part of a whole, so that all together lose least within a budget: a multiple-choice knapsack, solved
//! exactly over sums that are not dominated (Nemhauser & Ullmann 1969).

use std::cmp::Ordering;

/// One way to have a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// What it takes of the budget.
    pub cost: u64,
    /// What is lost by it; it may be below 0.
    pub loss: f64,
}

/// A way to have the first parts.
#[derive(Clone)]
struct Sum {
    cost: u64,
    loss: f64,
    /// The sum before, and the choice that was added.
    from: (usize, usize),
}

/// The place of the choice taken of each part, so that losses sum up to least and costs to at most `budget`; `None` where even
/// the cheapest do not fit. Of equal losses the cheaper sum is taken.
pub fn allocate(parts: &[Vec<Choice>], budget: u64) -> Option<Vec<usize>> {
    // sums of the first parts, rising in cost and falling in loss
    let mut fronts: Vec<Vec<Sum>> = vec![vec![Sum {
        cost: 0,
        loss: 0.0,
        from: (0, 0),
    }]];
    // what the later parts take at least leaves so much
    let mut least: u64 = parts
        .iter()
        .map(|choices| choices.iter().map(|c| c.cost).min().unwrap_or(0))
        .sum();
    for choices in parts {
        least -= choices.iter().map(|c| c.cost).min()?;
        let before = fronts.last()?;
        let mut sums: Vec<Sum> = before
            .iter()
            .enumerate()
            .flat_map(|(i, sum)| {
                choices.iter().enumerate().map(move |(j, choice)| Sum {
                    cost: sum.cost + choice.cost,
                    loss: sum.loss + choice.loss,
                    from: (i, j),
                })
            })
            .filter(|sum| sum.cost + least <= budget)
            .collect();
        let by_cost = |a: &Sum, b: &Sum| match a.cost.cmp(&b.cost) {
            Ordering::Equal => a.loss.total_cmp(&b.loss),
            order => order,
        };
        sums.sort_by(by_cost);
        let mut best = f64::INFINITY;
        sums.retain(|sum| {
            let is_better = sum.loss < best;
            best = best.min(sum.loss);
            is_better
        });
        fronts.push(sums);
    }
    let mut at = fronts.last()?.len().checked_sub(1)?;
    let mut taken = vec![0; parts.len()];
    for (part, front) in fronts.iter().skip(1).enumerate().rev() {
        let (before, choice) = front[at].from;
        taken[part] = choice;
        at = before;
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn sum(parts: &[Vec<Choice>], taken: &[usize]) -> (u64, f64) {
        let chosen = parts.iter().zip(taken).map(|(choices, i)| choices[*i]);
        chosen.fold((0, 0.0), |(cost, loss), c| (cost + c.cost, loss + c.loss))
    }

    /// The least loss by trying everything.
    fn brute_force(parts: &[Vec<Choice>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = parts.split_first() else {
            return Some(0.0);
        };
        let fits = first.iter().filter(|c| c.cost <= budget);
        let losses = fits.filter_map(|c| Some(c.loss + brute_force(rest, budget - c.cost)?));
        losses.min_by(f64::total_cmp)
    }

    #[test]
    fn it_is_the_best_of_all() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..200 {
            let n = random.random_range(1..6);
            let parts: Vec<Vec<Choice>> = (0..n)
                .map(|_| {
                    let choices = random.random_range(1..5);
                    let choice = |random: &mut ChaCha8Rng| Choice {
                        cost: random.random_range(0..20),
                        loss: random.random_range(-0.1..1.0),
                    };
                    (0..choices).map(|_| choice(&mut random)).collect()
                })
                .collect();
            let budget = random.random_range(0..60);
            let best = brute_force(&parts, budget);
            match allocate(&parts, budget) {
                None => assert_eq!(best, None),
                Some(taken) => {
                    let (cost, loss) = sum(&parts, &taken);
                    assert!(cost <= budget, "{cost} {budget}");
                    assert!((loss - best.unwrap()).abs() < 1e-9, "{loss} {best:?}");
                }
            }
        }
    }

    #[test]
    fn more_budget_never_loses_more() {
        let parts: Vec<Vec<Choice>> = (1..8u64)
            .map(|part| {
                let choice = |bits: u64| Choice {
                    cost: 10 * bits,
                    loss: part as f64 / (1u64 << bits) as f64,
                };
                [2, 3, 4, 8].map(choice).to_vec()
            })
            .collect();
        let losses: Vec<f64> = (140..600)
            .filter_map(|budget| allocate(&parts, budget).map(|taken| sum(&parts, &taken).1))
            .collect();
        assert!(losses.len() > 400 && losses.windows(2).all(|pair| pair[0] >= pair[1]));
        assert_eq!(allocate(&parts, 139), None);
    }
}
