use std::fs;

use crate::program;

/// A measurement of seconds.
const SMALL: [&str; 12] = [
    "bench",
    "search",
    "--problems",
    "tower,zdt1",
    "--methods",
    "nsga2,random",
    "--seeds",
    "4",
    "--trials",
    "60",
    "--only",
    "quality",
];

#[test]
fn methods_are_compared_in_a_table_and_in_pictures() {
    let program = program();
    let table = program.ok(&[&SMALL[..], &["--out", "bench"]].concat());
    for part in [
        "tower",
        "zdt1",
        "nsga2",
        "random",
        "after 25",
        "after 60",
        "mean of all",
    ] {
        assert!(table.contains(part), "'{part}' is not in: {table}");
    }
    for name in ["quality-tower", "quality-zdt1"] {
        let svg = fs::read_to_string(program.path("bench").join(format!("{name}.svg"))).unwrap();
        assert!(
            svg.contains("normalised hypervolume by evaluations") && svg.contains("random"),
            "{svg}"
        );
        let png = fs::read(program.path("bench").join(format!("{name}.png"))).unwrap();
        assert_eq!(png[1..4], *b"PNG");
    }
    let results = fs::read_to_string(program.path("bench/results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results["quality"].as_array().unwrap().len(), 4);
    assert_eq!(results["settings"]["trials"], 60);
}

#[test]
fn scripts_get_the_same_numbers_as_json_and_as_csv() {
    let program = program();
    let results = program.json(&[&SMALL[..], &["--greybox", "--batch", "3", "--format", "json"]].concat());
    let csv = program.ok(&[&SMALL[..], &["--greybox", "--batch", "3", "--format", "csv"]].concat());
    let mut compared = 0;
    for row in results["quality"].as_array().unwrap() {
        for after in row["after"].as_array().unwrap() {
            let line = format!(
                "quality,{},{},{},median,{}\n",
                row["problem"].as_str().unwrap(),
                row["method"].as_str().unwrap(),
                after["evaluations"],
                after["median"].as_f64().unwrap()
            );
            assert!(csv.contains(&line), "{line} is not in: {csv}");
            compared += 1;
        }
    }
    // two problems, two methods, after 25, 50 and 60 evaluations
    assert_eq!(compared, 12);
}

#[test]
fn wrong_names_and_places_end_with_one_sentence_and_code_2() {
    let program = program();
    program.write("file", "");
    for (arguments, parts) in [
        (["--problems", "zdt11"], ["'zdt11'", "did you mean 'zdt1'?"]),
        (["--methods", "randon"], ["'randon'", "did you mean 'random'?"]),
        (
            ["--methods", "random,random"],
            ["'random' is named twice", "remove one"],
        ),
        (["--seeds", "0"], ["'0'", "--seeds"]),
    ] {
        let ran = program.run(&[&["bench", "search"][..], &arguments].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert_eq!(ran.stdout, "");
        for part in parts {
            assert!(ran.stderr.contains(part), "'{part}' is not in: {}", ran.stderr);
        }
    }
    let ran = program.run(&[&SMALL[..], &["--out", "file/below"]].concat());
    assert!(
        ran.code == Some(2) && ran.stderr.contains("file/below"),
        "{ran:?}"
    );
}

#[test]
fn models_are_timed_with_the_work_that_they_execute() {
    let program = program();
    let tiny = [
        "--size",
        "32",
        "--batch",
        "2",
        "--rounds",
        "2",
        "--seconds",
        "0.02",
    ];
    let time = |work: &str, more: &[&str]| {
        let layers: &[&str] = if more.contains(&"--layers") {
            &[]
        } else {
            &["--layers", "1"]
        };
        let answer =
            program.json(&[&["bench", work][..], &tiny, layers, more, &["--format", "json"]].concat());
        assert!(answer["gemm_gflop_per_s"].as_f64().unwrap() > 0.0);
        let models = answer["models"].as_array().unwrap().clone();
        assert!(
            models.iter().all(|m| m["tokens_per_s"].as_f64().unwrap() > 0.0),
            "{answer}"
        );
        models
    };
    let flops = |model: &serde_json::Value| model["flops_per_token"].as_f64().unwrap();
    let both = ["--attention", "full,linear"];
    let (trained, read) = (time("train", &both), time("forward", &both));
    assert_eq!((trained.len(), read.len()), (2, 2));
    // a step is a forward pass and twice as much backward; attention computes its weights once more
    let times = flops(&trained[0]) / flops(&read[0]);
    assert!((3.0..3.6).contains(&times), "{times}");
    // reversible layers keep no activations, and compute each block once more
    let step = |more: &[&str]| {
        let model = time("train", &[&["--layers", "6"][..], more].concat()).remove(0);
        (model["peak_bytes"].as_u64().unwrap(), flops(&model))
    };
    let (kept, reversed) = (step(&[]), step(&["--set", "reversible=true"]));
    assert!(
        reversed.0 < kept.0 && reversed.1 > kept.1,
        "{kept:?} {reversed:?}"
    );
    assert_eq!(time("decode", &[]).len(), 1);
    assert!(flops(&time("forward", &["--set", "experts=4", "--set", "top_k=2"])[0]) > flops(&read[0]));

    for (wrong, said) in [
        (["--attention", "fool"], "'fool'"),
        (["--set", "layers"], "--set NAME=VALUE"),
        (["--set", "heads=3"], "heads"),
        (["--set", "context=64"], "option of its own"),
        (["--seconds", "0"], "--seconds 0"),
    ] {
        let refused = program.run(&[&["bench", "train"][..], &wrong].concat());
        assert!(
            refused.code == Some(2) && refused.stderr.contains(said),
            "{wrong:?}: {}",
            refused.stderr
        );
    }
}

#[test]
fn growth_with_the_context_is_told_for_each_attention_and_a_mistake_in_one_sentence() {
    let program = program();
    let small = [
        "bench",
        "scaling",
        "--attention",
        "full,tiled,linear",
        "--context",
        "128,512",
        "--seconds",
        "0.01",
    ];
    let table = program.ok(&small);
    assert!(
        table.contains("slope of time") && table.contains("MiB at 512"),
        "{table}"
    );
    let results = program.json(&[&small[..], &["--format", "json"]].concat());
    let slope = |i: usize, name: &str| {
        assert_eq!(
            results["attentions"][i]["attention"],
            ["full", "tiled", "linear elu1"][i]
        );
        results["attentions"][i][name].as_f64().unwrap()
    };
    // work and bytes are counted, so they do not depend on the machine's load
    assert!(slope(0, "flops_slope") > 1.9 && slope(0, "bytes_slope") > slope(1, "bytes_slope") + 0.2);
    assert!(slope(1, "flops_slope") > 1.9 && slope(1, "bytes_slope") < 1.2);
    assert!(slope(2, "flops_slope") < 1.1 && slope(2, "bytes_slope") < 1.2);
    for (wrong, part) in [
        (["--attention", "flash"], "--attention flash is not one of full,"),
        (["--context", "128"], "--context 128 is one point"),
    ] {
        let ran = program.run(&[&["bench", "scaling"][..], &wrong].concat());
        assert!(ran.code == Some(2) && ran.stderr.contains(part), "{ran:?}");
    }
}

#[test]
fn the_break_even_of_sparse_products_is_told_and_a_mistake_in_one_sentence() {
    let program = program();
    let small = ["bench", "sparse", "--width", "64", "--seconds", "0.01"];
    let table = program.ok(&small);
    assert!(
        table.contains("2:4") && table.contains("64 rows of inputs: dense"),
        "{table}"
    );
    let results = program.json(&[&small[..], &["--format", "json"]].concat());
    let half = &results["products"][0];
    // half of the weights and a bit for each
    assert_eq!(half["bytes"].as_f64(), Some(0.5 + 1.0 / 32.0));
    assert!(half["products"][1]["sparse_us"].as_f64() > Some(0.0));
    let ran = program.run(&["bench", "sparse", "--width", "100"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("use 96"), "{ran:?}");
}

#[test]
fn every_resource_of_each_attention_is_told_on_one_sheet() {
    let program = program();
    let small = [
        "bench",
        "sheet",
        "--attention",
        "full,rwkv",
        "--context",
        "32,128",
        "--seconds",
        "0.01",
    ];
    let table = program.ok(&small);
    for part in [
        "train tokens/s",
        "state KiB",
        "mJ/token",
        "rwkv",
        "Exponents of the context",
    ] {
        assert!(table.contains(part), "{part} is missing: {table}");
    }
    let results = program.json(&[&small[..], &["--format", "json"]].concat());
    let points = results["points"].as_array().unwrap();
    assert_eq!(points.len(), 4);
    for point in points {
        let number = |name: &str| point[name].as_f64().unwrap_or_else(|| panic!("{name}: {point}"));
        assert_eq!(
            number("train_flops_counted"),
            number("train_flops_formula"),
            "{point}"
        );
        for name in [
            "train_tokens_per_s",
            "prefill_ms",
            "decode_ms_per_token",
            "joules_per_decoded_token",
        ] {
            assert!(number(name) > 0.0, "{name}: {point}");
        }
    }
    let state = |i: usize| points[i]["state_bytes"].as_u64().unwrap();
    assert_eq!((state(1), state(3)), (4 * state(0), state(2)));
    let csv = program.ok(&[&small[..], &["--format", "csv"]].concat());
    assert_eq!(csv.lines().count(), 5, "{csv}");
}
