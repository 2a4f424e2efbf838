//! `listops` and `listops_files`: nested operations on digits.
//!
//! Long Range Arena, arXiv 2011.04006.
//!
//! A model reads the expression without parentheses, then `=`, and must name the digit that the expression is worth, a
//! decoder as the next token, an encoder as one of ten classes; nothing else is scored. At the published settings 17 % of the labels are 0 and as many are 9: that is what the
//! trivial answer reaches. At the small default settings the labels are nearly even.

mod tree;
mod tsv;

use std::{fs::File, io::BufWriter, ops::Range, path::Path};

use spaces::CorpusInfo;

use self::tree::{EQUALS, Shape, WORDS, ZERO, value};
use super::{
    Content, Corpus, DataAccess, DataError, Dataset, Loaded, Options, Origin, Tokenizer,
    examples::Examples,
    generate::{check_size, distinct},
    options::{seed, whole, wrong},
    samples::Samples,
};

/// Examples made by the published generator.
pub(super) struct ListOps;

/// Examples read from files in the published format.
pub(super) struct ListOpsFiles;

/// Names of the published files for training and validation.
const FILES: [&str; 2] = ["basic_train.tsv", "basic_val.tsv"];
/// What an expression can be worth.
const DIGITS: Range<u16> = ZERO as u16..ZERO as u16 + 10;
/// Numbers of examples in the published files.
const OFFICIAL: [usize; 2] = [96_000, 2_000];

impl Corpus for ListOps {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "listops".into(),
            doc: "nested operations on digits, made by the published generator; only the answer is scored"
                .into(),
            needs_path: false,
            takes_tokenizer: false,
            options: vec![
                whole("max_depth", "levels of nesting (10 as published)", "", [2, 20], 5),
                whole(
                    "max_args",
                    "most arguments of an operator (10 as published)",
                    "",
                    [2, 20],
                    5,
                ),
                whole(
                    "min_length",
                    "only longer expressions (500 as published)",
                    "tokens",
                    [1, 10_000],
                    16,
                ),
                whole(
                    "max_length",
                    "only shorter expressions (2000 as published)",
                    "tokens",
                    [4, 10_000],
                    64,
                ),
                whole(
                    "train_examples",
                    "distinct examples to train on (96000 as published)",
                    "",
                    [1, 1_000_000],
                    20_000,
                ),
                whole(
                    "valid_examples",
                    "further examples held out (2000 as published)",
                    "",
                    [1, 100_000],
                    2_000,
                ),
                seed(),
            ],
        }
    }

    fn load(&self, options: &Options, _: &DataAccess) -> Result<Loaded, DataError> {
        let shape = Shape {
            max_depth: options.usize("max_depth"),
            max_args: options.usize("max_args"),
            min_length: options.usize("min_length"),
            max_length: options.usize("max_length"),
        };
        if shape.min_length + 2 > shape.max_length {
            let message = format!(
                "no length lies between min_length {} and max_length {}; raise max_length",
                shape.min_length, shape.max_length
            );
            return Err(wrong("max_length", message));
        }
        let held_out = options.usize("valid_examples");
        let wanted = options.usize("train_examples") + held_out;
        check_size(wanted, shape.max_length + 1)?;
        let remedy = "widen min_length and max_length, or raise max_depth or max_args";
        let trees = distinct(wanted, options.usize("seed") as u64, remedy, |rng| {
            shape.attempt(rng)
        })?;
        let (train, valid) = trees.split_at(wanted - held_out);
        let examples = |trees: &[Vec<u8>]| {
            let mut examples = Examples::of_classes(DIGITS);
            for tokens in trees {
                push(
                    &mut examples,
                    tokens,
                    value(tokens).expect("the generator makes expressions"),
                );
            }
            examples
        };
        Ok(loaded(examples(train), examples(valid), Origin::Generated))
    }
}

impl Corpus for ListOpsFiles {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "listops_files".into(),
            doc: format!(
                "published ListOps files, a folder with {} and {}; only the answer is scored",
                FILES[0], FILES[1]
            ),
            needs_path: true,
            takes_tokenizer: false,
            options: vec![],
        }
    }

    fn load(&self, options: &Options, access: &DataAccess) -> Result<Loaded, DataError> {
        let folder = options.path("listops_files", access)?;
        let [train, valid] = FILES.map(|name| {
            // each file once more through the gate: it may be a link
            let path = access.resolve(&folder.join(name).to_string_lossy())?;
            let mut examples = Examples::of_classes(DIGITS);
            tsv::read(&path, |tokens, label| push(&mut examples, tokens, label))?;
            if examples.len() == 0 {
                return Err(DataError::Empty(path));
            }
            Ok(examples)
        });
        let (train, valid) = (train?, valid?);
        let origin = if [train.len(), valid.len()] == OFFICIAL {
            Origin::Official
        } else {
            Origin::LocalReal
        };
        Ok(loaded(train, valid, origin))
    }
}

/// Writes a ListOps data set as the published files, for other implementations.
///
/// # Errors
/// [`DataError::Io`] where a file cannot be written, [`DataError::UnknownCorpus`] for another corpus.
pub fn write_files(data: &Dataset, folder: &Path) -> Result<(), DataError> {
    let (Samples::Answers { train, valid }, "listops" | "listops_files") =
        (&data.samples, data.facts().corpus.as_str())
    else {
        let message = format!(
            "'{}' is not ListOps; load corpus = \"listops\"",
            data.facts().corpus
        );
        return Err(DataError::UnknownCorpus(message));
    };
    for (examples, name) in [train, valid].into_iter().zip(FILES) {
        let path = folder.join(name);
        let io = |source| DataError::Io {
            path: path.clone(),
            source,
        };
        let expressions: Vec<Vec<u8>> = examples
            .iter()
            .map(|tokens| tokens[..tokens.len() - 2].iter().map(|t| *t as u8).collect())
            .collect();
        let mut out = BufWriter::new(File::create(&path).map_err(io)?);
        tsv::write(&mut out, expressions.iter().map(Vec::as_slice)).map_err(io)?;
        out.into_inner().map_err(|e| io(e.into_error()))?;
    }
    Ok(())
}

fn push(examples: &mut Examples, expression: &[u8], label: u8) {
    let question = [EQUALS, ZERO + label];
    examples.push(expression.iter().copied().chain(question).map(u16::from));
}

fn loaded(train: Examples, valid: Examples, origin: Origin) -> Loaded {
    Loaded {
        origin,
        notes: vec![],
        content: Content::Answers {
            train,
            valid,
            tokenizer: Tokenizer::of_words(WORDS.map(String::from).to_vec()),
            baseline: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data::tests::spec;

    fn small(extra: &[(&str, spaces::Value)]) -> Result<Dataset, DataError> {
        let mut options = vec![("train_examples", 400.into()), ("valid_examples", 100.into())];
        options.extend(extra.iter().cloned());
        Dataset::load(&spec("listops", &options), &DataAccess::anywhere())
    }

    #[test]
    fn rows_are_expressions_with_their_answer() {
        let data = small(&[]).unwrap();
        assert_eq!(data.vocab, 17);
        let batch = data.train_batch(0, 0, 64, 65);
        assert_eq!(batch.scored(), 64);
        for (inputs, targets) in batch.inputs.chunks(65).zip(batch.targets.chunks(65)) {
            let at = targets.iter().position(|t| *t >= 0).unwrap();
            let text = data.tokenizer.decode(&inputs[..=at]).unwrap();
            let expression = tree::tests::tokens(text.strip_suffix(" =").unwrap());
            assert!(16 < expression.len() && expression.len() < 64);
            assert_eq!(targets[at], i32::from(ZERO + value(&expression).unwrap()));
            assert!(inputs[at + 1..].iter().all(|t| *t == 0));
        }
    }

    #[test]
    fn no_tree_is_trained_on_and_held_out() {
        let data = small(&[]).unwrap();
        let Samples::Answers { train, valid } = &data.samples else {
            unreachable!()
        };
        let all: HashSet<&[u16]> = train.iter().chain(valid.iter()).collect();
        assert_eq!((train.len(), valid.len(), all.len()), (400, 100, 500));
        assert_ne!(
            small(&[("seed", 1.into())]).unwrap().fingerprint,
            data.fingerprint
        );
        assert_eq!(small(&[]).unwrap().fingerprint, data.fingerprint);
    }

    #[test]
    fn files_in_the_published_format_hold_the_same_examples() {
        let data = small(&[]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_files(&data, folder.path()).unwrap();
        let options = [("path", folder.path().to_str().unwrap().into())];
        let spec = spec("listops_files", &options);
        let again = Dataset::load(&spec, &DataAccess::only(vec![folder.path().to_owned()])).unwrap();
        assert_eq!(again.fingerprint, data.fingerprint);
        assert_eq!(
            (data.origin, again.origin),
            (Origin::Generated, Origin::LocalReal)
        );
        std::fs::remove_file(folder.path().join(FILES[1])).unwrap();
        let message = Dataset::load(&spec, &DataAccess::anywhere())
            .unwrap_err()
            .to_string();
        assert!(message.contains("basic_val.tsv"), "{message}");
    }

    #[test]
    fn settings_without_enough_expressions_are_refused() {
        let message = small(&[("max_length", 17.into())]).unwrap_err().to_string();
        assert!(message.contains("min_length 16 and max_length 17"), "{message}");
        let tiny = [
            ("max_depth", 2.into()),
            ("max_args", 2.into()),
            ("min_length", 3.into()),
            ("max_length", 5.into()),
        ];
        let message = small(&tiny).unwrap_err().to_string();
        assert!(
            message.contains("only 400 of 500") && message.contains("raise max_depth"),
            "{message}"
        );
    }
}
