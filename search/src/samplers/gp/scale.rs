//! Outcomes in units in which they look normal, as a process expects them.
//!
//! Losses have a long tail on the bad side, and a process that has to follow it misses what tells good configurations
//! apart. Outcomes are bent by the transformation of Yeo and Johnson (2000), whose exponent the data choose.

/// Standard deviation of the exponent about 1, which bends nothing, before any data are seen.
const BENDING: f64 = 0.5;
/// Step of the exponents tried.
const STEP: f64 = 0.05;
/// Greatest exponent. From 0 up to this every bent value can be bent back.
const STEEPEST: f64 = 2.0;

/// From outcomes, less being better, to bent ones of mean 0 and variance 1. Those far on the bad side are drawn in.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    /// Outcomes beyond this are drawn in.
    most: f64,
    /// Mean and standard deviation of the outcomes.
    straight: Moments,
    power: f64,
    /// Mean and standard deviation of the bent ones.
    bent: Moments,
}

impl Scale {
    /// The scale of finite outcomes, bent with an exponent from 0 to 2; 1 leaves them as they are.
    pub(super) fn new(outcomes: &[f64], power: f64) -> Scale {
        let most = most(outcomes);
        let mut values: Vec<f64> = outcomes.iter().map(|v| v.min(most)).collect();
        let straight = Moments::of(&values);
        values
            .iter_mut()
            .for_each(|v| *v = bend(straight.apply(*v), power));
        Scale {
            most,
            straight,
            power,
            bent: Moments::of(&values),
        }
    }

    /// The exponent under which the outcomes look most normal.
    pub(super) fn likeliest(outcomes: &[f64]) -> f64 {
        let powers = (0..=(STEEPEST / STEP).round() as u32).map(|i| f64::from(i) * STEP);
        let costs = powers.map(|power| (power, Scale::new(outcomes, power).cost(outcomes)));
        costs
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(1.0, |(power, _)| power)
    }

    /// What bending costs: minus the logarithm of the density it gives the outcomes where their bent values have
    /// density 1, and of the exponent's prior.
    pub(super) fn cost(&self, outcomes: &[f64]) -> f64 {
        let log_slope = |v: &f64| {
            let v = self.straight.apply(v.min(self.most));
            (self.power - 1.0) * v.abs().ln_1p().copysign(v)
        };
        let slopes: f64 = outcomes.iter().map(log_slope).sum();
        let prior = 0.5 * ((self.power - 1.0) / BENDING).powi(2);
        outcomes.len() as f64 * self.bent.deviation.ln() - slopes + prior
    }

    /// An outcome in bent units.
    pub(super) fn apply(&self, outcome: f64) -> f64 {
        self.limit(outcome.min(self.most))
    }

    /// An outcome in the units of [`Scale::straighten`], not drawn in.
    pub(super) fn standard(&self, outcome: f64) -> f64 {
        self.straight.apply(outcome)
    }

    /// A limit in bent units, not drawn in.
    pub(super) fn limit(&self, limit: f64) -> f64 {
        self.bent.apply(bend(self.straight.apply(limit), self.power))
    }

    /// A bent value in units in which volumes are what they were: outcomes of mean 0 and variance 1.
    pub(super) fn straighten(&self, bent: f64) -> f64 {
        unbend(bent * self.bent.deviation + self.bent.mean, self.power)
    }
}

/// A result that is farther off says "bad" and no more: it must not flatten the differences that count.
fn most(outcomes: &[f64]) -> f64 {
    let mut sorted = outcomes.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    let spread = at(0.75) / 2.0 - at(0.25) / 2.0;
    let most = if spread > 0.0 {
        at(0.75) + 10.0 * spread
    } else {
        at(1.0)
    };
    if most.is_finite() { most } else { at(0.75) }
}

#[derive(Clone, Debug)]
struct Moments {
    mean: f64,
    /// 1 where all values are the same.
    deviation: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Moments {
        let n = values.len() as f64;
        let mean: f64 = values.iter().map(|v| v / n).sum();
        // halves, and shares of the largest: neither differences nor squares may overflow
        let half = |v: f64| (v / 2.0 - mean / 2.0).abs();
        let largest = values.iter().map(|v| half(*v)).fold(0.0, f64::max);
        let square = || values.iter().map(|v| (half(*v) / largest).powi(2)).sum::<f64>() / n;
        let deviation = if largest > 0.0 {
            2.0 * largest * square().sqrt()
        } else {
            1.0
        };
        Moments {
            mean,
            deviation: if deviation.is_finite() { deviation } else { 1.0 },
        }
    }

    fn apply(&self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }
}

fn bend(v: f64, power: f64) -> f64 {
    let grow = |v: f64, power: f64| {
        if power == 0.0 {
            v.ln_1p()
        } else {
            ((v + 1.0).powf(power) - 1.0) / power
        }
    };
    if v >= 0.0 {
        grow(v, power)
    } else {
        -grow(-v, 2.0 - power)
    }
}

fn unbend(z: f64, power: f64) -> f64 {
    let shrink = |z: f64, power: f64| {
        if power == 0.0 {
            z.exp_m1()
        } else {
            (power * z + 1.0).powf(1.0 / power) - 1.0
        }
    };
    if z >= 0.0 {
        shrink(z, power)
    } else {
        -shrink(-z, 2.0 - power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bent_can_be_straightened() {
        let outcomes: Vec<f64> = (0..30).map(|i| (f64::from(i) / 5.0).exp()).collect();
        for power in [0.0, 0.05, 0.5, 1.0, 1.7, 2.0] {
            let scale = Scale::new(&outcomes, power);
            let mut before = f64::NEG_INFINITY;
            for outcome in outcomes.iter().filter(|v| **v <= scale.most) {
                let bent = scale.apply(*outcome);
                assert!(bent > before, "order is kept");
                before = bent;
                let back = scale.straighten(bent) * scale.straight.deviation + scale.straight.mean;
                assert!(
                    (back - outcome).abs() < 1e-9 * outcome,
                    "{power}: {outcome} {back}"
                );
            }
        }
    }

    #[test]
    fn a_long_tail_is_bent_and_a_bell_is_not() {
        let places = || (1..60).map(|i| f64::from(i) / 60.0);
        let logistic: Vec<f64> = places().map(|p| (p / (1.0 - p)).ln()).collect();
        assert!((Scale::likeliest(&logistic) - 1.0).abs() < 0.1);
        let long: Vec<f64> = places().map(|p| -(1.0 - p).ln()).collect();
        assert!(Scale::likeliest(&long) < 0.6);
        let mirrored: Vec<f64> = long.iter().map(|v| -v).collect();
        assert!(Scale::likeliest(&mirrored) > 1.4);
    }

    #[test]
    fn outcomes_at_the_end_of_the_range_of_numbers_stay_finite() {
        for outcomes in [
            vec![1e308, -1e308, 0.0, 1e308],
            vec![3.0; 4],
            vec![0.0, 0.0, 0.0, 1e300],
        ] {
            for power in [0.0, 1.0, 2.0] {
                let scale = Scale::new(&outcomes, power);
                assert!(
                    outcomes.iter().all(|v| scale.apply(*v).is_finite()),
                    "{outcomes:?} {power}"
                );
            }
        }
    }
}
