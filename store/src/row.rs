//! Reading columns that are not plain, and writing values Postgres would refuse.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};
use spaces::protocol::TrialState;
use sqlx::{Row, postgres::PgRow, types::Json};

/// A JSON column.
pub(crate) fn json<T: DeserializeOwned>(row: &PgRow, column: &str) -> sqlx::Result<T> {
    row.try_get::<Json<_>, _>(column).map(|Json(value)| value)
}

/// A JSON column that may be null.
pub(crate) fn json_or_null<T: DeserializeOwned>(row: &PgRow, column: &str) -> sqlx::Result<Option<T>> {
    row.try_get::<Option<Json<T>>, _>(column)
        .map(|value| value.map(|Json(v)| v))
}

/// A count or number: kept as a signed integer, never negative.
pub(crate) fn number(row: &PgRow, column: &str) -> sqlx::Result<u32> {
    let value: i32 = row.try_get(column)?;
    u32::try_from(value).map_err(|e| wrong(column, e))
}

/// A label, read by the function that knows its set.
pub(crate) fn label<T>(row: &PgRow, column: &str, read: impl Fn(&str) -> Option<T>) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    read(text).ok_or_else(|| wrong(column, format!("unknown label '{text}'")))
}

/// The state of a trial.
pub(crate) fn state(row: &PgRow) -> sqlx::Result<TrialState> {
    label(row, "state", TrialState::from_label)
}

fn wrong(column: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: source.into(),
    }
}

/// JSON text for a `$n::json` parameter. Bound as text, since a value bound as JSON arrives as `jsonb`, which
/// sorts keys and rewrites numbers before the column sees it.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types have text keys and cannot fail to serialise")
}

/// The text without U+0000, which Postgres cannot keep and a crashed program may well print.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}
