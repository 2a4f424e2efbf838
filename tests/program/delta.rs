//! A tuned model sent as what it differs in from its base.

use std::fs;

use parsimony_tests::program::{Program, Ran};

use crate::program;

/// Every file of a folder.
fn files(program: &Program, folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(program.path(folder))
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

/// One sentence, exit code 2.
fn assert_refused(ran: &Ran, part: &str) {
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let sentence = ran.stderr.trim_end();
    assert!(sentence.contains(part) && !sentence.contains('\n'), "{sentence}");
}

#[test]
fn a_tuned_model_goes_through_a_small_file_and_comes_back_whole() {
    let program = program();
    let data = "[data]\ncorpus = \"crate_sources\"\n";
    program.write(
        "base.toml",
        &format!(
            "{data}tokenizer = \"byte\"\n[fixed]\ncontext = 32\nwidth = 64\nheads = 4\nlayers = 2\nbatch = 8\ntokens = 16_000\nvalidation_tokens = 2048\n"
        ),
    );
    program.json(&["measure", "base.toml", "--out", "base", "--json"]);
    program.write(
        "tuned.toml",
        &format!(
            "{data}[base]\npath = \"base\"\n[fixed]\ncontext = 32\nbatch = 8\ntokens = 4000\nvalidation_tokens = 2048\nfine_tune = \"mask\"\nmask = \"magnitude\"\nmask_fraction = 0.01\n"
        ),
    );
    program.json(&["measure", "tuned.toml", "--out", "tuned", "--json"]);

    let made = program.json(&[
        "delta", "--base", "base", "--tuned", "tuned", "--out", "delta", "--json",
    ]);
    let found = &made["differences"];
    let of = |name: &str| found[name].as_u64().unwrap();
    let (weights, bytes) = (of("weights"), of("bytes"));
    // scales of norms are the largest weights, and a vector of which all is trained is smaller whole
    let vectors = of("whole") * 64 * 4;
    assert!(
        weights > 0 && of("tensor_bytes") == 8 * weights + vectors,
        "{made}"
    );
    assert_eq!(bytes, fs::metadata(program.path("delta")).unwrap().len());
    assert!(10 * bytes < made["model_bytes"].as_u64().unwrap(), "{made}");

    let printed = program.ok(&["delta", "--base", "base", "--apply", "delta", "--out", "again"]);
    assert!(printed.contains("written to again"), "{printed}");
    assert_eq!(files(&program, "again"), files(&program, "tuned"));

    let other = program.run(&["delta", "--base", "tuned", "--apply", "delta", "--out", "none"]);
    assert_refused(&other, "name the folder of that base");
    let mut damaged = fs::read(program.path("delta")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(program.path("damaged"), damaged).unwrap();
    let damaged = program.run(&["delta", "--base", "base", "--apply", "damaged", "--out", "none"]);
    assert_refused(&damaged, "cannot be applied");
    let there = program.run(&["delta", "--base", "base", "--tuned", "tuned", "--out", "delta"]);
    assert_refused(&there, "is there already");
    let missing = program.run(&["delta", "--base", "base", "--apply", "nothing", "--out", "none"]);
    assert_refused(&missing, "is no file");
    assert!(!program.path("none").exists());
    let left = fs::read_dir(program.path(".")).unwrap();
    let hidden = left.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "nothing half-written is left");
    assert_eq!(
        program.run(&["delta", "--base", "base", "--out", "none"]).code,
        Some(2)
    );
}
