//! `retrieval_files`: the published pairs of papers of Long Range Arena (arXiv 2011.04006), which cite one another or do
//! not.
//!
//! Tab-separated, without header and quotes: label, two numbers of papers, two texts. A model reads bytes.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use spaces::CorpusInfo;

use super::{
    Content, Corpus, DataAccess, DataError, Loaded, Options, Origin, Tokenizer,
    examples::Examples,
    generate::MOST_TOKENS,
    options::{whole, wrong},
};

/// Pairs read from files in the published format.
pub(super) struct RetrievalFiles;

/// Names of the published files for training and validation.
const FILES: [&str; 2] = ["new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv"];
/// Numbers of pairs in the published files.
const OFFICIAL: [usize; 2] = [147_086, 18_090];
/// Tokens behind the padding and the 256 bytes.
const SEPARATOR: u16 = 257;
const EQUALS: u16 = 258;
const NO: u16 = 259;

impl Corpus for RetrievalFiles {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "retrieval_files".into(),
            doc: format!(
                "published pairs of papers, a folder with {} and {}",
                FILES[0], FILES[1]
            ),
            needs_path: true,
            takes_tokenizer: false,
            options: vec![whole(
                "text_bytes",
                "bytes kept of each text (4000 as published; all published pairs fit memory up to 848)",
                "bytes",
                [1, 10_000],
                800,
            )],
        }
    }

    fn load(&self, options: &Options, access: &DataAccess) -> Result<Loaded, DataError> {
        let folder = options.path("retrieval_files", access)?;
        let most = options.usize("text_bytes");
        let [train, valid] = FILES.map(|name| {
            // each file once more through the gate: it may be a link
            let path = access.resolve(&folder.join(name).to_string_lossy())?;
            read(&path, most)
        });
        let (train, valid) = (train?, valid?);
        let origin = if [train.len(), valid.len()] == OFFICIAL {
            Origin::Official
        } else {
            Origin::LocalReal
        };
        let vocabulary = std::iter::once("<pad>".to_owned())
            .chain((0..=255u8).map(|byte| format!("<0x{byte:02X}>")))
            .chain(["<sep>", "=", "no", "yes"].map(String::from));
        Ok(Loaded {
            origin,
            notes: vec![],
            content: Content::Answers {
                train,
                valid,
                tokenizer: Tokenizer::of_words(vocabulary.collect()),
                baseline: None,
            },
        })
    }
}

/// The pairs of a file, of each text its first `most` bytes.
fn read(path: &Path, most: usize) -> Result<Examples, DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut examples = Examples::of_pairs(NO..NO + 2, SEPARATOR);
    let mut tokens = 0;
    for (i, line) in BufReader::new(File::open(path).map_err(io)?)
        .split(b'\n')
        .enumerate()
    {
        let line = line.map_err(io)?;
        let wrong_row = |message: &str| DataError::Row {
            path: path.to_owned(),
            line: i + 1,
            message: message.into(),
        };
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let columns: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        let [label, _, _, left, right] = columns[..] else {
            return Err(wrong_row(
                "it has not the five columns label, id1, id2, text1, text2; name files as published",
            ));
        };
        let answer = match label {
            b"0" | b"0.0" => NO,
            b"1" | b"1.0" => NO + 1,
            _ => return Err(wrong_row("the label is not 0 or 1; correct it")),
        };
        if left.is_empty() || right.is_empty() {
            return Err(wrong_row("a text is empty; remove the line"));
        }
        let text =
            |text: &'_ [u8]| -> Vec<u16> { text.iter().take(most).map(|b| 1 + u16::from(*b)).collect() };
        let pair: Vec<u16> = [text(left), vec![SEPARATOR], text(right), vec![EQUALS, answer]].concat();
        tokens += pair.len();
        if tokens > MOST_TOKENS {
            let message =
                format!("the texts are more than {MOST_TOKENS} tokens with {most} bytes of each; use less");
            return Err(wrong("text_bytes", message));
        }
        examples.push(pair);
    }
    if examples.len() == 0 {
        return Err(DataError::Empty(path.to_owned()));
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Form, Rows, tests::spec};

    fn load(train: &str, valid: &str) -> Result<Dataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILES[0]), train).unwrap();
        std::fs::write(folder.path().join(FILES[1]), valid).unwrap();
        let options = [
            ("path", folder.path().to_str().unwrap().into()),
            ("text_bytes", 4.into()),
        ];
        Dataset::load(&spec("retrieval_files", &options), &DataAccess::anywhere())
    }

    #[test]
    fn published_rows_are_read_as_pairs_of_bytes() {
        let row = "1.0\tA1\tB2\tabcdef\tb'x'\r\n";
        let data = load(&row.repeat(3), "0.0\tA\tB\tq\tr\n").unwrap();
        let facts = data.facts();
        assert_eq!((facts.classes, facts.pairs, facts.vocab), (Some(2), true, 261));
        assert_eq!(facts.origin, Origin::LocalReal);
        let rows = Rows {
            context: 5,
            form: Form::Pair,
        };
        let batch = data.train_batch(0, 0, 1, rows);
        assert_eq!(batch.inputs, [98, 99, 100, 101, 0, 99, 40, 121, 40, 0]);
        assert_eq!((batch.lengths, batch.targets), (vec![4, 4], vec![1]));
        assert_eq!(data.validation(1, rows, 9).next().unwrap().targets, [0]);
    }

    #[test]
    fn a_faulty_row_is_named() {
        for (row, expected) in [
            ("1\ta\tb\tc", "five columns"),
            ("2\ta\tb\tc\td", "label is not 0 or 1"),
            ("1\ta\tb\t\td", "a text is empty"),
        ] {
            let message = load(&format!("1\ta\tb\tc\td\n{row}\n"), "0\ta\tb\tc\td\n")
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("line 2") && message.contains(expected),
                "{message}"
            );
        }
    }
}
