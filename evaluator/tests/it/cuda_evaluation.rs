//! Whole evaluations on a GPU: every way to prune, pack, adapt and leave out reaches about the loss that it reaches on the
//! processor, and does its work there.
//!
//! One test, so that a process compiles each kernel once.

#![expect(clippy::print_stderr, reason = "how far apart they are is worth reading")]

use std::{path::Path, time::Instant};

use evaluator::{Job, Silent, device::DeviceChoice, evaluate};
use spaces::{Config, study::config_from_toml};

use crate::{
    cuda::there_is_a_gpu,
    evaluation::values,
    listops::LISTOPS,
    support::{TUNINGS, config, job, text_data},
};

/// How far apart losses of two trainings may be, in nats: their products are not rounded alike.
const APART: f64 = 0.05;

const DECODERS: &[&str] = &[
    "tokens = 6400",
    "prune_ratio = 0.5\nhead_prune_ratio = 0.5\nrecovery = 0.2\ndistill = 'logits'",
    "prune_ratio = 0.25\nprune_criterion = 'activation'",
    "layer_prune_ratio = 0.5\nrecovery = 0.2",
    "width_prune_ratio = 0.25\nrecovery = 0.2",
    "sparsity = 0.5\nsparsity_method = 'sparsegpt'",
    "sparsity = 0.5\nsparsity_pattern = '2:4'",
    "sparsity = 0.5\nbits = 4\nquant_method = 'gptq'",
    "bits = 8\nbits_layer_1 = 3",
    "bits = 4\nquant_method = 'gptq'",
    "bits = 3\nquant_method = 'awq'",
    "bits = 4\nquant_method = 'nf4'\ncache_bits = 8",
    "cache_bits = 4",
    "reversible = true\noptimizer = 'sgd'\nlearning_rate = 0.3",
];

const ENCODERS: &[&str] = &[
    "early_exit = 'max_prob'\nlayers = 3",
    "token_keep = 0.7\nlayers = 3",
    "token_keep = 0.7\ntoken_score = 'attention'\nlayers = 3",
    "experts = 4\nrouter = 'expert_choice'",
];

/// The loss on a device.
fn loss(config: &Config, dir: &Path, device: DeviceChoice) -> Result<f64, String> {
    let job = Job {
        device,
        ..job(config.clone(), dir)
    };
    let result = evaluate(&job, &mut Silent).map_err(|e| e.to_string())?;
    Ok(values(&result)["validation_loss"])
}

#[test]
fn every_technique_is_evaluated_on_a_gpu_as_on_the_processor() {
    if !there_is_a_gpu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = text_data(dir.path(), 20_000);
    let mut wrong = vec![];
    let mut check = |name: &str, config: &Config| {
        let started = Instant::now();
        let on = |device: DeviceChoice| {
            let place = dir
                .path()
                .join(format!("{device} {name}").replace(['\n', ' ', '\''], "_"));
            loss(config, &place, device)
        };
        let (gpu, processor) = (on(DeviceChoice::Cuda(0)), on(DeviceChoice::Cpu));
        eprintln!(
            "{name:?}: {gpu:?} on the GPU, {processor:?} on the processor, {:.1} s",
            started.elapsed().as_secs_f64()
        );
        let agree = matches!((&gpu, &processor), (Ok(a), Ok(b)) if (a - b).abs() < APART);
        if !agree {
            wrong.push(name.to_owned());
        }
    };
    let longer = |fixed: &str| match fixed.contains("tokens") {
        true => fixed.to_owned(),
        false => format!("{fixed}\ntokens = 6400"),
    };
    for fixed in DECODERS {
        check(fixed, &config(&text, &longer(fixed)));
    }
    for fixed in ENCODERS {
        let fixed = format!("kind = 'encoder'\n{}", longer(fixed));
        check(&fixed, &config(LISTOPS, &fixed));
    }
    let base = dir.path().join("base");
    evaluate(&job(config(&text, "tokens = 6400"), &base), &mut Silent).unwrap();
    let rest = ["fine_tune = 'full'\noptimizer = 'lomo'\nlearning_rate = 0.1"];
    for fixed in TUNINGS.iter().chain(&rest) {
        let text = format!(
            "{text}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 16\nbatch = 4\ntokens = 3200\n{fixed}\n",
            base.join("bundle").display()
        );
        let config =
            config_from_toml(&text, &evaluator::catalog()).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        check(fixed, &config);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
