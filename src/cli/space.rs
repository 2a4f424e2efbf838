//! `parsimony space`: what can be searched, and whether a study file is right.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use spaces::{Catalog, metric, study::study_from_toml};
use web::Admission;

use crate::{
    admission::{Inspector, catalog},
    errors::{BadInput, spec_errors},
    files::{ReadableData, make_absolute, read_text},
    output::{say, write_json},
    settings::Global,
};

/// Shows what can be searched and checks study files
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony space list\n  parsimony space show attention\n  parsimony space check study.toml"
)]
pub(crate) struct Space {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists presets, corpora, techniques, parameters, metrics, methods and rules
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows one of them in full
    Show {
        /// Its name
        name: String,
    },
    /// Checks a study file: names, ranges, data, and that something can be built within the limits
    Check {
        /// The study file
        study: PathBuf,
    },
}

impl Space {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let catalog = catalog();
        match self.what {
            What::List { json: true } => write_json(&catalog),
            What::List { json: false } => {
                say(list(&catalog));
                Ok(())
            }
            What::Show { name } => {
                say(show(&catalog, &name)?);
                Ok(())
            }
            What::Check { study } => check(&study, catalog, global),
        }
    }
}

fn section<'a>(text: &mut String, title: &str, rows: impl Iterator<Item = (&'a str, String)>) {
    *text += &format!("{title}\n");
    for (name, doc) in rows {
        *text += &format!("  {name:28} {doc}\n");
    }
    *text += "\n";
}

fn list(catalog: &Catalog) -> String {
    let mut text = String::new();
    section(
        &mut text,
        "Presets",
        catalog.presets.iter().map(|p| (p.name.as_str(), p.doc.clone())),
    );
    section(
        &mut text,
        "Corpora",
        catalog.corpora.iter().map(|c| (c.name.as_str(), c.doc.clone())),
    );
    let mut family = "";
    for t in &catalog.techniques {
        if t.family != family {
            family = &t.family;
            let members = catalog.techniques.iter().filter(|o| o.family == family);
            let row = |o: &'_ spaces::TechniqueInfo| {
                if o.paper.is_empty() {
                    o.doc.clone()
                } else {
                    format!("{} ({})", o.doc, o.paper)
                }
            };
            section(
                &mut text,
                &format!("Techniques: {family}"),
                members.map(|o| (o.name.as_str(), row(o))),
            );
        }
    }
    let row = |p: &spaces::ParameterInfo| format!("{}; {}; default {}", p.doc, p.allowed, p.default);
    section(
        &mut text,
        "Parameters",
        catalog.parameters.iter().map(|p| (p.name.as_str(), row(p))),
    );
    let metrics = catalog.metrics.iter().filter_map(|name| metric(name));
    let row = |m: &spaces::Metric| {
        format!(
            "{} [{}]{}",
            m.doc,
            m.unit,
            if m.known_before_training {
                ", known before training"
            } else {
                ""
            }
        )
    };
    section(&mut text, "Metrics", metrics.map(|m| (m.name, row(m))));
    section(
        &mut text,
        "Search methods",
        catalog.methods.iter().map(|m| (m.name.as_str(), m.doc.clone())),
    );
    section(
        &mut text,
        "Rules of search.fidelity",
        catalog.rules.iter().map(|r| (r.name.as_str(), r.doc.clone())),
    );
    text.trim_end().to_owned()
}

fn show(catalog: &Catalog, name: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    if let Some(p) = catalog.preset(name) {
        text += &format!("preset {name}: {}\n", p.doc);
        section(
            &mut text,
            "Fixed",
            p.fixed.iter().map(|(k, v)| (k.as_str(), v.to_string())),
        );
        let spec = |s| serde_json::to_string(s).expect("plain data serialises");
        section(
            &mut text,
            "Searched",
            p.space.iter().map(|(k, s)| (k.as_str(), spec(s))),
        );
    }
    if let Some(c) = catalog.corpus(name) {
        text += &format!("corpus {name}: {}\n", c.doc);
        let row = |o: &spaces::ParameterInfo| format!("{}; {}; default {}", o.doc, o.allowed, o.default);
        section(
            &mut text,
            "Options",
            c.options.iter().map(|o| (o.name.as_str(), row(o))),
        );
    }
    if let Some(p) = catalog.parameter(name) {
        text += &format!(
            "parameter {name}: {}\n  values: {}\n  default: {}\n",
            p.doc, p.allowed, p.default
        );
        text += &format!("  searched where opened without a range: {}\n", p.search);
        if !p.condition.is_always() {
            text += &format!("  has a meaning when {}\n", p.condition);
        }
        if !p.unit.is_empty() {
            text += &format!("  unit: {}\n", p.unit);
        }
    }
    for t in catalog
        .techniques
        .iter()
        .filter(|t| t.family == name || t.name == name)
    {
        text += &format!("technique {} = {}: {}", t.family, t.name, t.doc);
        text += &if t.paper.is_empty() {
            "\n".to_owned()
        } else {
            format!(" ({})\n", t.paper)
        };
    }
    if let Some(m) = metric(name).filter(|m| catalog.metrics.iter().any(|n| n == m.name)) {
        text += &format!("metric {name}: {} [{}]\n", m.doc, m.unit);
    }
    if let Some(m) = catalog.methods.iter().find(|m| m.name == name) {
        text += &format!("search method {name}: {} ({})\n", m.doc, m.paper);
    }
    if let Some(r) = catalog.rules.iter().find(|r| r.name == name) {
        text += &format!("rule of search.fidelity {name}: {} ({})\n", r.doc, r.paper);
    }
    if text.is_empty() {
        let names = catalog.presets.iter().map(|p| p.name.as_str());
        let names = names.chain(catalog.corpora.iter().map(|c| c.name.as_str()));
        let names = names.chain(catalog.parameters.iter().map(|p| p.name.as_str()));
        let names = names.chain(catalog.techniques.iter().map(|t| t.name.as_str()));
        let names = names.chain(catalog.metrics.iter().map(String::as_str));
        let rules = catalog.methods.iter().chain(&catalog.rules);
        let names = names.chain(rules.map(|m| m.name.as_str()));
        return Err(BadInput::error(spaces::suggest("name", name, names)));
    }
    Ok(text.trim_end().to_owned())
}

fn check(file: &std::path::Path, catalog: Catalog, global: &Global) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let mut study = study_from_toml(&read_text(file)?, &catalog).map_err(|e| spec_errors(&name, &e))?;
    make_absolute(
        &mut study.spec.data,
        [study.spec.base.as_mut(), study.spec.teacher.as_mut()],
        file,
    )?;
    let readable = ReadableData::new(vec!["/".into()], &global.data_dir());
    let inspector = Inspector::new(std::sync::Arc::new(catalog), readable);
    inspector.admit(&study).map_err(|e| spec_errors(&name, &e))?;
    let facts = inspector.facts(&study)?;
    let size = study
        .space
        .cardinality()
        .map_or_else(|| "infinitely many".to_owned(), |n| format!("up to {n}"));
    say(format!(
        "{name} is right: {} searched parameters, {size} configurations, {} objectives, {} trials; {} training tokens, vocabulary {}",
        study.space.len(),
        study.objectives.len(),
        study.spec.search.trials,
        facts.data.train_tokens,
        facts.data.vocab
    ));
    Ok(())
}
