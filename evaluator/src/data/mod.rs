//! Training data: corpora, tokenizers, batches.
//!
//! One corpus is one file and one line in `REGISTRY`; it declares its options and loads a text or examples. What is
//! the same for all of them stands here: tokens, batches, fingerprint, the score of the trivial answer.
//!
//! Batches are functions of seed and step, so a training can be resumed without the state of a random generator.

mod access;
mod batch;
mod crate_sources;
mod error;
mod examples;
mod facts;
mod files;
mod form;
mod generate;
pub mod listops;
mod markov;
mod options;
mod recall;
mod retrieval;
mod retrieval_files;
mod samples;
mod spans;
#[cfg(test)]
mod tests;
mod text;
mod tokenizer;

use sha2::{Digest, Sha256};
use spaces::{CorpusInfo, DataSpec, suggest};

pub use self::{
    access::DataAccess,
    batch::Batch,
    error::DataError,
    facts::{Baseline, DataFacts, Origin, Symbols},
    files::split_text,
    form::{Form, Rows},
    spans::{Corrupted, Corruption},
    tokenizer::{Tokenizer, TokenizerSpec},
};
use self::{examples::Examples, options::Options, samples::Samples};

/// Every corpus, one line each.
const REGISTRY: &[&dyn Corpus] = &[
    &text::Text,
    &crate_sources::CrateSources,
    &listops::ListOps,
    &listops::ListOpsFiles,
    &recall::Recall,
    &retrieval::Retrieval,
    &retrieval_files::RetrievalFiles,
    &markov::Markov,
];

/// A source of training data.
trait Corpus: Sync {
    /// Name, documentation and options.
    fn info(&self) -> CorpusInfo;

    /// Reads or makes the data.
    fn load(&self, options: &Options, access: &DataAccess) -> Result<Loaded, DataError>;
}

/// What a corpus hands over.
struct Loaded {
    origin: Origin,
    notes: Vec<String>,
    content: Content,
}

/// A text to be cut into tokens, or examples that are tokens already.
enum Content {
    Text {
        train: String,
        valid: String,
        tokenizer: TokenizerSpec,
        /// Smallest expected loss, where it is known.
        loss_floor: Option<f64>,
    },
    Answers {
        train: Examples,
        valid: Examples,
        tokenizer: Tokenizer,
        /// Where the most frequent answer is not the best trivial one.
        baseline: Option<Baseline>,
    },
}

/// A corpus, loaded, cut into tokens and split.
#[derive(Debug)]
pub struct Dataset {
    /// Number of token ids.
    pub vocab: usize,
    /// Hash of both parts and the tokenizer; equal for equal tokens alone.
    pub fingerprint: String,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Where the data comes from.
    pub origin: Origin,
    samples: Samples,
    facts: DataFacts,
}

/// Every corpus with its options, for forms, help and checks.
pub fn catalog() -> Vec<CorpusInfo> {
    REGISTRY.iter().map(|corpus| corpus.info()).collect()
}

impl Dataset {
    /// Reads or makes the data that a study names.
    ///
    /// # Errors
    /// [`DataError`]: unknown names, wrong options, files that cannot or may not be read.
    pub fn load(spec: &DataSpec, access: &DataAccess) -> Result<Dataset, DataError> {
        let catalog = catalog();
        let known = catalog.iter().map(|info| info.name.as_str());
        let at = known
            .clone()
            .position(|name| name == spec.corpus)
            .ok_or_else(|| DataError::UnknownCorpus(suggest("corpus", &spec.corpus, known)))?;
        let options = Options::new(catalog[at].clone(), spec)?;
        let loaded = REGISTRY[at].load(&options, access)?;

        let (samples, tokenizer, baseline, loss_floor, parts, bytes_per_token) = match loaded.content {
            Content::Text {
                train,
                valid,
                tokenizer,
                loss_floor,
            } => {
                let tokenizer = Tokenizer::build(&tokenizer, &train, &valid, access)?;
                let tokens = [tokenizer.encode(&train)?, tokenizer.encode(&valid)?];
                if tokens[1].is_empty() {
                    let message = "the tokenizer makes no token of the held-out text; \
                                   give more text or use tokenizer = \"byte\"";
                    return Err(DataError::Tokenizer(message.to_owned()));
                }
                let bytes_per_token = valid.len() as f64 / tokens[1].len() as f64;
                let baseline = Baseline::frequencies(
                    tokenizer.vocab(),
                    tokens[0].iter().copied(),
                    tokens[1].iter().copied(),
                );
                let [train_tokens, valid_tokens] = tokens;
                let samples = Samples::Stream {
                    train: train_tokens,
                    valid: valid_tokens,
                };
                let parts = [train.into_bytes(), valid.into_bytes()];
                (
                    samples,
                    tokenizer,
                    baseline,
                    loss_floor,
                    parts,
                    Some(bytes_per_token),
                )
            }
            Content::Answers {
                train,
                valid,
                tokenizer,
                baseline,
            } => {
                let frequencies = || {
                    let [train, valid] = [&train, &valid].map(|part| part.answers().map(u32::from));
                    Baseline::frequencies(tokenizer.vocab(), train, valid)
                };
                let baseline = baseline.unwrap_or_else(frequencies);
                let parts = [train.bytes(), valid.bytes()];
                (
                    Samples::Answers { train, valid },
                    tokenizer,
                    baseline,
                    None,
                    parts,
                    None,
                )
            }
        };
        let json = tokenizer.to_json();
        let hashes = [&parts[0], &parts[1], json.as_bytes()].map(Sha256::digest);
        let fingerprint = spaces::fingerprint(&hashes.concat());
        let (train_tokens, valid_tokens) = samples.tokens();
        let facts = DataFacts {
            corpus: spec.corpus.clone(),
            vocab: tokenizer.vocab(),
            train_tokens,
            valid_tokens,
            fingerprint: fingerprint.clone(),
            bytes_per_token,
            origin: loaded.origin,
            answer_only: matches!(samples, Samples::Answers { .. }),
            classes: samples.classes(),
            pairs: samples.are_pairs(),
            baseline,
            loss_floor,
            tokenizer_bytes: json.len(),
            notes: loaded.notes,
        };
        Ok(Dataset {
            vocab: facts.vocab,
            fingerprint,
            tokenizer,
            origin: loaded.origin,
            samples,
            facts,
        })
    }

    /// What is known of the data beside its tokens.
    pub fn facts(&self) -> &DataFacts {
        &self.facts
    }

    /// What is reached on the held-out part without looking at anything, for what `rows` asks.
    pub fn baseline(&self, Rows { context, form }: Rows) -> Baseline {
        match form {
            Form::Spans(corruption) => {
                let (noise, spans) = corruption.noise(context);
                self.facts.baseline.of_spans(noise, spans)
            }
            Form::NextToken | Form::Class | Form::Pair => self.facts.baseline,
        }
    }

    /// Bytes for each token of the held-out part; `None` where bytes have no meaning.
    pub fn bytes_per_token(&self) -> Option<f64> {
        self.facts.bytes_per_token
    }

    /// Checks that rows of `context` tokens can be cut, for a language model or as `rows` says.
    ///
    /// # Errors
    /// [`DataError::Context`] with the contexts that can be.
    pub fn check_context(&self, rows: impl Into<Rows>) -> Result<(), DataError> {
        self.samples.check(rows.into())
    }

    /// Checks that rows of `context` tokens can be cut for some kind of model.
    ///
    /// # Errors
    /// [`DataError::Context`] with the contexts that can be.
    pub fn check_some_context(&self, context: usize) -> Result<(), DataError> {
        self.samples.check_any(context)
    }

    /// Share of the held-out examples that rows of `context` tokens cut short.
    pub fn cut_share(&self, context: usize) -> f64 {
        self.samples.cut_share(context)
    }

    /// Examples for one step of training, drawn at random, in rows for a language model or as `rows` says.
    ///
    /// The same seed and step give the same rows.
    ///
    /// # Panics
    /// If [`Dataset::check_context`] refuses `rows`.
    pub fn train_batch(&self, seed: u64, step: u64, examples: usize, rows: impl Into<Rows>) -> Batch {
        self.samples.train_batch(seed, step, examples, rows.into())
    }

    /// The held-out part in rows that do not overlap, in a fixed order.
    ///
    /// The last batch may have fewer examples. Beyond `max_tokens` positions only some rows are used, spread over the whole part; at least one is.
    ///
    /// # Panics
    /// If [`Dataset::check_context`] refuses `rows`, or `examples` is 0.
    pub fn validation(
        &self,
        examples: usize,
        rows: impl Into<Rows>,
        max_tokens: usize,
    ) -> impl Iterator<Item = Batch> {
        self.samples.validation(examples, rows.into(), max_tokens)
    }
}
