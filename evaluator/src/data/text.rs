//! `text`: a file or folder of the user's.

use spaces::CorpusInfo;

use super::{
    Content, Corpus, DataAccess, DataError, Loaded, Options, Origin,
    files::{Skipped, list, read_text, split_files, split_text},
    options::{choice, validation_fraction, whole},
};

/// The corpus of the user's own text.
pub(super) struct Text;

/// Names of file kinds with their endings; no endings for every text file.
const KINDS: &[(&str, &[&str])] = &[
    ("all", &[]),
    ("prose", &["txt", "md", "rst", "tex", "org", "adoc", "html"]),
    (
        "code",
        &[
            "rs", "py", "c", "h", "cc", "cpp", "hpp", "go", "java", "js", "ts", "rb", "sh", "sql", "toml",
            "yaml", "json",
        ],
    ),
    ("plain", &["txt"]),
    ("markdown", &["md"]),
    ("rust", &["rs"]),
    ("python", &["py"]),
];

impl Corpus for Text {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "text".into(),
            doc: "a text file, or all text files of a folder".into(),
            needs_path: true,
            takes_tokenizer: true,
            options: vec![
                validation_fraction(),
                choice(
                    "files",
                    "which files of a folder are read, by their ending",
                    KINDS.iter().map(|(name, _)| *name),
                ),
                whole(
                    "max_bytes",
                    "text of more bytes is refused",
                    "B",
                    [1, 1 << 34],
                    256 << 20,
                ),
            ],
        }
    }

    fn load(&self, options: &Options, access: &DataAccess) -> Result<Loaded, DataError> {
        let path = options.path("text", access)?;
        let fraction = options.f64("validation_fraction");
        let limit = options.usize("max_bytes") as u64;
        let mut skipped = Skipped::default();
        let (train, valid) = if path.is_file() {
            let text = read_text(&path, limit)?;
            if text.is_empty() {
                return Err(DataError::Empty(path));
            }
            split_text(&text, fraction)
        } else {
            let kind = options.text("files");
            let endings = KINDS
                .iter()
                .find(|(name, _)| *name == kind)
                .map_or(&[][..], |k| k.1);
            let takes = |name: &str| {
                endings.is_empty() || name.rsplit_once('.').is_some_and(|(_, e)| endings.contains(&e))
            };
            let mut left = limit;
            let mut texts = vec![];
            for entry in list(&path, takes, &mut skipped)? {
                match read_text(&entry.path, left) {
                    Ok(text) if text.is_empty() => skipped.count("empty"),
                    Ok(text) if text.contains('\0') => skipped.count("not text"),
                    Ok(text) => {
                        left -= text.len() as u64;
                        texts.push(text);
                    }
                    Err(DataError::NotUtf8 { .. }) => skipped.count("not UTF-8"),
                    Err(DataError::TooLarge { .. }) => return Err(DataError::TooLarge { path, limit }),
                    Err(e) => return Err(e),
                }
            }
            if texts.is_empty() {
                let skipped = skipped.describe();
                return Err(DataError::NoFiles { path, kind, skipped });
            }
            split_files(texts, fraction, &mut skipped)
        };
        Ok(Loaded {
            origin: Origin::LocalReal,
            notes: if skipped.is_empty() {
                vec![]
            } else {
                vec![skipped.describe()]
            },
            content: Content::Text {
                train,
                valid,
                tokenizer: options.tokenizer()?,
                loss_floor: None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::{Dataset, tests::spec};

    fn load(path: &std::path::Path, options: &[(&str, spaces::Value)]) -> Result<Dataset, DataError> {
        let mut options = options.to_vec();
        options.push(("path", path.to_str().unwrap().into()));
        Dataset::load(&spec("text", &options), &DataAccess::anywhere())
    }

    #[test]
    fn the_last_tenth_of_a_file_is_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.txt");
        fs::write(&path, "abcdefghij".repeat(100) + "xyz").unwrap();
        let data = load(&path, &[]).unwrap();
        let facts = data.facts();
        // int(1003 * 0.9) characters for training
        assert_eq!((facts.train_tokens, facts.valid_tokens), (902, 101));
        assert_eq!((facts.vocab, facts.bytes_per_token), (13, Some(1.0)));
        let last = data.validation(4, 50, usize::MAX).last().unwrap();
        let targets: Vec<u32> = last
            .targets
            .iter()
            .filter(|t| **t >= 0)
            .map(|t| *t as u32)
            .collect();
        assert!(data.tokenizer.decode(&targets).unwrap().ends_with("jxyz"));
        fs::write(&path, "abcdefghij".repeat(100) + "xy!").unwrap();
        assert_ne!(load(&path, &[]).unwrap().fingerprint, data.fingerprint);
    }

    #[test]
    fn a_folder_is_read_by_kind_and_says_what_it_skipped() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..30 {
            let text = format!("chapter {i} of the book\n").repeat(3);
            fs::write(folder.path().join(format!("{i}.md")), text).unwrap();
        }
        fs::write(folder.path().join("copy.md"), "chapter 1 of the book\n".repeat(3)).unwrap();
        fs::write(folder.path().join("latin.md"), b"\xe9").unwrap();
        fs::write(folder.path().join("main.rs"), "fn main() {}").unwrap();
        fs::write(folder.path().join("zeros.md"), "a\0b").unwrap();
        let data = load(folder.path(), &[("files", "prose".into())]).unwrap();
        assert_eq!(
            data.facts().notes,
            ["skipped: 1 not UTF-8, 1 not text, 1 of another kind, 1 repeated"]
        );
        let message = load(folder.path(), &[("files", "python".into())])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("'python'") && message.contains("34 of another kind"),
            "{message}"
        );
        let message = load(folder.path(), &[("max_bytes", 500.into())])
            .unwrap_err()
            .to_string();
        assert!(message.contains("more than 500 bytes"), "{message}");
    }

    #[test]
    fn wrong_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.txt");
        fs::write(&path, "").unwrap();
        assert!(
            load(&path, &[])
                .unwrap_err()
                .to_string()
                .contains("empty.txt' is empty")
        );
        fs::write(&path, "ab").unwrap();
        let data = load(&path, &[]).unwrap();
        assert!(
            data.check_context(8)
                .unwrap_err()
                .to_string()
                .contains("1 tokens")
        );
        let message = load(&folder.path().join("gone.txt"), &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("gone.txt"), "{message}");
        let elsewhere = DataAccess::only(vec![folder.path().join("sub")]);
        let options = [("path", path.to_str().unwrap().into())];
        assert!(matches!(
            Dataset::load(&spec("text", &options), &elsewhere),
            Err(DataError::NotAllowed { .. })
        ));
    }
}
