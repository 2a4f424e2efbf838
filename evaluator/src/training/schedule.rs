//! The learning rate: a linear rise, then a cosine down to a share of the highest rate.

use crate::plan::TrainingPlan;

/// The rate of `step` (from 0) of `total`.
pub fn learning_rate(plan: &TrainingPlan, step: u64, total: u64) -> f64 {
    let warmup = (plan.warmup * total as f64).min(1e6);
    let at = step as f64;
    if at < warmup {
        return plan.learning_rate * (at + 1.0) / (warmup + 1.0);
    }
    let progress = (at - warmup) / (total as f64 - warmup).max(1.0);
    let lowest = plan.learning_rate * plan.final_rate;
    lowest + (plan.learning_rate - lowest) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Budget, training::Rule};

    #[test]
    fn it_rises_then_falls_to_the_share() {
        let plan = TrainingPlan {
            budget: Budget::Steps(100),
            batch: 1,
            rows: 1.into(),
            learning_rate: 1.0,
            warmup: 0.1,
            final_rate: 0.1,
            weight_decay: 0.0,
            layer_decay: 1.0,
            gradient_clip: 1.0,
            rule: Rule::AdamW,
        };
        let rates: Vec<f64> = (0..100).map(|s| learning_rate(&plan, s, 100)).collect();
        assert!(rates[..10].windows(2).all(|w| w[0] < w[1]) && rates[0] > 0.0);
        assert!(rates[10..].windows(2).all(|w| w[0] > w[1]));
        assert_eq!(rates[10], 1.0);
        assert!((rates[99] - 0.1).abs() < 0.01);
        assert!(
            (rates[55] - 0.55).abs() < 1e-9,
            "half way down at half the cosine"
        );
    }
}
