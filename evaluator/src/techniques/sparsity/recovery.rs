//! Training in which single weights are removed in rounds, and stay removed: gradual pruning with a cubic schedule (1710.01878), or
//! recovery after all are removed at once. Products of that training are dense, and are counted as such.

use spaces::{Domain, ParameterInfo, Value};

use super::{About, Method, Pattern, SparseForm, SparsityPlan};
use crate::parameter::{Declared, Values, choice, float, int};

/// The counter of its steps.
pub(crate) const ACTIVITY: &str = "sparse_training_steps";

const ONE_SHOT: About = About {
    name: "oneshot",
    doc: "all weights go at once, and training recovers",
    paper: "",
};

const CUBIC: About = About {
    name: "cubic",
    doc: "weights go in rounds with training between them, many at first and few at last",
    paper: "1710.01878",
};

/// The training and its rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseRecovery {
    /// Its steps, as a share of those of the main training.
    pub share: f64,
    /// Times that weights are removed.
    pub rounds: u64,
}

impl SparseRecovery {
    /// Reads the parameters; `None` where nothing is trained after single weights are removed.
    ///
    /// # Errors
    /// A sentence where there is no training to take a share of, or it does not go with how weights are removed or changed.
    pub(super) fn read(values: Values, method: Method, pattern: Pattern) -> Result<Option<Self>, String> {
        let share = values.float("sparsity_recovery");
        if share == 0.0 {
            return match method {
                Method::Movement => Err(
                    "sparsity_method = 'movement' judges weights by how a training moves them; use sparsity_recovery = 0.1 or another share above 0, or another sparsity_method".into(),
                ),
                _ => Ok(None),
            };
        }
        let rule = values.text("optimizer");
        if !["", "adamw"].contains(&rule) {
            return Err(format!(
                "sparsity_recovery = {share} trains single weights, which optimizer = '{rule}' does not; use optimizer = 'adamw', or sparsity_recovery = 0"
            ));
        }
        let rounds = match values.text("sparsity_schedule") {
            name if name == CUBIC.name => values.int("sparsity_rounds") as u64,
            _ => 1,
        };
        if rounds > 1 && pattern != Pattern::Free {
            return Err(format!(
                "sparsity_schedule = 'cubic' comes to its share in steps, and sparsity_pattern = '{}' has one share; use sparsity_schedule = 'oneshot' or sparsity_pattern = 'free'",
                pattern.name()
            ));
        }
        Ok(Some(SparseRecovery { share, rounds }))
    }

    /// Steps of the training, after a main training of `main`.
    pub(super) fn steps(&self, main: u64) -> u64 {
        ((self.share * main as f64).round() as u64).max(1)
    }

    /// The share of what is removed at last that is removed after a round, from 1: `1 - (1 - t/n)³`.
    fn progress(&self, round: u64) -> f64 {
        1.0 - (1.0 - round as f64 / self.rounds as f64).powi(3)
    }
}

impl SparsityPlan {
    /// What is stored after a round, from 1.
    pub fn after_round(&self, round: u64) -> SparseForm {
        let progress = self.recovery.map_or(1.0, |recovery| recovery.progress(round));
        self.form.part(progress)
    }

    /// Times that weights are removed.
    pub(super) fn rounds(&self) -> u64 {
        self.recovery.map_or(1, |recovery| recovery.rounds)
    }

    /// Steps of the training around removals, after a main training of `main`.
    pub(crate) fn recovery_steps(&self, main: u64) -> u64 {
        self.recovery.map_or(0, |recovery| recovery.steps(main))
    }

    /// The rounds, from 1, that come before a step, from 0, of a training of `steps`; some may come after the last one. Rounds are
    /// spread evenly, the first at the beginning, or after a first stretch in which weights show where they move.
    pub(crate) fn rounds_before(&self, step: u64, steps: u64) -> impl Iterator<Item = u64> + use<> {
        let (rounds, method) = (self.rounds(), self.method);
        let begins = move |round: u64| match method {
            Method::Movement => (round * steps).div_ceil(rounds + 1),
            _ => (round - 1) * steps / rounds,
        };
        (1..=rounds).filter(move |round| begins(*round) == step)
    }

    /// Counters that are above zero once the training was.
    pub(crate) fn recovery_activity(&self) -> impl Iterator<Item = &'static str> + use<> {
        let moved = (self.method == Method::Movement).then_some(super::movement::ACTIVITY);
        self.recovery.map(|_| ACTIVITY).into_iter().chain(moved)
    }
}

/// What the schedules say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![ONE_SHOT, CUBIC]
}

/// The parameters of the training.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let shares = [0.0, 0.1, 0.3].map(Value::Float).to_vec();
    vec![
        float(
            "sparsity_recovery",
            "training in which single weights are removed and what is left recovers, as a share of the training before",
            0.0,
            1.0,
            0.0,
        )
        .when("sparsity > 0")
        .search(Domain::categorical(shares).expect("not empty")),
        choice(
            "sparsity_schedule",
            "how single weights are removed in that training; sparsegpt removes them at once",
            &names,
        )
        .when("sparsity_recovery > 0 and sparsity_method in ['wanda', 'magnitude', 'movement']"),
        int(
            "sparsity_rounds",
            "times that single weights are removed, evenly spread over that training",
            2,
            64,
            8,
        )
        .unit("times")
        .when("sparsity_schedule == 'cubic'")
        .search(Domain::int(2, 16, true, 1).expect("not empty")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(share: f64, rounds: u64, method: Method) -> SparsityPlan {
        SparsityPlan {
            form: SparseForm {
                share,
                ..SparseForm::default()
            },
            method,
            batches: 0,
            recovery: Some(SparseRecovery { share: 0.5, rounds }),
        }
    }

    #[test]
    fn shares_of_rounds_are_the_golden_ones() {
        let plan = plan(0.8, 4, Method::Magnitude);
        for (round, golden) in (1..).zip([0.4625, 0.7, 0.7875, 0.8]) {
            let found = plan.after_round(round).share;
            assert!((found - golden).abs() < 1e-12, "{round}: {found}");
        }
        assert_eq!(plan.after_round(4), plan.form, "the last one to the bit");
    }

    #[test]
    fn each_round_comes_once_and_movement_first_looks() {
        for (method, rounds, steps, expected) in [
            (Method::Magnitude, 1, 10, vec![0]),
            (Method::Wanda, 4, 10, vec![0, 2, 5, 7]),
            (Method::Wanda, 4, 2, vec![0, 0, 1, 1]),
            (Method::Movement, 1, 10, vec![5]),
            (Method::Movement, 4, 10, vec![2, 4, 6, 8]),
            (Method::Movement, 1, 1, vec![1]),
        ] {
            let plan = plan(0.8, rounds, method);
            let at = |step| plan.rounds_before(step, steps).map(move |round| (round, step));
            let found: Vec<(u64, u64)> = (0..=steps).flat_map(at).collect();
            let expected: Vec<(u64, u64)> = (1..).zip(expected).collect();
            assert_eq!(found, expected, "{method:?}");
        }
    }

    #[test]
    fn the_training_is_a_share_of_the_main_one_and_at_least_a_step() {
        let plan = plan(0.8, 4, Method::Magnitude);
        assert_eq!(
            [0, 1, 7, 100].map(|main| plan.recovery_steps(main)),
            [1, 1, 4, 50]
        );
    }
}
