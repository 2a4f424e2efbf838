//! The metrics that follow from a plan alone.

use std::collections::BTreeMap;

use spaces::{Evidence, Measurement};

use super::{Budget, Plan};
use crate::{bundle, data::DataFacts};

impl Plan {
    /// The metrics that follow from the plan alone, exactly; none where sizes of layers are found after training.
    pub fn known(&self, facts: &DataFacts) -> BTreeMap<String, f64> {
        if self.finds_sizes() {
            return BTreeMap::new();
        }
        let mut known = BTreeMap::from([
            ("parameters".to_owned(), self.served.parameters() as f64),
            (
                "active_parameters".to_owned(),
                self.served.active_parameters() as f64,
            ),
            (
                "state_bytes_per_sequence".to_owned(),
                self.served.state_bytes() as f64,
            ),
        ]);
        // which columns stay floats depends on what they are given
        if self.quantization.is_none_or(|plan| plan.bytes_are_known()) {
            let bytes = bundle::served_bytes(&self.served, self.quantization, facts.tokenizer_bytes as u64);
            known.insert("model_bytes".to_owned(), bytes as f64);
        }
        // where texts leave early depends on the texts, and so does what a draft is right about
        if self.served.early_exit.is_none() && self.served.draft.is_none() {
            let flops = self.served.inference_flops_per_token();
            known.insert("inference_flops_per_token".to_owned(), flops);
        }
        if let Budget::Steps(steps) = self.training.budget
            && self.training_flops_are_exact()
            // nobody knows how often a threshold is tried
            && self.served.early_exit.is_none()
        {
            known.insert("training_flops".to_owned(), self.training_flops(steps) as f64);
        }
        known
    }

    /// [`Plan::known`] as measurements.
    pub fn known_measurements(&self, facts: &DataFacts) -> Vec<Measurement> {
        let row = |(metric, value)| Measurement {
            metric,
            step: 0,
            value,
            spread: None,
            evidence: Evidence::Analytic,
            source: "formula".into(),
        };
        self.known(facts).into_iter().map(row).collect()
    }
}
