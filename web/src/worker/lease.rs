//! Handing out trials.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use spaces::protocol::{LeaseRequest, LeasedTrial, PROTOCOL_VERSION};
use store::{Event, Lease, StoreError};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

use crate::{AppState, Problem, auth::Worker, extract, views::Resolved};

/// The longest that a request is held.
const LONGEST_WAIT_S: f64 = 30.0;
/// Between two looks that need no notification: a trial that waits for its next attempt comes without one.
const POLL: Duration = Duration::from_secs(2);
/// The longest name of a worker or device.
const NAME_LENGTH: usize = 200;

/// Lease a trial
///
/// Held for up to `wait_s` seconds, at most 30, until a trial turns up.
#[utoipa::path(post, path = "/worker/lease", tag = "worker", security(("token" = ["worker"])),
    request_body = LeaseRequest,
    responses((status = 200, body = LeasedTrial), (status = 204, description = "no trial waits; ask again")))]
pub(super) async fn lease(
    _: Worker,
    State(state): State<AppState>,
    extract::Json(request): extract::Json<LeaseRequest>,
) -> Result<Response, Problem> {
    check(&request)?;
    let wait = Duration::from_secs_f64(request.wait_s.clamp(0.0, LONGEST_WAIT_S));
    let deadline = Instant::now() + wait;
    let mut events = state.events.subscribe();
    loop {
        let claimed = state
            .store
            .lease(
                &request.worker,
                &request.device,
                request.partial,
                state.settings.lease,
            )
            .await?;
        if let Some(lease) = claimed {
            match leased_trial(&state, lease).await? {
                Some(trial) => return Ok(Json(trial).into_response()),
                None => continue,
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let goes_on = tokio::select! {
            queued = next_queued(&mut events) => queued,
            () = tokio::time::sleep(left.min(POLL)) => !left.is_zero(),
            () = state.stopped() => false,
        };
        if !goes_on {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
}

fn check(request: &LeaseRequest) -> Result<(), Problem> {
    if request.protocol != PROTOCOL_VERSION {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "wrong-protocol",
            format!(
                "protocol: this server speaks version {PROTOCOL_VERSION}, but the worker speaks version {}; run a \
                 worker of the server's version",
                request.protocol
            ),
        ));
    }
    for (key, text) in [("worker", &request.worker), ("device", &request.device)] {
        if text.trim().is_empty() || text.len() > NAME_LENGTH {
            return Err(Problem::unprocessable(format!(
                "{key}: {} bytes were given; name it in 1 to {NAME_LENGTH}",
                text.len()
            )));
        }
    }
    if !request.wait_s.is_finite() {
        return Err(Problem::unprocessable(
            "wait_s: it is not a finite number; give seconds",
        ));
    }
    Ok(())
}

/// Waits until a trial may wait; `false` if nothing will be heard any more.
async fn next_queued(events: &mut Receiver<Event>) -> bool {
    loop {
        match events.recv().await {
            Ok(Event::Queued | Event::Resumed) | Err(RecvError::Lagged(_)) => return true,
            Ok(Event::Changed { .. } | Event::Deleted { .. }) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

/// What the worker is told; `None` if this build cannot tell, which ends the study.
async fn leased_trial(state: &AppState, lease: Lease) -> Result<Option<LeasedTrial>, Problem> {
    let study = state.store.study(lease.study).await?;
    let study = Resolved::new(study, &state.catalog);
    let Some(resolved) = study.study() else {
        let reason = format!(
            "this version of the server cannot run the study: {}; clone and mend it",
            study
                .problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        );
        tracing::error!(study = lease.study, "study '{}' ends: {reason}", lease.study_name);
        match state.store.fail_study(lease.study, &reason).await {
            Ok(()) | Err(StoreError::WrongState { .. } | StoreError::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        match state.store.release(lease.trial, lease.token).await {
            Ok(_) | Err(StoreError::LeaseLost { .. }) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    };
    let checkpoint = state.store.checkpoint(lease.trial).await?;
    Ok(Some(LeasedTrial {
        target: lease.target,
        checkpoint: checkpoint.into_iter().map(|file| file.name).collect(),
        trial: lease.trial,
        study: lease.study,
        seed: training_seed(lease.spec.search.seed, lease.is_repeat.then_some(lease.number)),
        config: resolved.config(&state.catalog, &lease.candidate),
        study_name: lease.study_name,
        number: lease.number,
        attempt: lease.attempt,
        lease: lease.token.to_string(),
        lease_s: state.settings.lease.as_secs_f64(),
        data_fingerprint: lease.data_fingerprint,
    }))
}

/// The seed of a trial's training, from the study's seed and the number of a trial that trains a configuration again.
///
/// Trials that are no repeats share it: two that train alike then give one model, which is made once, and two that differ differ
/// in their configurations and not in their luck.
///
/// 53 bits, so that a worker in a language whose only numbers are doubles reads the same.
fn training_seed(study_seed: u64, repeat: Option<u32>) -> u64 {
    let repeat = repeat.map_or_else(String::new, |number| format!(" {number}"));
    let digest = spaces::fingerprint(format!("training {study_seed}{repeat}").as_bytes());
    u64::from_str_radix(&digest[..13], 16).expect("a fingerprint is hex") & ((1 << 53) - 1)
}

#[cfg(test)]
mod tests {
    use super::training_seed;

    #[test]
    fn seeds_differ_and_stay() {
        let seeds: std::collections::BTreeSet<u64> = (0..4)
            .flat_map(|study| {
                let repeats = (0..100).map(Some);
                repeats.chain([None]).map(move |n| training_seed(study, n))
            })
            .collect();
        assert_eq!(seeds.len(), 404);
        assert!(seeds.iter().all(|s| *s < 1 << 53));
        // stored results depend on it
        assert_eq!(training_seed(0, None), training_seed(0, None));
    }
}
