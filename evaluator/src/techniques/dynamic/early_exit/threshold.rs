//! How sure an exit must be, and finding it.

use serde::{Deserialize, Serialize};

/// How sure an exit must be at least, in steps of a ten-thousandth. Its text has one length, so that the bytes of a
/// model's files are known before it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold(u16);

impl Threshold {
    /// Every text leaves at the first exit.
    pub const ALWAYS: Threshold = Threshold(0);
    /// No text leaves before the last layer.
    pub const NEVER: Threshold = Threshold(10_001);

    /// All thresholds, the lowest first.
    pub fn all() -> impl Iterator<Item = Threshold> {
        (Self::ALWAYS.0..=Self::NEVER.0).map(Threshold)
    }

    /// The lowest one that halving finds: it is enough, unless it is [`Threshold::NEVER`], and the one below it is not.
    pub(crate) fn lowest(mut is_enough: impl FnMut(Threshold) -> bool) -> Threshold {
        let (mut low, mut high) = (Self::ALWAYS.0, Self::NEVER.0);
        if is_enough(Self::ALWAYS) {
            return Self::ALWAYS;
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            if is_enough(Threshold(middle)) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Threshold(high)
    }

    /// Whether so much confidence is enough.
    pub fn is_met(self, confidence: f32) -> bool {
        self != Self::NEVER && confidence >= f32::from(self.0) / 1e4
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> String {
        format!("{:.4}", f64::from(threshold.0) / 1e4)
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let value = text.parse::<f64>().ok().map(|value| (value * 1e4).round());
        match value {
            Some(value) if (0.0..=f64::from(Self::NEVER.0)).contains(&value) => Ok(Threshold(value as u16)),
            _ => Err(format!("threshold '{text}' is not from 0.0000 to 1.0001")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_finds_the_lowest_threshold_that_is_enough() {
        for least in [0, 1, 4999, 9_999, 10_001] {
            let mut asked = 0;
            let found = Threshold::lowest(|threshold| {
                asked += 1;
                threshold.0 >= least
            });
            assert!(found.0 == least && asked < 16, "{found:?} after {asked}");
        }
    }

    #[test]
    fn thresholds_have_one_length_and_come_back() {
        for threshold in [
            Threshold::ALWAYS,
            Threshold(1),
            Threshold(8731),
            Threshold(10_000),
            Threshold::NEVER,
        ] {
            let text = String::from(threshold);
            assert_eq!(text.len(), 6);
            assert_eq!(Threshold::try_from(text), Ok(threshold));
        }
        assert!(Threshold::ALWAYS.is_met(0.0) && !Threshold::NEVER.is_met(1.0));
        assert!(Threshold(10_000).is_met(1.0) && !Threshold(10_000).is_met(0.999));
        assert!(Threshold::try_from("1.5".to_owned()).is_err());
    }
}
