//! What is measured: names with units, directions and evidence labels.

use serde::{Deserialize, Serialize};

/// Whether less or more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Less is better.
    Minimize,
    /// More is better.
    Maximize,
}

impl Direction {
    /// The value turned so that less is better; applying it twice gives the value back.
    pub fn minimized(self, value: f64) -> f64 {
        match self {
            Direction::Minimize => value,
            Direction::Maximize => -value,
        }
    }
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A counter, a clock, a byte count, a file size.
    Measured,
    /// A formula that is exact for what is executed.
    Analytic,
    /// A model with assumptions, such as power from load.
    Estimated,
    /// A fitted curve.
    Extrapolated,
    /// Given by the user.
    Imported,
}

impl Evidence {
    /// The label as it is stored and shown.
    pub fn label(self) -> &'static str {
        match self {
            Evidence::Measured => "measured",
            Evidence::Analytic => "analytic",
            Evidence::Estimated => "estimated",
            Evidence::Extrapolated => "extrapolated",
            Evidence::Imported => "imported",
        }
    }

    /// Reads a label back.
    pub fn from_label(label: &str) -> Option<Evidence> {
        [
            Evidence::Measured,
            Evidence::Analytic,
            Evidence::Estimated,
            Evidence::Extrapolated,
            Evidence::Imported,
        ]
        .into_iter()
        .find(|e| e.label() == label)
    }
}

/// A quantity that a trial yields.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metric {
    /// Unique name; carries the unit where there is one.
    pub name: &'static str,
    /// Unit as shown.
    pub unit: &'static str,
    /// Which way is better.
    pub direction: Direction,
    /// Exactly computable from the configuration, before anything is trained.
    pub known_before_training: bool,
    /// One line for people.
    pub doc: &'static str,
}

/// A value of a metric at one step of one trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Measurement {
    /// Name from [`METRICS`].
    pub metric: String,
    /// Training step it belongs to; the last one for final values.
    pub step: u64,
    /// The value, in the metric's unit.
    pub value: f64,
    /// Half the distance between the quartiles over repetitions, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Where the number comes from.
    pub evidence: Evidence,
    /// The instrument: `nvml_counter`, `rapl`, `power_model`, `counting_allocator`, `clock`, `formula` ...
    pub source: String,
}

/// The metric of that name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.name == name)
}

const fn less(name: &'static str, unit: &'static str, doc: &'static str) -> Metric {
    Metric {
        name,
        unit,
        direction: Direction::Minimize,
        known_before_training: false,
        doc,
    }
}

const fn more(name: &'static str, unit: &'static str, doc: &'static str) -> Metric {
    Metric {
        name,
        unit,
        direction: Direction::Maximize,
        known_before_training: false,
        doc,
    }
}

const fn known(metric: Metric) -> Metric {
    Metric {
        known_before_training: true,
        ..metric
    }
}

/// The vocabulary. Which of them a build can measure stands in [`crate::Catalog::metrics`].
pub const METRICS: &[Metric] = &[
    less(
        "validation_loss",
        "nats/token",
        "mean cross-entropy on held-out text",
    ),
    less(
        "bits_per_byte",
        "bits/byte",
        "validation loss per byte of text, comparable between tokenizers",
    ),
    more("accuracy", "fraction", "share of held-out answers that are right"),
    known(less(
        "parameters",
        "parameters",
        "all weights of the model that is served",
    )),
    known(less(
        "active_parameters",
        "parameters",
        "weights that one token passes through",
    )),
    known(less(
        "training_flops",
        "FLOP",
        "matrix work of the whole training, recovery and fine-tuning included",
    )),
    known(less(
        "inference_flops_per_token",
        "FLOP/token",
        "matrix work to serve one token, mean over the context",
    )),
    less(
        "mean_exit_layer",
        "layers",
        "layers that a text, or a token that is written, goes through before it leaves, mean over held-out texts",
    ),
    known(less(
        "model_bytes",
        "B",
        "bytes of the files needed to serve the model",
    )),
    known(less(
        "state_bytes_per_sequence",
        "B",
        "key/value cache or recurrent state of one full-length sequence",
    )),
    less(
        "peak_memory_bytes",
        "B",
        "high-water mark of live memory while the exported model is loaded and decodes",
    ),
    less(
        "training_peak_memory_bytes",
        "B",
        "high-water mark of memory during training",
    ),
    less("training_time_s", "s", "wall time of the training steps"),
    less(
        "latency_ms_per_token",
        "ms",
        "median time of one decoding step, or of one pass over the tokens it reads, batch 1",
    ),
    less(
        "time_to_first_token_ms",
        "ms",
        "median time from prompt to first token, batch 1",
    ),
    more(
        "throughput_tokens_per_s",
        "tokens/s",
        "tokens served per second, batch 1",
    ),
    more("training_tokens_per_s", "tokens/s", "trained tokens per second"),
    less("training_energy_j", "J", "energy of the training steps"),
    less(
        "training_tokens",
        "tokens",
        "tokens trained on, as if the trial had been alone",
    ),
    less(
        "spent_training_tokens",
        "tokens",
        "tokens that the trial trained on itself; what it found made by another is left out",
    ),
    less(
        "spent_training_flops",
        "FLOP",
        "matrix work of training that the trial did itself",
    ),
    less(
        "spent_training_time_s",
        "s",
        "wall time of the training steps that the trial did itself",
    ),
    less(
        "spent_training_energy_j",
        "J",
        "energy of the training steps that the trial did itself",
    ),
    less("energy_j_per_token", "J/token", "energy to serve one token"),
    more(
        "speedup",
        "x",
        "latency of the uncompressed model over that of the compressed one",
    ),
    less(
        "compression_ratio",
        "fraction",
        "bytes of the served model over those of its 32-bit, unpruned form",
    ),
    less(
        "training_carbon_g",
        "g CO2e",
        "energy of the training times the grid's intensity",
    ),
    less("cost_usd", "USD", "money for the training"),
    less(
        "cost_usd_per_parameter",
        "USD/parameter",
        "money for the training over the parameters",
    ),
    known(less("communication_bytes", "B", "bytes sent between processes")),
    more(
        "label_loyalty",
        "fraction",
        "share of answers equal to the teacher's",
    ),
    more(
        "probability_loyalty",
        "fraction",
        "closeness of the answer distribution to the teacher's",
    ),
    more(
        "fidelity",
        "fraction",
        "share of next tokens equal to the uncompressed model's",
    ),
    more("after_attack_accuracy", "fraction", "accuracy under attack"),
    more("attack_queries", "queries", "model calls an attack needs"),
    less(
        "calibration_error",
        "fraction",
        "gap between confidence and accuracy",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_labels_come_back() {
        for (i, m) in METRICS.iter().enumerate() {
            assert!(METRICS[..i].iter().all(|n| n.name != m.name), "{}", m.name);
        }
        assert_eq!(Evidence::from_label("estimated"), Some(Evidence::Estimated));
        assert_eq!(Evidence::from_label("guessed"), None);
        assert_eq!(
            Direction::Maximize.minimized(Direction::Maximize.minimized(3.0)),
            3.0
        );
    }
}
