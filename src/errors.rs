//! Errors for people: one sentence on stderr, exit code 2 for bad input and 1 for the rest.

use std::process::ExitCode;

use spaces::SpecError;

/// Something that the user gave and can mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

impl BadInput {
    /// An error that ends the program with code 2.
    pub(crate) fn error(message: impl Into<String>) -> anyhow::Error {
        BadInput(message.into()).into()
    }
}

/// Prints the error and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    use std::io::Write;
    // a reader that has gone, such as `head`, is no failure
    if let Some(io) = error.root_cause().downcast_ref::<std::io::Error>()
        && io.kind() == std::io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let mut stderr = std::io::stderr().lock();
    // nothing is left to be done where stderr itself is closed
    let _ = writeln!(stderr, "error: {error:#}");
    ExitCode::from(if is_bad_input(error) { 2 } else { 1 })
}

fn is_bad_input(error: &anyhow::Error) -> bool {
    use evaluator::EvaluationError as E;
    error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause
                .downcast_ref::<E>()
                .is_some_and(|e| matches!(e, E::Invalid(_) | E::Data(_) | E::OtherData { .. } | E::Bundle(_)))
            || cause.downcast_ref::<store::StoreError>().is_some_and(|e| {
                use store::StoreError as S;
                matches!(
                    e,
                    S::NotFound { .. }
                        | S::NameTaken(_)
                        | S::Invalid(_)
                        | S::BadUrl(_)
                        | S::WrongState { .. }
                )
            })
            || cause.is::<search::NoRecommendation>()
    })
}

/// The errors of a study or configuration file, one line each.
pub(crate) fn spec_errors(file: &str, errors: &[SpecError]) -> anyhow::Error {
    let lines: Vec<String> = errors
        .iter()
        .map(|e| match e.line {
            Some(line) => format!(
                "{file}:{line}: {}",
                SpecError {
                    line: None,
                    ..e.clone()
                }
            ),
            None => format!("{file}: {e}"),
        })
        .collect();
    BadInput::error(lines.join("\n       "))
}
