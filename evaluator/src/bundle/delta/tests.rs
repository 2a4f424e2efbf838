use tempfile::TempDir;

use super::*;
use crate::bundle::tensors::{Outgoing, write};

fn floats(shape: &[usize], values: &[f32]) -> Outgoing {
    Outgoing {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

fn halves(shape: &[usize], values: &[f32]) -> Outgoing {
    Outgoing {
        dtype: Dtype::BF16,
        shape: shape.to_vec(),
        bytes: values
            .iter()
            .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
            .collect(),
    }
}

fn words(shape: &[usize], values: &[i32]) -> Outgoing {
    Outgoing {
        dtype: Dtype::I32,
        shape: shape.to_vec(),
        bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

fn bytes(values: &[u8]) -> Outgoing {
    Outgoing {
        dtype: Dtype::U8,
        shape: vec![values.len()],
        bytes: values.to_vec(),
    }
}

/// A folder of a model.
fn folder(
    home: &TempDir,
    name: &str,
    tensors: Vec<(&str, Outgoing)>,
    texts: &[(&str, &str)],
) -> std::path::PathBuf {
    let dir = home.path().join(name);
    fs::create_dir(&dir).unwrap();
    let tensors: Vec<(String, Outgoing)> = tensors.into_iter().map(|(name, t)| (name.into(), t)).collect();
    write(&dir.join(WEIGHTS), &tensors, None).unwrap();
    for (name, text) in texts {
        fs::write(dir.join(name), text).unwrap();
    }
    dir
}

/// Every file of a folder.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

const TEXTS: [(&str, &str); 3] = [
    ("config.json", "{}"),
    ("tokenizer.json", "tokens"),
    ("README.md", "of the base"),
];

fn weights(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32).sin()).collect()
}

/// Two folders that differ in everything that two folders can differ in.
fn base_and_tuned(home: &TempDir) -> [std::path::PathBuf; 2] {
    let mut changed = weights(12);
    changed[3] = f32::from_bits(changed[3].to_bits() + 1);
    changed[11] = -0.0;
    let before = vec![
        ("a", floats(&[3, 4], &weights(12))),
        ("dense", floats(&[2], &[1.0, 2.0])),
        ("zero", floats(&[4], &[0.0, f32::NAN, 1.0, 2.0])),
        ("wide", halves(&[2, 2], &[1.0, 0.5, -2.0, 3.0])),
        ("wide_changed", halves(&[4], &[1.0, 0.5, -2.0, 3.0])),
        ("codes", words(&[4], &[1, 2, 3, 4])),
        ("same", words(&[2], &[7, 8])),
        ("small", bytes(&[1, 2, 3, 4])),
        ("reshaped", floats(&[4], &weights(4))),
        ("gone", floats(&[4], &weights(4))),
    ];
    let after = vec![
        ("a", floats(&[3, 4], &changed)),
        ("dense", floats(&[2], &[1.0, 3.0])),
        ("zero", floats(&[4], &[-0.0, f32::NAN, 1.0, 2.0])),
        ("wide", floats(&[2, 2], &[1.0, 0.5, -2.0, 3.0])),
        ("wide_changed", floats(&[4], &[1.0, 0.5, -2.0, 3.0001])),
        ("codes", words(&[4], &[1, 2, 3, 5])),
        ("same", words(&[2], &[7, 8])),
        ("small", bytes(&[1, 2, 3, 5])),
        ("reshaped", floats(&[2, 2], &weights(4))),
        ("new", floats(&[3], &weights(3))),
    ];
    let mut texts = TEXTS.to_vec();
    let base = folder(home, "base", before, &texts);
    texts[2].1 = "of the tuned model";
    texts.push(("parsimony.json", "{\"a\": 1}"));
    [base, folder(home, "tuned", after, &texts)]
}

#[test]
fn a_base_and_its_delta_make_the_tuned_model_to_the_bit() {
    let home = tempfile::tempdir().unwrap();
    let [base, tuned] = base_and_tuned(&home);
    let (file, again) = (home.path().join("delta"), home.path().join("again"));
    let found = write_delta(&base, &tuned, &file).unwrap();
    fs::create_dir(&again).unwrap();
    apply_delta(&base, &file, &again).unwrap();
    assert_eq!(files(&again), files(&tuned));
    let expected = Differences {
        same: 2,
        sparse: 4,
        // two of "a", one each of "zero", "wide_changed" and "codes"
        weights: 5,
        whole: 3,
        new: 1,
        // 5 elements, then "dense", "small", "reshaped" and "new"
        tensor_bytes: 5 * 8 + 8 + 4 + 16 + 12,
        bytes: fs::metadata(&file).unwrap().len(),
    };
    assert_eq!(found, expected);
    // made again it is the same file
    let twice = home.path().join("twice");
    write_delta(&base, &tuned, &twice).unwrap();
    assert_eq!(fs::read(&twice).unwrap(), fs::read(&file).unwrap());
}

#[test]
fn few_weights_take_eight_bytes_each() {
    let home = tempfile::tempdir().unwrap();
    let n = 4096;
    let base = folder(&home, "base", vec![("a", floats(&[64, 64], &weights(n)))], &TEXTS);
    let bytes_of = |name: &str, changed: usize| {
        let mut values = weights(n);
        values.iter_mut().take(changed).for_each(|v| *v += 1.0);
        let tuned = folder(&home, name, vec![("a", floats(&[64, 64], &values))], &TEXTS);
        let file = home.path().join(format!("{name}.delta"));
        write_delta(&base, &tuned, &file).unwrap()
    };
    for changed in [0, 1, 100, n / 2 - 1] {
        let found = bytes_of(&format!("few{changed}"), changed);
        assert_eq!((found.weights, found.tensor_bytes), (changed, 8 * changed));
        // what is not a tensor is the head: names, shapes and fingerprints
        assert!(found.bytes < 8 * changed as u64 + 800, "{found:?}");
    }
    // from half of them on the whole is no larger
    let found = bytes_of("half", n / 2);
    assert_eq!((found.weights, found.whole, found.tensor_bytes), (0, 1, 4 * n));
}

#[test]
fn another_base_and_a_damaged_file_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let [base, tuned] = base_and_tuned(&home);
    let file = home.path().join("delta");
    write_delta(&base, &tuned, &file).unwrap();
    let refusal = |base: &Path, file: &Path| {
        let again = tempfile::tempdir().unwrap();
        apply_delta(base, file, again.path()).map_err(|e| e.to_string())
    };
    let said = refusal(&tuned, &file).unwrap_err();
    assert!(
        said.contains("was made from a base whose weights have fingerprint"),
        "{said}"
    );
    let said = refusal(&base, &base.join(WEIGHTS)).unwrap_err();
    assert!(said.contains("has no 'parsimony_delta'"), "{said}");

    let whole = fs::read(&file).unwrap();
    let damaged = home.path().join("damaged");
    fs::write(&damaged, &whole[..whole.len() - 1]).unwrap();
    let said = refusal(&base, &damaged).unwrap_err();
    assert!(said.contains("cannot be applied: it is cut short"), "{said}");
    // every byte matters: some make the head unreadable, the others another model
    let start = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for place in start..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x40;
        fs::write(&damaged, &bytes).unwrap();
        let said = refusal(&base, &damaged).unwrap_err();
        assert!(said.contains("cannot be applied"), "byte {place}: {said}");
    }
    // a text of the base that the result shares has changed
    fs::write(base.join("tokenizer.json"), "others").unwrap();
    let said = refusal(&base, &file).unwrap_err();
    assert!(said.contains("one of the two has changed since"), "{said}");
}
