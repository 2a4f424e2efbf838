//! A model of reversible layers from its training to its use: exported, measured again, continued, adapted.

use evaluator::{
    Sampling, Silent, bundle, data::DataAccess, device::DeviceChoice, evaluate, generate, remeasure,
};
use spaces::study::config_from_toml;

use crate::support::{config, job, prose};

#[test]
fn a_reversible_model_is_exported_measured_again_continued_and_adapted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.txt");
    std::fs::write(&file, prose(20_000)).unwrap();
    let data = format!("[data]\ncorpus = \"text\"\npath = \"{}\"", file.display());
    let fixed = "reversible = true\nff_chunks = 3\ntokens = 6400\nattention = 'linear'\nlinear_chunk = 5";
    let first = evaluate(&job(config(&data, fixed), &dir.path().join("first")), &mut Silent).unwrap();
    for counter in ["reversed_blocks", "feed_forward_chunks"] {
        assert!(first.activity[counter] > 0, "{counter}");
    }
    assert!(
        !first.provenance.contains_key("architecture"),
        "no other tool has it"
    );

    let exported = dir.path().join("first/bundle");
    let served = bundle::read_served(&exported).unwrap().model;
    assert_eq!(served.reversible.map(|form| form.ff_chunks), Some(3));
    let loss = |result: &spaces::protocol::Evaluation| {
        let row = result.measurements.iter().find(|m| m.metric == "validation_loss");
        row.unwrap().value
    };
    let again = remeasure(&exported, &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
    assert_eq!(loss(&again), loss(&first));

    let sampling = Sampling {
        tokens: 12,
        temperature: 0.0,
        seed: 0,
    };
    let mut text = String::new();
    let mut write = |piece: &str| text += piece;
    generate(&exported, "the cat", sampling, DeviceChoice::Cpu, &mut write).unwrap();
    assert!(text.starts_with("the cat"), "{text}");
    assert_eq!(text.chars().count(), 7 + 12, "{text}");

    // the base brings its layers: a study that also names them is told so
    let named =
        evaluator::plan::conflicts_with_base([&"reversible".to_owned(), &"ff_chunks".to_owned()].into_iter());
    assert_eq!(named.len(), 2);
    for (i, method) in ["'lora'\nlora_rank = 4", "'full'", "'none'"]
        .into_iter()
        .enumerate()
    {
        let base = format!("{data}\n[base]\npath = \"{}\"", exported.display());
        let fixed = format!("context = 16\nbatch = 4\ntokens = 640\nfine_tune = {method}\nprune_ratio = 0.5");
        let config = config_from_toml(&format!("{base}\n[fixed]\n{fixed}\n"), &evaluator::catalog()).unwrap();
        let adapted = evaluate(&job(config, &dir.path().join(i.to_string())), &mut Silent).unwrap();
        assert!(adapted.activity["reversed_blocks"] > 0, "{method}");
    }
}
