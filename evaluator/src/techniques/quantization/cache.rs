//! Keys and values that decoding remembers, in few bits (2402.02750): each head's share of a token has evenly spaced levels of
//! its own.
//!
//! A model that reads whole texts at once rounds keys and values in the same way, so that its measured quality is that of what
//! is served. What another half has read stays in 32 bits: it is written once and read by each token.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::super::About;
use crate::{
    model::{AttentionPlan, ModelPlan},
    ops::row_bytes,
    parameter::{Declared, Values, choice},
};

pub(super) const ABOUT: About = About {
    name: "cache_bits",
    doc: "keys and values that decoding remembers are kept in few bits and read so",
    paper: "2402.02750",
};

/// The counter that is above zero once rows were packed.
pub(crate) const ACTIVITY: &str = "packed_cache_rows";

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheForm {
    /// Bits of one number: 4 or 8.
    pub bits: usize,
    /// Whether all rows have the levels that calibration found, and none of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub calibrated: bool,
}

impl CacheForm {
    /// Keys and values of a model in whole numbers.
    pub(crate) const OF_INTEGERS: CacheForm = CacheForm {
        bits: 8,
        calibrated: true,
    };

    /// Bytes of what one head keeps of one token's keys or values, its two levels included where it has some.
    pub(crate) fn row_bytes(self, depth: usize) -> u64 {
        if self.calibrated {
            return depth as u64;
        }
        row_bytes(depth, self.bits) as u64 + 4
    }

    /// Gives the attentions that keep keys and values this form, if the configuration asks for one.
    ///
    /// # Errors
    /// A sentence where there is none.
    pub(crate) fn give(values: Values, model: &mut ModelPlan) -> Result<(), String> {
        let bits = values.int("cache_bits");
        // configurations from before there was a choice do not say it
        if bits == 0 || bits >= 32 {
            return Ok(());
        }
        let writes = model.kind.writes();
        let writing = &mut model.layers[model.kind.reading()..];
        let name = writing.first().map_or("no", |layer| layer.attention.core.name());
        let keeping: Vec<&mut AttentionPlan> = writing
            .iter_mut()
            .map(|layer| &mut layer.attention)
            .filter(|attention| writes && attention.core.keeps_keys_and_values())
            .collect();
        if keeping.is_empty() {
            let why = if writes {
                format!("{name} attention keeps none of them")
            } else {
                format!(
                    "kind '{}' reads whole texts and remembers nothing",
                    model.kind.name()
                )
            };
            return Err(format!(
                "cache_bits = {bits} packs the keys and values that decoding remembers, and {why}; use cache_bits = 32, or a decoder with attention full, tiled or sliding_window"
            ));
        }
        for attention in keeping {
            attention.cache = Some(CacheForm {
                bits,
                calibrated: false,
            });
        }
        Ok(())
    }
}

impl ModelPlan {
    /// The same model with what it remembers in 32 bits.
    pub(crate) fn with_whole_cache(&self) -> ModelPlan {
        let mut plan = self.clone();
        for layer in &mut plan.layers {
            layer.attention.cache = None;
        }
        plan
    }
}

/// The parameter.
pub(super) fn parameter() -> ParameterInfo {
    let bits = [32, 8, 4];
    choice(
        ABOUT.name,
        "bits of the keys and values that decoding remembers, in memory",
        &bits.map(i64::from),
    )
    .unit("bits")
    .search(Domain::categorical(bits.map(Value::Int).to_vec()).expect("not empty"))
}
