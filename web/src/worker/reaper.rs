//! Taking trials from workers that went silent.

use std::time::Duration;

use crate::AppState;

const PERIOD: Duration = Duration::from_secs(3);

/// Runs until the server stops. A database that is away for a while is asked again.
pub(crate) async fn reap(state: AppState) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = state.stopped() => return,
        }
        match state.store.reap().await {
            Ok(0) => {}
            Ok(reaped) => tracing::warn!(reaped, "{reaped} leases ran out without a heartbeat"),
            Err(e) => tracing::warn!("cannot look for expired leases: {e}"),
        }
    }
}
