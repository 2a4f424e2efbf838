//! The messages, as they stand on the wire: each an object whose `type` names its form.

use serde::{Deserialize, Serialize};
use spaces::{Candidate, Direction, Value};

/// What a driver sends. Read it with [`Request::read`], which says what is wrong in one sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OptimizeRequest))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Asks who answers.
    Hello(Hello),
    /// Opens a study.
    Create(Create),
    /// Asks for trials.
    Ask(AskTrials),
    /// Tells how trials ended.
    Tell(Tell),
    /// Asks for the best trials.
    Front(StudyName),
    /// Answers [`Answer::Cheap`].
    CheapValues(CheapValues),
    /// Forgets a study.
    Close(StudyName),
    /// Ends the conversation.
    Bye(Bye),
}

/// Asks who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The form of the messages: [`super::PROTOCOL`].
    pub protocol: u64,
}

/// Opens a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its name; every later message about it carries it.
    pub study: String,
    /// Source of all chance: the same messages get the same answers.
    #[serde(default)]
    pub seed: u64,
    /// How many trials are planned; more may be asked for, and no method depends on it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
    /// What may vary; parents stand before their children.
    pub space: Vec<SpaceEntry>,
    /// What is optimised, in the order in which values are told.
    pub objectives: Vec<ObjectiveEntry>,
    /// Bound of the hypervolume, one number for each objective; without it, it is taken from the first results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_point: Option<Vec<f64>>,
    /// How to search; `auto` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Configurations to propose before any others, each with exactly its active parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starting_points: Vec<StartingPoint>,
    /// Results of an earlier study of this space, to learn from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierTrial>,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SpaceEntry {
    /// Unique name.
    pub name: String,
    /// Kind of its values.
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// Smallest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Largest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Whether a number is spread evenly in its logarithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
    /// Values of a categorical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
    /// When it is active: where every clause holds. An inactive parent makes its children inactive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub condition: Vec<ClauseEntry>,
}

/// Kind of a parameter's values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// Real numbers from `low` to `high`.
    Float,
    /// Whole numbers from `low` to `high`.
    Int,
    /// The `choices`.
    Categorical,
}

/// What a parent's value must satisfy: exactly one of `in` and `ge`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ClauseEntry {
    /// The parameter that decides.
    pub parent: String,
    /// It must be one of these.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
    /// It must be at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ge: Option<f64>,
}

/// One objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ObjectiveEntry {
    /// Unique name.
    pub name: String,
    /// Which way is better.
    pub direction: Direction,
    /// Whether the driver can compute it before a trial runs, at next to no cost; it may then be asked for it.
    #[serde(default)]
    pub cheap: bool,
}

/// A configuration to begin with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartingPoint {
    /// Exactly its active parameters.
    pub params: Candidate,
}

/// A result of an earlier study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EarlierTrial {
    /// What was tried.
    pub params: Candidate,
    /// How it ended; `ok` without it.
    #[serde(default)]
    pub status: TrialStatus,
    /// The objectives, in their order and direction; only where it ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<f64>>,
}

/// Asks for trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AskTrials {
    /// The study.
    pub study: String,
    /// How many, from 1 to [`super::MOST_TRIALS`].
    #[serde(default = "one")]
    pub n: u64,
}

fn one() -> u64 {
    1
}

/// Tells how trials ended; either all of them are taken or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Tell {
    /// The study.
    pub study: String,
    /// One for each trial, in any order.
    pub results: Vec<TrialResult>,
}

/// How one trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrialResult {
    /// The trial.
    pub id: u32,
    /// How it ended.
    pub status: TrialStatus,
    /// The objectives, in their order and direction; only where it ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<f64>>,
    /// How long it ran, in seconds: where trials are quick, less thought goes into choosing them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Why it did not end well, for those who read the messages; the search looks at the status alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrialStatus {
    /// With a value for each objective.
    #[default]
    Ok,
    /// With an error.
    Failed,
    /// Refused: this configuration cannot be tried.
    Invalid,
}

/// Names a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StudyName {
    /// The study.
    pub study: String,
}

/// The values of cheap objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CheapValues {
    /// The study.
    pub study: String,
    /// For each configuration of the question the cheap objectives, in their order and direction.
    pub values: Vec<Vec<f64>>,
}

/// Ends the conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Bye {}

/// What the program answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OptimizeAnswer))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// Who answers.
    HelloOk {
        /// The form of the messages.
        protocol: u64,
        /// The program.
        name: &'static str,
        /// Its version.
        version: &'static str,
        /// What it can do.
        capabilities: &'static [&'static str],
    },
    /// Done.
    Ok,
    /// Trials to run. Fewer than asked for only where nothing else is left to try.
    Trials {
        /// In the order in which they were proposed.
        trials: Vec<ProposedTrial>,
    },
    /// The best trials.
    Front {
        /// Those that no other dominates, in the order in which they were told.
        trials: Vec<BestTrial>,
        /// Volume that they dominate up to the reference point; null where nothing was told or it is not finite.
        hypervolume: Option<f64>,
    },
    /// A question, before `trials`: what are the cheap objectives of these? Answered with `cheap_values`.
    Cheap {
        /// The study.
        study: String,
        /// Distinct configurations, none of which was asked about before.
        configs: Vec<Candidate>,
    },
    /// The request could not be served; nothing has changed.
    Error {
        /// One sentence with the offending value, its place and the remedy.
        message: String,
    },
}

/// A trial to run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProposedTrial {
    /// Counts from 0 within the study.
    pub id: u32,
    /// Exactly its active parameters.
    pub params: Candidate,
}

/// A trial on the front.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BestTrial {
    /// The trial; null for a result of an earlier study.
    pub id: Option<u32>,
    /// What was tried.
    pub params: Candidate,
    /// The objectives as they were told.
    pub values: Vec<f64>,
}
