//! What only the evaluator can say of a study: that its data is there, that something of its space can be built.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use evaluator::{EvaluationError, Facts, Folders, plan};
use search::{Ask, AskError, History, Known, Oracle, Problem};
use spaces::{Candidate, Catalog, Domain, SpecError, Study, Value};

use crate::files::ReadableData;

/// Data and models of a study, which decide its facts.
type Key = String;

/// Loads each study's data once and remembers what follows from it.
pub(crate) struct Inspector {
    catalog: Arc<Catalog>,
    readable: ReadableData,
    facts: Mutex<HashMap<Key, Arc<Facts>>>,
}

/// Answers what is known of a study's candidates before they are tried.
pub(crate) struct StudyOracle<'a> {
    pub(crate) study: &'a Study,
    pub(crate) catalog: &'a Catalog,
    pub(crate) facts: &'a Facts,
}

impl Oracle for StudyOracle<'_> {
    fn known(&mut self, candidates: &[Candidate]) -> Vec<Known> {
        let one = |c: &Candidate| match self.facts.known(&self.study.config(self.catalog, c)) {
            Ok(values) => Known::Values(values),
            Err(reason) => Known::Invalid(reason),
        };
        candidates.iter().map(one).collect()
    }
}

/// The catalogue of this build, search methods included.
pub(crate) fn catalog() -> Catalog {
    Catalog {
        methods: search::methods(),
        rules: search::fidelity::rules(),
        ..evaluator::catalog()
    }
}

impl Inspector {
    /// Reads only what studies may read.
    pub(crate) fn new(catalog: Arc<Catalog>, readable: ReadableData) -> Self {
        Inspector {
            catalog,
            readable,
            facts: Mutex::default(),
        }
    }

    /// The catalogue that studies are read by.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The facts of a study's data and models. Reads files.
    pub(crate) fn facts(&self, study: &Study) -> Result<Arc<Facts>, EvaluationError> {
        let context = largest_context(study, &self.catalog);
        let key = key(study, context);
        let known = |map: &HashMap<Key, Arc<Facts>>| map.get(&key).cloned();
        if let Some(facts) = known(&self.facts.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(facts);
        }
        let folders = Folders::of(study.spec.base.as_ref(), study.spec.teacher.as_ref());
        let facts = Arc::new(evaluator::inspect(
            &study.spec.data,
            folders,
            &self.readable.access(),
            context,
        )?);
        self.facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, Arc::clone(&facts));
        Ok(facts)
    }

    /// The study as a search problem.
    pub(crate) fn problem(study: &Study) -> Result<Problem, String> {
        Problem::new(
            study.space.clone(),
            study.objectives.clone(),
            study.limits.clone(),
            study.spec.search.seed,
        )
        .map_err(|e| e.to_string())
    }
}

impl web::Admission for Inspector {
    fn admit(&self, study: &Study) -> Result<String, Vec<SpecError>> {
        if study.spec.base.is_some() {
            let names = study
                .spec
                .fixed
                .keys()
                .chain(study.spec.space.parameters.iter().map(|(name, _)| name));
            let conflicts = plan::conflicts_with_base(names);
            if !conflicts.is_empty() {
                let place = |name: &String| {
                    if study.spec.fixed.contains_key(name) {
                        "fixed"
                    } else {
                        "space"
                    }
                };
                return Err(conflicts
                    .into_iter()
                    .map(|(name, m)| SpecError::new(format!("{}.{name}", place(&name)), m))
                    .collect());
            }
        }
        let incomparable = plan::incomparable(study).into_iter();
        let incomparable: Vec<SpecError> = incomparable
            .map(|(name, message)| SpecError::new(format!("space.{name}"), message))
            .collect();
        if !incomparable.is_empty() {
            return Err(incomparable);
        }
        let facts = self
            .facts(study)
            .map_err(|e| vec![SpecError::new(place(&e, study), e.to_string())])?;
        let problem = Self::problem(study).map_err(|m| vec![SpecError::new("constraint", m)])?;
        // one proposal, to see that anything can be built within the limits before anybody waits for it
        let mut oracle = StudyOracle {
            study,
            catalog: &self.catalog,
            facts: &facts,
        };
        let wrong = wrong_starts(study, &mut oracle);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let history = History::default();
        let mut sampler = search::sampler("random").expect("the registry has it");
        match sampler.ask(&mut Ask::new(&problem, &history, &mut oracle, 0)) {
            Ok(_) => Ok(facts.data.fingerprint.clone()),
            Err(e @ AskError::NothingFeasible { .. }) => {
                Err(vec![SpecError::new("constraint", e.to_string())])
            }
            Err(e) => Err(vec![SpecError::new("space", e.to_string())]),
        }
    }
}

/// Configurations to begin with that cannot be tried.
fn wrong_starts(study: &Study, oracle: &mut dyn Oracle) -> Vec<SpecError> {
    let wrong = |(i, known): (usize, Known)| {
        let message = match known {
            Known::Invalid(reason) => format!("it cannot be built: {reason}; change or remove it"),
            Known::Values(values) => study.limits.iter().find_map(|limit| {
                let value = *values.get(&limit.metric)?;
                let metric = &limit.metric;
                (!limit.holds(value)).then(|| {
                    format!("its {metric} is {value}, beyond what [[constraint]] allows; change or remove it")
                })
            })?,
        };
        Some(SpecError::new(format!("search.start[{i}]"), message))
    };
    let known = oracle.known(&study.start);
    known.into_iter().enumerate().filter_map(wrong).collect()
}

/// Where in a study file the error stands.
fn place(error: &EvaluationError, study: &Study) -> &'static str {
    match error {
        EvaluationError::Bundle(_) if study.spec.base.is_none() => "teacher.path",
        EvaluationError::Bundle(_) => "base.path",
        EvaluationError::Invalid(_) => "data.tokenizer",
        _ => "data",
    }
}

fn key(study: &Study, context: usize) -> Key {
    let spec = &study.spec;
    serde_json::to_string(&(&spec.data, &spec.base, &spec.teacher, context)).expect("plain data serialises")
}

/// The longest sequence that any candidate may have.
fn largest_context(study: &Study, catalog: &Catalog) -> usize {
    let value = |v: &Value| v.as_i64().and_then(|i| usize::try_from(i).ok());
    let searched = study.space.get("context").and_then(|p| match &p.domain {
        Domain::Categorical { choices } => choices.iter().filter_map(value).max(),
        domain => value(&domain.from_unit(1.0)),
    });
    let resolved: BTreeMap<String, Value> = catalog.resolve(&study.fixed);
    searched
        .or_else(|| resolved.get("context").and_then(value))
        .unwrap_or(1)
}
