//! How one searched parameter is written: a list, or a table with a range.

use serde_json::{Map, Value as Json};

use super::{
    ParameterSpec, RangeSpec, SpecError,
    reader::{Reader, join},
};

const RANGE_KEYS: &[&str] = &["int", "float", "choices", "step", "log", "when"];

/// Reads one entry of `[space]`.
///
/// # Errors
/// Every [`SpecError`] found, with paths below `path`.
pub(super) fn read_parameter(json: &Json, path: &str) -> Result<ParameterSpec, Vec<SpecError>> {
    let mut reader = Reader::default();
    let spec = reader.parameter(json, path);
    reader.finish(spec)
}

impl Reader {
    pub(super) fn parameter(&mut self, json: &Json, path: &str) -> ParameterSpec {
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
}
