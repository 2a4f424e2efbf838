//! Study files: what is read is what was written.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mistakes;

use std::collections::BTreeMap;

use spaces::{
    Catalog, Condition, CorpusInfo, Domain, MethodInfo, ParameterInfo, Preset, Value,
    study::{
        BaseSpec, ParameterSpec, RangeSpec, config_from_toml, json_to_toml, read_study, study_from_toml,
        study_to_toml,
    },
};

fn parameter(name: &str, allowed: Domain, default: Value, when: &str) -> ParameterInfo {
    ParameterInfo {
        name: name.into(),
        doc: String::new(),
        unit: if name == "training_time" {
            "s".into()
        } else {
            String::new()
        },
        group: "model".into(),
        search: allowed.clone(),
        allowed,
        default,
        condition: if when.is_empty() {
            Condition::default()
        } else {
            Condition::parse(when).unwrap()
        },
    }
}

fn catalog() -> Catalog {
    let int = |low, high| Domain::int(low, high, false, 1).unwrap();
    let names = |list: &[&str]| Domain::categorical(list.iter().map(|s| Value::from(*s)).collect()).unwrap();
    Catalog {
        parameters: vec![
            parameter("layers", int(1, 64), Value::Int(2), ""),
            parameter("width", int(8, 4096), Value::Int(64), ""),
            parameter(
                "attention",
                names(&["full", "sliding_window", "linear"]),
                "full".into(),
                "",
            ),
            parameter(
                "window",
                int(1, 4096),
                Value::Int(64),
                "attention == 'sliding_window'",
            ),
            parameter("experts", int(1, 64), Value::Int(1), ""),
            parameter("top_k", int(1, 8), Value::Int(1), "experts > 1"),
            parameter(
                "learning_rate",
                Domain::float(1e-6, 1.0, false, None).unwrap(),
                Value::Float(1e-3),
                "",
            ),
            parameter(
                "training_time",
                Domain::float(0.0, 1e6, false, None).unwrap(),
                Value::Float(0.0),
                "",
            ),
        ],
        corpora: vec![CorpusInfo {
            name: "text".into(),
            doc: String::new(),
            needs_path: true,
            takes_tokenizer: true,
            options: vec![],
        }],
        presets: vec![Preset {
            name: "tiny".into(),
            doc: String::new(),
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
        metrics: ["validation_loss", "model_bytes", "energy_j_per_token"]
            .map(String::from)
            .to_vec(),
        methods: vec![MethodInfo {
            name: "auto".into(),
            doc: String::new(),
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
        techniques: vec![],
    }
}

const GOOD: &str = r#"
name = "shakespeare"

[data]
corpus = "text"
path = "data/input.txt"
tokenizer = "char"

[fixed]
training_time = "2 min"

[space]
preset = "tiny"
attention = ["full", "sliding_window"]
window = { int = [8, 64], step = 8 }
experts = [1, 2, 4]
top_k = { int = [1, 2], when = "experts > 1" }
learning_rate = { float = [1e-4, 1e-2], log = true }

[[objective]]
metric = "validation_loss"

[[objective]]
metric = "model_bytes"

[[constraint]]
metric = "model_bytes"
max = "4 MiB"

[search]
trials = 40
wall = "30 min"
seed = 7
"#;

#[test]
fn a_good_file_is_resolved_and_converts_both_ways() {
    let catalog = catalog();
    let study = study_from_toml(GOOD, &catalog).unwrap();
    let names: Vec<_> = study.space.parameters().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "attention",
            "window",
            "experts",
            "top_k",
            "learning_rate",
            "layers"
        ]
    );
    assert_eq!(
        study.space.get("window").unwrap().condition.to_string(),
        "attention == 'sliding_window'"
    );
    assert_eq!(study.limits[0].max, Some(4194304.0));
    assert_eq!(study.wall_s, Some(1800.0));
    assert!(study.objectives[1].known_before_training && !study.objectives[0].known_before_training);

    let text = study_to_toml(&study.spec);
    let again = study_from_toml(&text, &catalog).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    assert_eq!(again.spec, study.spec, "{text}");
    let json = serde_json::to_value(&study.spec).unwrap();
    assert_eq!(read_study(&json).unwrap(), study.spec);

    let candidate = study.space.decode(&[0.9, 0.0, 0.0, 0.0, 0.5, 0.9]);
    let config = study.config(&catalog, &candidate);
    assert_eq!(config.values["width"], Value::Int(96));
    assert_eq!(config.values["training_time"], Value::Float(120.0));
    assert_eq!(config.values["window"], Value::Int(8));
    assert!(!config.values.contains_key("top_k"), "one expert: no routing");
}

#[test]
fn models_that_are_started_from_and_learnt_from_convert_both_ways() {
    let text = GOOD.replace(
        "[fixed]",
        "[base]\npath = \"small\"\n\n[teacher]\npath = \"large\"\n\n[fixed]",
    );
    let study = study_from_toml(&text, &catalog()).unwrap();
    let path = |model: &Option<BaseSpec>| model.as_ref().map(|m| m.path.clone());
    assert_eq!(path(&study.spec.base).as_deref(), Some("small"));
    assert_eq!(path(&study.spec.teacher).as_deref(), Some("large"));
    let written = study_to_toml(&study.spec);
    assert!(written.contains("[teacher]\npath = \"large\""), "{written}");
    assert_eq!(study_from_toml(&written, &catalog()).unwrap().spec, study.spec);
    let json = serde_json::to_value(&study.spec).unwrap();
    assert_eq!(read_study(&json).unwrap(), study.spec);
    let candidate = study.space.decode(&[0.5; 6]);
    let config = study.config(&catalog(), &candidate);
    assert_eq!(path(&config.teacher).as_deref(), Some("large"));
    let again = serde_json::to_value(&config).unwrap();
    assert_eq!(serde_json::from_value::<spaces::Config>(again).unwrap(), config);
    let alone = "[data]\ncorpus = \"text\"\npath = \"t\"\n[teacher]\npath = \"large\"\n";
    let config = config_from_toml(alone, &catalog()).unwrap();
    assert_eq!(
        (path(&config.base), path(&config.teacher).as_deref()),
        (None, Some("large"))
    );
}

#[test]
fn parts_of_a_training_and_the_budget_convert_both_ways() {
    let text = GOOD.replace(
        "seed = 7",
        "seed = 7\nfull_trials = 12.5\nfidelity = { steps = [0.1, 0.3, 1] }",
    );
    let study = study_from_toml(&text, &catalog()).unwrap();
    let fidelity = study.spec.search.fidelity.clone().unwrap();
    assert_eq!((fidelity.rule.as_str(), fidelity.eta), ("mo_asha", 3));
    assert_eq!(fidelity.steps, [0.1, 0.3, 1.0]);
    let again = study_from_toml(&study_to_toml(&study.spec), &catalog()).unwrap();
    assert_eq!(again.spec, study.spec);
    let json = serde_json::to_value(&study.spec).unwrap();
    assert_eq!(read_study(&json).unwrap(), study.spec);
}

#[test]
fn a_study_begins_with_what_is_given_and_with_what_others_found() {
    let start = "[[search.start]]\nlayers = 3\n[[search.start]]\nlayers = 2\nattention = 'sliding_window'\nwindow = 8";
    let text = format!("{GOOD}\n{start}");
    let catalog = catalog();
    let study = study_from_toml(&text, &catalog).unwrap();
    let [first, second] = study.start.as_slice() else {
        panic!("{:?}", study.start);
    };
    study.space.check(first).unwrap();
    study.space.check(second).unwrap();
    assert_eq!(first.get("layers"), Some(&Value::Int(3)));
    assert_eq!(
        first.get("attention"),
        Some(&"full".into()),
        "what is left out has its usual value"
    );
    assert_eq!(second.get("window"), Some(&Value::Int(8)));
    let again = study_from_toml(&study_to_toml(&study.spec), &catalog).unwrap();
    assert_eq!(
        (again.spec, again.start),
        (study.spec.clone(), study.start.clone())
    );

    // of another space: what fits is kept
    let other = BTreeMap::from([
        ("layers".into(), Value::Int(4)),
        ("window".into(), Value::Int(9)),
        ("attention".into(), "none of ours".into()),
        ("heads".into(), Value::Int(4)),
    ]);
    let adopted = study.adopt(&catalog, &other);
    study.space.check(&adopted).unwrap();
    assert_eq!(adopted.get("layers"), Some(&Value::Int(4)));
    assert_eq!(adopted.get("attention"), Some(&"full".into()));

    for (wrong, expected) in [
        ("layers = 77", "77 does not fit 'layers'"),
        (
            "layers = 7",
            "'layers' is 7, which is not searched; use whole numbers 1 to 4",
        ),
        ("layer = 2", "did you mean 'layers'?"),
        ("window = 8", "'window' has a meaning only when"),
        (
            "layers = 3",
            "search.start[2]: the same configuration stands there before; remove one",
        ),
    ] {
        let text = format!("{text}\n[[search.start]]\n{wrong}");
        let errors = study_from_toml(&text, &catalog).unwrap_err();
        let line = text.lines().count() - usize::from(wrong == "layers = 3");
        assert!(
            errors.len() == 1 && errors[0].to_string().contains(expected) && errors[0].line == Some(line),
            "{errors:?}, line {line}"
        );
    }
}

#[test]
fn a_configuration_file_holds_no_search() {
    let text = "[data]\ncorpus = \"text\"\npath = \"a.txt\"\n[fixed]\nlayers = 3\n";
    let config = config_from_toml(text, &catalog()).unwrap();
    assert_eq!(config.values["layers"], Value::Int(3));
    assert!(!config.values.contains_key("window"));
    let errors = config_from_toml(GOOD, &catalog()).unwrap_err();
    assert!(
        errors
            .iter()
            .any(|e| e.to_string().contains("a configuration holds no search"))
    );
    let errors = config_from_toml(&text.replace("layers = 3", "window = 3"), &catalog()).unwrap_err();
    assert!(
        errors[0]
            .to_string()
            .contains("only when attention == 'sliding_window'"),
        "{}",
        errors[0]
    );
}

#[test]
fn half_a_study_is_written_as_far_as_it_goes() {
    let half =
        serde_json::json!({ "name": "", "space": { "width": [1, 2] }, "colour": "red", "objective": [] });
    let text = json_to_toml(&half).unwrap();
    assert!(
        text.contains("[space]\nwidth = [1, 2]\n") && text.contains("colour = \"red\""),
        "{text}"
    );
    assert_eq!(json_to_toml(&serde_json::json!({ "name": null })), None);
    assert_eq!(json_to_toml(&serde_json::json!([1])), None);
}
