//! Which configuration to try next, and what has been reached: pure and seeded.
//!
//! History in, proposals out: no clock, no thread, no I/O. A [`Problem`] says what is searched, a [`History`] what has
//! been tried, an [`Oracle`] what is known beforehand, and a [`Sampler`] answers each [`Ask`] with a [`Proposal`] that
//! is new, can be built and keeps the known limits. [`front`], [`hypervolume()`] and [`recommend`] read the results.
//! Everything inside is minimised; directions are applied when values enter.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use search::{Ask, History, NoOracle, Outcome, Problem, front::front, hypervolume, sampler};
//! use spaces::{Direction, Domain, Objective, Parameter, Space};
//!
//! // a model's width: more of it costs more and errs less, down to a point
//! let width = Parameter {
//!     name: "width".into(),
//!     domain: Domain::float(0.0, 4.0, false, None)?,
//!     condition: Default::default(),
//! };
//! let objective = |metric: &str| Objective {
//!     metric: metric.into(),
//!     direction: Direction::Minimize,
//!     known_before_training: false,
//! };
//! let problem = Problem::new(Space::new(vec![width])?, vec![objective("cost"), objective("error")], vec![], 7)?;
//!
//! let mut history = History::default();
//! let mut sampler = sampler("auto").expect("a method of the registry");
//! for number in 0..40 {
//!     let proposal = sampler.ask(&mut Ask::new(&problem, &history, &mut NoOracle, number))?;
//!     let x = proposal.candidate.values["width"].as_f64().expect("a number");
//!     let measured = BTreeMap::from([("cost".into(), x * x), ("error".into(), (x - 2.0).powi(2))]);
//!     history.push(&problem, number, proposal.candidate, Outcome::Measured(measured));
//! }
//!
//! let values: Vec<&[f64]> = history.values().collect();
//! assert!(front(&values).len() > 15);
//! // the whole front dominates 13.33 of the square up to (4, 4)
//! assert!(hypervolume(&values, &[4.0, 4.0]) > 12.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod allocation;
mod ask;
pub mod ask_tell;
pub mod benchmark;
mod expected_improvement;
pub mod fidelity;
mod forest;
pub mod front;
mod gaussian_process;
mod grid;
mod history;
mod hypervolume;
mod indicators;
mod knee;
mod normal;
mod oracle;
mod problem;
mod ranking;
mod recommend;
mod refused;
pub mod repeat;
mod samplers;
mod text;
mod variation;

pub use self::{
    ask::{Ask, AskError, Proposal, Verdict, proposal_rng},
    front::{Front, dominates},
    history::{History, Outcome, Pending, Rung, Trial},
    hypervolume::{REFERENCE_TRIALS, contributions, hypervolume, reference_point},
    indicators::{additive_epsilon, igd, igd_plus},
    knee::{Knee, knee},
    oracle::{Known, NoOracle, Oracle},
    problem::{Problem, ProblemError},
    recommend::{GivenUp, NoRecommendation, Point, Recommendation, Relax, Rule, RuleError, recommend},
    samplers::{Method, REGISTRY, Sampler, methods, sampler},
};
