//! Tuned models as what they differ in from their base, and made whole again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use evaluator::{
    Silent,
    bundle::{self, apply_delta, write_delta},
    evaluate,
};
use safetensors::SafeTensors;
use spaces::study::config_from_toml;

use crate::support::{config, job, text_data};

/// Tensors of a file.
fn tensors(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let all = tensors.tensors().into_iter();
    all.map(|(name, tensor)| (name, tensor.data().to_vec())).collect()
}

/// A folder, and what the techniques have done that it was tuned by.
type Tuned = (PathBuf, BTreeMap<String, u64>);

/// A base, and a function that tunes it.
fn base_of(dir: &Path) -> (PathBuf, impl Fn(&str, &str) -> Tuned) {
    let data = text_data(dir, 8000);
    evaluate(&job(config(&data, ""), &dir.join("of_base")), &mut Silent).unwrap();
    let base = dir.join("of_base/bundle");
    let (place, from) = (dir.to_owned(), base.display().to_string());
    let tune = move |name: &str, fixed: &str| {
        let text = format!(
            "{data}\n[base]\npath = \"{from}\"\n[fixed]\ncontext = 16\nbatch = 4\ntokens = 640\n{fixed}\n"
        );
        let config = config_from_toml(&text, &evaluator::catalog()).unwrap();
        let result = evaluate(&job(config, &place.join(name)), &mut Silent).unwrap();
        (place.join(name).join("bundle"), result.activity)
    };
    (base, tune)
}

#[test]
fn a_masked_tuning_is_eight_bytes_for_each_trained_weight() {
    let dir = tempfile::tempdir().unwrap();
    let (base, tune) = base_of(dir.path());
    for (name, mask) in [
        (
            "fisher",
            "mask = 'fisher'\nmask_fraction = 0.01\nfisher_samples = 4",
        ),
        ("magnitude", "mask = 'magnitude'\nmask_fraction = 0.02"),
    ] {
        let (tuned, activity) = tune(name, &format!("fine_tune = 'mask'\n{mask}\nlearning_rate = 1e-2"));
        let weights = |dir: &Path| tensors(&dir.join("model.safetensors"));
        let (before, after) = (weights(&base), weights(&tuned));
        let (mut changed, mut alone, mut expected) = (0, 0, 0);
        for (name, now) in &after {
            let pairs = now.chunks(4).zip(before[name].chunks(4));
            let others = pairs.filter(|(now, before)| now != before).count();
            changed += others;
            // a vector of which most is trained is smaller whole
            let is_sparse = 8 * others < now.len();
            alone += if is_sparse { others } else { 0 };
            expected += (8 * others).min(now.len());
        }
        let trained = activity["mask_trained_weights"] as usize;
        assert!(
            changed > trained / 2 && changed <= trained,
            "{changed} of {trained}"
        );
        assert!(alone > changed / 2, "{alone} of {changed}");

        let file = dir.path().join(format!("{name}.delta"));
        let found = write_delta(&base, &tuned, &file).unwrap();
        assert_eq!((found.weights, found.new), (alone, 0));
        assert_eq!(found.tensor_bytes, expected);
        assert!(found.tensor_bytes <= trained * (4 + 4));
        let stored = tensors(&file);
        let of = |kind: &str| {
            let entries = stored.iter().filter(|(name, _)| name.starts_with(kind));
            entries.map(|(_, bytes)| bytes.len()).sum::<usize>()
        };
        assert_eq!((of("places/"), of("values/")), (4 * alone, 4 * alone));

        assert_comes_back(&base, &file, &tuned);
    }
}

/// A base and a delta make a model's folder again, every file of it.
fn assert_comes_back(base: &Path, file: &Path, tuned: &Path) {
    let again = tempfile::tempdir().unwrap();
    apply_delta(base, file, again.path()).unwrap();
    for name in bundle::FILES {
        let [found, expected] = [again.path(), tuned].map(|dir| fs::read(dir.join(name)).unwrap());
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn other_methods_come_back_too_and_adapters_are_stored_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (base, tune) = base_of(dir.path());
    for (name, fixed) in [
        ("bias", "fine_tune = 'mask'\nmask = 'bias'"),
        ("blocks", "fine_tune = 'mask'\nmask = 'layer_subset'"),
        ("adapter", "fine_tune = 'adapter'\nadapter_size = 4"),
        ("lora", "fine_tune = 'lora'\nlora_rank = 2"),
        (
            "packed",
            "fine_tune = 'mask'\nmask = 'bias'\nbits = 8\nquant_group = 32",
        ),
    ] {
        let (tuned, _) = tune(name, fixed);
        let file = dir.path().join(format!("{name}.delta"));
        let found = write_delta(&base, &tuned, &file).unwrap();
        assert_comes_back(&base, &file, &tuned);
        let stored: Vec<String> = tensors(&file)
            .into_keys()
            .filter(|name| !name.starts_with("file/"))
            .collect();
        let every = |is: fn(&str) -> bool| stored.iter().all(|name| is(name));
        match name {
            "bias" => assert!(every(|name| name.contains("norm")), "{stored:?}"),
            "blocks" => assert!(
                every(|name| name.contains("layers.1.") || name.contains("model.norm")),
                "{stored:?}"
            ),
            "adapter" => {
                assert!(every(|name| name.contains("adapter")), "{stored:?}");
                assert_eq!((found.new, found.whole, found.weights), (stored.len(), 0, 0));
            }
            // merged, it has changed all of the matrices that it was put on
            "lora" => assert!(every(|name| name.contains("self_attn.")), "{stored:?}"),
            _ => assert!(found.new > 0 && found.same == 0, "{found:?}"),
        }
    }
}
