//! `parsimony bench scaling`: how time, memory and work of each attention grow with the context.

use anyhow::Context;
use clap::Args;
use evaluator::{AttentionCost, device::DeviceChoice};
use serde::Serialize;
use serde_json::json;

use super::{
    cases::{cases, check_contexts, slope},
    models::as_in_trials,
};
use crate::{
    errors::BadInput,
    output::{Format, right, say, table, write_json, write_out},
};

/// Times one pass of each attention at growing contexts and prints how fast its costs grow
#[derive(Debug, Args)]
#[command(
    after_help = "A slope is the exponent of the context: 2 for a cost that grows with its square, 1 for one that grows with it.\n\n\
                  Examples:\n  parsimony bench scaling\n  parsimony bench scaling --attention full,tiled --context 512,1024,2048,4096"
)]
pub(super) struct Scaling {
    /// Attentions, as `parsimony space list` names them; all of them, in each of their forms, if none is given
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    attention: Vec<String>,
    /// Contexts, at least two
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [256, 512, 1024, 2048, 4096], value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    context: Vec<u32>,
    /// Components of the residual stream
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(2..=8192))]
    width: u16,
    /// Heads
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=128))]
    heads: u16,
    /// Least time spent on each context in seconds
    #[arg(long, value_name = "S", default_value = "0.3")]
    seconds: f64,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "cpu", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Point {
    context: u32,
    seconds: f64,
    peak_bytes: u64,
    flops: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    attention: String,
    time_slope: f64,
    bytes_slope: f64,
    /// `None` for an attention without products.
    flops_slope: Option<f64>,
    points: Vec<Point>,
}

impl Scaling {
    pub(super) fn run(self) -> anyhow::Result<()> {
        as_in_trials()?;
        check_contexts(&self.context)?;
        if !(0.01..=600.0).contains(&self.seconds) {
            let message = format!("--seconds {} is no time; use 0.01 to 600", self.seconds);
            return Err(BadInput::error(message));
        }
        let catalog = evaluator::catalog();
        let mut rows = vec![];
        for case in cases(&catalog, &self.attention)? {
            let mut points = vec![];
            for context in &self.context {
                let sizes = format!(
                    "layers = 1\nwidth = {}\nheads = {}\ncontext = {context}\n",
                    self.width, self.heads
                );
                let config = case.config(&catalog, &sizes)?;
                let AttentionCost {
                    seconds,
                    peak_bytes,
                    flops,
                } = evaluator::attention_cost(&config, self.seconds, self.device)
                    .with_context(|| format!("{} at context {context}", case.name))?;
                points.push(Point {
                    context: *context,
                    seconds,
                    peak_bytes,
                    flops,
                });
            }
            let of = |value: fn(&Point) -> f64| slope(points.iter().map(|p| (p.context, value(p))));
            rows.push(Row {
                time_slope: of(|p| p.seconds),
                bytes_slope: of(|p| p.peak_bytes as f64),
                flops_slope: points.iter().all(|p| p.flops > 0).then(|| of(|p| p.flops as f64)),
                attention: case.name,
                points,
            });
        }
        self.print(&rows)
    }

    fn print(&self, rows: &[Row]) -> anyhow::Result<()> {
        match self.format {
            Format::Json => write_json(&json!({ "attentions": rows })),
            Format::Csv => {
                let mut text = "attention,context,seconds,peak_bytes,flops\n".to_owned();
                for row in rows {
                    for p in &row.points {
                        let line = [
                            p.context.to_string(),
                            p.seconds.to_string(),
                            p.peak_bytes.to_string(),
                            p.flops.to_string(),
                        ];
                        text += &format!("{},{}\n", row.attention, line.join(","));
                    }
                }
                Ok(write_out(text)?)
            }
            Format::Table => {
                let head = ["attention", "slope of time", "of bytes", "of FLOPs"].map(String::from);
                let at = |unit: &str| {
                    self.context
                        .iter()
                        .map(move |n| format!("{unit} at {n}"))
                        .collect::<Vec<_>>()
                };
                let head: Vec<String> = head.into_iter().chain(at("ms")).chain(at("MiB")).collect();
                let columns = head.len();
                let mut sheet = table(head);
                for row in rows {
                    let slopes = [
                        row.attention.clone(),
                        format!("{:.2}", row.time_slope),
                        format!("{:.2}", row.bytes_slope),
                        row.flops_slope.map_or("none".to_owned(), |s| format!("{s:.2}")),
                    ];
                    let times = row.points.iter().map(|p| format!("{:.2}", 1e3 * p.seconds));
                    let bytes = row
                        .points
                        .iter()
                        .map(|p| format!("{:.2}", p.peak_bytes as f64 / f64::from(1 << 20)));
                    sheet.add_row(slopes.into_iter().chain(times).chain(bytes));
                }
                right(&mut sheet, 1..columns);
                say(format!(
                    "{sheet}\nOne sequence, forward and backward, width {}, {} heads; without projections. A slope is the exponent of the \
                     context, fitted to logarithms.",
                    self.width, self.heads
                ));
                Ok(())
            }
        }
    }
}
