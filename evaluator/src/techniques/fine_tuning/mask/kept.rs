//! The choice of the best weights of a model.

use std::collections::BTreeMap;

/// How many of `weights` in `tensors` tensors are kept: the fraction, at least one of each tensor.
pub fn kept_weights(weights: usize, tensors: usize, fraction: f64) -> usize {
    ((fraction * weights as f64).round() as usize).clamp(tensors, weights)
}

/// The numbers of the weights with the highest scores, by tensor and ascending: [`kept_weights`] of all of them together.
///
/// Every tensor keeps its best one, so that which matrices have a gradient, and what a step costs, is known before scores
/// are. Of equal scores the earlier one is kept.
pub fn largest(scores: &BTreeMap<String, Vec<f32>>, fraction: f64) -> BTreeMap<String, Vec<i32>> {
    let best = |scores: &[f32]| {
        let better = |best: usize, i: usize| if scores[i] > scores[best] { i } else { best };
        (0..scores.len()).fold(0, better)
    };
    let all = scores.values().map(Vec::len).sum();
    let rest = kept_weights(all, scores.len(), fraction) - scores.len();
    let mut others: Vec<f32> = scores
        .values()
        .flat_map(|scores| {
            let best = best(scores);
            let other = move |(i, score): (usize, &f32)| (i != best).then_some(*score);
            scores.iter().enumerate().filter_map(other)
        })
        .collect();
    let threshold = match rest {
        0 => f32::INFINITY,
        rest => *others.select_nth_unstable_by(rest - 1, |a, b| b.total_cmp(a)).1,
    };
    let above = others.iter().filter(|score| **score > threshold).count();
    let mut equal = rest.saturating_sub(above);
    let mut keep = |score: f32| {
        if score == threshold && equal > 0 {
            equal -= 1;
            return true;
        }
        score > threshold
    };
    let of_tensor = |(name, scores): (&String, &Vec<f32>)| {
        let best = best(scores);
        let kept = (0..scores.len()).filter(|i| *i == best || keep(scores[*i]));
        (name.clone(), kept.map(|i| i as i32).collect())
    };
    scores.iter().map(of_tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_all_are_kept_and_one_of_each() {
        let scores = BTreeMap::from([
            ("a".to_owned(), vec![5.0, 1.0, 4.0, 4.0]),
            ("b".to_owned(), vec![0.1, 0.3, 0.2]),
            ("c".to_owned(), vec![4.0, 9.0, 4.0]),
        ]);
        let kept = |fraction: f64| largest(&scores, fraction).into_values().collect::<Vec<_>>();
        assert_eq!(kept(0.0), [vec![0], vec![1], vec![1]]);
        assert_eq!(kept(0.5), [vec![0, 2, 3], vec![1], vec![1]]);
        assert_eq!(kept(0.6), [vec![0, 2, 3], vec![1], vec![0, 1]]);
        assert_eq!(kept(1.0).concat().len(), 10);
        assert_eq!(
            [0.0, 0.5, 0.6, 1.0].map(|f| kept_weights(10, 3, f)),
            [3, 5, 6, 10]
        );
    }
}
