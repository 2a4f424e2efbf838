//! When a parameter has a meaning: `top_k` only where `experts > 1`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Value;

/// Clauses that must all hold. Empty: always.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Condition {
    /// The clauses, joined by "and".
    pub clauses: Vec<Clause>,
}

/// One comparison of a parent parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Clause {
    /// The parameter that decides.
    pub parent: String,
    /// What its value must satisfy.
    pub test: Test,
}

/// What a parent's value must satisfy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// One of these.
    In(Vec<Value>),
    /// None of these.
    NotIn(Vec<Value>),
    /// At least.
    Ge(f64),
    /// Above.
    Gt(f64),
    /// At most.
    Le(f64),
    /// Below.
    Lt(f64),
}

impl Test {
    /// Whether `value` satisfies this; a text never satisfies a comparison of numbers.
    pub fn holds(&self, value: &Value) -> bool {
        let number = |test: &dyn Fn(f64) -> bool| value.as_f64().is_some_and(test);
        match self {
            Test::In(values) => values.iter().any(|v| v.same(value)),
            Test::NotIn(values) => !values.iter().any(|v| v.same(value)),
            Test::Ge(x) => number(&|v| v >= *x),
            Test::Gt(x) => number(&|v| v > *x),
            Test::Le(x) => number(&|v| v <= *x),
            Test::Lt(x) => number(&|v| v < *x),
        }
    }
}

impl Condition {
    /// Parses `experts > 1`, `fine_tune == 'lora'`, `attention in ['linear', 'lsh'] and layers >= 2`.
    ///
    /// # Errors
    /// A sentence that names the part that cannot be read.
    pub fn parse(text: &str) -> Result<Condition, String> {
        let clauses = text.split(" and ").map(parse_clause).collect::<Result<_, _>>()?;
        Ok(Condition { clauses })
    }

    /// Whether it holds, where `lookup` gives a parent's value or `None` if the parent is inactive.
    pub fn holds<'v>(&self, lookup: impl Fn(&str) -> Option<&'v Value>) -> bool {
        self.clauses
            .iter()
            .all(|clause| lookup(&clause.parent).is_some_and(|value| clause.test.holds(value)))
    }

    /// Whether there is no clause.
    pub fn is_always(&self) -> bool {
        self.clauses.is_empty()
    }
}

fn parse_clause(text: &str) -> Result<Clause, String> {
    let unreadable = || {
        format!(
            "'{}' is not a condition; write for example experts > 1",
            text.trim()
        )
    };
    let name_end = text
        .trim_start()
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .ok_or_else(unreadable)?;
    let (parent, rest) = text.trim_start().split_at(name_end);
    let rest = rest.trim_start();
    let operators = ["==", "!=", ">=", "<=", ">", "<", "in ", "in["];
    let operator = operators
        .iter()
        .find(|op| rest.starts_with(**op))
        .ok_or_else(unreadable)?;
    let operand = rest[operator.trim_end_matches('[').len()..].trim();
    let number = || {
        operand
            .parse::<f64>()
            .map_err(|_| format!("'{operand}' is not a number in '{}'", text.trim()))
    };
    let test = match *operator {
        "==" => Test::In(vec![scalar(operand)?]),
        "!=" => Test::NotIn(vec![scalar(operand)?]),
        ">=" => Test::Ge(number()?),
        "<=" => Test::Le(number()?),
        ">" => Test::Gt(number()?),
        "<" => Test::Lt(number()?),
        _ => {
            let inner = operand
                .strip_prefix('[')
                .and_then(|s| s.strip_suffix(']'))
                .ok_or_else(unreadable)?;
            Test::In(
                inner
                    .split(',')
                    .map(|s| scalar(s.trim()))
                    .collect::<Result<_, _>>()?,
            )
        }
    };
    if parent.is_empty() {
        return Err(unreadable());
    }
    Ok(Clause {
        parent: parent.to_owned(),
        test,
    })
}

fn scalar(text: &str) -> Result<Value, String> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|s| s.strip_suffix(quote)) {
            return Ok(Value::Text(inner.to_owned()));
        }
    }
    match text {
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        _ => text
            .parse::<i64>()
            .map(Value::Int)
            .or_else(|_| text.parse::<f64>().map(Value::Float))
            .map_err(|_| format!("'{text}' is neither a number nor a quoted name; write '{text}' in quotes")),
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |v: &Value| match v {
            Value::Text(s) => format!("'{s}'"),
            other => other.to_string(),
        };
        for (i, Clause { parent, test }) in self.clauses.iter().enumerate() {
            if i > 0 {
                write!(f, " and ")?;
            }
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{parent} == {}", quoted(&values[0]))?,
                Test::In(values) => {
                    write!(
                        f,
                        "{parent} in [{}]",
                        values.iter().map(quoted).collect::<Vec<_>>().join(", ")
                    )?;
                }
                Test::NotIn(values) => {
                    let parts = values.iter().map(|v| format!("{parent} != {}", quoted(v)));
                    write!(f, "{}", parts.collect::<Vec<_>>().join(" and "))?;
                }
                Test::Ge(x) => write!(f, "{parent} >= {x}")?,
                Test::Gt(x) => write!(f, "{parent} > {x}")?,
                Test::Le(x) => write!(f, "{parent} <= {x}")?,
                Test::Lt(x) => write!(f, "{parent} < {x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_back() {
        for text in [
            "experts > 1",
            "fine_tune == 'lora'",
            "attention in ['linear', 'lsh'] and layers >= 2",
            "bits != 32",
            "share == true",
        ] {
            assert_eq!(Condition::parse(text).unwrap().to_string(), text);
        }
        for text in ["experts", "> 1", "a == b", "x > wide", "x in 3"] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_inactive_parent_makes_the_child_inactive() {
        let condition = Condition::parse("experts > 1").unwrap();
        assert!(condition.holds(|_| Some(&Value::Int(2))));
        assert!(!condition.holds(|_| Some(&Value::Int(1))));
        assert!(!condition.holds(|_| None));
        assert!(Condition::default().holds(|_| None));
    }
}
