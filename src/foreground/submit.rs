//! Creates a study, or finds the one that an earlier run began.

use spaces::study::Study;
use store::StudyState;
use web::Admission;

use crate::{
    errors::{BadInput, spec_errors},
    server::Server,
};

/// Creates the study, or finds the one that was begun and goes on with it.
///
/// # Errors
/// A study of the same name with another content; data that cannot be read.
pub(crate) async fn submit(server: &Server, study: &Study, file: &str) -> anyhow::Result<i64> {
    let store = &server.database.store;
    let name = &study.spec.name;
    match store.find_study(name).await {
        Ok(found) if found.spec != study.spec => Err(BadInput::error(format!(
            "a study named '{name}' exists with another content; rename this one in {file}, or delete that one on its page"
        ))),
        Ok(found) => {
            if found.state == StudyState::Paused {
                store.resume(found.id).await?;
            }
            Ok(found.id)
        }
        Err(store::StoreError::NotFound { .. }) => {
            let fingerprint = tokio::task::block_in_place(|| server.inspector.admit(study));
            let fingerprint = fingerprint.map_err(|e| spec_errors(file, &e))?;
            Ok(store.create_study(&study.spec, &fingerprint).await?.id)
        }
        Err(error) => Err(error.into()),
    }
}
