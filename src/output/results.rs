//! A study's results, read once for whatever is printed of them.

use spaces::{Catalog, Limit};
use store::{Store, Trial, TrialFilter};
use web::views::{Front, FrontRequest, Recommendation, Resolved, TrialRow, front, recommendation, trial_row};

/// A study and all its trials.
pub(crate) struct Results {
    pub(crate) study: Resolved,
    pub(crate) trials: Vec<Trial>,
    catalog: Catalog,
}

/// Reads a study by name or id.
///
/// # Errors
/// Where there is no such study.
pub(crate) async fn load(store: &Store, name_or_id: &str, catalog: &Catalog) -> anyhow::Result<Results> {
    let row = store.find_study(name_or_id).await?;
    results_of(store, row, catalog).await
}

/// Reads the trials of a study.
///
/// # Errors
/// Where the database fails.
pub(crate) async fn results_of(
    store: &Store,
    row: store::Study,
    catalog: &Catalog,
) -> anyhow::Result<Results> {
    let trials = store.trials(row.id, &TrialFilter::default()).await?;
    Ok(Results {
        study: Resolved::new(row, catalog),
        trials,
        catalog: catalog.clone(),
    })
}

impl Results {
    /// The front of the study's objectives, or of those asked for.
    pub(crate) fn front(&self, request: &FrontRequest) -> Front {
        front(&self.study, &self.trials, request, &self.catalog)
    }

    /// Names of the searched parameters, in the order of the study.
    pub(crate) fn searched(&self) -> Vec<String> {
        let space = self
            .study
            .study()
            .map(|s| s.space.parameters())
            .unwrap_or_default();
        space.iter().map(|p| p.name.clone()).collect()
    }

    /// The trials as they are listed.
    pub(crate) fn rows(&self) -> Vec<TrialRow> {
        self.trials
            .iter()
            .map(|t| trial_row(t, &self.study, &self.catalog))
            .collect()
    }

    /// The recommended trial.
    ///
    /// # Errors
    /// Where there is no result to choose from.
    pub(crate) fn recommend(&self, rule: &search::Rule, limits: &[Limit]) -> anyhow::Result<Recommendation> {
        let trials: Vec<&Trial> = self.trials.iter().collect();
        Ok(recommendation(&self.study, &trials, rule, limits, &self.catalog)?)
    }
}
