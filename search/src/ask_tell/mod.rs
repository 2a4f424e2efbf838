//! The search as a conversation: messages in, answers out.
//!
//! A driver (a notebook, a benchmark, a trainer of the user's) sends [`Request`]s and reads [`Answer`]s; where they
//! travel is the caller's business. Each request has one answer, and a request that is refused changes nothing. The
//! one exchange that goes the other way is the question for cheap objectives in the middle of an ask: the caller's
//! [`Driver`] carries it.
//!
//! ```
//! use search::ask_tell::{Answer, Driver, Refusal, Request, Session};
//!
//! struct NothingCheap;
//! impl Driver for NothingCheap {
//!     fn exchange(&mut self, _: Answer) -> Result<Request, Refusal> {
//!         unreachable!("no objective is cheap")
//!     }
//! }
//!
//! let mut session = Session::default();
//! let mut send = |line: &str| -> Result<Answer, Refusal> {
//!     Ok(session.handle(Request::read(line.as_bytes())?, &mut NothingCheap))
//! };
//! send(
//!     r#"{"type":"create","study":"s","space":[{"name":"x","type":"float","low":0,"high":1}],
//!         "objectives":[{"name":"loss","direction":"minimize"}]}"#,
//! )?;
//! let Answer::Trials { trials } = send(r#"{"type":"ask","study":"s","n":2}"#)? else { unreachable!() };
//! assert_eq!((trials[0].id, trials[1].id), (0, 1));
//! # Ok::<(), Refusal>(())
//! ```

mod cheap;
mod create;
mod error;
mod message;
mod read;
mod session;
mod study;

pub use self::{
    cheap::Driver,
    error::Refusal,
    message::{
        Answer, AskTrials, BestTrial, Bye, CheapValues, ClauseEntry, Create, EarlierTrial, Hello,
        ObjectiveEntry, ParameterKind, ProposedTrial, Request, SpaceEntry, StartingPoint, StudyName, Tell,
        TrialResult, TrialStatus,
    },
    session::{MOST_TRIALS, PROTOCOL, Session},
};
