//! TOML text to spec and back, with line numbers on errors.

use serde_json::Value as Json;
use toml_edit::{Document, DocumentMut, Item};

use super::{
    Config, ConfigSpec, SpecError, Study, StudySpec, read_config, read_study, resolve_config, resolve_study,
};
use crate::Catalog;

/// Reads and checks a study file.
///
/// # Errors
/// Every [`SpecError`] found, with its line.
pub fn study_from_toml(text: &str, catalog: &Catalog) -> Result<Study, Vec<SpecError>> {
    let document = parse(text)?;
    let spec: Result<StudySpec, _> = read_study(&to_json(&document)?);
    spec.and_then(|spec| resolve_study(&spec, catalog))
        .map_err(|errors| locate(&document, text, errors))
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Every [`SpecError`] found, with its line.
pub fn config_from_toml(text: &str, catalog: &Catalog) -> Result<Config, Vec<SpecError>> {
    let document = parse(text)?;
    let spec: Result<ConfigSpec, _> = read_config(&to_json(&document)?);
    spec.and_then(|spec| resolve_config(&spec, catalog))
        .map_err(|errors| locate(&document, text, errors))
}

/// Writes a study file that reads back to the same study.
pub fn study_to_toml(spec: &StudySpec) -> String {
    sections(toml_edit::ser::to_document(spec).expect("a study holds only tables, lists and scalars"))
}

/// Writes what is not yet a study in the form of its file; `None` for what a file cannot hold, such as null.
pub fn json_to_toml(json: &Json) -> Option<String> {
    toml_edit::ser::to_document(json).ok().map(sections)
}

fn sections(mut document: DocumentMut) -> String {
    // the serializer writes every nested table inline; sections read better
    for key in ["data", "base", "teacher", "fixed", "space", "search"] {
        if let Some(Item::Value(toml_edit::Value::InlineTable(table))) = document.get(key) {
            let table = table.clone().into_table();
            document.insert(key, Item::Table(table));
        }
    }
    for key in ["objective", "constraint"] {
        if let Some(Item::Value(toml_edit::Value::Array(array))) = document.get(key) {
            let tables = array
                .iter()
                .filter_map(|v| v.as_inline_table().map(|t| t.clone().into_table()));
            let tables: toml_edit::ArrayOfTables = tables.collect();
            document.insert(key, Item::ArrayOfTables(tables));
        }
    }
    for (order, (_, item)) in (1..).zip(document.iter_mut()) {
        if let Item::Table(table) = item {
            table.set_position(Some(order));
        } else if let Item::ArrayOfTables(tables) = item {
            for table in tables.iter_mut() {
                table.set_position(Some(order));
            }
        }
    }
    document.to_string()
}

fn parse(text: &str) -> Result<Document<String>, Vec<SpecError>> {
    Document::parse(text.to_owned()).map_err(|e| {
        let line = e.span().map(|span| line_of(text, span.start));
        vec![SpecError {
            path: String::new(),
            line,
            message: e.message().trim().replace('\n', ", "),
        }]
    })
}

fn to_json(document: &Document<String>) -> Result<Json, Vec<SpecError>> {
    toml_edit::de::from_document(document.clone().into_mut())
        .map_err(|e| vec![SpecError::new("", e.message().trim().to_owned())])
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
        + 1
}

/// Gives each error the line of the deepest part of its path that stands in the text.
fn locate(document: &Document<String>, text: &str, mut errors: Vec<SpecError>) -> Vec<SpecError> {
    for error in &mut errors {
        let mut item = document.as_item();
        for part in error.path.split(['.', '[', ']']).filter(|p| !p.is_empty()) {
            let next = match part.parse::<usize>() {
                Ok(index) if !item.is_table_like() => item.get(index),
                _ => {
                    if let Some((key, _)) = item.as_table_like().and_then(|t| t.get_key_value(part))
                        && let Some(span) = key.span()
                    {
                        error.line = Some(line_of(text, span.start));
                    }
                    item.get(part)
                }
            };
            match next {
                Some(found) => {
                    if !found.is_table_like()
                        && let Some(span) = found.span()
                    {
                        error.line = Some(line_of(text, span.start));
                    } else if let (Item::Table(table), Some(span)) = (found, found.span())
                        && table.position().is_some()
                    {
                        error.line = Some(line_of(text, span.start));
                    }
                    item = found;
                }
                None => break,
            }
        }
    }
    errors.sort_by_key(|e| e.line.unwrap_or(usize::MAX));
    errors
}
