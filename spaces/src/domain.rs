//! The set of values a parameter may take.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Value;

/// The set of values of one parameter. Build it with the checked constructors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// A real interval, both ends included.
    Float {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
        /// Spread evenly in the logarithm.
        log: bool,
        /// Only `low + k * step`.
        step: Option<f64>,
    },
    /// A range of whole numbers, both ends included.
    Int {
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
        /// Spread evenly in the logarithm.
        log: bool,
        /// Only `low + k * step`; 1 for every whole number.
        step: i64,
    },
    /// A list of distinct values.
    Categorical {
        /// The values, in the order given.
        choices: Vec<Value>,
    },
}

/// Why a domain cannot be built; says the offending value and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DomainError {
    /// `low` above `high`.
    #[error("the range [{low}, {high}] is empty; put the smaller number first")]
    Empty {
        /// The given lower end.
        low: String,
        /// The given upper end.
        high: String,
    },
    /// A log range that touches zero.
    #[error("a logarithmic range cannot start at {0}; start above 0 or drop log = true")]
    LogOfNonPositive(String),
    /// NaN or infinity.
    #[error("{0} is not a finite number")]
    NotFinite(String),
    /// A step of zero or less.
    #[error("step {0} must be above 0")]
    Step(String),
    /// A step together with `log`.
    #[error("step and log exclude each other; keep one")]
    StepAndLog,
    /// No choices.
    #[error("the list of choices is empty; give at least one value")]
    NoChoices,
    /// A choice given twice.
    #[error("choice {0} is given twice; remove one")]
    DuplicateChoice(Value),
}

impl Domain {
    /// A real interval.
    ///
    /// # Errors
    /// [`DomainError`] for an empty, non-finite or impossible logarithmic range.
    pub fn float(low: f64, high: f64, log: bool, step: Option<f64>) -> Result<Domain, DomainError> {
        for end in [low, high] {
            if !end.is_finite() {
                return Err(DomainError::NotFinite(end.to_string()));
            }
        }
        check_range(low, high, log, step, low)?;
        Ok(Domain::Float { low, high, log, step })
    }

    /// A range of whole numbers.
    ///
    /// # Errors
    /// [`DomainError`] for an empty or impossible logarithmic range.
    pub fn int(low: i64, high: i64, log: bool, step: i64) -> Result<Domain, DomainError> {
        check_range(low, high, log, (step != 1).then_some(step), low as f64)?;
        Ok(Domain::Int { low, high, log, step })
    }

    /// A list of distinct values.
    ///
    /// # Errors
    /// [`DomainError`] for an empty list or a repeated value.
    pub fn categorical(choices: Vec<Value>) -> Result<Domain, DomainError> {
        if choices.is_empty() {
            return Err(DomainError::NoChoices);
        }
        for (i, choice) in choices.iter().enumerate() {
            if choices[..i].iter().any(|earlier| earlier.same(choice)) {
                return Err(DomainError::DuplicateChoice(choice.clone()));
            }
        }
        Ok(Domain::Categorical { choices })
    }

    /// How many distinct values there are; `None` for a continuum.
    pub fn cardinality(&self) -> Option<u64> {
        match self {
            Domain::Float { low, high, .. } if low == high => Some(1),
            Domain::Float { step: None, .. } => None,
            Domain::Float {
                low,
                high,
                step: Some(step),
                ..
            } => Some(grid_len(*low, *high, *step)),
            Domain::Int { low, high, step, .. } => Some((high - low) as u64 / *step as u64 + 1),
            Domain::Categorical { choices } => Some(choices.len() as u64),
        }
    }

    /// The value at `unit` in `[0, 1]`; equal slices of the unit interval for equal shares of the domain.
    pub fn from_unit(&self, unit: f64) -> Value {
        let unit = unit.clamp(0.0, 1.0);
        match self {
            Domain::Float {
                low, high, log: true, ..
            } => Value::Float(
                (low.ln() + unit * (high.ln() - low.ln()))
                    .exp()
                    .clamp(*low, *high),
            ),
            Domain::Float {
                low,
                high,
                step: None,
                ..
            } => Value::Float((low + unit * (high - low)).clamp(*low, *high)),
            Domain::Float {
                low,
                high,
                step: Some(step),
                ..
            } => {
                let k = slot(unit, grid_len(*low, *high, *step));
                Value::Float((low + k as f64 * step).min(*high))
            }
            Domain::Int {
                low, high, log: true, ..
            } => {
                // half a unit of margin on both sides gives the ends their fair share
                let (a, b) = ((*low as f64 - 0.5).ln(), (*high as f64 + 0.5).ln());
                let x = (a + unit * (b - a)).exp().round() as i64;
                Value::Int(x.clamp(*low, *high))
            }
            Domain::Int { low, high, step, .. } => {
                let n = (high - low) as u64 / *step as u64 + 1;
                Value::Int(low + slot(unit, n) as i64 * step)
            }
            Domain::Categorical { choices } => choices[slot(unit, choices.len() as u64) as usize].clone(),
        }
    }

    /// Where `value` lies in `[0, 1]`, such that [`Domain::from_unit`] gives it back; `None` if it is not in here.
    pub fn to_unit(&self, value: &Value) -> Option<f64> {
        if !self.contains(value) {
            return None;
        }
        let x = value.as_f64();
        Some(match self {
            Domain::Float { low, high, .. } if low == high => 0.5,
            Domain::Float {
                low, high, log: true, ..
            } => (x?.ln() - low.ln()) / (high.ln() - low.ln()),
            Domain::Float {
                low,
                high,
                step: None,
                ..
            } => (x? - low) / (high - low),
            Domain::Float {
                low,
                high,
                step: Some(step),
                ..
            } => middle(((x? - low) / step).round() as u64, grid_len(*low, *high, *step)),
            Domain::Int {
                low, high, log: true, ..
            } => {
                let (a, b) = ((*low as f64 - 0.5).ln(), (*high as f64 + 0.5).ln());
                (x?.ln() - a) / (b - a)
            }
            Domain::Int { low, high, step, .. } => middle(
                (value.as_i64()? - low) as u64 / *step as u64,
                (high - low) as u64 / *step as u64 + 1,
            ),
            Domain::Categorical { choices } => middle(
                choices.iter().position(|c| c.same(value))? as u64,
                choices.len() as u64,
            ),
        })
    }

    /// Whether `value` is one of the values, with the right type and on the grid.
    pub fn contains(&self, value: &Value) -> bool {
        match self {
            Domain::Float { low, high, step, .. } => match value.as_f64() {
                Some(x) if x.is_finite() && *low <= x && x <= *high => match step {
                    Some(step) => {
                        let k = (x - low) / step;
                        (k - k.round()).abs() < 1e-6
                    }
                    None => true,
                },
                _ => false,
            },
            Domain::Int { low, high, step, .. } => value
                .as_i64()
                .is_some_and(|i| *low <= i && i <= *high && (i - low) % step == 0),
            Domain::Categorical { choices } => choices.iter().any(|c| c.same(value)),
        }
    }

    /// The same value in this domain's own type (`2` becomes `2.0` in a real interval); `None` if it is not in here.
    pub fn canonical(&self, value: &Value) -> Option<Value> {
        if !self.contains(value) {
            return None;
        }
        match self {
            Domain::Float { .. } => value.as_f64().map(Value::Float),
            Domain::Int { .. } => value.as_i64().map(Value::Int),
            Domain::Categorical { choices } => choices.iter().find(|c| c.same(value)).cloned(),
        }
    }

    /// Whether every value of `inner` is one of these. Grids are compared by their ends and values only.
    pub fn covers(&self, inner: &Domain) -> bool {
        match inner {
            Domain::Categorical { choices } => choices.iter().all(|c| self.contains(c)),
            Domain::Int { low, high, step, .. } => match self {
                Domain::Categorical { .. } => {
                    let n = inner.cardinality().unwrap_or(u64::MAX);
                    n <= 10_000 && (0..n as i64).all(|k| self.contains(&Value::Int(low + k * step)))
                }
                _ => {
                    self.contains(&Value::Int(*low))
                        && self.contains(&Value::Int(low + (high - low) / step * step))
                }
            },
            Domain::Float { low, high, .. } => match self {
                Domain::Float { low: a, high: b, .. } => a <= low && high <= b,
                _ => false,
            },
        }
    }

    /// Whether the values have an order that distance can use: numbers, and lists of only numbers.
    pub fn is_ordered(&self) -> bool {
        match self {
            Domain::Categorical { choices } => choices.iter().all(|c| c.as_f64().is_some()),
            _ => true,
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Float { low, high, log, step } => {
                write!(f, "{low} to {high}")?;
                match step {
                    Some(step) => write!(f, " in steps of {step}"),
                    None if *log => write!(f, ", logarithmic"),
                    None => Ok(()),
                }
            }
            Domain::Int { low, high, log, step } => {
                write!(f, "whole numbers {low} to {high}")?;
                if *log {
                    write!(f, ", logarithmic")?;
                }
                if *step != 1 {
                    write!(f, " in steps of {step}")?;
                }
                Ok(())
            }
            Domain::Categorical { choices } => {
                write!(
                    f,
                    "one of {}",
                    choices
                        .iter()
                        .map(Value::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                )
            }
        }
    }
}

fn check_range<T: PartialOrd + ToString + Default>(
    low: T,
    high: T,
    log: bool,
    step: Option<T>,
    low_as_f64: f64,
) -> Result<(), DomainError> {
    if low > high {
        return Err(DomainError::Empty {
            low: low.to_string(),
            high: high.to_string(),
        });
    }
    if log && low_as_f64 <= 0.0 {
        return Err(DomainError::LogOfNonPositive(low.to_string()));
    }
    if let Some(step) = step {
        if step <= T::default() {
            return Err(DomainError::Step(step.to_string()));
        }
        if log {
            return Err(DomainError::StepAndLog);
        }
    }
    Ok(())
}

/// Number of grid points from `low` to `high`; the small slack forgives rounding in `(high - low) / step`.
fn grid_len(low: f64, high: f64, step: f64) -> u64 {
    ((high - low) / step + 1e-9).floor() as u64 + 1
}

/// Which of `n` equal slices of the unit interval holds `unit`.
fn slot(unit: f64, n: u64) -> u64 {
    ((unit * n as f64) as u64).min(n - 1)
}

/// The middle of slice `k` of `n`.
fn middle(k: u64, n: u64) -> f64 {
    (k as f64 + 0.5) / n as f64
}

#[cfg(test)]
mod tests;
