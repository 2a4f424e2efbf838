//! JSON tree to spec, collecting every error with its path.
//!
//! Hand-written rather than derived, because a derived reader stops at the first error and cannot name the remedy.

use serde_json::{Map, Value as Json};

use super::{
    BaseSpec, ConfigSpec, ConstraintSpec, DataSpec, FidelitySpec, ObjectiveSpec, SearchSpec, SpaceSpec,
    SpecError, StudySpec,
    reader::{Reader, join},
    start,
};
const STUDY_KEYS: &[&str] = &[
    "name",
    "data",
    "base",
    "teacher",
    "fixed",
    "space",
    "objective",
    "constraint",
    "search",
];
const CONFIG_KEYS: &[&str] = &["name", "data", "base", "teacher", "fixed"];
const SEARCH_KEYS: &[&str] = &[
    "method",
    "trials",
    "wall",
    "full_trials",
    "parallel",
    "seed",
    "fidelity",
    "repeats",
    "start",
];

/// Reads a study from the JSON form of its file. Names are checked later, by [`super::resolve_study`].
///
/// # Errors
/// Every [`SpecError`] found: unknown keys, wrong types, missing keys.
pub fn read_study(json: &Json) -> Result<StudySpec, Vec<SpecError>> {
    let mut reader = Reader::default();
    let root = reader.table(json, "").unwrap_or_default();
    reader.unknown_keys(&root, "", STUDY_KEYS);
    let name = reader.required_text(&root, "", "name").unwrap_or_default();
    if !name.is_empty() && !is_plain_name(&name) {
        reader.error(
            "name",
            format!("'{name}' cannot name a folder; use up to 80 letters, digits, '-', '_' and '.', not starting with '.'"),
        );
    }
    let spec = StudySpec {
        name,
        data: reader.data(&root),
        base: reader.model(&root, "base"),
        teacher: reader.model(&root, "teacher"),
        fixed: reader.scalars(root.get("fixed"), "fixed"),
        space: reader.space(&root),
        objective: reader.objectives(&root),
        constraint: reader.constraints(&root),
        search: reader.search(&root),
    };
    reader.finish(spec)
}

/// Reads a single configuration from the JSON form of its file.
///
/// # Errors
/// Every [`SpecError`] found.
pub fn read_config(json: &Json) -> Result<ConfigSpec, Vec<SpecError>> {
    let mut reader = Reader::default();
    let root = reader.table(json, "").unwrap_or_default();
    for key in ["space", "objective", "constraint", "search"] {
        if root.contains_key(key) {
            reader.error(
                key,
                "a configuration holds no search; use `parsimony search` or move values to [fixed]",
            );
        }
    }
    let rest: Map<String, Json> = root
        .iter()
        .filter(|(k, _)| !STUDY_KEYS[5..].contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    reader.unknown_keys(&rest, "", CONFIG_KEYS);
    let spec = ConfigSpec {
        data: reader.data(&root),
        base: reader.model(&root, "base"),
        teacher: reader.model(&root, "teacher"),
        fixed: reader.scalars(root.get("fixed"), "fixed"),
    };
    reader.finish(spec)
}

fn is_plain_name(name: &str) -> bool {
    name.len() <= 80
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl Reader {
    fn data(&mut self, root: &Map<String, Json>) -> DataSpec {
        let Some(json) = root.get("data") else {
            self.error(
                "data",
                "[data] is missing; add [data] with corpus = \"text\" and path = \"FILE\"",
            );
            return DataSpec::default();
        };
        let Some(mut table) = self.table(json, "data") else {
            return DataSpec::default();
        };
        let corpus = self.required_text(&table, "data", "corpus").unwrap_or_default();
        table.shift_remove("corpus");
        DataSpec {
            corpus,
            options: self.scalars(Some(&Json::Object(table)), "data"),
        }
    }

    fn model(&mut self, root: &Map<String, Json>, key: &str) -> Option<BaseSpec> {
        let table = self.table(root.get(key)?, key)?;
        self.unknown_keys(&table, key, &["path"]);
        Some(BaseSpec {
            path: self.required_text(&table, key, "path")?,
        })
    }

    fn space(&mut self, root: &Map<String, Json>) -> SpaceSpec {
        let Some(mut table) = root.get("space").and_then(|j| self.table(j, "space")) else {
            return SpaceSpec::default();
        };
        let preset = table
            .shift_remove("preset")
            .and_then(|j| self.text(&j, "space.preset"));
        for (name, json) in &table {
            self.parameter(json, &join("space", name));
        }
        SpaceSpec {
            preset,
            parameters: table,
        }
    }

    fn objectives(&mut self, root: &Map<String, Json>) -> Vec<ObjectiveSpec> {
        let mut objectives = vec![];
        for (path, table) in self.tables(root.get("objective"), "objective") {
            self.unknown_keys(&table, &path, &["metric"]);
            if let Some(metric) = self.required_text(&table, &path, "metric") {
                objectives.push(ObjectiveSpec { metric });
            }
        }
        if objectives.is_empty() && self.is_content() {
            self.error(
                "objective",
                "no objective is given; add [[objective]] with metric = \"validation_loss\"",
            );
        }
        objectives
    }

    fn constraints(&mut self, root: &Map<String, Json>) -> Vec<ConstraintSpec> {
        let mut constraints = vec![];
        for (path, table) in self.tables(root.get("constraint"), "constraint") {
            self.unknown_keys(&table, &path, &["metric", "min", "max"]);
            let metric = self.required_text(&table, &path, "metric");
            let mut limit = |key: &str| table.get(key).and_then(|j| self.scalar(j, &join(&path, key)));
            let (min, max) = (limit("min"), limit("max"));
            if min.is_none() && max.is_none() {
                self.error(&path, "a constraint needs min or max; add max = \"4 MiB\"");
            }
            if let Some(metric) = metric {
                constraints.push(ConstraintSpec { metric, min, max });
            }
        }
        constraints
    }

    fn search(&mut self, root: &Map<String, Json>) -> SearchSpec {
        let mut search = SearchSpec::default();
        let Some(table) = root.get("search").and_then(|j| self.table(j, "search")) else {
            return search;
        };
        self.unknown_keys(&table, "search", SEARCH_KEYS);
        if let Some(method) = table.get("method").and_then(|j| self.text(j, "search.method")) {
            search.method = method;
        }
        if let Some(n) = table
            .get("trials")
            .and_then(|j| self.unsigned(j, "search.trials", 1))
        {
            search.trials = u32::try_from(n).unwrap_or(u32::MAX);
        }
        if let Some(n) = table
            .get("parallel")
            .and_then(|j| self.unsigned(j, "search.parallel", 1))
        {
            search.parallel = u32::try_from(n).unwrap_or(u32::MAX);
        }
        if let Some(n) = table.get("seed").and_then(|j| self.unsigned(j, "search.seed", 0)) {
            search.seed = n;
        }
        search.wall = table.get("wall").and_then(|j| self.scalar(j, "search.wall"));
        search.full_trials = table
            .get("full_trials")
            .and_then(|j| self.number(j, "search.full_trials"));
        if let Some(n) = table
            .get("repeats")
            .and_then(|j| self.unsigned(j, "search.repeats", 0))
        {
            search.repeats = u32::try_from(n).unwrap_or(u32::MAX);
        }
        search.fidelity = table.get("fidelity").and_then(|j| self.fidelity(j));
        search.start = start::read(self, &table);
        search
    }

    fn fidelity(&mut self, json: &Json) -> Option<FidelitySpec> {
        let path = "search.fidelity";
        let table = self.table(json, path)?;
        self.unknown_keys(&table, path, &["steps", "rule", "eta"]);
        let steps = match table.get("steps") {
            Some(Json::Array(items)) => {
                let at = |(i, item)| self.number(item, &format!("{path}.steps[{i}]"));
                items.iter().enumerate().filter_map(at).collect()
            }
            Some(other) => {
                self.wrong_type(&join(path, "steps"), other, "a list of numbers");
                return None;
            }
            None => {
                self.error(path, "'steps' is missing; add steps = [0.1, 0.3, 1.0]");
                return None;
            }
        };
        let rule = table.get("rule").and_then(|j| self.text(j, &join(path, "rule")));
        let eta = table
            .get("eta")
            .and_then(|j| self.unsigned(j, &join(path, "eta"), 2))
            .map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Some(FidelitySpec {
            steps,
            rule: rule.unwrap_or_else(FidelitySpec::default_rule),
            eta: eta.unwrap_or_else(FidelitySpec::default_eta),
        })
    }
}
