//! Evenly spaced levels of a group: `s = (max - min) / (2^b - 1)` over a range that holds 0, `z = round(-min / s)`.

use half::f16;

/// The levels of one group, as they are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct EvenLevels {
    pub(super) scale: f16,
    pub(super) zero: u8,
    step: f32,
    /// The highest code.
    highest: f32,
}

impl EvenLevels {
    /// Levels for the weights of a group.
    pub(super) fn of(group: &[f32], bits: usize) -> Self {
        Self::of_each(group.iter().copied(), bits)
    }

    /// The same of weights that do not lie side by side.
    pub(super) fn of_each(group: impl Iterator<Item = f32>, bits: usize) -> Self {
        let highest = ((1u32 << bits) - 1) as f32;
        let (min, max) = group.fold((0.0f32, 0.0f32), |(min, max), w| (min.min(w), max.max(w)));
        // the scale as it is stored, so that codes are chosen for the levels that are read back
        let scale = ((max - min) / highest).clamp(f16::MIN_POSITIVE.to_f32(), f16::MAX.to_f32());
        let scale = f16::from_f32(scale);
        let step = scale.to_f32();
        EvenLevels {
            scale,
            zero: (-min / step).round().clamp(0.0, highest) as u8,
            step,
            highest,
        }
    }

    /// The code of the level nearest to a weight.
    pub(super) fn code(&self, weight: f32) -> u32 {
        self.place(weight).clamp(0.0, self.highest) as u32
    }

    /// Whether a weight is nearer to where a level below the lowest or above the highest would be.
    pub(super) fn is_beyond(&self, weight: f32) -> bool {
        !(0.0..=self.highest).contains(&self.place(weight))
    }

    /// The code where levels go on forever.
    fn place(&self, weight: f32) -> f32 {
        (weight / self.step).round() + f32::from(self.zero)
    }

    /// The weight that a code stands for.
    pub(super) fn value(&self, code: u32) -> f32 {
        self.step * (code as f32 - f32::from(self.zero))
    }
}
