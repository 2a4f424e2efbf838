//! `parsimony bench scaling`: how time, memory and work of each attention grow with the context.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use evaluator::{AttentionCost, device::DeviceChoice};
use serde::Serialize;
use serde_json::json;
use spaces::{Catalog, Config, Domain, ParameterInfo, Test, Value, study::config_from_toml};

use super::models::as_in_trials;
use crate::{
    errors::{BadInput, spec_errors},
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

/// An attention in one of its forms.
struct Case {
    name: String,
    settings: BTreeMap<String, String>,
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
        if self.context.len() < 2 {
            let message = format!(
                "--context {} is one point, and a slope needs two",
                self.context[0]
            );
            return Err(BadInput::error(message));
        }
        if !(0.01..=600.0).contains(&self.seconds) {
            let message = format!("--seconds {} is no time; use 0.01 to 600", self.seconds);
            return Err(BadInput::error(message));
        }
        let catalog = evaluator::catalog();
        let mut rows = vec![];
        for case in self.cases(&catalog)? {
            let mut points = vec![];
            for context in &self.context {
                let config = self.config(&catalog, &case, *context)?;
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
            let of = |value: fn(&Point) -> f64| slope(&points, value);
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

    /// The attentions asked for, each in every form that it gives a name to.
    fn cases(&self, catalog: &Catalog) -> anyhow::Result<Vec<Case>> {
        let known: Vec<&str> = catalog
            .techniques
            .iter()
            .filter(|t| t.family == "attention")
            .map(|t| t.name.as_str())
            .collect();
        if let Some(name) = self.attention.iter().find(|name| !known.contains(&name.as_str())) {
            let message = format!("--attention {name} is not one of {}", known.join(", "));
            return Err(BadInput::error(message));
        }
        let chosen = known
            .iter()
            .filter(|name| self.attention.is_empty() || self.attention.iter().any(|a| a == *name));
        Ok(chosen.flat_map(|name| forms(catalog, name)).collect())
    }

    fn config(&self, catalog: &Catalog, case: &Case, context: u32) -> anyhow::Result<Config> {
        let settings: String = case
            .settings
            .iter()
            .map(|(k, v)| format!("{k} = \"{v}\"\n"))
            .collect();
        let text = format!(
            "[data]\ncorpus = \"markov\"\n[fixed]\nlayers = 1\nwidth = {}\nheads = {}\ncontext = {context}\n{settings}",
            self.width, self.heads
        );
        config_from_toml(&text, catalog).map_err(|e| spec_errors("the model", &e))
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

/// An attention in every form that a named setting of its own gives it.
fn forms(catalog: &Catalog, name: &str) -> Vec<Case> {
    let is_own = |p: &&ParameterInfo| {
        p.condition.clauses.len() == 1
            && p.condition.clauses[0].parent == "attention"
            && p.condition.clauses[0].test == Test::In(vec![Value::Text(name.to_owned())])
    };
    let form = catalog
        .parameters
        .iter()
        .filter(is_own)
        .find_map(|p| match &p.allowed {
            Domain::Categorical { choices } if choices.iter().all(|c| c.as_str().is_some()) => {
                Some((p.name.clone(), choices))
            }
            _ => None,
        });
    let case = |form: Option<(&str, &str)>| Case {
        name: form.map_or(name.to_owned(), |(_, value)| format!("{name} {value}")),
        settings: [("attention", name)]
            .into_iter()
            .chain(form)
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    };
    match form {
        Some((parameter, choices)) => choices
            .iter()
            .filter_map(Value::as_str)
            .map(|value| case(Some((&parameter, value))))
            .collect(),
        None => vec![case(None)],
    }
}

/// Least-squares slope of the logarithm of a value over the logarithm of the context.
fn slope(points: &[Point], value: fn(&Point) -> f64) -> f64 {
    let xs: Vec<f64> = points.iter().map(|p| f64::from(p.context).ln()).collect();
    let ys: Vec<f64> = points.iter().map(|p| value(p).ln()).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(&xs), mean(&ys));
    let over: f64 = xs.iter().zip(&ys).map(|(x, y)| (x - mx) * (y - my)).sum();
    over / xs.iter().map(|x| (x - mx).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attention_is_there_and_one_with_named_forms_in_each_of_them() {
        let catalog = evaluator::catalog();
        let names = |name: &str| {
            forms(&catalog, name)
                .into_iter()
                .map(|c| c.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("aft"), ["aft full", "aft local", "aft simple", "aft conv"]);
        assert_eq!(names("linear"), ["linear elu1", "linear relu", "linear favor"]);
        let attentions = catalog.techniques.iter().filter(|t| t.family == "attention");
        for attention in attentions.filter(|t| t.name != "aft" && t.name != "linear") {
            assert_eq!(names(&attention.name), std::slice::from_ref(&attention.name));
        }
    }

    #[test]
    fn the_slope_is_the_exponent() {
        let at = |context: u32| Point {
            context,
            seconds: 3.0 * f64::from(context).powf(1.5),
            peak_bytes: 7 * u64::from(context),
            flops: 0,
        };
        let points = [256, 512, 4096].map(at);
        assert!((slope(&points, |p| p.seconds) - 1.5).abs() < 1e-9);
        assert!((slope(&points, |p| p.peak_bytes as f64) - 1.0).abs() < 1e-9);
    }
}
