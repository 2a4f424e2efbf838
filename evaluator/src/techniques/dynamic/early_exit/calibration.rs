//! Finding the threshold of exits on held-out texts, and scoring on other ones what it costs.
//!
//! A text's layers do not know of exits, so what each of them says of it tells of every threshold. What a token of a decoder
//! sees of those before it depends on where they left, so each threshold in question is served whole.

use burn::tensor::{Int, Tensor};

use super::{EarlyExit, Heard, Threshold, largest};
use crate::{
    EvaluationError,
    data::{Batch, Dataset, Form, Rows},
    model::Model,
    ops::{Ops, cross_entropy},
    training::{IntoF32, Scores, to_device},
};

/// Texts of one answer read at once.
const TEXTS: usize = 16;
/// Rows of a text that goes on, read at once.
const ROWS: usize = 4;
/// Tokens of such rows that a threshold is found on, at most: they are read once for each that is tried.
const FOUND_ON: usize = 16_384;
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
    /// # Errors
    /// A sentence where there are too few of them to halve.
    pub(crate) fn check(&self) -> Result<(), EvaluationError> {
        if self.for_reporting().next().is_some() {
            return Ok(());
        }
        Err(EvaluationError::Invalid(format!(
            "early_exit finds its threshold on half of the held-out texts and these are {} or fewer; use more validation_tokens, more held-out texts, or early_exit = 'none'",
            self.at_once()
        )))
    }

    /// Texts read at once.
    fn at_once(&self) -> usize {
        match self.rows.form {
            Form::NextToken | Form::Spans(_) => ROWS,
            Form::Class | Form::Pair => TEXTS,
        }
    }

    fn every_other(&self, first: usize) -> impl Iterator<Item = Batch> {
        let all = self.data.validation(self.at_once(), self.rows, self.tokens);
        all.skip(first).step_by(2)
    }

    /// Those that the threshold is found on.
    fn for_finding(&self) -> impl Iterator<Item = Batch> {
        self.every_other(0)
    }

    /// Those that it is not found on, each a batch of its own.
    pub(crate) fn one_by_one(&self) -> impl Iterator<Item = Batch> {
        let (all, at_once) = (
            self.data.validation(1, self.rows, self.tokens).enumerate(),
            self.at_once(),
        );
        all.filter(move |(i, _)| (i / at_once) % 2 == 1)
            .map(|(_, text)| text)
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

/// The lowest threshold under which the texts for finding it lose at most `tolerance` percentage points of accuracy; of a
/// decoder, of its next tokens, the lowest that halving finds.
///
/// # Errors
/// A sentence where there are too few held-out texts.
pub(crate) fn find_threshold<B: Ops>(
    model: &Model<B>,
    exits: EarlyExit,
    held_out: &HeldOut,
    tolerance: f64,
) -> Result<Threshold, EvaluationError> {
    held_out.check()?;
    let least = |right: u64, scored: u64| right as f64 - tolerance / 100.0 * scored as f64;
    if held_out.rows.form == Form::NextToken {
        let batches = FOUND_ON.div_ceil(ROWS * held_out.rows.context);
        let under = |threshold| {
            let exits = EarlyExit { threshold, ..exits };
            let all = held_out.for_finding().take(batches);
            all.fold([0; 2], |[right, scored], batch| {
                let of_batch = batch.scored() as u64;
                let (inputs, targets) = to_device::<B>(batch, &model.device());
                let served = model.serve_at_once(exits, inputs).logits;
                [right + count(&right_of(served, &targets)), scored + of_batch]
            })
        };
        let [right, scored] = under(Threshold::NEVER);
        let least = least(right, scored);
        return Ok(Threshold::lowest(|threshold| under(threshold)[0] as f64 >= least));
    }
    let said: Vec<Said> = held_out
        .for_finding()
        .flat_map(|batch| said(model, exits, batch))
        .collect();
    let right = |threshold| said.iter().filter(|said| said.is_right(threshold)).count();
    let least = least(right(Threshold::NEVER) as u64, said.len() as u64);
    let found = Threshold::all().find(|threshold| right(*threshold) as f64 >= least);
    Ok(found.unwrap_or(Threshold::NEVER))
}

fn said<B: Ops>(model: &Model<B>, exits: EarlyExit, batch: Batch) -> Vec<Said> {
    let (inputs, targets) = to_device::<B>(batch, &model.device());
    let targets: Vec<i64> = targets.into_data().iter().collect();
    let mut all: Vec<Said> = targets.iter().map(|_| Said { depths: vec![] }).collect();
    let mut heard = vec![Heard::default(); all.len()];
    let places = exits.places(model.blocks.len());
    for logits in model.forward_at_exits(inputs).0 {
        let outputs = logits.dims()[2];
        let values: Vec<f32> = logits.into_data().iter().collect();
        let texts = all.iter_mut().zip(&mut heard).zip(&targets);
        for (((said, heard), target), logits) in texts.zip(values.chunks_exact(outputs)) {
            let confidence = exits.criterion.confidence(logits, heard, places);
            said.depths.push((confidence, largest(logits) as i64 == *target));
        }
    }
    all
}

/// Whether the most likely output is the target, for each of those of logits `[b, n, outputs]`; none is for a target below 0.
fn right_of<B: Ops>(logits: Tensor<B, 3>, targets: &Tensor<B, 1, Int>) -> Vec<bool> {
    let [b, n, outputs] = logits.dims();
    let chosen = logits.reshape([b * n, outputs]).argmax(1).squeeze_dim::<1>(1);
    let equal = chosen.equal(targets.clone()).int().into_data();
    equal.iter::<i64>().map(|is_right| is_right == 1).collect()
}

fn count(which: &[bool]) -> u64 {
    which.iter().filter(|is| **is).count() as u64
}

/// What serving the texts for reporting gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    /// Of what is served.
    pub(crate) scores: Scores,
    /// Texts or tokens that all layers together name rightly.
    pub(crate) right_in_full: u64,
    /// Those that all layers name rightly and exits do not.
    pub(crate) lost: u64,
}

impl Reported {
    /// The percentage points of accuracy that exits lose at most, with the stated confidence.
    pub(crate) fn bound(&self) -> f64 {
        100.0 * clopper_pearson(self.lost, self.scores.scored)
    }

    /// Percentage points that exits lose at most and how sure that is, if what is `scored` is independent, for people.
    pub(crate) fn words(&self, scored: &str) -> String {
        format!(
            "all layers {:.4}, exits lose at most {:.1} points with {} % confidence (Clopper-Pearson, for independent {scored})",
            self.right_in_full as f64 / self.scores.scored as f64,
            self.bound(),
            100.0 * CONFIDENCE
        )
    }
}

/// Serves the texts for reporting, and reads them with all layers beside it.
pub(crate) fn report<B: Ops>(model: &Model<B>, held_out: &HeldOut) -> Reported {
    let mut all = Reported::default();
    let exits = model.exits.expect("only a model with exits is asked for them");
    for batch in held_out.for_reporting() {
        let scored = batch.scored() as u64;
        let (inputs, targets) = to_device::<B>(batch, &model.device());
        let served = match held_out.rows.form {
            Form::NextToken => model.serve_at_once(exits, inputs.clone()),
            _ => model.serve(inputs.clone()),
        };
        let of_full = right_of(model.forward(inputs).logits, &targets);
        let of_served = right_of(served.logits.clone(), &targets);
        let both = of_full.iter().zip(&of_served);
        all.lost += both.filter(|(full, served)| **full && !**served).count() as u64;
        all.right_in_full += count(&of_full);
        all.scores.right += count(&of_served);
        let [b, n, outputs] = served.logits.dims();
        let loss = cross_entropy(served.logits.reshape([b * n, outputs]), targets);
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
    fn one_half_of_the_rows_of_a_text_tells_and_the_other_is_reported() {
        let spec = spaces::DataSpec {
            corpus: "markov".into(),
            options: [("length".to_owned(), 4000i64.into())].into(),
        };
        let data = Dataset::load(&spec, &crate::data::DataAccess::anywhere()).unwrap();
        let held_out = |tokens| HeldOut {
            data: &data,
            rows: 16.into(),
            tokens,
        };
        let rows = |batches: &mut dyn Iterator<Item = Batch>| -> Vec<Vec<u32>> {
            let rows = batches.flat_map(|batch| {
                let rows: Vec<_> = batch.inputs.chunks_exact(16).map(<[u32]>::to_vec).collect();
                rows
            });
            rows.collect()
        };
        let all = held_out(usize::MAX);
        let found = rows(&mut all.for_finding());
        let reported = rows(&mut all.for_reporting());
        assert_eq!(rows(&mut all.one_by_one()), reported);
        let whole = rows(&mut data.validation(1, 16, usize::MAX));
        assert_eq!(found.len() + reported.len(), whole.len());
        for (i, row) in whole.iter().enumerate() {
            let half = if (i / ROWS).is_multiple_of(2) {
                &found
            } else {
                &reported
            };
            assert!(half.contains(row), "row {i}");
        }
        assert!(all.check().is_ok());
        let error = held_out(ROWS * 16).check().unwrap_err().to_string();
        assert!(error.contains("use more validation_tokens"), "{error}");
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
