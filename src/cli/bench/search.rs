//! `parsimony bench search`: how well and how fast the search methods search.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use search::{
    REGISTRY,
    benchmark::{BENCHMARKS, Settings},
};
use serde_json::json;
use web::plots::LinesPlot;

use super::{
    names, pictures,
    quality::{self, Plan},
    speed, tables,
};
use crate::{
    errors::BadInput,
    output::{Format, bench_bar, say, unwritable, write_json, write_out},
};

/// Measures search methods on problems whose fronts are known
///
/// Prints how much of the best hypervolume each method reaches, whether the first method named is better than the
/// others, and how long proposals, hypervolumes and ranking take. With --out it draws them too.
#[derive(Debug, Args)]
#[command(after_help = examples(), after_long_help = names_and_examples())]
pub(super) struct Search {
    /// Problems, by default all
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    problems: Vec<String>,
    /// Methods, by default all; the first one is compared with the others
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    methods: Vec<String>,
    /// Studies of each method on each problem
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Evaluations of each study
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    trials: u32,
    /// Trials that run at once
    #[arg(long, value_name = "N", default_value = "1")]
    batch: NonZero<usize>,
    /// Objectives that are cheap formulas are known before a trial
    #[arg(long)]
    greybox: bool,
    /// Studies that run at once; by default as many as there are processors
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Measure only this
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Folder for plots (SVG and PNG) and results.json; earlier ones there are replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The hypervolume that methods reach
    Quality,
    /// The time that proposals, hypervolumes and ranking take
    Speed,
}

fn examples() -> String {
    "Examples:\n  parsimony bench search --problems zdt1,language-model --methods auto,nsga2,random --only quality\n  \
     parsimony bench search --greybox --batch 4 --seeds 20 --out bench\n  parsimony bench search --only speed --format \
     csv"
    .to_owned()
}

fn names_and_examples() -> String {
    let line = |(name, doc): (&str, &str)| format!("  {name:16} {doc}\n");
    let problems: String = BENCHMARKS.iter().map(|b| line((b.name, b.doc))).collect();
    let methods: String = REGISTRY.iter().map(|m| line((m.name, m.doc))).collect();
    format!("Problems:\n{problems}\nMethods:\n{methods}\n{}", examples())
}

impl Search {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plan = Plan {
            problems: names::problems(&self.problems)?,
            methods: names::methods(&self.methods)?,
            seeds: self.seeds,
            settings: Settings {
                seed: 0,
                trials: self.trials,
                batch: self.batch.get(),
                greybox: self.greybox,
            },
            threads: self
                .threads
                .or(thread::available_parallelism().ok())
                .map_or(1, NonZero::get),
        };
        // before hours are spent
        if let Some(out) = &self.out {
            fs::create_dir_all(out).map_err(|e| {
                let out = out.display();
                BadInput::error(format!("'{out}' cannot be made: {e}; choose another --out"))
            })?;
        }
        let quality = match self.only {
            Some(Part::Speed) => vec![],
            _ => quality::measure(&plan)?,
        };
        let speed = match self.only {
            Some(Part::Quality) => None,
            _ => {
                let mut bar = bench_bar();
                let speed = speed::measure(&plan.methods, |next| bar.line(&format!("timing {next}")))?;
                bar.finish();
                Some(speed)
            }
        };
        let how = match (self.greybox, self.batch.get()) {
            (false, 1) => "one trial at a time".to_owned(),
            (false, n) => format!("{n} trials at once"),
            (true, 1) => "one trial at a time, cheap objectives known".to_owned(),
            (true, n) => format!("{n} trials at once, cheap objectives known"),
        };
        let results = json!({
            "settings": {
                "seeds": self.seeds,
                "trials": self.trials,
                "batch": self.batch,
                "greybox": self.greybox,
                "version": env!("CARGO_PKG_VERSION"),
                "optimised": !cfg!(debug_assertions),
            },
            "quality": quality,
            "speed": speed,
        });
        if let Some(out) = &self.out {
            let mut plots = pictures::qualities(&quality, &how);
            plots.extend(
                speed
                    .as_ref()
                    .map(|s| ("proposals".to_owned(), pictures::proposals(s))),
            );
            write(out, "results.json", serde_json::to_vec_pretty(&results)?)?;
            for (name, plot) in plots {
                draw(out, &name, &plot)?;
            }
        }
        match self.format {
            Format::Json => write_json(&results),
            Format::Csv => Ok(write_out(tables::csv(&quality, speed.as_ref()))?),
            Format::Table => {
                if !quality.is_empty() {
                    say(tables::quality_table(&quality));
                }
                if let Some(speed) = &speed {
                    if !quality.is_empty() {
                        say("");
                    }
                    say(tables::speed_tables(speed));
                }
                Ok(())
            }
        }
    }
}

fn draw(out: &Path, name: &str, plot: &LinesPlot) -> anyhow::Result<()> {
    write(out, &format!("{name}.svg"), plot.svg()?.into_bytes())?;
    write(out, &format!("{name}.png"), plot.png()?)
}

fn write(out: &Path, name: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
    let file = out.join(name);
    fs::write(&file, bytes).with_context(|| unwritable(&file))
}
