//! A draft as a choice of a configuration: the same model and text, measured as it writes with the draft.

use std::path::Path;

use evaluator::{
    Sampling, Silent,
    counter::count_macs,
    data::DataAccess,
    decoding::{DraftSource, Speculation},
    device::DeviceChoice,
    evaluate, generate, inspect, remeasure, speculate,
};
use spaces::{Evidence, protocol::Evaluation};

use crate::support::{VOCABULARY, config, job, plan_for, text_data};

fn trained(dir: &Path, name: &str, more: &str) -> Evaluation {
    let data = text_data(dir, 20_000);
    let config = config(&data, &format!("tokens = 12800\ncontext = 32\n{more}"));
    evaluate(&job(config, &dir.join(name)), &mut Silent).unwrap()
}

fn value(result: &Evaluation, metric: &str) -> f64 {
    let found = result.measurements.iter().find(|m| m.metric == metric);
    found.unwrap_or_else(|| panic!("{metric}")).value
}

#[test]
fn a_draft_is_measured_exported_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let plain = trained(dir.path(), "plain", "");
    for (draft, words) in [
        (
            "draft = 'ngram'\ndraft_tokens = 3",
            "guesses from the text itself",
        ),
        ("draft = 'first_layers'", "guesses of the first 1 layers"),
    ] {
        let result = trained(dir.path(), words, draft);
        let row = |metric: &str| result.measurements.iter().find(|m| m.metric == metric).unwrap();
        // another price for the same model
        for metric in ["validation_loss", "parameters", "training_flops"] {
            assert_eq!(value(&result, metric), value(&plain, metric), "{metric}");
        }
        let flops = row("inference_flops_per_token");
        assert_eq!(flops.evidence, Evidence::Measured);
        // every token is read, and the first layers read each guess besides
        let least = if draft.contains("layers") { 1.0 } else { 0.97 };
        let one_by_one = value(&plain, "inference_flops_per_token");
        assert!(flops.value > least * one_by_one, "{flops:?} {one_by_one}");
        eprintln!("{}", flops.source);
        for metric in [
            "latency_ms_per_token",
            "throughput_tokens_per_s",
            "energy_j_per_token",
        ] {
            assert!(row(metric).source.contains(words), "{:?}", row(metric));
        }
        assert!(
            row("latency_ms_per_token")
                .source
                .contains("tokens for each call")
        );
        let counts = ["calls", "tokens_written", "guesses_scored", "guesses_kept"];
        let [calls, tokens, scored, kept] = counts.map(|name| result.activity[&format!("draft_{name}")]);
        assert_eq!(tokens, calls + kept);
        assert!(scored >= kept && kept > 0, "{scored} {kept}");

        let data = text_data(dir.path(), 20_000);
        let config = config(&data, &format!("tokens = 12800\ncontext = 32\n{draft}"));
        let known = inspect(&config.data, None, &DataAccess::anywhere(), 32).unwrap();
        let known = known.known(&config).unwrap();
        assert!(!known.contains_key("inference_flops_per_token"));
        assert_eq!(known["model_bytes"], value(&result, "model_bytes"));

        let bundle = dir.path().join(words).join("bundle");
        let again = remeasure(&bundle, &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        let metric = "inference_flops_per_token";
        assert_eq!(value(&again, metric), value(&result, metric));

        // who uses the model uses its draft, and gets the same text for other work
        let sampling = Sampling {
            tokens: 60,
            temperature: 0.0,
            seed: 0,
        };
        let nothing = Speculation {
            source: DraftSource::Nothing,
            guesses: 1,
        };
        let mut texts = [String::new(), String::new()];
        let [own, none] = &mut texts;
        let (with, prompt) = (DeviceChoice::Cpu, "the cat ");
        let (written, work) =
            count_macs(|| generate(&bundle, prompt, sampling, with, &mut |text| own.push_str(text)).unwrap());
        let (one_by_one, less) = count_macs(|| {
            let mut write = |text: &str| none.push_str(text);
            speculate(&bundle, prompt, sampling, &nothing, with, &mut write).unwrap()
        });
        assert_eq!(texts[0], texts[1]);
        assert_eq!([one_by_one.calls, one_by_one.scored], [60, 0]);
        assert!(written.calls < 60 && written.scored > 0, "{written:?}");
        // guesses from the text cost nothing where all are kept
        assert!(
            work > less || (work == less && draft.contains("ngram")),
            "{work} {less}"
        );
    }
}

#[test]
fn what_cannot_be_guessed_is_refused_in_one_sentence() {
    for (fixed, part) in [
        (
            "draft = 'ngram'\nkind = 'encoder_decoder'\ncontext = 40",
            "or kind = 'decoder'",
        ),
        ("draft = 'first_layers'\nlayers = 1", "use draft = 'ngram'"),
        ("draft = 'first_layers'\ndraft_layers = 2", "use at most 1"),
        (
            "draft = 'first_layers'\nlayers = 4\nlayer_prune_ratio = 0.5\ndraft_layers = 3",
            "draft_layers = 3 of 2 layers",
        ),
    ] {
        let message = plan_for(VOCABULARY, fixed).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}
