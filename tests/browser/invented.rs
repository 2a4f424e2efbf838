//! What trials would have come to that were never trained, by a formula, and a catalogue to search.

use std::collections::BTreeMap;

use spaces::{
    Candidate, Catalog, Condition, CorpusInfo, Domain, Evidence, Measurement, MethodInfo, ParameterInfo,
    Preset, TechniqueInfo, Value,
    protocol::{Evaluation, Outcome},
    study::{ParameterSpec, RangeSpec},
};

/// A point that looks random and is the same each time.
pub(crate) fn candidate(number: u32) -> Candidate {
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % n
    };
    let mut set = BTreeMap::new();
    set.insert("layers".to_owned(), Value::Int(1 + next(6) as i64));
    set.insert("width".to_owned(), Value::Int(32 * (1 + next(8) as i64)));
    set.insert(
        "attention".to_owned(),
        ["full", "sliding_window", "linear"][next(3) as usize].into(),
    );
    set.insert("bits".to_owned(), Value::Int([32, 8, 4][next(3) as usize]));
    set.insert(
        "prune_ratio".to_owned(),
        Value::Float((next(800) as f64) / 1000.0),
    );
    set.insert(
        "learning_rate".to_owned(),
        Value::Float(1e-4 * 10f64.powf(2.0 * next(10_000) as f64 / 10_000.0)),
    );
    Candidate { values: set }
}

pub(crate) fn number(candidate: &Candidate, name: &str) -> f64 {
    candidate.get(name).and_then(Value::as_f64).unwrap()
}

fn weights(c: &Candidate) -> f64 {
    (12.0 * number(c, "layers") * number(c, "width").powi(2) + 96.0 * number(c, "width"))
        * (1.0 - number(c, "prune_ratio"))
}

pub(crate) fn loss(c: &Candidate) -> f64 {
    let rate = (number(c, "learning_rate") / 2e-3).ln().powi(2) * 0.03;
    let bits = if number(c, "bits") < 8.0 { 0.09 } else { 0.0 };
    1.25 + 9.0 / weights(c).powf(0.24) + rate + bits + 0.25 * number(c, "prune_ratio").powi(3)
}

pub(crate) fn done(c: &Candidate) -> Outcome {
    let mixer = match c.get("attention").and_then(Value::as_str) {
        Some("full") => 1.35,
        Some("linear") => 0.95,
        _ => 1.1,
    };
    let flops = 2.0 * weights(c) * mixer;
    let bytes = weights(c) * number(c, "bits") / 8.0 + 40_000.0;
    let step = 2000;
    let known = |metric: &str, value: f64| Measurement {
        evidence: Evidence::Analytic,
        source: "formula".into(),
        ..measured(metric, step, value, None)
    };
    let energy = Measurement {
        evidence: Evidence::Estimated,
        source: "power_model".into(),
        ..measured("energy_j_per_token", step, 3e-9 * flops + 2e-5, None)
    };
    Outcome::Done(Evaluation {
        measurements: vec![
            measured("validation_loss", step, loss(c), Some(0.012)),
            known("inference_flops_per_token", flops.round()),
            known("parameters", weights(c).round()),
            known("model_bytes", bytes.round()),
            measured(
                "peak_memory_bytes",
                step,
                (bytes * 1.4 + 2.1e5 * number(c, "layers")).round(),
                None,
            ),
            measured("latency_ms_per_token", step, flops / 4e6 + 0.05, Some(0.004)),
            energy,
        ],
        activity: BTreeMap::from([
            ("pruned_weights".to_owned(), 41_207),
            ("quantized_matrices".to_owned(), 12),
        ]),
        provenance: BTreeMap::from([
            ("version".to_owned(), "0.1.0".to_owned()),
            ("device".to_owned(), "cpu: AMD EPYC, 2 threads".to_owned()),
        ]),
        wall_s: 20.0 + flops / 1e5,
        artifacts: vec![],
    })
}

pub(crate) fn measured(metric: &str, step: u64, value: f64, spread: Option<f64>) -> Measurement {
    Measurement {
        metric: metric.into(),
        step,
        value,
        spread,
        evidence: Evidence::Measured,
        source: "clock".into(),
    }
}

/// A small catalogue with every kind of parameter.
pub(crate) fn catalog() -> Catalog {
    let parameter = |name: &str, group: &str, doc: &str, allowed: Domain, default: Value| ParameterInfo {
        name: name.into(),
        doc: doc.into(),
        unit: String::new(),
        group: group.into(),
        search: allowed.clone(),
        allowed,
        default,
        condition: Condition::default(),
    };
    let int = |low, high| Domain::int(low, high, false, 1).unwrap();
    let names = |list: &[&str]| Domain::categorical(list.iter().map(|s| Value::from(*s)).collect()).unwrap();
    let technique = |family: &str, name: &str, doc: &str, paper: &str| TechniqueInfo {
        family: family.into(),
        name: name.into(),
        doc: doc.into(),
        paper: paper.into(),
    };
    Catalog {
        parameters: vec![
            parameter(
                "layers",
                "model",
                "blocks of the decoder",
                int(1, 64),
                Value::Int(2),
            ),
            parameter(
                "width",
                "model",
                "size of the hidden state",
                int(8, 4096),
                Value::Int(64),
            ),
            parameter(
                "attention",
                "attention",
                "how tokens look at each other",
                names(&["full", "sliding_window", "linear"]),
                "full".into(),
            ),
            ParameterInfo {
                condition: Condition::parse("attention == 'sliding_window'").unwrap(),
                ..parameter(
                    "window",
                    "attention",
                    "tokens that are looked at",
                    int(1, 4096),
                    Value::Int(64),
                )
            },
            parameter(
                "bits",
                "quantization",
                "bits of a weight",
                Domain::categorical(vec![Value::Int(32), Value::Int(8), Value::Int(4)]).unwrap(),
                Value::Int(32),
            ),
            parameter(
                "prune_ratio",
                "pruning",
                "share of the weights that is removed",
                Domain::float(0.0, 0.95, false, None).unwrap(),
                Value::Float(0.0),
            ),
            parameter(
                "learning_rate",
                "training",
                "largest step of the optimizer",
                Domain::float(1e-6, 1.0, true, None).unwrap(),
                Value::Float(1e-3),
            ),
        ],
        techniques: vec![
            technique(
                "attention",
                "full",
                "every token looks at every earlier one",
                "1706.03762",
            ),
            technique(
                "attention",
                "sliding_window",
                "a token looks at the last few",
                "2004.05150",
            ),
            technique(
                "attention",
                "linear",
                "a running sum in place of the matrix of weights",
                "2006.16236",
            ),
        ],
        corpora: vec![
            CorpusInfo {
                name: "recall".into(),
                doc: "keys and values made by the server".into(),
                needs_path: false,
                takes_tokenizer: false,
                options: vec![parameter(
                    "pairs",
                    "data",
                    "pairs in a text",
                    int(1, 64),
                    Value::Int(8),
                )],
            },
            CorpusInfo {
                name: "text".into(),
                doc: "a file or folder of text".into(),
                needs_path: true,
                takes_tokenizer: true,
                options: vec![],
            },
        ],
        presets: vec![Preset {
            name: "tiny-decoder".into(),
            doc: "a decoder that trains in a minute".into(),
            fixed: BTreeMap::from([("width".into(), Value::Int(96))]),
            space: vec![
                (
                    "layers".into(),
                    ParameterSpec::Table(RangeSpec {
                        int: Some([1, 4]),
                        ..RangeSpec::default()
                    }),
                ),
                (
                    "attention".into(),
                    ParameterSpec::List(vec!["full".into(), "linear".into()]),
                ),
            ],
        }],
        metrics: [
            "validation_loss",
            "accuracy",
            "inference_flops_per_token",
            "parameters",
            "model_bytes",
            "peak_memory_bytes",
            "energy_j_per_token",
            "latency_ms_per_token",
        ]
        .map(String::from)
        .to_vec(),
        methods: vec![MethodInfo {
            name: "auto".into(),
            doc: "the method that suits the study".into(),
            paper: String::new(),
            needs: None,
        }],
        rules: ["mo_asha", "asha"]
            .map(|name| MethodInfo {
                name: name.into(),
                doc: "halves".into(),
                paper: String::new(),
                needs: None,
            })
            .to_vec(),
    }
}
