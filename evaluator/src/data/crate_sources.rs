//! `crate_sources`: real text that every machine that built this program has.
//!
//! The sources and Markdown pages of a fixed list of our own dependencies, read at run time from the local cargo
//! registry and never passed on. Names and versions are fixed, and a published version never changes, so the text is
//! the same everywhere; its fingerprint proves it.

use std::path::PathBuf;

use spaces::CorpusInfo;

use super::{
    Content, Corpus, DataAccess, DataError, Loaded, Options, Origin,
    files::{Skipped, list, read_text, split_files},
    options::{validation_fraction, whole},
};

/// The corpus of the demonstration.
pub(super) struct CrateSources;

/// Dependencies with much prose in their sources; each stands in `Cargo.lock` in exactly this version.
const CRATES: &[(&str, &str)] = &[
    ("anyhow", "1.0.104"),
    ("burn-nn", "0.21.0"),
    ("burn-tensor", "0.21.0"),
    ("futures-util", "0.3.34"),
    ("half", "2.7.1"),
    ("rand", "0.10.4"),
    ("rand_distr", "0.6.0"),
    ("rayon", "1.12.0"),
    ("safetensors", "0.8.0"),
    ("serde", "1.0.229"),
    ("serde_core", "1.0.229"),
    ("serde_json", "1.0.154"),
    ("thiserror", "2.0.21"),
    ("tokenizers", "0.23.2"),
    ("tokio", "1.54.1"),
    ("toml_edit", "0.25.18+spec-1.1.0"),
    ("tracing", "0.1.44"),
    ("uuid", "1.29.3"),
];

/// Larger files are tables made by a program.
const LARGEST_FILE: u64 = 256 << 10;

impl Corpus for CrateSources {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "crate_sources".into(),
            doc: format!(
                "sources and documentation of {} of this program's dependencies, from the local cargo registry",
                CRATES.len()
            ),
            needs_path: false,
            takes_tokenizer: true,
            options: vec![
                validation_fraction(),
                whole(
                    "max_bytes",
                    "size of the text; each crate gives the beginning of its sources up to an equal share",
                    "B",
                    [100_000, 16_000_000],
                    4_000_000,
                ),
            ],
        }
    }

    fn load(&self, options: &Options, _: &DataAccess) -> Result<Loaded, DataError> {
        let registry = registry();
        let share = options.usize("max_bytes") as u64 / CRATES.len() as u64;
        let mut texts = vec![];
        for (name, version) in CRATES {
            let folder = find(&registry, name, version).ok_or_else(|| DataError::NoSources {
                name,
                version,
                registry: registry.clone(),
            })?;
            let mut left = share;
            for entry in list(&folder, is_source, &mut Skipped::default())? {
                if entry.bytes > LARGEST_FILE {
                    continue;
                }
                if entry.bytes > left {
                    break;
                }
                left -= entry.bytes;
                texts.push(read_text(&entry.path, LARGEST_FILE)?);
            }
        }
        let mut skipped = Skipped::default();
        let (train, valid) = split_files(texts, options.f64("validation_fraction"), &mut skipped);
        Ok(Loaded {
            origin: Origin::LocalReal,
            notes: vec![],
            content: Content::Text {
                train,
                valid,
                tokenizer: options.tokenizer()?,
                loss_floor: None,
            },
        })
    }
}

/// Sources and pages that people wrote; lists of changes and test data are neither.
fn is_source(name: &str) -> bool {
    let mut parts = name.split('/');
    let file = parts.next_back().unwrap_or(name);
    (file.ends_with(".rs") || file.ends_with(".md"))
        && !file.starts_with("CHANGELOG")
        && !parts.any(|part| matches!(part, "tests" | "benches"))
}

/// Where cargo unpacks what it downloads.
fn registry() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    home.unwrap_or_default().join("registry").join("src")
}

/// A crate's folder, whichever index or mirror it came from.
fn find(registry: &std::path::Path, name: &str, version: &str) -> Option<PathBuf> {
    let mut indexes: Vec<_> = std::fs::read_dir(registry)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .collect();
    indexes.sort();
    let folder = format!("{name}-{version}");
    indexes
        .into_iter()
        .map(|index| index.join(&folder))
        .find(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, tests::spec};

    #[test]
    fn the_list_agrees_with_the_lock_file() {
        // asked for at run time: clones at different places may share what is compiled
        let own = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let lock = std::fs::read_to_string(format!("{own}/../Cargo.lock")).unwrap();
        for (name, version) in CRATES {
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(
                lock.contains(&entry),
                "{name} {version} left Cargo.lock: update CRATES, and the fingerprint below"
            );
        }
    }

    #[test]
    fn the_text_is_the_same_on_every_machine() {
        let options = [("tokenizer", "byte".into()), ("max_bytes", 4_000_000.into())];
        let data = Dataset::load(&spec("crate_sources", &options), &DataAccess::only(vec![])).unwrap();
        let facts = data.facts();
        let bytes = facts.train_tokens + facts.valid_tokens;
        assert!((2_500_000..4_000_000).contains(&bytes), "{bytes}");
        let held_out = facts.valid_tokens as f64 / bytes as f64;
        assert!((held_out - 0.1).abs() < 0.005, "{held_out}");
        assert_eq!(data.fingerprint, "51ace825468ad07dc2c817af5bf37163");
    }

    #[test]
    fn absent_sources_are_told_with_the_remedy() {
        assert!(find(std::path::Path::new("/nowhere"), "anyhow", "1.0.104").is_none());
        let error = DataError::NoSources {
            name: "anyhow",
            version: "1.0.104",
            registry: "/nowhere".into(),
        };
        let message = error.to_string();
        assert!(
            message.contains("anyhow 1.0.104") && message.contains("cargo fetch"),
            "{message}"
        );
        assert!(is_source("src/lib.rs") && is_source("README.md"));
        assert!(!is_source("tests/a.rs") && !is_source("src/tests/a.rs") && !is_source("CHANGELOG.md"));
    }
}
