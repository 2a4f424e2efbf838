//! Taking trials from workers that went silent, and dropping checkpoints that nobody needs.

use std::time::Duration;

use object_store::ObjectStoreExt;

use super::object_path;
use crate::AppState;

const PERIOD: Duration = Duration::from_secs(3);

/// Runs until the server stops; a study that ended just before leaves no checkpoint either. A database that is away for
/// a while is asked again.
pub(crate) async fn reap(state: AppState) {
    loop {
        let stops = tokio::select! {
            () = tokio::time::sleep(PERIOD) => false,
            () = state.stopped() => true,
        };
        if let Err(e) = sweep(&state).await {
            tracing::warn!("cannot look for checkpoints to drop: {e}");
        }
        if stops {
            return;
        }
        match state.store.reap().await {
            Ok(0) => {}
            Ok(reaped) => tracing::warn!(reaped, "{reaped} leases ran out without a heartbeat"),
            Err(e) => tracing::warn!("cannot look for expired leases: {e}"),
        }
    }
}

/// Drops the checkpoints of trials that are over, and their files.
async fn sweep(state: &AppState) -> store::Result<()> {
    let _alone = state.files.write().await;
    for sha256 in state.store.drop_checkpoints().await? {
        // no trial names it any more; a file left behind costs only space
        if let Err(e) = state.objects.delete(&object_path(&sha256)).await {
            tracing::warn!(sha256, "a checkpoint's file stays behind: {e}");
        }
    }
    Ok(())
}
