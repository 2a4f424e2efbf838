//! What batches are cut from: one long text, or examples with an answer.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Batch, Corrupted, Corruption, DataError, Form, Rows,
    examples::{Examples, PAD},
};

/// Seed of the corruption of held-out texts.
const HELD_OUT_SEED: u64 = 0;

/// Tokens for training and tokens held out.
#[derive(Debug)]
pub(super) enum Samples {
    /// A text: every token is to be foretold.
    Stream { train: Vec<u32>, valid: Vec<u32> },
    /// Examples, one to a row: only their answers are scored.
    Answers { train: Examples, valid: Examples },
}

impl Samples {
    /// Tokens for training and tokens held out.
    pub(super) fn tokens(&self) -> (usize, usize) {
        match self {
            Samples::Stream { train, valid } => (train.len(), valid.len()),
            Samples::Answers { train, valid } => (train.tokens(), valid.tokens()),
        }
    }

    /// Classes that an example's one answer can be, where there are such.
    pub(super) fn classes(&self) -> Option<usize> {
        match self {
            Samples::Stream { .. } => None,
            Samples::Answers { train, .. } => train.classes(),
        }
    }

    /// Whether an example is two texts.
    pub(super) fn are_pairs(&self) -> bool {
        matches!(self, Samples::Answers { train, .. } if train.are_pairs())
    }

    /// Whether rows of `context` tokens can be cut for some form.
    pub(super) fn check_any(&self, context: usize) -> Result<(), DataError> {
        let form = if self.are_pairs() {
            Form::Pair
        } else {
            Form::NextToken
        };
        self.check(Rows { context, form })
    }

    pub(super) fn check(&self, Rows { context, form }: Rows) -> Result<(), DataError> {
        let message = match self {
            _ if context == 0 => "context 0 holds no token; use at least 1".to_owned(),
            Samples::Stream { .. } if context == 1 && matches!(form, Form::Spans(_)) => {
                "context 1 holds no span beside what is read; use at least 2".to_owned()
            }
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
                let lengths = || train.reads(form).chain(valid.reads(form));
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
                valid.reads(Form::NextToken).filter(|n| *n > context).count() as f64 / valid.len() as f64
            }
        }
    }

    pub(super) fn train_batch(&self, seed: u64, step: u64, examples: usize, rows: Rows) -> Batch {
        let Rows { context, form } = rows;
        // a stream of its own for each step makes the batch a function of its number
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step);
        if let (Samples::Stream { train, .. }, Form::Spans(corruption)) = (self, form) {
            let texts = (0..examples).map(|_| {
                let start = rng.random_range(0..=train.len() - context);
                corruption.corrupt(&train[start..start + context], &mut rng)
            });
            return Batch::of_spans(&texts.collect::<Vec<_>>(), context, corruption);
        }
        let mut batch = Batch::with_capacity(examples * form.texts(), context);
        for _ in 0..examples {
            match self {
                Samples::Stream { train, .. } => {
                    window(train, rng.random_range(0..train.len() - context), &mut batch);
                }
                Samples::Answers { train, .. } => {
                    train.row(rng.random_range(0..train.len()), &mut batch, form);
                }
            }
        }
        batch
    }

    /// Examples that the held-out part fills.
    fn valid_examples(&self, Rows { context, form }: Rows) -> usize {
        match self {
            // a rest of one token has no span beside what is read
            Samples::Stream { valid, .. } if matches!(form, Form::Spans(_)) => {
                valid.len() / context + usize::from(valid.len() % context > 1)
            }
            Samples::Stream { valid, .. } => (valid.len() - 1).div_ceil(context),
            Samples::Answers { valid, .. } => valid.len(),
        }
    }

    pub(super) fn validation(
        &self,
        examples: usize,
        rows: Rows,
        max_tokens: usize,
    ) -> impl Iterator<Item = Batch> {
        let Rows { context, form } = rows;
        let all = self.valid_examples(rows);
        let used = all.min((max_tokens / (context * form.texts())).max(1));
        (0..used).step_by(examples).map(move |first| {
            // spread over the whole part, because a folder's last files are not like its first
            let rows = (first..used.min(first + examples)).map(|row| row * all / used);
            if let (Samples::Stream { valid, .. }, Form::Spans(corruption)) = (self, form) {
                let texts: Vec<_> = rows
                    .map(|row| held_out(valid, row, context, corruption))
                    .collect();
                return Batch::of_spans(&texts, context, corruption);
            }
            let mut batch = Batch::with_capacity(examples * form.texts(), context);
            for row in rows {
                match self {
                    Samples::Stream { valid, .. } => window(valid, row * context, &mut batch),
                    Samples::Answers { valid, .. } => valid.row(row, &mut batch, form),
                }
            }
            batch
        })
    }
}

/// A held-out text of up to `context` tokens, corrupted the same way whatever is trained and however often it is asked for.
fn held_out(valid: &[u32], row: usize, context: usize, corruption: Corruption) -> Corrupted {
    let mut rng = ChaCha8Rng::seed_from_u64(HELD_OUT_SEED);
    rng.set_stream(row as u64);
    let start = row * context;
    corruption.corrupt(&valid[start..valid.len().min(start + context)], &mut rng)
}

/// Adds the tokens from `start` and their successors; the end of the text may leave the row short.
fn window(tokens: &[u32], start: usize, batch: &mut Batch) {
    let end = (start + batch.context).min(tokens.len() - 1);
    let targets = tokens[start + 1..=end].iter().map(|t| *t as i32);
    batch.push(&tokens[start..end], targets, PAD);
}

#[cfg(test)]
mod span_tests;

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
            prop_assume!(samples.check(context.into()).is_ok());
            let batch = samples.train_batch(seed, step, rows, context.into());
            prop_assert_eq!(&batch, &samples.train_batch(seed, step, rows, context.into()));
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
            for batch in samples.validation(rows, context.into(), usize::MAX) {
                prop_assert!(batch.batch <= rows && batch.inputs.len() == batch.batch * context);
                seen.extend(batch.targets.iter().filter(|t| **t >= 0));
            }
            prop_assert_eq!(seen, (1001..1000 + valid as i32).collect::<Vec<_>>());
        }

        #[test]
        fn a_limited_validation_is_spread_and_does_not_overlap(max in 1usize..400, context in 1usize..20) {
            let samples = stream(500, 300);
            let batches: Vec<_> = samples.validation(4, context.into(), max).collect();
            let rows: usize = batches.iter().map(|b| b.batch).sum();
            prop_assert_eq!(rows, (max / context).clamp(1, 299usize.div_ceil(context)));
            let starts: Vec<u32> = batches.iter().flat_map(|b| b.inputs.iter().step_by(context)).copied().collect();
            prop_assert!(starts.windows(2).all(|w| w[1] >= w[0] + context as u32));
        }
    }

    #[test]
    fn each_step_and_seed_has_its_own_batch() {
        let samples = stream(900, 50);
        let first = samples.train_batch(1, 1, 4, 8.into());
        assert_ne!(first, samples.train_batch(1, 2, 4, 8.into()));
        assert_ne!(first, samples.train_batch(2, 1, 4, 8.into()));
    }

    #[test]
    fn windows_reach_both_ends_of_the_training_text() {
        let samples = stream(6, 2);
        let batch = samples.train_batch(0, 0, 200, 4.into());
        assert!(batch.inputs.contains(&0) && batch.targets.contains(&5));
    }

    #[test]
    fn only_answers_are_scored() {
        let samples = answers(1, &[&[5, 6, 7, 16, 3]]);
        let batch = samples.train_batch(0, 0, 1, 6.into());
        assert_eq!(batch.inputs, [5, 6, 7, 16, 0, 0]);
        assert_eq!(batch.targets, [-1, -1, -1, 3, -1, -1]);
        let short = samples.validation(1, 2.into(), 9).next().unwrap();
        assert_eq!((short.inputs, short.targets), (vec![5, 16], vec![-1, 3]));
        assert_eq!((samples.cut_share(2), samples.cut_share(4)), (1.0, 0.0));

        let samples = answers(2, &[&[1, 9, 2, 8, 2, 8, 1, 9]]);
        let batch = samples.train_batch(0, 0, 1, 7.into());
        assert_eq!(batch.inputs, [1, 9, 2, 8, 2, 8, 1]);
        assert_eq!(batch.targets, [-1, -1, -1, -1, 8, -1, 9]);
        let Samples::Answers { valid, .. } = &samples else {
            unreachable!()
        };
        assert_eq!(valid.answers().collect::<Vec<_>>(), [9, 8]);
    }

    #[test]
    fn a_class_is_asked_of_the_example_without_its_answer() {
        let fill = || {
            let mut e = Examples::of_classes(20..24);
            e.push([5, 6, 16, 22]);
            e
        };
        let samples = Samples::Answers {
            train: fill(),
            valid: fill(),
        };
        assert_eq!((samples.classes(), samples.are_pairs()), (Some(4), false));
        let rows = |context| Rows {
            context,
            form: Form::Class,
        };
        let batch = samples.train_batch(0, 0, 2, rows(5));
        assert_eq!(
            (batch.batch, &batch.inputs[..5]),
            (2, [5, 6, 16, 0, 0].as_slice())
        );
        assert_eq!((batch.lengths, batch.targets), (vec![3, 3], vec![2, 2]));
        let short = samples.validation(1, rows(2), 99).next().unwrap();
        assert_eq!((short.inputs, short.lengths), (vec![5, 16], vec![2]));
    }

    #[test]
    fn the_two_texts_of_a_pair_are_rows_of_their_own() {
        let fill = || {
            let mut e = Examples::of_pairs(20..22, 9);
            e.push([5, 6, 7, 9, 8, 16, 21]);
            e
        };
        let samples = Samples::Answers {
            train: fill(),
            valid: fill(),
        };
        assert!(samples.are_pairs());
        let rows = |context, form| Rows { context, form };
        let batch = samples.train_batch(0, 0, 1, rows(4, Form::Pair));
        assert_eq!((batch.batch, batch.inputs), (2, vec![5, 6, 7, 0, 8, 0, 0, 0]));
        assert_eq!((batch.lengths, batch.targets), (vec![3, 1], vec![1]));
        let cut = samples.validation(1, rows(2, Form::Pair), 99).next().unwrap();
        assert_eq!((cut.inputs, cut.lengths), (vec![5, 6, 8, 0], vec![2, 1]));
        let joint = samples.train_batch(0, 0, 1, rows(6, Form::Class));
        assert_eq!((joint.inputs, joint.targets), (vec![5, 6, 7, 9, 8, 16], vec![1]));
        assert!(samples.check(rows(1, Form::Pair)).is_ok() && samples.check(rows(1, Form::Class)).is_err());
        assert!(samples.check_any(1).is_ok());
    }

    #[test]
    fn a_context_that_does_not_fit_is_named() {
        let message = |s: &Samples, context| s.check(Rows::from(context)).unwrap_err().to_string();
        assert!(message(&stream(10, 5), 10).contains("context 10 is too long"));
        assert!(stream(10, 5).check(9.into()).is_ok());
        assert!(message(&stream(10, 1), 4).contains("1 held-out tokens"));
        assert!(message(&stream(10, 5), 0).contains("context 0"));
        let examples = answers(1, &[&[5, 6, 16, 3], &[5, 6, 7, 16, 3]]);
        assert!(message(&examples, 2).contains("at least 3 (the longest takes 4)"));
        assert!(examples.check(3.into()).is_ok());
    }
}
