//! `recall`: associative recall, which separates full attention from fixed states.
//!
//! A row shows pairs `k v k v ...` with distinct keys and distinct values, then keys again, each followed by the value
//! that it was shown with; only those values are scored. A model that knows which values were shown, but not with which
//! key, guesses among those not yet asked for: with p pairs the i-th of q answers is right with probability
//! 1 / (p - i), i from 0. The mean over the answers is the chance level, and that of ln(p - i) the chance loss.
//! Several questions in one row: arXiv 2312.04927.

use rand::seq::index::sample;
use spaces::CorpusInfo;

use super::{
    Baseline, Content, Corpus, DataAccess, DataError, Loaded, Options, Origin, Tokenizer,
    examples::Examples,
    generate::{check_size, distinct},
    options::{seed, whole, wrong},
};

/// Key-value pairs and questions.
pub(super) struct Recall;

impl Corpus for Recall {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "recall".into(),
            doc: "associative recall: pairs of keys and values, then keys whose value is asked for".into(),
            needs_path: false,
            takes_tokenizer: false,
            options: vec![
                whole("pairs", "key-value pairs in a row", "", [2, 1_024], 8),
                whole(
                    "queries",
                    "keys asked for in a row, each at most once",
                    "",
                    [1, 1_024],
                    1,
                ),
                whole("keys", "distinct keys in the vocabulary", "", [2, 8_192], 32),
                whole("values", "distinct values in the vocabulary", "", [2, 8_192], 32),
                whole(
                    "train_examples",
                    "distinct rows to train on",
                    "",
                    [1, 1_000_000],
                    20_000,
                ),
                whole("valid_examples", "further rows held out", "", [1, 100_000], 1_000),
                seed(),
            ],
        }
    }

    fn load(&self, options: &Options, _: &DataAccess) -> Result<Loaded, DataError> {
        let [pairs, queries, keys, values] =
            ["pairs", "queries", "keys", "values"].map(|name| options.usize(name));
        for (name, most, of) in [
            ("queries", queries, pairs),
            ("pairs", pairs, keys),
            ("pairs", pairs, values),
        ] {
            if most > of {
                let limit = if name == "queries" {
                    "pairs"
                } else {
                    "keys and values"
                };
                let message = format!("{most} {name} need as many {limit}, but there are {of}; lower {name}");
                return Err(wrong(name, message));
            }
        }
        let held_out = options.usize("valid_examples");
        let wanted = options.usize("train_examples") + held_out;
        check_size(wanted, 2 * (pairs + queries))?;
        let rows = distinct(
            wanted,
            options.usize("seed") as u64,
            "raise keys, values or pairs",
            |rng| {
                let shown_keys = sample(rng, keys, pairs);
                let shown_values = sample(rng, values, pairs);
                let pair = |i| {
                    [
                        1 + shown_keys.index(i) as u16,
                        (1 + keys + shown_values.index(i)) as u16,
                    ]
                };
                let asked = sample(rng, pairs, queries);
                Some((0..pairs).chain(asked.iter()).flat_map(pair).collect())
            },
        )?;
        let (train, valid) = rows.split_at(wanted - held_out);
        let examples = |rows: &[Vec<u16>]| {
            let mut examples = match queries {
                1 => Examples::of_classes(1 + keys as u16..(1 + keys + values) as u16),
                _ => Examples::new(queries),
            };
            rows.iter().for_each(|row| examples.push(row.iter().copied()));
            examples
        };
        let words = std::iter::once("<pad>".to_owned())
            .chain((0..keys).map(|i| format!("k{i}")))
            .chain((0..values).map(|i| format!("v{i}")));
        Ok(Loaded {
            origin: Origin::Generated,
            notes: vec![],
            content: Content::Answers {
                train: examples(train),
                valid: examples(valid),
                tokenizer: Tokenizer::of_words(words.collect()),
                baseline: Some(chance(pairs, queries)),
            },
        })
    }
}

/// What is reached without knowing which value belongs to which key.
fn chance(pairs: usize, queries: usize) -> Baseline {
    let left = || (0..queries).map(|i| (pairs - i) as f64);
    Baseline {
        loss: left().map(f64::ln).sum::<f64>() / queries as f64,
        accuracy: left().map(f64::recip).sum::<f64>() / queries as f64,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::data::{Dataset, tests::spec};

    fn load(options: &[(&str, i64)]) -> Result<Dataset, DataError> {
        let options: Vec<_> = options.iter().map(|(k, v)| (*k, (*v).into())).collect();
        Dataset::load(&spec("recall", &options), &DataAccess::anywhere())
    }

    #[test]
    fn each_answer_is_the_value_of_its_key_and_guessing_reaches_the_chance_level() {
        let data = load(&[("pairs", 6), ("queries", 3), ("train_examples", 3_000)]).unwrap();
        let context = 2 * 6 + 2 * 3 - 1;
        assert!(data.check_context(context).is_ok());
        assert!(data.check_context(context - 1).is_err());
        let (mut right, mut asked) = (0, 0);
        for batch in data.validation(64, context, usize::MAX) {
            for (inputs, targets) in batch.inputs.chunks(context).zip(batch.targets.chunks(context)) {
                let shown: HashMap<u32, u32> = inputs[..12].chunks(2).map(|p| (p[0], p[1])).collect();
                assert_eq!(shown.len(), 6);
                let mut left: Vec<u32> = shown.values().copied().collect();
                left.sort_unstable();
                for at in (12..context).step_by(2) {
                    assert_eq!(targets[at], shown[&inputs[at]] as i32);
                    assert!(
                        targets[..12].iter().all(|t| *t == -1)
                            && targets.get(at + 1).is_none_or(|t| *t == -1)
                    );
                    asked += 1;
                    right += usize::from(left[0] as i32 == targets[at]);
                    left.retain(|v| *v as i32 != targets[at]);
                }
            }
        }
        let facts = data.facts();
        let expected = (1.0 / 6.0 + 1.0 / 5.0 + 1.0 / 4.0) / 3.0;
        assert!((facts.baseline.accuracy - expected).abs() < 1e-12);
        assert!((facts.baseline.loss - 120f64.ln() / 3.0).abs() < 1e-12);
        // guessing the smallest value left: 3000 answers, so three standard deviations are 0.022
        assert_eq!(asked, 3_000);
        assert!((right as f64 / asked as f64 - expected).abs() < 0.022);
        assert!(facts.answer_only && facts.bytes_per_token.is_none());
        assert_eq!(facts.vocab, 65);
    }

    #[test]
    fn impossible_rows_are_refused() {
        let message = load(&[("pairs", 40)]).unwrap_err().to_string();
        assert!(
            message.contains("40 pairs") && message.contains("there are 32"),
            "{message}"
        );
        let message = load(&[("queries", 9)]).unwrap_err().to_string();
        assert!(message.starts_with("data.queries: 9 queries"), "{message}");
        let message = load(&[("pairs", 2), ("keys", 2), ("values", 2), ("train_examples", 9)])
            .unwrap_err()
            .to_string();
        assert!(message.contains("only 8 of 1009"), "{message}");
    }
}
