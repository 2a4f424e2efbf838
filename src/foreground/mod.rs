//! A study that a command submits, follows to its end and reports: what `search` and `up --demo` share.

mod follow;
mod report;
mod submit;

pub(crate) use self::{follow::follow, report::write_report, submit::submit};
