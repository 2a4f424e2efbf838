//! Rows of texts with gaps.

use proptest::prelude::*;

use super::*;

/// Training tokens below 1000, held-out tokens from 1000 on, each its own position.
fn stream(train: u32, valid: u32) -> Samples {
    Samples::Stream {
        train: (0..train).collect(),
        valid: (1000..1000 + valid).collect(),
    }
}

const SPANS: Corruption = Corruption {
    rate: 0.3,
    mean_span: 2.0,
    start: 5000,
};

fn spans(context: usize) -> Rows {
    Rows {
        context,
        form: Form::Spans(SPANS),
    }
}

/// The tokens of a corrupted row's text, in the order of their positions.
fn text_of(batch: &Batch, row: usize) -> Vec<u32> {
    let n = batch.targets.len() / batch.batch;
    let read = batch.inputs[row * batch.context..][..batch.lengths[row]]
        .iter()
        .copied();
    let written = batch.targets[row * n..][..n]
        .iter()
        .filter(|t| **t >= 0)
        .map(|t| *t as u32);
    let mut all: Vec<u32> = read.chain(written).filter(|t| *t < SPANS.start).collect();
    all.sort_unstable();
    all
}

proptest! {
    #[test]
    fn corrupted_rows_hold_texts_of_the_training_part(
        train in 3u32..900, seed: u64, step: u64, rows in 1usize..5, context in 2usize..40,
    ) {
        let samples = stream(train, 50);
        prop_assume!(samples.check(spans(context)).is_ok());
        let batch = samples.train_batch(seed, step, rows, spans(context));
        prop_assert_eq!(&batch, &samples.train_batch(seed, step, rows, spans(context)));
        let written = SPANS.written(context);
        prop_assert_eq!((batch.batch, batch.context), (rows, SPANS.read(context)));
        prop_assert_eq!(&batch.lengths, &vec![SPANS.read(context); rows], "no row of a training is padded");
        prop_assert_eq!(batch.scored(), rows * written);
        for row in 0..rows {
            let text = text_of(&batch, row);
            prop_assert_eq!(text.len(), context);
            prop_assert!(text.windows(2).all(|w| w[1] == w[0] + 1) && text[context - 1] < train);
            // what the writing half is given is what it wrote before
            let given = &batch.written[row * written..][..written];
            prop_assert_eq!(given[0], SPANS.start);
            let before = batch.targets[row * written..][..written - 1].iter().map(|t| *t as u32);
            prop_assert!(given[1..].iter().copied().eq(before));
        }
    }

    #[test]
    fn held_out_spans_are_always_the_same_and_cover_the_whole_part(
        valid in 2u32..300, rows in 1usize..5, context in 2usize..40,
    ) {
        let samples = stream(500, valid);
        let all = |rows| samples.validation(rows, spans(context), usize::MAX).collect::<Vec<_>>();
        let mut seen = vec![];
        for batch in all(rows) {
            for row in 0..batch.batch {
                seen.extend(text_of(&batch, row));
                let n = batch.written.len() / batch.batch;
                prop_assert_eq!(batch.targets.len() / batch.batch, n);
                prop_assert!(batch.lengths[row] <= batch.context);
            }
        }
        let left_out = u32::from(valid as usize % context == 1);
        prop_assert_eq!(seen, (1000..1000 + valid - left_out).collect::<Vec<_>>());
        let one_by_one = |batches: Vec<Batch>| batches.into_iter().flat_map(|b| b.targets).collect::<Vec<_>>();
        prop_assert_eq!(one_by_one(all(rows)), one_by_one(all(1)), "whatever the batch");
    }
}

#[test]
fn each_step_and_seed_has_its_own_spans() {
    let samples = stream(9, 50);
    let batch = |seed, step| samples.train_batch(seed, step, 4, spans(8));
    assert_ne!(batch(1, 1), batch(1, 2));
    assert_ne!(batch(1, 1), batch(2, 1));
    let message = samples.check(spans(1)).unwrap_err().to_string();
    assert!(message.contains("context 1 holds no span"), "{message}");
}
