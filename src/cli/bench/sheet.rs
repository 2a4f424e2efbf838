//! `parsimony bench sheet`: what a model with each attention costs, in every resource, at growing contexts.

use anyhow::Context;
use clap::Args;
use evaluator::{Rounds, Speed, Work, device::DeviceChoice};
use serde::Serialize;
use serde_json::json;
use spaces::{Config, Evidence};

use super::{
    cases::{cases, check_contexts, slope, slope_interval},
    models::as_in_trials,
};
use crate::{
    errors::BadInput,
    output::{Format, right, say, table, write_json, write_out},
};

/// Rounds of each measurement; the middle one counts.
const ROUNDS: usize = 3;
const VOCABULARY: usize = 256;

/// Compares models with each attention: training, prompt, decoding, memory, state, work, energy
#[derive(Debug, Args)]
#[command(after_help = "What each attention learns is told by bench/tasks.py.\n\n\
                  Examples:\n  parsimony bench sheet\n  parsimony bench sheet --attention full,linear,rwkv --context 256,1024 --format csv")]
pub(super) struct Sheet {
    /// Attentions, as `parsimony space list` names them; all of them, in each of their forms, if none is given
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    attention: Vec<String>,
    /// Contexts, at least two
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [128, 256, 512, 1024], value_parser = clap::value_parser!(u32).range(32..=1 << 20))]
    context: Vec<u32>,
    /// Components of the residual stream
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(2..=8192))]
    width: u16,
    /// Heads
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=128))]
    heads: u16,
    /// Blocks
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=256))]
    layers: u16,
    /// Sequences of a training batch
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Least time of a round in seconds; each measurement takes four
    #[arg(long, value_name = "S", default_value = "0.1")]
    seconds: f64,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "cpu", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What a model costs at one context.
#[derive(Debug, Serialize)]
struct Point {
    attention: String,
    context: u32,
    train_tokens_per_s: f64,
    /// One sequence of full length, without gradients.
    prefill_ms: f64,
    decode_ms_per_token: f64,
    /// The same of each round.
    #[serde(skip)]
    decode_ms_of_rounds: Vec<f64>,
    /// The most bytes live at once in a training step beyond weights and the optimizer's memory.
    train_peak_bytes: u64,
    state_bytes: u64,
    /// Of a token in training, as executed and by formula.
    train_flops_counted: f64,
    train_flops_formula: f64,
    joules_per_decoded_token: f64,
    energy_evidence: Evidence,
    energy_source: String,
}

/// How costs of one attention grow with the context.
#[derive(Debug, Serialize)]
struct Growth {
    attention: String,
    /// Exponents of a training step's time for one sequence, of the time to read one, of a token's, and of bytes.
    train: f64,
    prefill: f64,
    decode: f64,
    bytes: f64,
    /// Where the exponent of a token's time lies, with 95 % confidence: a state of one size has 0 in it.
    decode_interval: [f64; 2],
}

impl Sheet {
    pub(super) fn run(self) -> anyhow::Result<()> {
        as_in_trials()?;
        check_contexts(&self.context)?;
        if !(0.01..=600.0).contains(&self.seconds) {
            let message = format!("--seconds {} is no round; use 0.01 to 600", self.seconds);
            return Err(BadInput::error(message));
        }
        let catalog = evaluator::catalog();
        let cases = cases(&catalog, &self.attention)?;
        let (mut points, mut growth) = (vec![], vec![]);
        for case in &cases {
            let from = points.len();
            for context in &self.context {
                let of = |batch: u16| {
                    let Sheet {
                        width, heads, layers, ..
                    } = self;
                    let sizes = format!(
                        "layers = {layers}\nwidth = {width}\nheads = {heads}\ncontext = {context}\nbatch = {batch}\n"
                    );
                    case.config(&catalog, &sizes)
                };
                let point = self.point(&case.name, *context, &of(self.batch)?, &of(1)?);
                points.push(point.with_context(|| format!("{} at context {context}", case.name))?);
            }
            growth.push(Growth::of(&case.name, &points[from..]));
        }
        self.print(&points, &growth)
    }

    fn point(&self, attention: &str, context: u32, batch: &Config, one: &Config) -> anyhow::Result<Point> {
        let rounds = Rounds {
            rounds: ROUNDS,
            seconds: self.seconds,
        };
        let time = |config, work| evaluator::time(config, VOCABULARY, work, rounds, self.device);
        let train = time(batch, Work::Train)?;
        let forward = time(one, Work::Forward)?;
        let decode = time(one, Work::Decode)?;
        Ok(Point {
            attention: attention.to_owned(),
            context,
            train_tokens_per_s: middle(&train),
            prefill_ms: 1e3 * f64::from(context) / middle(&forward),
            decode_ms_per_token: 1e3 / middle(&decode),
            decode_ms_of_rounds: decode.tokens_per_s.iter().map(|speed| 1e3 / speed).collect(),
            train_peak_bytes: train.peak_bytes,
            state_bytes: decode.state_bytes,
            train_flops_counted: train.flops_per_token,
            train_flops_formula: train.formula_flops_per_token,
            joules_per_decoded_token: decode.energy.joules,
            energy_evidence: decode.energy.evidence,
            energy_source: decode.energy.source,
        })
    }

    fn print(&self, points: &[Point], growth: &[Growth]) -> anyhow::Result<()> {
        match self.format {
            Format::Json => write_json(&json!({ "points": points, "growth": growth })),
            Format::Csv => {
                let mut text = "attention,context,train_tokens_per_s,prefill_ms,decode_ms_per_token,train_peak_bytes,state_bytes,\
                                train_flops_counted,train_flops_formula,joules_per_decoded_token,energy_evidence,energy_source\n"
                    .to_owned();
                for p in points {
                    text += &format!(
                        "{},{},{},{},{},{},{},{},{},{},{},{}\n",
                        p.attention,
                        p.context,
                        p.train_tokens_per_s,
                        p.prefill_ms,
                        p.decode_ms_per_token,
                        p.train_peak_bytes,
                        p.state_bytes,
                        p.train_flops_counted,
                        p.train_flops_formula,
                        p.joules_per_decoded_token,
                        p.energy_evidence.label(),
                        p.energy_source,
                    );
                }
                Ok(write_out(text)?)
            }
            Format::Table => {
                self.say_tables(points, growth);
                Ok(())
            }
        }
    }

    fn say_tables(&self, points: &[Point], growth: &[Growth]) {
        let head = [
            "attention",
            "context",
            "train tokens/s",
            "prompt ms",
            "ms/token",
            "peak MiB",
            "state KiB",
            "kFLOPs/token",
            "by formula",
            "mJ/token",
        ];
        let columns = head.len();
        let mut sheet = table(head.map(String::from));
        for p in points {
            sheet.add_row([
                p.attention.clone(),
                p.context.to_string(),
                format!("{:.0}", p.train_tokens_per_s),
                format!("{:.2}", p.prefill_ms),
                format!("{:.3}", p.decode_ms_per_token),
                format!("{:.2}", p.train_peak_bytes as f64 / f64::from(1 << 20)),
                format!("{:.1}", p.state_bytes as f64 / 1024.0),
                format!("{:.1}", p.train_flops_counted / 1e3),
                format!("{:.1}", p.train_flops_formula / 1e3),
                format!("{:.2}", 1e3 * p.joules_per_decoded_token),
            ]);
        }
        right(&mut sheet, 1..columns);
        let head = ["attention", "training", "prompt", "token", "95 % of it", "bytes"];
        let mut slopes = table(head.map(String::from));
        for g in growth {
            let [train, prefill, decode, bytes, low, high] = [
                g.train,
                g.prefill,
                g.decode,
                g.bytes,
                g.decode_interval[0],
                g.decode_interval[1],
            ]
            .map(|e| format!("{e:.2}"));
            let interval = format!("{low} to {high}");
            slopes.add_row([g.attention.clone(), train, prefill, decode, interval, bytes]);
        }
        right(&mut slopes, 1..head.len());
        let energy = points.first().map_or_else(String::new, |p| {
            format!("{} by {}", p.energy_evidence.label(), p.energy_source)
        });
        say(format!(
            "{sheet}\nWidth {}, {} heads, {} blocks; training in batches of {}, prompt and decoding one sequence. Peak: of a training step beyond \
             weights and the optimizer's memory. Energy of decoding: {energy}.\n\n{slopes}\nExponents of the context: of a sequence's time in \
             training, of a prompt's, of one token's, of the peak's bytes.",
            self.width, self.heads, self.layers, self.batch
        ));
    }
}

impl Growth {
    fn of(attention: &str, points: &[Point]) -> Self {
        let of_rounds = |p: &Point| {
            let context = p.context;
            let rounds = p.decode_ms_of_rounds.iter();
            rounds.map(move |ms| (context, *ms)).collect::<Vec<_>>()
        };
        let rounds: Vec<_> = points.iter().flat_map(of_rounds).collect();
        let slope = |value: fn(&Point) -> f64| slope(points.iter().map(|p| (p.context, value(p))));
        Growth {
            attention: attention.to_owned(),
            train: slope(|p| f64::from(p.context) / p.train_tokens_per_s),
            prefill: slope(|p| p.prefill_ms),
            decode: slope(|p| p.decode_ms_per_token),
            decode_interval: slope_interval(&rounds),
            bytes: slope(|p| p.train_peak_bytes as f64),
        }
    }
}

/// Tokens a second of the middle round.
fn middle(speed: &Speed) -> f64 {
    let mut rounds = speed.tokens_per_s.clone();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
