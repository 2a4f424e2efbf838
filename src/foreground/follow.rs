//! Shows a study's progress while it runs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use spaces::Catalog;
use store::Store;
use time::OffsetDateTime;
use web::views::{best, counts, progress};

use crate::output::{duration, results_of, study_bar};

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(500);

/// Shows the progress on stderr until the study is over.
///
/// # Errors
/// Where the database fails.
pub(crate) async fn follow(
    store: &Store,
    id: i64,
    catalog: &Arc<Catalog>,
    quiet: bool,
) -> anyhow::Result<()> {
    let mut bar = study_bar();
    let mut revision = -1;
    let mut shown_failures = 0;
    loop {
        let began = Instant::now();
        let row = store.study(id).await?;
        if row.state.is_over() {
            bar.finish();
            return Ok(());
        }
        if row.revision != revision && !quiet {
            revision = row.revision;
            let results = results_of(store, row, catalog).await?;
            let (study, trials) = (&results.study, &results.trials);
            let counts = counts(trials);
            let progress = progress(study, trials.iter(), OffsetDateTime::now_utc());
            let eta = progress.eta.as_ref().map_or_else(String::new, |eta| {
                format!("  {} to {} left", duration(eta.low_s), duration(eta.high_s))
            });
            let shown: Vec<String> = best(study, trials)
                .iter()
                .map(|b| format!("{} {}", b.metric, spaces::quantity::format(b.value, b.unit)))
                .collect();
            let best = if shown.is_empty() {
                String::new()
            } else {
                format!("  best {}", shown.join(", "))
            };
            for trial in trials
                .iter()
                .filter(|t| t.failure_message.is_some())
                .skip(shown_failures)
            {
                shown_failures += 1;
                bar.line(&format!(
                    "trial {} failed: {}",
                    trial.id,
                    trial.failure_message.as_deref().unwrap_or_default()
                ));
            }
            bar.set(
                progress.finished.into(),
                u64::from(study.row.spec.search.trials),
                &format!("{} running{eta}{best}", counts.running),
            );
        }
        // reading a study of many trials takes long: most of the time goes to the trials themselves
        tokio::time::sleep(POLL.max(20 * began.elapsed())).await;
    }
}
