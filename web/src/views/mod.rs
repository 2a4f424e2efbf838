//! What is stored, as it is shown: rows in, the types of the JSON answers out.
//!
//! The API sends these and the command line prints them, so both say the same.

mod comparable;
mod curve;
mod front;
mod hypervolume;
mod metrics;
mod progress;
mod recommendation;
mod resolved;
mod starts;
mod study;
mod table;
mod trial;

pub use self::{
    curve::{Curve, CurvePoint, TrialCurves, curves},
    front::{Axis, Front, FrontRequest, FrontTrial, Split, front},
    hypervolume::{HypervolumeCurve, HypervolumePoint},
    metrics::{MetricValue, metrics, values},
    progress::{Eta, Progress, progress},
    recommendation::{GivenUp, Recommendation, Relax, recommendation},
    resolved::Resolved,
    starts::starts,
    study::{
        Best, Counts, FixedParameter, HypervolumeView, LimitView, ObjectiveView, SearchedParameter, StudyRow,
        StudyView, best, counts, limit_view, study_row, study_view,
    },
    table::{front_csv, trials_csv},
    trial::{ArtifactView, Failure, TrialList, TrialRow, TrialView, trial_row, trial_view},
};
pub(crate) use self::{front::plotted, metrics::unit};
