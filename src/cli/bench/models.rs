//! `parsimony bench train`, `forward` and `decode`: tokens a second of models, and how much of the machine that is.

use std::{collections::BTreeMap, os::unix::process::CommandExt};

use anyhow::Context;
use clap::Args;
use evaluator::{Rounds, Work, device::DeviceChoice};
use serde::Serialize;
use serde_json::json;
use spaces::{Config, study::config_from_toml};

use crate::{
    errors::{BadInput, spec_errors},
    output::{Format, right, say, table, write_json, write_out},
    worker::ALLOCATOR,
};

/// Largest context or width that is taken for a size.
const LARGEST: u16 = 8192;
/// Time of the product that the machine's rate is measured with.
const GEMM_S: f64 = 1.0;

/// Times models of given sizes and techniques on random tokens
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony bench train\n  parsimony bench decode --attention full,linear --size 256\n  \
                  parsimony bench decode --size 512 --context 128 --bits 32,8,4\n  \
                  parsimony bench train --size 128 --set experts=4 --set top_k=2 --format json"
)]
pub(super) struct Models {
    /// Width and context of the models; a head has 32 components
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [128, 256], value_parser = clap::value_parser!(u16).range(32..=i64::from(LARGEST)))]
    size: Vec<u16>,
    /// Context of the models, where it is not their size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=i64::from(LARGEST)))]
    context: Option<u16>,
    /// Attentions, as `parsimony space list` names them
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "full")]
    attention: Vec<String>,
    /// Bits of the weights that are read and decoded with: 32, 8, 6, 5, 4, 3 or 2
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "32")]
    bits: Vec<u8>,
    /// Blocks of each model
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=256))]
    layers: u16,
    /// Sequences of a batch; decoding is of one
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Number of different tokens
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    vocabulary: u32,
    /// Any other parameter of a configuration; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Rounds that are timed
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Least time of a round in seconds
    #[arg(long, value_name = "S", default_value = "1")]
    seconds: f64,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Begins again with the allocator's settings that trials have, unless it has them.
pub(super) fn as_in_trials() -> anyhow::Result<()> {
    let missing: Vec<_> = ALLOCATOR
        .iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().context("this program's own file cannot be found")?;
    let mut command = std::process::Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .envs(missing.into_iter().copied());
    // returns only where it fails
    Err(command.exec()).context("this program cannot be started again")
}

/// How fast one model is.
#[derive(Debug, Serialize)]
struct Row {
    attention: String,
    size: u16,
    bits: u8,
    parameters: usize,
    /// Median over the rounds, and quartiles.
    tokens_per_s: f64,
    lower: f64,
    upper: f64,
    flops_per_token: f64,
    /// Executed FLOPs over those of a large product of matrices.
    utilisation: f64,
    /// Bytes live on the host's heap at once in one step beyond those live before it.
    peak_bytes: u64,
}

impl Models {
    pub(super) fn run(self, work: Work) -> anyhow::Result<()> {
        as_in_trials()?;
        if !(0.01..=600.0).contains(&self.seconds) {
            let message = format!("--seconds {} is no round; use 0.01 to 600", self.seconds);
            return Err(BadInput::error(message));
        }
        if work == Work::Train && self.bits != [32] {
            let message = "--bits is of models that read and decode, and training is in 32 bits; remove it, or use parsimony bench decode";
            return Err(BadInput::error(message.to_owned()));
        }
        let mut cases = vec![];
        for attention in &self.attention {
            for size in &self.size {
                for bits in &self.bits {
                    cases.push((attention, *size, *bits, self.config(attention, *size, *bits)?));
                }
            }
        }
        let peak = evaluator::gemm_flops_per_s(GEMM_S, self.device)?;
        let rounds = Rounds {
            rounds: self.rounds.into(),
            seconds: self.seconds,
        };
        let mut rows = vec![];
        for (attention, size, bits, config) in cases {
            let speed = evaluator::time(&config, self.vocabulary as usize, work, rounds, self.device)
                .with_context(|| format!("{attention} attention of size {size}"))?;
            let mut speeds = speed.tokens_per_s;
            speeds.sort_by(f64::total_cmp);
            let at = |share: f64| speeds[((speeds.len() - 1) as f64 * share).round() as usize];
            rows.push(Row {
                attention: attention.clone(),
                size,
                bits,
                parameters: speed.parameters,
                tokens_per_s: at(0.5),
                lower: at(0.25),
                upper: at(0.75),
                flops_per_token: speed.flops_per_token,
                utilisation: at(0.5) * speed.flops_per_token / peak,
                peak_bytes: speed.peak_bytes,
            });
        }
        self.print(&rows, peak)
    }

    fn config(&self, attention: &str, size: u16, bits: u8) -> anyhow::Result<Config> {
        let mut values = BTreeMap::from([
            ("attention", format!("\"{attention}\"")),
            ("width", size.to_string()),
            ("context", self.context.unwrap_or(size).to_string()),
            ("layers", self.layers.to_string()),
            ("batch", self.batch.to_string()),
            ("bits", bits.to_string()),
        ]);
        let options: Vec<&str> = values.keys().copied().collect();
        values.insert("heads", (size / 32).max(1).to_string());
        for setting in &self.settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                BadInput::error(format!("--set {setting} has no '='; write --set NAME=VALUE"))
            })?;
            if options.contains(&name) {
                let message = format!("--set {setting}: '{name}' has an option of its own; see --help");
                return Err(BadInput::error(message));
            }
            // what is neither number nor yes or no is a name
            let is_name = value.parse::<f64>().is_err() && !["true", "false"].contains(&value);
            values.insert(
                name,
                if is_name {
                    format!("\"{value}\"")
                } else {
                    value.to_owned()
                },
            );
        }
        let lines: String = values
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        let text = format!("[data]\ncorpus = \"markov\"\n[fixed]\n{lines}");
        config_from_toml(&text, &evaluator::catalog()).map_err(|e| spec_errors("the model", &e))
    }

    fn print(&self, rows: &[Row], peak: f64) -> anyhow::Result<()> {
        let gemm = peak / 1e9;
        match self.format {
            Format::Json => write_json(&json!({ "gemm_gflop_per_s": gemm, "models": rows })),
            Format::Csv => {
                let mut text =
                    "attention,size,bits,parameters,tokens_per_s,lower,upper,flops_per_token,utilisation,peak_bytes\n"
                        .to_owned();
                for r in rows {
                    let numbers = [r.tokens_per_s, r.lower, r.upper, r.flops_per_token, r.utilisation];
                    let numbers = numbers.map(|n| n.to_string()).join(",");
                    text += &format!(
                        "{},{},{},{},{numbers},{}\n",
                        r.attention, r.size, r.bits, r.parameters, r.peak_bytes
                    );
                }
                Ok(write_out(text)?)
            }
            Format::Table => {
                let head = [
                    "attention",
                    "size",
                    "bits",
                    "parameters",
                    "tokens/s",
                    "quartiles",
                    "GFLOP/s",
                    "of the product",
                    "MiB",
                ];
                let mut sheet = table(head.map(String::from));
                for r in rows {
                    sheet.add_row([
                        r.attention.clone(),
                        r.size.to_string(),
                        r.bits.to_string(),
                        r.parameters.to_string(),
                        format!("{:.0}", r.tokens_per_s),
                        format!("{:.0} to {:.0}", r.lower, r.upper),
                        format!("{:.1}", r.tokens_per_s * r.flops_per_token / 1e9),
                        format!("{:.0} %", 100.0 * r.utilisation),
                        format!("{:.1}", r.peak_bytes as f64 / f64::from(1 << 20)),
                    ]);
                }
                right(&mut sheet, 1..9);
                say(format!(
                    "{sheet}\nsize: width, and context unless it is given. A large product of matrices reaches {gemm:.1} GFLOP/s here; FLOPs are those of \
                     matrix work, as executed. MiB: the most that one step needs on the host's heap beyond weights and optimizer."
                ));
                Ok(())
            }
        }
    }
}
