//! A line to a request, or one sentence about what is wrong with it and where.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use spaces::suggest;

use super::{Refusal, message::Request};

const TYPES: [&str; 8] = [
    "hello",
    "create",
    "ask",
    "tell",
    "front",
    "cheap_values",
    "close",
    "bye",
];

/// Longest piece of a message that an error repeats, in characters.
const QUOTED: usize = 60;

impl Request {
    /// Reads one message.
    ///
    /// # Errors
    /// A [`Refusal`] that names the value that is wrong, its place and the remedy.
    pub fn read(line: &[u8]) -> Result<Request, Refusal> {
        let mut message = match serde_json::from_slice(line) {
            Ok(Json::Object(message)) => message,
            Ok(other) => return Err(Refusal::NotAnObject(quoted(&other))),
            Err(error) => return Err(not_json(line, &error)),
        };
        let kind = match message.remove("type") {
            Some(Json::String(kind)) => kind,
            Some(other) => return Err(Refusal::Type(format!("type is {}; {}", quoted(&other), types()))),
            None => return Err(Refusal::Type(format!("the message has no type; {}", types()))),
        };
        Ok(match kind.as_str() {
            "hello" => Request::Hello(parts(message)?),
            "create" => Request::Create(parts(message)?),
            "ask" => Request::Ask(parts(message)?),
            "tell" => Request::Tell(parts(message)?),
            "front" => Request::Front(parts(message)?),
            "cheap_values" => Request::CheapValues(parts(message)?),
            "close" => Request::Close(parts(message)?),
            "bye" => Request::Bye(parts(message)?),
            _ => return Err(Refusal::Type(suggest("type", &kind, TYPES.into_iter()))),
        })
    }
}

fn types() -> String {
    format!("write one of {}", TYPES.join(", "))
}

fn not_json(line: &[u8], error: &serde_json::Error) -> Refusal {
    let column = error.column();
    let rest = line.get(column.saturating_sub(1)..).unwrap_or_default();
    if let Some(word) = ["NaN", "Infinity"]
        .into_iter()
        .find(|word| rest.starts_with(word.as_bytes()))
    {
        return Refusal::NotFinite { word, column };
    }
    let text = error.to_string();
    let problem = text.split(" at line ").next().unwrap_or_default().to_owned();
    Refusal::NotJson { column, problem }
}

/// Reads a message of a known type.
fn parts<T: DeserializeOwned>(message: Map<String, Json>) -> Result<T, Refusal> {
    let message = Json::Object(message);
    // to know the place at each step costs more than the rest: it is found out where something is wrong
    if let Ok(parts) = T::deserialize(&message) {
        return Ok(parts);
    }
    serde_path_to_error::deserialize(&message).map_err(|error| {
        let place = error.path().to_string();
        let found = error.path().iter().try_fold(&message, |at, step| match step {
            serde_path_to_error::Segment::Seq { index } => at.get(index),
            serde_path_to_error::Segment::Map { key } => at.get(key),
            _ => None,
        });
        let problem = in_words(&error.inner().to_string(), found);
        match place.as_str() {
            "." => Refusal::part("the message", problem),
            _ => Refusal::part(place, problem),
        }
    })
}

/// The library's sentence in people's words, with the value it is about.
fn in_words(told: &str, found: Option<&Json>) -> String {
    if let Some((kind, rest)) = told
        .strip_prefix("unknown field `")
        .map(|rest| ("key", rest))
        .or_else(|| told.strip_prefix("unknown variant `").map(|rest| ("value", rest)))
    {
        // the name, and behind it every known one between backticks
        let mut names = rest.split('`').step_by(2);
        let name = names.next().unwrap_or_default();
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        return match known.as_slice() {
            [] => format!("unknown key '{name}'; nothing else belongs here"),
            known => suggest(kind, name, known.iter().copied()),
        };
    }
    if let Some(name) = told.strip_prefix("missing field `") {
        return format!("'{}' is missing", name.trim_end_matches('`'));
    }
    if let (Some((_, expected)), Some(found)) = (told.split_once(", expected "), found) {
        let expected = match expected {
            "f64" => "a finite number",
            "u64" | "u32" => "a whole number from 0 on",
            "a boolean" => "true or false",
            "a string" | "variant identifier" => "a text",
            "a sequence" => "a list",
            "a map" => "an object",
            other if other.starts_with("struct ") => "an object",
            other => other,
        };
        return format!("{} stands where {expected} is expected", quoted(found));
    }
    match found {
        Some(found) => format!("{} cannot stand here; {told}", quoted(found)),
        None => told.to_owned(),
    }
}

/// A piece of a message, cut where it is long.
fn quoted(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let sentence = Request::read(line.as_bytes()).unwrap_err().to_string();
        assert!(!sentence.contains('\n') && !sentence.ends_with('.'), "{sentence}");
        sentence
    }

    #[test]
    fn every_mistake_has_its_place_and_value() {
        for (line, parts) in [
            ("", &["column 0", "EOF"][..]),
            (r#"{"type":"bye""#, &["column 13", "EOF"]),
            (r#"{"type":}"#, &["column 9", "expected value"]),
            ("[1,2]", &["not [1,2]", "hello"]),
            ("null", &["not null"]),
            ("{}", &["no type", "write one of hello"]),
            (r#"{"type":3}"#, &["type is 3"]),
            (r#"{"type":"aks"}"#, &["'aks'", "did you mean 'ask'"]),
            (
                r#"{"type":"ask","stduy":"s"}"#,
                &["'stduy'", "did you mean 'study'"],
            ),
            (r#"{"type":"bye","now":1}"#, &["'now'"]),
            (r#"{"type":"ask"}"#, &["the message", "'study' is missing"]),
            (r#"{"type":"ask","study":"s","n":-1}"#, &["n: -1", "whole number"]),
            (r#"{"type":"ask","study":7}"#, &["study: 7", "a text"]),
            (
                r#"{"type":"tell","study":"s","results":{}}"#,
                &["results: {}", "a list"],
            ),
            (
                r#"{"type":"tell","study":"s","results":[3]}"#,
                &["results[0]: 3", "an object"],
            ),
            (
                r#"{"type":"tell","study":"s","results":[{"id":0,"status":"ok","values":[1,null]}]}"#,
                &["results[0].values[1]: null", "finite number"],
            ),
            (
                r#"{"type":"tell","study":"s","results":[{"id":0,"status":"done"}]}"#,
                &["results[0].status", "unknown value 'done'", "ok, failed, invalid"],
            ),
            (
                r#"{"type":"create","study":"s","objectives":[],"space":[{"name":"x","type":"real"}]}"#,
                &["space[0].type", "'real'"],
            ),
            (
                r#"{"type":"create","study":"s","objectives":[],"space":[{"name":"x","type":"categorical","choices":[null]}]}"#,
                &["space[0].choices[0]", "null", "true, false, a number or a text"],
            ),
        ] {
            let sentence = refused(line);
            for part in parts {
                assert!(sentence.contains(part), "'{part}' is not in: {sentence}");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_are_named() {
        for (word, name) in [
            ("NaN", "NaN"),
            ("Infinity", "Infinity"),
            ("-Infinity", "Infinity"),
        ] {
            let line = format!(
                r#"{{"type":"tell","study":"s","results":[{{"id":0,"status":"ok","values":[{word}]}}]}}"#
            );
            let column = line.find(name).unwrap() + 1;
            let sentence = refused(&line);
            assert!(
                sentence.starts_with(&format!("{name} at column {column} is not JSON")),
                "{sentence}"
            );
            assert!(sentence.contains("failed"), "{sentence}");
        }
        assert!(refused(r#"{"type":"ask","study":"s","n":1e999}"#).contains("out of range"));
    }

    #[test]
    fn bytes_that_are_no_text_and_depths_without_end_are_refused() {
        assert!(Request::read(b"{\"type\":\"\xff\"}").is_err());
        assert!(refused(&"[".repeat(100_000)).contains("recursion"));
    }
}
