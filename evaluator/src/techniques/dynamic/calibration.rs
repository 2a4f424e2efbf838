//! Finding the threshold of exits on held-out texts, and scoring on other ones what it costs.

use burn::tensor::Tensor;

use super::early_exit::{EarlyExit, Threshold};
use crate::{
    EvaluationError,
    data::{Batch, Dataset, Rows},
    model::Model,
    ops::{Ops, cross_entropy},
    training::{IntoF32, Scores, to_device},
};

/// Texts read at once.
const BATCH: usize = 16;
/// How sure the stated bound on what exits lose is.
const CONFIDENCE: f64 = 0.95;

/// Held-out texts of which every other batch is for finding the threshold and the rest for reporting.
pub(crate) struct HeldOut<'a> {
    pub(crate) data: &'a Dataset,
    pub(crate) rows: Rows,
    /// Positions of all of them, at most.
    pub(crate) tokens: usize,
}

impl HeldOut<'_> {
    fn every_other(&self, first: usize) -> impl Iterator<Item = Batch> {
        let all = self.data.validation(BATCH, self.rows, self.tokens);
        all.skip(first).step_by(2)
    }

    /// Those that the threshold is found on.
    fn for_finding(&self) -> impl Iterator<Item = Batch> {
        self.every_other(0)
    }

    /// Those that it is not found on, each a batch of its own.
    pub(crate) fn one_by_one(&self) -> impl Iterator<Item = Batch> {
        let all = self.data.validation(1, self.rows, self.tokens).enumerate();
        all.filter(|(i, _)| (i / BATCH) % 2 == 1).map(|(_, text)| text)
    }

    /// Those that it is not found on.
    pub(crate) fn for_reporting(&self) -> impl Iterator<Item = Batch> {
        self.every_other(1)
    }
}

/// What each exit says of a text.
struct Said {
    /// How sure each depth is and whether it is right, the last layer's last.
    depths: Vec<(f32, bool)>,
}

impl Said {
    /// Whether what is served under a threshold is right.
    fn is_right(&self, threshold: Threshold) -> bool {
        let (last, exits) = self.depths.split_last().expect("there is a last layer");
        let exit = exits.iter().find(|(confidence, _)| threshold.is_met(*confidence));
        exit.unwrap_or(last).1
    }
}

/// The lowest threshold under which the texts for finding it lose at most `tolerance` percentage points of accuracy.
///
/// # Errors
/// A sentence where there are too few held-out texts.
pub(crate) fn find_threshold<B: Ops>(
    model: &Model<B>,
    exits: EarlyExit,
    held_out: &HeldOut,
    tolerance: f64,
) -> Result<Threshold, EvaluationError> {
    if held_out.for_reporting().next().is_none() {
        return Err(EvaluationError::Invalid(format!(
            "early_exit finds its threshold on half of the held-out texts and these are {BATCH} or fewer; use more validation_tokens, more held-out texts, or early_exit = 'none'"
        )));
    }
    let said: Vec<Said> = held_out
        .for_finding()
        .flat_map(|batch| said(model, exits, batch))
        .collect();
    let right = |threshold| said.iter().filter(|said| said.is_right(threshold)).count() as f64;
    let least = right(Threshold::NEVER) - tolerance / 100.0 * said.len() as f64;
    let found = Threshold::all().find(|threshold| right(*threshold) >= least);
    Ok(found.unwrap_or(Threshold::NEVER))
}

fn said<B: Ops>(model: &Model<B>, exits: EarlyExit, batch: Batch) -> Vec<Said> {
    let (inputs, targets) = to_device::<B>(batch, &model.device());
    let targets: Vec<i64> = targets.into_data().iter().collect();
    let mut all: Vec<Said> = targets.iter().map(|_| Said { depths: vec![] }).collect();
    for logits in model.forward_at_exits(inputs).0 {
        let outputs = logits.dims()[2];
        let values: Vec<f32> = logits.into_data().iter().collect();
        for ((said, target), logits) in all.iter_mut().zip(&targets).zip(values.chunks_exact(outputs)) {
            let chosen = largest(logits) as i64;
            said.depths
                .push((exits.criterion.confidence(logits), chosen == *target));
        }
    }
    all
}

fn largest(values: &[f32]) -> usize {
    let better = |best: usize, (i, value): (usize, &f32)| if *value > values[best] { i } else { best };
    values.iter().enumerate().fold(0, better)
}

/// What serving the texts for reporting gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    /// Of what is served.
    pub(crate) scores: Scores,
    /// Texts that all layers together name rightly.
    pub(crate) right_in_full: u64,
    /// Texts that all layers name rightly and exits do not.
    pub(crate) lost: u64,
}

impl Reported {
    /// The percentage points of accuracy that exits lose at most, with the stated confidence.
    pub(crate) fn bound(&self) -> f64 {
        100.0 * clopper_pearson(self.lost, self.scores.scored)
    }

    /// Percentage points that exits lose at most and how sure that is, for people.
    pub(crate) fn words(&self) -> String {
        format!(
            "all layers {:.4}, exits lose at most {:.1} points with {} % confidence (Clopper-Pearson)",
            self.right_in_full as f64 / self.scores.scored as f64,
            self.bound(),
            100.0 * CONFIDENCE
        )
    }
}

/// Serves the texts for reporting, and reads them with all layers beside it.
pub(crate) fn report<B: Ops>(model: &Model<B>, held_out: &HeldOut) -> Reported {
    let mut all = Reported::default();
    for batch in held_out.for_reporting() {
        let (inputs, targets) = to_device::<B>(batch, &model.device());
        let served = model.serve(inputs.clone());
        let full = model.forward(inputs).logits;
        let right = |logits: Tensor<B, 3>| -> Vec<bool> {
            let chosen = logits.squeeze_dim::<2>(1).argmax(1).squeeze_dim::<1>(1);
            let equal = chosen.equal(targets.clone()).int().into_data();
            equal.iter::<i64>().map(|is_right| is_right == 1).collect()
        };
        let (of_full, of_served) = (right(full), right(served.logits.clone()));
        let scored = of_full.len() as u64;
        let both = of_full.iter().zip(&of_served);
        all.lost += both.filter(|(full, served)| **full && !**served).count() as u64;
        all.right_in_full += of_full.iter().filter(|right| **right).count() as u64;
        all.scores.right += of_served.iter().filter(|right| **right).count() as u64;
        let loss = cross_entropy(served.logits.squeeze_dim::<2>(1), targets);
        all.scores.loss += f64::from(loss.into_scalar_f32()) * scored as f64;
        all.scores.scored += scored;
    }
    all
}

/// The upper bound of a share of which `seen` in `n` were seen: the share at which so few or fewer have probability
/// `1 - CONFIDENCE`.
fn clopper_pearson(seen: u64, n: u64) -> f64 {
    let so_few = |share: f64| -> f64 {
        // terms of the binomial law one from the other, in logarithms
        let mut term = n as f64 * (1.0 - share).ln();
        let mut sum = term.exp();
        for k in 1..=seen {
            term += ((n - k + 1) as f64 / k as f64 * share / (1.0 - share)).ln();
            sum += term.exp();
        }
        sum
    };
    if seen >= n {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if so_few(middle) > 1.0 - CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_that_of_tables() {
        // no event in n: 1 - 0.05^(1/n)
        assert!((clopper_pearson(0, 100) - 0.029_513).abs() < 1e-5);
        // the quantile 0.95 of the beta law (4, 47)
        assert!(
            (clopper_pearson(3, 50) - 0.147_774).abs() < 1e-4,
            "{}",
            clopper_pearson(3, 50)
        );
        assert_eq!(clopper_pearson(5, 5), 1.0);
    }

    #[test]
    fn a_text_leaves_at_the_first_exit_that_is_sure() {
        let said = Said {
            depths: vec![(0.5, false), (0.9, true), (0.2, false)],
        };
        let at = |text: &str| Threshold::try_from(text.to_owned()).unwrap();
        assert!(!said.is_right(Threshold::ALWAYS) && said.is_right(at("0.6000")));
        assert!(!said.is_right(at("0.9500")) && !said.is_right(Threshold::NEVER));
    }
}
