//! Running the server.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use tokio::net::TcpListener;

use crate::{AppState, router, worker};

/// Requests under way have so long to end, once the server shall stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `shutdown` is ready, then lets what is under way end; event streams and waiting workers are sent away.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let reaper = tokio::spawn(worker::reap(state.clone()));
    let stopping = {
        let state = state.clone();
        async move {
            shutdown.await;
            state.stop();
        }
    };
    let app = router(state.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(stopping);
    let overdue = async {
        state.stopped().await;
        tokio::time::sleep(GRACE).await;
    };
    let served = tokio::select! {
        served = serving.into_future() => served,
        () = overdue => {
            tracing::warn!("requests that took longer than {} s were cut off", GRACE.as_secs());
            Ok(())
        }
    };
    state.stop();
    // it stops by itself
    let _ = reaper.await;
    served
}
