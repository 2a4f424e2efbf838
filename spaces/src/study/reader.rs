//! Parts of a study in JSON, with what is wrong with each.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::{SpecError, suggest};
use crate::Value;

/// Reads on after a mistake, so that all are found.
#[derive(Default)]
pub(super) struct Reader {
    errors: Vec<SpecError>,
}

impl Reader {
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<SpecError>> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(self.errors)
        }
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_content(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(SpecError::new(path, message));
    }

    pub(super) fn wrong_type(&mut self, path: &str, json: &Json, expected: &str) {
        self.error(
            path,
            format!("{} is {}, but {expected} is needed", shorten(json), kind(json)),
        );
    }

    pub(super) fn unknown_keys(&mut self, table: &Map<String, Json>, path: &str, known: &[&str]) {
        for key in table.keys().filter(|k| !known.contains(&k.as_str())) {
            self.error(&join(path, key), suggest("key", key, known.iter().copied()));
        }
    }

    pub(super) fn table(&mut self, json: &Json, path: &str) -> Option<Map<String, Json>> {
        match json {
            Json::Object(map) => Some(map.clone()),
            other => {
                self.wrong_type(path, other, "a table");
                None
            }
        }
    }

    pub(super) fn text(&mut self, json: &Json, path: &str) -> Option<String> {
        match json {
            Json::String(s) => Some(s.clone()),
            other => {
                self.wrong_type(path, other, "text in quotes");
                None
            }
        }
    }

    pub(super) fn required_text(
        &mut self,
        table: &Map<String, Json>,
        path: &str,
        key: &str,
    ) -> Option<String> {
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

    pub(super) fn scalar(&mut self, json: &Json, path: &str) -> Option<Value> {
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

    pub(super) fn list(&mut self, items: &[Json], path: &str) -> Vec<Value> {
        items
            .iter()
            .enumerate()
            .filter_map(|(i, j)| self.scalar(j, &format!("{path}[{i}]")))
            .collect()
    }

    pub(super) fn unsigned(&mut self, json: &Json, path: &str, least: u64) -> Option<u64> {
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

    pub(super) fn number(&mut self, json: &Json, path: &str) -> Option<f64> {
        let number = json.as_f64();
        if number.is_none() {
            self.wrong_type(path, json, "a number");
        }
        number
    }

    /// The tables of a list, each with its path.
    pub(super) fn tables(&mut self, json: Option<&Json>, key: &str) -> Vec<(String, Map<String, Json>)> {
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
}

pub(super) fn join(path: &str, key: &str) -> String {
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
