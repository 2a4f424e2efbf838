//! What is wrong is named with its line and remedy.

use spaces::study::study_from_toml;

use crate::{GOOD, catalog};

/// Replaces `from` by `to` in the good file and gives the errors as one text.
fn broken(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let errors = study_from_toml(&GOOD.replace(from, to), &catalog()).unwrap_err();
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn each_mistake_is_one_sentence_with_line_value_and_remedy() {
    let cases = [
        (
            "tokenizer = \"char\"",
            "tokeniser = \"char\"",
            "line 7: data.tokeniser: unknown key 'tokeniser'; did you mean 'tokenizer'?",
        ),
        (
            "seed = 7",
            "sed = 7",
            "line 33: search.sed: unknown key 'sed'; did you mean 'seed'?",
        ),
        (
            "trials = 40",
            "trials = \"many\"",
            "line 31: search.trials: \"many\" is not a whole number of at least 1",
        ),
        ("trials = 40", "trials = 0", "0 is not a whole number"),
        (
            "wall = \"30 min\"",
            "wall = \"30 parsecs\"",
            "'parsecs' is not a unit for a time; write for example \"30 min\"",
        ),
        (
            "attention = [\"full\"",
            "attention = [\"ful\"",
            "line 14: space.attention: unknown attention 'ful'; did you mean 'full'?",
        ),
        (
            "[8, 64], step = 8",
            "[64, 8], step = 8",
            "line 15: space.window: the range [64, 8] is empty",
        ),
        ("[1e-4, 1e-2]", "[0.0, 1e-2]", "cannot start at 0"),
        ("[1e-4, 1e-2]", "[1e-4]", "two numbers [low, high] is needed"),
        (
            "[1e-4, 1e-2]",
            "[1e-4, 10.0]",
            "wider than 'learning_rate' allows",
        ),
        (
            "experts = [1, 2, 4]",
            "experts = 2",
            "a constant belongs to [fixed]",
        ),
        ("experts > 1", "experts > 9", "no value of 'experts'"),
        (
            "experts > 1",
            "expert > 1",
            "unknown parameter 'expert'; did you mean 'experts'?",
        ),
        (
            "attention = [\"full\", \"sliding_window\"]",
            "attention = [\"full\", \"linear\"]",
            "no value of 'attention'",
        ),
        (
            "metric = \"model_bytes\"\n\n[[con",
            "metric = \"model_byte\"\n\n[[con",
            "line 24: objective[1].metric: unknown metric 'model_byte'; did you mean 'model_bytes'?",
        ),
        (
            "metric = \"model_bytes\"\n\n[[con",
            "metric = \"validation_loss\"\n\n[[con",
            "given twice",
        ),
        ("max = \"4 MiB\"", "max = \"4 J\"", "'J' is not a unit for bytes"),
        ("max = \"4 MiB\"\n", "", "a constraint needs min or max"),
        (
            "name = \"shakespeare\"",
            "name = \"../up\"",
            "cannot name a folder",
        ),
        ("name = \"shakespeare\"", "", "'name' is missing"),
        (
            "preset = \"tiny\"",
            "preset = \"tin\"",
            "unknown preset 'tin'; did you mean 'tiny'?",
        ),
        (
            "corpus = \"text\"",
            "corpus = \"texts\"",
            "unknown corpus 'texts'; did you mean 'text'?",
        ),
        ("path = \"data/input.txt\"\n", "", "corpus 'text' needs path"),
        (
            "training_time = \"2 min\"",
            "layers = 0",
            "0 does not fit 'layers'",
        ),
        (
            "training_time = \"2 min\"",
            "attention = \"full\"",
            "both fixed and searched",
        ),
        (
            "training_time = \"2 min\"",
            "training_time = [1]",
            "[1] is a list, but a single value is needed",
        ),
        (
            "seed = 7",
            "seed = 7\nfidelity = { steps = [0.1] }",
            "search.fidelity.steps: the last step is 0.1, so no trial is trained in full; end with 1.0",
        ),
        (
            "seed = 7",
            "seed = 7\nfidelity = { steps = [0.3, 0.1, 1.0] }",
            "0.3 stands before 0.1; put them in ascending order",
        ),
        (
            "seed = 7",
            "seed = 7\nfidelity = { steps = [0, 1] }",
            "0 is no part of a training; use numbers above 0 up to 1",
        ),
        (
            "seed = 7",
            "seed = 7\nfidelity = { steps = [1.0] }",
            "a single step trains every trial in full",
        ),
        (
            "seed = 7",
            "seed = 7\nfidelity = { steps = [0.1, 1], rule = 'asah' }",
            "unknown rule 'asah'; did you mean 'asha'?",
        ),
        (
            "seed = 7",
            "seed = 7\nfidelity = { steps = [0.1, 1], eta = 1 }",
            "search.fidelity.eta: 1 is not a whole number of at least 2",
        ),
        (
            "seed = 7",
            "seed = 7\nfidelity = { steps = [0.1, 1], rul = 'asha' }",
            "unknown key 'rul'; did you mean 'rule'?",
        ),
        (
            "seed = 7",
            "seed = 7\nfull_trials = 0.5",
            "search.full_trials: 0.5 leaves no trial trained in full; give at least 1",
        ),
        ("[search]", "[search", "line 30: "),
    ];
    for (from, to, expected) in cases {
        let message = broken(from, to);
        assert!(
            message.contains(expected),
            "{from} -> {to}\n expected {expected}\n got {message}"
        );
        assert!(!message.contains('\n'), "one mistake, one sentence: {message}");
    }
}
