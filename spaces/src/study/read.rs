//! JSON tree to spec, collecting every error with its path.
//!
//! Hand-written rather than derived, because a derived reader stops at the first error and cannot name the remedy.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::{
    BaseSpec, ConfigSpec, ConstraintSpec, DataSpec, FidelitySpec, ObjectiveSpec, ParameterSpec, RangeSpec,
    SearchSpec, SpaceSpec, SpecError, StudySpec, start, suggest,
};
use crate::Value;

const STUDY_KEYS: &[&str] = &[
    "name",
    "data",
    "base",
    "fixed",
    "space",
    "objective",
    "constraint",
    "search",
];
const CONFIG_KEYS: &[&str] = &["name", "data", "base", "fixed"];
const RANGE_KEYS: &[&str] = &["int", "float", "choices", "step", "log", "when"];
const SEARCH_KEYS: &[&str] = &[
    "method",
    "trials",
    "wall",
    "full_trials",
    "parallel",
    "seed",
    "fidelity",
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
        base: reader.base(&root),
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
        .filter(|(k, _)| !STUDY_KEYS[4..].contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    reader.unknown_keys(&rest, "", CONFIG_KEYS);
    let spec = ConfigSpec {
        data: reader.data(&root),
        base: reader.base(&root),
        fixed: reader.scalars(root.get("fixed"), "fixed"),
    };
    reader.finish(spec)
}

/// Reads one entry of `[space]`.
///
/// # Errors
/// Every [`SpecError`] found, with paths below `path`.
pub(super) fn read_parameter(json: &Json, path: &str) -> Result<ParameterSpec, Vec<SpecError>> {
    let mut reader = Reader::default();
    let spec = reader.parameter(json, path);
    reader.finish(spec)
}

fn is_plain_name(name: &str) -> bool {
    name.len() <= 80
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[derive(Default)]
pub(super) struct Reader {
    errors: Vec<SpecError>,
}

impl Reader {
    fn finish<T>(self, value: T) -> Result<T, Vec<SpecError>> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(self.errors)
        }
    }

    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(SpecError::new(path, message));
    }

    fn wrong_type(&mut self, path: &str, json: &Json, expected: &str) {
        self.error(
            path,
            format!("{} is {}, but {expected} is needed", shorten(json), kind(json)),
        );
    }

    fn unknown_keys(&mut self, table: &Map<String, Json>, path: &str, known: &[&str]) {
        for key in table.keys().filter(|k| !known.contains(&k.as_str())) {
            self.error(&join(path, key), suggest("key", key, known.iter().copied()));
        }
    }

    fn table(&mut self, json: &Json, path: &str) -> Option<Map<String, Json>> {
        match json {
            Json::Object(map) => Some(map.clone()),
            other => {
                self.wrong_type(path, other, "a table");
                None
            }
        }
    }

    fn text(&mut self, json: &Json, path: &str) -> Option<String> {
        match json {
            Json::String(s) => Some(s.clone()),
            other => {
                self.wrong_type(path, other, "text in quotes");
                None
            }
        }
    }

    fn required_text(&mut self, table: &Map<String, Json>, path: &str, key: &str) -> Option<String> {
        match table.get(key) {
            Some(json) => self.text(json, &join(path, key)).filter(|s| {
                let filled = !s.trim().is_empty();
                if !filled {
                    self.error(&join(path, key), format!("'{key}' is empty; give a value"));
                }
                filled
            }),
            None => {
                self.error(
                    &join(path, key),
                    format!("'{key}' is missing; add {key} = \"...\""),
                );
                None
            }
        }
    }

    fn scalar(&mut self, json: &Json, path: &str) -> Option<Value> {
        let value = Value::from_json(json);
        if value.is_none() {
            self.wrong_type(path, json, "a single value");
        }
        value
    }

    pub(super) fn scalars(&mut self, json: Option<&Json>, path: &str) -> BTreeMap<String, Value> {
        let Some(table) = json.and_then(|j| self.table(j, path)) else {
            return BTreeMap::new();
        };
        table
            .iter()
            .filter_map(|(k, v)| Some((k.clone(), self.scalar(v, &join(path, k))?)))
            .collect()
    }

    fn unsigned(&mut self, json: &Json, path: &str, least: u64) -> Option<u64> {
        match json.as_u64() {
            Some(n) if n >= least => Some(n),
            _ => {
                self.error(
                    path,
                    format!("{} is not a whole number of at least {least}", shorten(json)),
                );
                None
            }
        }
    }

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

    fn base(&mut self, root: &Map<String, Json>) -> Option<BaseSpec> {
        let table = self.table(root.get("base")?, "base")?;
        self.unknown_keys(&table, "base", &["path"]);
        Some(BaseSpec {
            path: self.required_text(&table, "base", "path")?,
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

    fn parameter(&mut self, json: &Json, path: &str) -> ParameterSpec {
        match json {
            Json::Array(items) => ParameterSpec::List(self.list(items, path)),
            Json::Object(table) => ParameterSpec::Table(self.range(table, path)),
            other => {
                let hint = "a list such as [1, 2] or a range such as { int = [1, 4] } (a constant belongs to [fixed])";
                self.wrong_type(path, other, hint);
                ParameterSpec::List(vec![])
            }
        }
    }

    fn list(&mut self, items: &[Json], path: &str) -> Vec<Value> {
        items
            .iter()
            .enumerate()
            .filter_map(|(i, j)| self.scalar(j, &format!("{path}[{i}]")))
            .collect()
    }

    fn range(&mut self, table: &Map<String, Json>, path: &str) -> RangeSpec {
        self.unknown_keys(table, path, RANGE_KEYS);
        let kinds = ["int", "float", "choices"]
            .iter()
            .filter(|k| table.contains_key(**k))
            .count();
        if kinds != 1 {
            self.error(
                path,
                "exactly one of int = [low, high], float = [low, high] and choices = [...] is needed",
            );
        }
        let mut range = RangeSpec::default();
        if let Some(json) = table.get("int") {
            range.int = self.pair(
                json,
                &join(path, "int"),
                "two whole numbers [low, high]",
                Json::as_i64,
            );
        }
        if let Some(json) = table.get("float") {
            range.float = self.pair(
                json,
                &join(path, "float"),
                "two numbers [low, high]",
                Json::as_f64,
            );
        }
        if let Some(json) = table.get("choices") {
            match json {
                Json::Array(items) => range.choices = Some(self.list(items, &join(path, "choices"))),
                other => self.wrong_type(&join(path, "choices"), other, "a list"),
            }
        }
        if let Some(json) = table.get("step") {
            range.step = json.as_f64();
            if range.step.is_none() {
                self.wrong_type(&join(path, "step"), json, "a number");
            }
        }
        if let Some(json) = table.get("log") {
            match json.as_bool() {
                Some(log) => range.log = log,
                None => self.wrong_type(&join(path, "log"), json, "true or false"),
            }
        }
        if let Some(json) = table.get("when") {
            range.when = self.text(json, &join(path, "when"));
        }
        range
    }

    fn pair<T: Copy>(
        &mut self,
        json: &Json,
        path: &str,
        expected: &str,
        read: impl Fn(&Json) -> Option<T>,
    ) -> Option<[T; 2]> {
        let pair = match json.as_array().map(Vec::as_slice) {
            Some([low, high]) => read(low).zip(read(high)).map(|(low, high)| [low, high]),
            _ => None,
        };
        if pair.is_none() {
            self.wrong_type(path, json, expected);
        }
        pair
    }

    fn tables(&mut self, root: &Map<String, Json>, key: &str) -> Vec<(String, Map<String, Json>)> {
        self.tables_at(root.get(key), key)
    }

    /// The tables of a list, each with its path.
    pub(super) fn tables_at(&mut self, json: Option<&Json>, key: &str) -> Vec<(String, Map<String, Json>)> {
        match json {
            None => vec![],
            Some(Json::Array(items)) => {
                let mut tables = vec![];
                for (i, item) in items.iter().enumerate() {
                    let path = format!("{key}[{i}]");
                    if let Some(table) = self.table(item, &path) {
                        tables.push((path, table));
                    }
                }
                tables
            }
            Some(other) => {
                self.wrong_type(
                    key,
                    other,
                    &format!("a list of tables, each opened by [[{key}]],"),
                );
                vec![]
            }
        }
    }

    fn objectives(&mut self, root: &Map<String, Json>) -> Vec<ObjectiveSpec> {
        let mut objectives = vec![];
        for (path, table) in self.tables(root, "objective") {
            self.unknown_keys(&table, &path, &["metric"]);
            if let Some(metric) = self.required_text(&table, &path, "metric") {
                objectives.push(ObjectiveSpec { metric });
            }
        }
        if objectives.is_empty() && self.errors.is_empty() {
            self.error(
                "objective",
                "no objective is given; add [[objective]] with metric = \"validation_loss\"",
            );
        }
        objectives
    }

    fn constraints(&mut self, root: &Map<String, Json>) -> Vec<ConstraintSpec> {
        let mut constraints = vec![];
        for (path, table) in self.tables(root, "constraint") {
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
        search.fidelity = table.get("fidelity").and_then(|j| self.fidelity(j));
        search.start = start::read(self, &table);
        search
    }

    fn number(&mut self, json: &Json, path: &str) -> Option<f64> {
        let number = json.as_f64();
        if number.is_none() {
            self.wrong_type(path, json, "a number");
        }
        number
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

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "nothing",
        Json::Bool(_) => "true/false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "a table",
    }
}

fn shorten(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
