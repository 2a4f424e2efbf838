//! How many weights of a matrix stay, and how they are stored: by formula, before there is a matrix.

use serde::{Deserialize, Serialize};

use super::{layers::LayerShares, sparse::SparseShape};
use crate::{
    model::{ModelPlan, layer_of},
    ops::SparseLayout,
    parameter::Values,
};

/// Which weights of a row may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// Any.
    #[default]
    #[serde(rename = "free")]
    Free,
    /// Two of each four that follow one another.
    #[serde(rename = "2:4")]
    TwoOfFour,
    /// Four of each eight that follow one another.
    #[serde(rename = "4:8")]
    FourOfEight,
}

impl Pattern {
    const ALL: [Pattern; 3] = [Pattern::Free, Pattern::TwoOfFour, Pattern::FourOfEight];

    pub(super) fn read(values: Values) -> Self {
        let named = values.text("sparsity_pattern");
        let is_named = |pattern: &Pattern| pattern.name() == named;
        Self::ALL.into_iter().find(is_named).unwrap_or_default()
    }

    pub(super) fn names() -> [&'static str; 3] {
        Self::ALL.map(Pattern::name)
    }

    /// Its name in configurations and files.
    pub fn name(self) -> &'static str {
        match self {
            Pattern::Free => "free",
            Pattern::TwoOfFour => "2:4",
            Pattern::FourOfEight => "4:8",
        }
    }

    /// Weights of a group, of which half stay; `None` without groups.
    pub(super) fn group(self) -> Option<usize> {
        match self {
            Pattern::Free => None,
            Pattern::TwoOfFour => Some(4),
            Pattern::FourOfEight => Some(8),
        }
    }
}

/// How many weights of each matrix stay, and how they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SparseForm {
    /// Share of weights that are removed.
    pub share: f64,
    /// Which weights may stay.
    pub pattern: Pattern,
    /// Shares of single layers.
    #[serde(default, skip_serializing_if = "LayerShares::is_same")]
    pub layers: LayerShares,
}

impl SparseForm {
    /// The stored form of a matrix `[rows, columns]`: as many weights for each row as are left when the share of the columns, rounded to
    /// the nearest number but never all of them, is removed. Places are told by a bitmap, which takes fewer bytes than 16-bit columns up to a
    /// share of 15/16, and than places among eight always; of two of four by places among four, which take the same and are read faster.
    pub fn shape(&self, rows: usize, columns: usize) -> SparseShape {
        let removed = match self.pattern.group() {
            None => ((self.share * columns as f64).round() as usize).min(columns - 1),
            Some(_) => columns / 2,
        };
        SparseShape {
            rows,
            columns,
            kept: columns - removed,
            layout: match self.pattern {
                Pattern::TwoOfFour => SparseLayout::TwoOfFour,
                Pattern::Free | Pattern::FourOfEight => SparseLayout::Bitmap,
            },
            codes: None,
        }
    }

    /// How the matrix of this path is stored; `None` where nothing is removed of it.
    pub(crate) fn at(&self, path: &str) -> Option<SparseForm> {
        self.with_share(layer_of(path).and_then(|layer| self.layers.of_layer(layer)))
    }

    /// The same of a layer's matrices, counted from 0 in its half.
    pub(crate) fn at_layer(&self, layer: usize) -> Option<SparseForm> {
        self.with_share(self.layers.of_layer(layer))
    }

    fn with_share(&self, share: Option<f64>) -> Option<SparseForm> {
        let share = share.unwrap_or(self.share);
        (share > 0.0).then_some(SparseForm {
            share,
            pattern: self.pattern,
            layers: LayerShares::default(),
        })
    }

    /// The form of one layer alone, counted from 0 in its half.
    pub(crate) fn of_layer_alone(&self, layer: usize, share: f64) -> SparseForm {
        SparseForm {
            share: 0.0,
            layers: LayerShares::of_one(layer, share),
            ..*self
        }
    }

    /// The shares, for people.
    pub(crate) fn words(&self) -> String {
        let percent = |share: f64| format!("{:.0}", 100.0 * share);
        let all = || self.layers.asked().chain([self.share]);
        match self.layers.is_same() {
            true => format!("{} % sparse", percent(self.share)),
            false => format!("up to {} % sparse", percent(all().fold(0.0, f64::max))),
        }
    }

    /// A form in which a part of what this one removes is removed.
    pub(super) fn part(&self, progress: f64) -> SparseForm {
        SparseForm {
            share: self.share * progress,
            layers: self.layers.part(progress),
            ..*self
        }
    }

    /// Refuses matrices of a model that cannot be stored so.
    ///
    /// # Errors
    /// A sentence on the first of them.
    pub(crate) fn check_matrices(&self, model: &ModelPlan) -> Result<(), String> {
        model.block_matrices().try_for_each(|m| {
            let form = self.at_layer(m.place(model));
            form.map_or(Ok(()), |form| form.check(m.input))
        })
    }

    /// Refuses rows of so many weights.
    fn check(&self, columns: usize) -> Result<(), String> {
        if let Some(group) = self.pattern.group()
            && !columns.is_multiple_of(group)
        {
            return Err(format!(
                "sparsity_pattern = '{}' keeps half of each {group} weights, and a matrix has rows of {columns}; use sparsity_pattern = 'free', or a width and prune_ratio that leave multiples of {group}",
                self.pattern.name()
            ));
        }
        if self.shape(1, columns).kept == columns {
            let least = 0.5 / columns as f64;
            return Err(format!(
                "sparsity = {} removes none of {columns} weights of a row; use 0 or at least {least:.3}",
                self.share
            ));
        }
        Ok(())
    }
}
