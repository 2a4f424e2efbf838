//! What may vary and what is measured: parameters, spaces, candidates, metrics, study files.
//!
//! No I/O, no clock, no tensor: every other crate speaks in these types.
//!
//! ```
//! use spaces::{Domain, Parameter, Space};
//!
//! let rate = Parameter {
//!     name: "learning_rate".into(),
//!     domain: Domain::float(1e-4, 1e-2, true, None)?,
//!     condition: Default::default(),
//! };
//! let space = Space::new(vec![rate]).unwrap();
//! let middle = space.decode(&[0.5]);
//! assert!((middle.get("learning_rate").unwrap().as_f64().unwrap() - 1e-3).abs() < 1e-9);
//! # Ok::<(), spaces::DomainError>(())
//! ```

mod candidate;
mod catalog;
mod condition;
mod domain;
mod metric;
mod objective;
pub mod protocol;
pub mod quantity;
mod space;
pub mod study;
mod value;

pub use self::{
    candidate::{Candidate, fingerprint},
    catalog::{Catalog, CorpusInfo, MethodInfo, ParameterInfo, Preset, TechniqueInfo},
    condition::{Clause, Condition, Test},
    domain::{Domain, DomainError},
    metric::{Direction, Evidence, METRICS, Measurement, Metric, metric},
    objective::{Limit, Objective},
    space::{CandidateError, Parameter, Space, SpaceError},
    study::{Config, ConfigSpec, DataSpec, SpecError, Study, StudySpec, suggest},
    value::Value,
};
