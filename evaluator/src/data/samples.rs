//! What batches are cut from: one long text, or examples with an answer.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Batch, DataError};

/// Tokens for training and tokens held out.
#[derive(Debug)]
pub(super) enum Samples {
    /// A text: every token is to be foretold.
    Stream { train: Vec<u32>, valid: Vec<u32> },
    /// Examples, one to a row: only their answers are scored.
    Answers { train: Examples, valid: Examples },
}

/// Token sequences that end in questions and answers.
#[derive(Debug)]
pub(super) struct Examples {
    /// All sequences, one after the other; 16 bits because a hundred thousand long examples are kept at once.
    tokens: Vec<u16>,
    /// Where each sequence ends.
    ends: Vec<usize>,
    /// Answers in a sequence: its last token, and every second token before it.
    queries: usize,
}

/// Fills the row behind a short example; corpora of examples keep this id free.
pub(super) const PAD: u32 = 0;

impl Examples {
    pub(super) fn new(queries: usize) -> Self {
        Examples {
            tokens: vec![],
            ends: vec![],
            queries,
        }
    }

    pub(super) fn push(&mut self, tokens: impl IntoIterator<Item = u16>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, i: usize) -> &[u16] {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[start..self.ends[i]]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u16]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Every answer of every example.
    pub(super) fn answers(&self) -> impl Iterator<Item = u16> {
        self.iter()
            .flat_map(|tokens| tokens.iter().rev().step_by(2).take(self.queries).copied())
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let tokens = self.tokens.iter().flat_map(|t| t.to_le_bytes());
        let ends = self.ends.iter().flat_map(|e| (*e as u64).to_le_bytes());
        tokens.chain(ends).collect()
    }

    /// Tokens of each example that are read before its last answer.
    fn reads(&self) -> impl Iterator<Item = usize> {
        self.iter().map(|tokens| tokens.len() - 1)
    }

    /// Adds an example as a row; one that does not fit loses the end of its body and keeps the question.
    fn row(&self, i: usize, batch: &mut Batch) {
        let tokens = self.get(i);
        let (read, answer) = tokens.split_at(tokens.len() - 1);
        let kept = read.len().min(batch.context);
        let mut inputs: Vec<u32> = read[..kept].iter().map(|t| u32::from(*t)).collect();
        let mut targets = vec![-1; kept];
        inputs[kept - 1] = u32::from(read[read.len() - 1]);
        targets[kept - 1] = i32::from(answer[0]);
        for back in (2..2 * self.queries).step_by(2) {
            targets[kept - 1 - back] = i32::from(tokens[tokens.len() - 1 - back]);
        }
        batch.push(&inputs, targets.into_iter(), PAD);
    }
}

impl Samples {
    /// Tokens for training and tokens held out.
    pub(super) fn tokens(&self) -> (usize, usize) {
        match self {
            Samples::Stream { train, valid } => (train.len(), valid.len()),
            Samples::Answers { train, valid } => (train.tokens.len(), valid.tokens.len()),
        }
    }

    pub(super) fn check_context(&self, context: usize) -> Result<(), DataError> {
        let message = match self {
            _ if context == 0 => "context 0 holds no token; use at least 1".to_owned(),
            Samples::Stream { train, .. } if train.len() <= context => format!(
                "context {context} is too long for a training text of {} tokens; use at most {} or give more text",
                train.len(),
                train.len().saturating_sub(1)
            ),
            Samples::Stream { valid, .. } if valid.len() < 2 => format!(
                "{} held-out tokens are too few to validate on; give more text or raise validation_fraction",
                valid.len()
            ),
            Samples::Stream { .. } => return Ok(()),
            Samples::Answers { train, valid } => {
                let lengths = || train.reads().chain(valid.reads());
                let (least, most) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
                if context >= least {
                    return Ok(());
                }
                format!(
                    "context {context} holds no example of this corpus; use at least {least} (the longest takes {most})"
                )
            }
        };
        Err(DataError::Context(message))
    }

    /// Share of the held-out examples that a context cuts.
    pub(super) fn cut_share(&self, context: usize) -> f64 {
        match self {
            Samples::Stream { .. } => 0.0,
            Samples::Answers { valid, .. } => {
                valid.reads().filter(|n| *n > context).count() as f64 / valid.len() as f64
            }
        }
    }

    pub(super) fn train_batch(&self, seed: u64, step: u64, rows: usize, context: usize) -> Batch {
        // a stream of its own for each step makes the batch a function of its number
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step);
        let mut batch = Batch::with_capacity(rows, context);
        for _ in 0..rows {
            match self {
                Samples::Stream { train, .. } => {
                    window(train, rng.random_range(0..train.len() - context), &mut batch);
                }
                Samples::Answers { train, .. } => train.row(rng.random_range(0..train.len()), &mut batch),
            }
        }
        batch
    }

    /// Rows that the held-out part fills.
    fn valid_rows(&self, context: usize) -> usize {
        match self {
            Samples::Stream { valid, .. } => (valid.len() - 1).div_ceil(context),
            Samples::Answers { valid, .. } => valid.len(),
        }
    }

    pub(super) fn validation(
        &self,
        rows: usize,
        context: usize,
        max_tokens: usize,
    ) -> impl Iterator<Item = Batch> {
        let all = self.valid_rows(context);
        let used = all.min((max_tokens / context).max(1));
        (0..used).step_by(rows).map(move |first| {
            let mut batch = Batch::with_capacity(rows, context);
            for row in first..used.min(first + rows) {
                // spread over the whole part, because a folder's last files are not like its first
                let row = row * all / used;
                match self {
                    Samples::Stream { valid, .. } => window(valid, row * context, &mut batch),
                    Samples::Answers { valid, .. } => valid.row(row, &mut batch),
                }
            }
            batch
        })
    }
}

/// Adds the tokens from `start` and their successors; the end of the text may leave the row short.
fn window(tokens: &[u32], start: usize, batch: &mut Batch) {
    let end = (start + batch.context).min(tokens.len() - 1);
    let targets = tokens[start + 1..=end].iter().map(|t| *t as i32);
    batch.push(&tokens[start..end], targets, PAD);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Training tokens below 1000, held-out tokens from 1000 on, each its own position.
    fn stream(train: u32, valid: u32) -> Samples {
        Samples::Stream {
            train: (0..train).collect(),
            valid: (1000..1000 + valid).collect(),
        }
    }

    fn answers(queries: usize, examples: &[&[u16]]) -> Samples {
        let fill = || {
            let mut e = Examples::new(queries);
            examples.iter().for_each(|tokens| e.push(tokens.iter().copied()));
            e
        };
        Samples::Answers {
            train: fill(),
            valid: fill(),
        }
    }

    proptest! {
        #[test]
        fn training_rows_follow_the_text_and_stay_out_of_the_held_out_part(
            train in 2u32..900, seed: u64, step: u64, rows in 1usize..5, context in 1usize..40,
        ) {
            let samples = stream(train, 50);
            prop_assume!(samples.check_context(context).is_ok());
            let batch = samples.train_batch(seed, step, rows, context);
            prop_assert_eq!(&batch, &samples.train_batch(seed, step, rows, context));
            prop_assert_eq!(batch.inputs.len(), rows * context);
            prop_assert_eq!(batch.scored(), rows * context);
            for (input, target) in batch.inputs.iter().zip(&batch.targets) {
                prop_assert!(*input < train && *target == *input as i32 + 1 && *target < train as i32);
            }
        }

        #[test]
        fn validation_scores_every_held_out_token_once(
            valid in 2u32..300, rows in 1usize..5, context in 1usize..40,
        ) {
            let samples = stream(500, valid);
            let mut seen: Vec<i32> = vec![];
            for batch in samples.validation(rows, context, usize::MAX) {
                prop_assert!(batch.batch <= rows && batch.inputs.len() == batch.batch * context);
                seen.extend(batch.targets.iter().filter(|t| **t >= 0));
            }
            prop_assert_eq!(seen, (1001..1000 + valid as i32).collect::<Vec<_>>());
        }

        #[test]
        fn a_limited_validation_is_spread_and_does_not_overlap(max in 1usize..400, context in 1usize..20) {
            let samples = stream(500, 300);
            let batches: Vec<_> = samples.validation(4, context, max).collect();
            let rows: usize = batches.iter().map(|b| b.batch).sum();
            prop_assert_eq!(rows, (max / context).clamp(1, 299usize.div_ceil(context)));
            let starts: Vec<u32> = batches.iter().flat_map(|b| b.inputs.iter().step_by(context)).copied().collect();
            prop_assert!(starts.windows(2).all(|w| w[1] >= w[0] + context as u32));
        }
    }

    #[test]
    fn each_step_and_seed_has_its_own_batch() {
        let samples = stream(900, 50);
        let first = samples.train_batch(1, 1, 4, 8);
        assert_ne!(first, samples.train_batch(1, 2, 4, 8));
        assert_ne!(first, samples.train_batch(2, 1, 4, 8));
    }

    #[test]
    fn windows_reach_both_ends_of_the_training_text() {
        let samples = stream(6, 2);
        let batch = samples.train_batch(0, 0, 200, 4);
        assert!(batch.inputs.contains(&0) && batch.targets.contains(&5));
    }

    #[test]
    fn only_answers_are_scored() {
        let samples = answers(1, &[&[5, 6, 7, 16, 3]]);
        let batch = samples.train_batch(0, 0, 1, 6);
        assert_eq!(batch.inputs, [5, 6, 7, 16, 0, 0]);
        assert_eq!(batch.targets, [-1, -1, -1, 3, -1, -1]);
        let short = samples.validation(1, 2, 9).next().unwrap();
        assert_eq!((short.inputs, short.targets), (vec![5, 16], vec![-1, 3]));
        assert_eq!((samples.cut_share(2), samples.cut_share(4)), (1.0, 0.0));

        let samples = answers(2, &[&[1, 9, 2, 8, 2, 8, 1, 9]]);
        let batch = samples.train_batch(0, 0, 1, 7);
        assert_eq!(batch.inputs, [1, 9, 2, 8, 2, 8, 1]);
        assert_eq!(batch.targets, [-1, -1, -1, -1, 8, -1, 9]);
        let Samples::Answers { valid, .. } = &samples else {
            unreachable!()
        };
        assert_eq!(valid.answers().collect::<Vec<_>>(), [9, 8]);
    }

    #[test]
    fn a_context_that_does_not_fit_is_named() {
        let message = |s: &Samples, context| s.check_context(context).unwrap_err().to_string();
        assert!(message(&stream(10, 5), 10).contains("context 10 is too long"));
        assert!(stream(10, 5).check_context(9).is_ok());
        assert!(message(&stream(10, 1), 4).contains("1 held-out tokens"));
        assert!(message(&stream(10, 5), 0).contains("context 0"));
        let examples = answers(1, &[&[5, 6, 16, 3], &[5, 6, 7, 16, 3]]);
        assert!(message(&examples, 2).contains("at least 3 (the longest takes 4)"));
        assert!(examples.check_context(3).is_ok());
    }
}
