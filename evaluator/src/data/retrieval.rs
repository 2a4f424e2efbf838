//! `retrieval`: do two documents belong together? A made stand-in for the retrieval task of Long Range Arena
//! (arXiv 2011.04006), which asks it of papers that cite one another.
//!
//! Each topic has a vocabulary of its own, drawn at random from all words; vocabularies may share words. A document is of
//! one topic and takes a share of its words from there, the others from all words. The answer is `yes` where both
//! documents are of one topic. Answers are even, and the topic of each document and both lengths are drawn before the
//! answer matters: neither document alone, nor any length, says anything of it. So the trivial answer is right in half
//! of all cases.

use rand::{Rng, RngExt, SeedableRng, seq::index::sample};
use rand_chacha::ChaCha8Rng;
use spaces::CorpusInfo;

use super::{
    Baseline, Content, Corpus, DataAccess, DataError, Loaded, Options, Origin, Tokenizer,
    examples::Examples,
    generate::{check_size, distinct},
    options::{real, seed, whole, wrong},
};

/// Pairs of documents.
pub(super) struct Retrieval;

/// Keeps the topics' words apart from the documents that are drawn from them.
const TOPICS: u64 = u64::MAX;

impl Corpus for Retrieval {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "retrieval".into(),
            doc: "pairs of documents that share a hidden topic or do not; only the answer is scored".into(),
            needs_path: false,
            takes_tokenizer: false,
            options: vec![
                whole("topics", "topics that documents are of", "", [2, 1_024], 8),
                whole("words", "distinct words in the vocabulary", "", [8, 32_768], 64),
                whole("topic_words", "words of each topic", "", [1, 32_768], 8),
                real(
                    "topic_share",
                    "share of a document's words that are its topic's; the others are any words",
                    [0.01, 1.0],
                    0.5,
                ),
                whole("min_length", "shortest document", "tokens", [1, 10_000], 16),
                whole("max_length", "longest document", "tokens", [1, 10_000], 32),
                whole(
                    "train_examples",
                    "distinct pairs to train on",
                    "",
                    [1, 1_000_000],
                    20_000,
                ),
                whole(
                    "valid_examples",
                    "further pairs held out",
                    "",
                    [1, 100_000],
                    2_000,
                ),
                seed(),
            ],
        }
    }

    fn load(&self, options: &Options, _: &DataAccess) -> Result<Loaded, DataError> {
        let [topics, words, topic_words, shortest, longest] =
            ["topics", "words", "topic_words", "min_length", "max_length"].map(|name| options.usize(name));
        if topic_words >= words {
            let message = format!(
                "topics of {topic_words} of {words} words are no different from one another; lower topic_words"
            );
            return Err(wrong("topic_words", message));
        }
        if shortest > longest {
            let message = format!("no length lies between min_length {shortest} and max_length {longest}");
            return Err(wrong("max_length", format!("{message}; raise max_length")));
        }
        let (held_out, number) = (options.usize("valid_examples"), options.usize("seed") as u64);
        let wanted = options.usize("train_examples") + held_out;
        check_size(wanted, 2 * longest + 3)?;
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        rng.set_stream(TOPICS);
        let source = Source {
            topics: (0..topics)
                .map(|_| sample(&mut rng, words, topic_words).into_vec())
                .collect(),
            words,
            share: options.f64("topic_share"),
            lengths: [shortest, longest],
        };
        let remedy = "raise words, topics or max_length";
        let pairs = distinct(wanted, number, remedy, |rng| Some(source.pair(rng)))?;
        let (train, valid) = pairs.split_at(wanted - held_out);
        let examples = |pairs: &[Vec<u16>]| {
            let mut examples =
                Examples::of_pairs(source.answer(false)..source.answer(true) + 1, source.separator());
            pairs.iter().for_each(|pair| examples.push(pair.iter().copied()));
            examples
        };
        let vocabulary = std::iter::once("<pad>".to_owned())
            .chain((0..words).map(|i| format!("w{i}")))
            .chain(["<sep>", "=", "no", "yes"].map(String::from));
        Ok(Loaded {
            origin: Origin::Generated,
            notes: vec![],
            content: Content::Answers {
                train: examples(train),
                valid: examples(valid),
                tokenizer: Tokenizer::of_words(vocabulary.collect()),
                baseline: Some(Baseline {
                    loss: std::f64::consts::LN_2,
                    accuracy: 0.5,
                }),
            },
        })
    }
}

/// What documents are drawn from.
struct Source {
    topics: Vec<Vec<usize>>,
    words: usize,
    share: f64,
    lengths: [usize; 2],
}

impl Source {
    fn separator(&self) -> u16 {
        1 + self.words as u16
    }

    fn answer(&self, yes: bool) -> u16 {
        self.separator() + 2 + u16::from(yes)
    }

    /// A pair `left, separator, right, =, answer`.
    fn pair(&self, rng: &mut impl Rng) -> Vec<u16> {
        let n = self.topics.len();
        let left = rng.random_range(0..n);
        let yes = rng.random_bool(0.5);
        // another topic, each of them as likely
        let right = if yes {
            left
        } else {
            (left + rng.random_range(1..n)) % n
        };
        let mut tokens = self.document(left, rng);
        tokens.push(self.separator());
        tokens.extend(self.document(right, rng));
        tokens.extend([self.separator() + 1, self.answer(yes)]);
        tokens
    }

    fn document(&self, topic: usize, rng: &mut impl Rng) -> Vec<u16> {
        let topic = &self.topics[topic];
        let [shortest, longest] = self.lengths;
        let n = rng.random_range(shortest..=longest);
        let words = (0..n).map(|_| {
            let word = if rng.random_bool(self.share) {
                topic[rng.random_range(0..topic.len())]
            } else {
                rng.random_range(0..self.words)
            };
            1 + word as u16
        });
        words.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Form, Rows, tests::spec};

    fn load(options: &[(&str, i64)]) -> Result<Dataset, DataError> {
        let options: Vec<_> = options.iter().map(|(k, v)| (*k, (*v).into())).collect();
        Dataset::load(&spec("retrieval", &options), &DataAccess::anywhere())
    }

    /// Both documents of each held-out pair, and its answer.
    fn pairs(data: &Dataset) -> Vec<([Vec<u32>; 2], bool)> {
        let rows = Rows {
            context: 32,
            form: Form::Pair,
        };
        let batches = data.validation(50, rows, usize::MAX);
        let pairs = batches.flat_map(|batch| {
            let text = |row: usize| batch.inputs[row * 32..][..batch.lengths[row]].to_vec();
            (0..batch.batch / 2)
                .map(|pair| ([text(2 * pair), text(2 * pair + 1)], batch.targets[pair] == 1))
                .collect::<Vec<_>>()
        });
        pairs.collect()
    }

    #[test]
    fn answers_are_even_and_neither_lengths_nor_one_document_tell_them() {
        let data = load(&[("train_examples", 500), ("valid_examples", 4_000)]).unwrap();
        let facts = data.facts();
        assert_eq!((facts.classes, facts.pairs, facts.vocab), (Some(2), true, 69));
        assert_eq!(facts.baseline.accuracy, 0.5);
        let pairs = pairs(&data);
        assert_eq!(pairs.len(), 4_000);
        // the mean over pairs of one answer less that over those of the other, in standard errors
        let gap = |feature: &dyn Fn(&[Vec<u32>; 2]) -> f64| {
            let of = |answer: bool| {
                let x: Vec<f64> = pairs
                    .iter()
                    .filter(|p| p.1 == answer)
                    .map(|p| feature(&p.0))
                    .collect();
                let n = x.len() as f64;
                let mean = x.iter().sum::<f64>() / n;
                (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n / n)
            };
            let ((yes, yes_error), (no, no_error)) = (of(true), of(false));
            (yes - no).abs() / (yes_error + no_error).sqrt().max(1e-9)
        };
        let share = pairs.iter().filter(|p| p.1).count() as f64 / 4_000.0;
        assert!((share - 0.5).abs() < 0.024, "{share}");
        assert!(gap(&|[a, _]| a.len() as f64) < 3.5);
        assert!(gap(&|[_, b]| b.len() as f64) < 3.5);
        assert!(gap(&|[a, b]| a.len().abs_diff(b.len()) as f64) < 3.5);
        for word in [1, 7, 30, 64] {
            let count = |text: &[u32]| text.iter().filter(|t| **t == word).count() as f64;
            assert!(
                gap(&|[a, _]| count(a)) < 3.5 && gap(&|[_, b]| count(b)) < 3.5,
                "{word}"
            );
        }
        // what does tell it: the words that both have
        let shared = |[a, b]: &[Vec<u32>; 2]| {
            let both = |x: &u32| b.iter().filter(|y| *y == x).count() as f64;
            a.iter().map(both).sum::<f64>() / (a.len() * b.len()) as f64
        };
        assert!(gap(&shared) > 50.0, "{}", gap(&shared));
    }

    #[test]
    fn topics_that_cannot_differ_are_refused() {
        let message = load(&[("topic_words", 64)]).unwrap_err().to_string();
        assert!(
            message.starts_with("data.topic_words: topics of 64 of 64 words"),
            "{message}"
        );
        let message = load(&[("min_length", 40)]).unwrap_err().to_string();
        assert!(message.starts_with("data.max_length: no length"), "{message}");
    }
}
