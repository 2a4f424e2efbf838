//! Of every corpus, and of what cannot be loaded.

use spaces::Value;

use super::*;

pub(super) fn spec(corpus: &str, options: &[(&str, Value)]) -> DataSpec {
    DataSpec {
        corpus: corpus.to_owned(),
        options: options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect(),
    }
}

/// A small data set of every corpus of the registry.
fn every_corpus(check: impl Fn(&Dataset)) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let text: String = (0..3_000)
        .map(|i| format!("{} bottles of ümlaut\n", i * i % 101))
        .collect();
    std::fs::write(root.join("input.txt"), text).unwrap();
    let small = [
        ("train_examples", Value::Int(300)),
        ("valid_examples", Value::Int(50)),
    ];
    let access = DataAccess::only(vec![root.to_owned()]);
    let load =
        |corpus: &str, options: &[(&str, Value)]| Dataset::load(&spec(corpus, options), &access).unwrap();
    for info in catalog() {
        let data = match info.name.as_str() {
            "listops_files" => {
                listops::write_files(&load("listops", &small), root).unwrap();
                load("listops_files", &[("path", root.to_str().unwrap().into())])
            }
            "retrieval_files" => {
                for (name, rows) in [("train", 40), ("eval", 10)] {
                    let row = |i| format!("{}.0\tA\tB\tbottle {i} of\tan ümlaut {i}\n", i % 3 % 2);
                    let text: String = (0..rows).map(row).collect();
                    std::fs::write(root.join(format!("new_aan_pairs.{name}.tsv")), text).unwrap();
                }
                load("retrieval_files", &[("path", root.to_str().unwrap().into())])
            }
            name if info.needs_path => load(name, &[("path", "input.txt".into())]),
            name if info.options.iter().any(|o| o.name == "train_examples") => load(name, &small),
            name if info.options.iter().any(|o| o.name == "max_bytes") => load(
                name,
                &[("max_bytes", 100_000.into()), ("tokenizer", "bpe:300".into())],
            ),
            name => load(name, &[("length", 5_000.into())]),
        };
        check(&data);
    }
}

#[test]
fn every_corpus_keeps_the_contract() {
    every_corpus(|data| {
        let facts = data.facts();
        let name = &facts.corpus;
        data.check_context(70).unwrap();
        let batch = data.train_batch(7, 3, 5, 70);
        assert_eq!(batch, data.train_batch(7, 3, 5, 70), "{name}");
        assert_ne!(batch, data.train_batch(7, 4, 5, 70), "{name}");
        assert_ne!(batch, data.train_batch(8, 3, 5, 70), "{name}");
        let batches: Vec<Batch> = data.validation(4, 70, 2_000).collect();
        assert_eq!(batches, data.validation(4, 70, 2_000).collect::<Vec<_>>());
        for batch in batches.iter().chain([&batch]) {
            assert_eq!(batch.inputs.len(), batch.batch * 70);
            assert_eq!(batch.targets.len(), batch.batch * 70);
            assert!(batch.scored() > 0);
            assert!(batch.inputs.iter().all(|t| (*t as usize) < data.vocab), "{name}");
            assert!(
                batch.targets.iter().all(|t| (-1..data.vocab as i32).contains(t)),
                "{name}"
            );
        }
        let text = data.tokenizer.decode(&batch.inputs[..30]).unwrap();
        let again = Tokenizer::from_json(&data.tokenizer.to_json()).unwrap();
        assert_eq!(
            again.encode(&text).unwrap(),
            data.tokenizer.encode(&text).unwrap()
        );
        assert!(facts.train_tokens > facts.valid_tokens && facts.valid_tokens > 0);
        assert!(
            facts.baseline.loss > 0.0 && facts.baseline.loss < (data.vocab as f64).ln() + 0.1,
            "{name}"
        );
        assert!((0.0..1.0).contains(&facts.baseline.accuracy));
        let json = serde_json::to_string(facts).unwrap();
        assert_eq!(&serde_json::from_str::<DataFacts>(&json).unwrap(), facts);
    });
}

#[test]
fn the_catalogue_is_complete_and_its_defaults_are_allowed() {
    let catalog = catalog();
    for (i, info) in catalog.iter().enumerate() {
        assert!(catalog[..i].iter().all(|other| other.name != info.name));
        assert!(!info.doc.is_empty() && info.doc.len() < 110, "{}", info.name);
        for option in &info.options {
            assert!(
                option.allowed.contains(&option.default),
                "{}.{}",
                info.name,
                option.name
            );
            assert!(
                !option.doc.is_empty() && !["corpus", "path", "tokenizer"].contains(&option.name.as_str())
            );
        }
    }
}

#[test]
fn an_unknown_corpus_is_answered_with_the_nearest() {
    let message = Dataset::load(&spec("lisops", &[]), &DataAccess::anywhere())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("'lisops'") && message.contains("'listops'"),
        "{message}"
    );
}
