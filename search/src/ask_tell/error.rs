//! Why a request is refused, each in one sentence for the driver's author.

use spaces::{CandidateError, DomainError};

use super::MOST_TRIALS;
use crate::{AskError, ProblemError};

/// Why a request is refused. Nothing has changed, and the study can be used on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A line that is no JSON.
    #[error("the message is not JSON at column {column}: {problem}; send one JSON object a line")]
    NotJson {
        /// Where, counted from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A word of floating-point numbers that JSON does not have.
    #[error(
        "{word} at column {column} is not JSON; leave it out and tell a trial without finite values with \
         \"status\":\"failed\""
    )]
    NotFinite {
        /// `NaN` or `Infinity`.
        word: &'static str,
        /// Where, counted from 1.
        column: usize,
    },
    /// JSON that is no object.
    #[error("a message is a JSON object such as {{\"type\":\"hello\",\"protocol\":1}}, not {0}")]
    NotAnObject(String),
    /// A message without a readable type.
    #[error("{0}")]
    Type(String),
    /// A part of a message that cannot be read.
    #[error("{place}: {problem}")]
    Part {
        /// Where: `space[1].low`.
        place: String,
        /// What is wrong there, and the remedy.
        problem: String,
    },
    /// A protocol that this program does not speak.
    #[error("protocol {0} is not spoken here; use protocol {known}", known = super::PROTOCOL)]
    Protocol(u64),
    /// A study that is not open.
    #[error("{0}; open it with 'create' first")]
    NoStudy(String),
    /// A study created twice.
    #[error("study '{0}' is open already; close it first or choose another name")]
    StudyIsOpen(String),
    /// A space entry that is no domain.
    #[error("parameter '{name}' ({place}): {error}")]
    Domain {
        /// Where: `space[1]`.
        place: String,
        /// The parameter.
        name: String,
        /// What is wrong with its values.
        error: DomainError,
    },
    /// A configuration of the user's that is no point of the space.
    #[error("{place}: {error}")]
    Candidate {
        /// Where: `starting_points[0].params`.
        place: String,
        /// What is wrong with it.
        error: CandidateError,
    },
    /// Objectives that contradict each other.
    #[error(transparent)]
    Problem(#[from] ProblemError),
    /// Too few or too many trials asked for.
    #[error("n is {0}; ask for 1 to {MOST_TRIALS} trials at a time")]
    Count(u64),
    /// A study with as many trials as numbers allow.
    #[error("study '{0}' has no trial numbers left; go on in a new one")]
    Full(String),
    /// A trial that was never proposed.
    #[error("{place}: trial {id} has not been proposed; {}", match next {
        0 => "ask for trials first".to_owned(),
        1 => "the only one so far has the id 0".to_owned(),
        n => format!("those so far have the ids 0 to {}", n - 1),
    })]
    UnknownTrial {
        /// Where: `results[0]`.
        place: String,
        /// The id given.
        id: u32,
        /// The id that the next trial will have.
        next: u32,
    },
    /// A trial told before.
    #[error("{place}: trial {id} has been told already; tell each trial once")]
    ToldTwice {
        /// Where: `results[0]`.
        place: String,
        /// The id given.
        id: u32,
    },
    /// The search has nothing to propose.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A question in the middle of an ask that was not answered.
    #[error("the ask of study '{study}' has ended without trials, because {problem}; ask again")]
    Unanswered {
        /// The study.
        study: String,
        /// What came instead.
        problem: String,
    },
    /// A driver that cannot be asked.
    #[error("{0}")]
    Gone(String),
    /// Values of cheap objectives that nobody asked for.
    #[error("there is no open question about cheap objectives; send cheap_values only after 'cheap'")]
    NoQuestion,
}

impl Refusal {
    /// A study that is none of the open ones.
    pub fn no_study<'a>(name: &str, open: impl Iterator<Item = &'a str> + Clone) -> Refusal {
        Refusal::NoStudy(match open.clone().next() {
            None => format!("unknown study '{name}'; none is open"),
            Some(_) => spaces::suggest("study", name, open),
        })
    }

    /// A part of a message that is wrong.
    pub(super) fn part(place: impl Into<String>, problem: impl Into<String>) -> Refusal {
        Refusal::Part {
            place: place.into(),
            problem: problem.into(),
        }
    }
}
