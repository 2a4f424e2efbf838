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
    let _ = writeln!(stderr, "error: {}", sentence(error));
    ExitCode::from(if is_bad_input(error) { 2 } else { 1 })
}

/// The error and its causes, each told once: some messages quote their cause.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told.as_str() {
            "" => cause,
            told if told.contains(&cause) => told.to_owned(),
            told => format!("{told}: {cause}"),
        }
    })
}

fn is_bad_input(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause
                .downcast_ref::<evaluator::EvaluationError>()
                .is_some_and(evaluator::EvaluationError::is_input)
            || cause.downcast_ref::<std::io::Error>().is_some_and(|e| {
                use std::io::ErrorKind as K;
                matches!(
                    e.kind(),
                    K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem | K::PermissionDenied
                )
            })
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
            || cause.is::<store::LocalError>()
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
