//! How queries and keys become features.

use burn::tensor::{Tensor, backend::Backend};

use crate::ops::simd;

/// Added to each feature of [`FeatureMap::Relu`], so that no token is without any (as in Performer's generalised attention).
const RELU_FLOOR: f32 = 1e-3;

/// What turns components of queries and keys into features, all positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureMap {
    /// `elu(x) + 1` (2006.16236).
    Elu1,
    /// `max(x, 0)` and a little (2009.14794).
    Relu,
    /// They are features already.
    Given,
}

impl FeatureMap {
    /// Keeps the division finite where every feature is near zero.
    ///
    /// Given features may all be small, so what is added to their products must be smaller.
    pub(super) fn epsilon(self) -> f32 {
        match self {
            FeatureMap::Elu1 | FeatureMap::Relu => 1e-6,
            FeatureMap::Given => 1e-30,
        }
    }

    #[inline(always)]
    pub(super) fn of(self, x: f32) -> f32 {
        match self {
            FeatureMap::Elu1 if x > 0.0 => x + 1.0,
            FeatureMap::Elu1 => simd::exp(x),
            FeatureMap::Relu => x.max(0.0) + RELU_FLOOR,
            FeatureMap::Given => x,
        }
    }

    /// The features of a row. One loop for each map, so that each becomes vector instructions.
    #[inline(always)]
    pub(super) fn of_row(self, x: &[f32], features: &mut [f32]) {
        let pairs = features.iter_mut().zip(x);
        match self {
            FeatureMap::Elu1 => pairs.for_each(|(f, x)| *f = FeatureMap::Elu1.of(*x)),
            FeatureMap::Relu => pairs.for_each(|(f, x)| *f = FeatureMap::Relu.of(*x)),
            FeatureMap::Given => features.copy_from_slice(x),
        }
    }

    /// Turns gradients of features into those of what was mapped: their slopes are known from the features alone.
    #[inline(always)]
    pub(super) fn pull_back(self, gradient: &mut [f32], features: &[f32]) {
        let pairs = gradient.iter_mut().zip(features);
        match self {
            // 1 above 0, e^x below, where that is the feature
            FeatureMap::Elu1 => pairs.for_each(|(g, f)| *g *= f.min(1.0)),
            FeatureMap::Relu => pairs.for_each(|(g, f)| *g = if *f > RELU_FLOOR { *g } else { 0.0 }),
            FeatureMap::Given => {}
        }
    }

    /// [`FeatureMap::of`] in plain tensor operations.
    pub(super) fn of_tensor<B: Backend>(self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        match self {
            FeatureMap::Elu1 => x.clone().clamp_max(0.0).exp() + x.clamp_min(0.0),
            FeatureMap::Relu => x.clamp_min(0.0) + RELU_FLOOR,
            FeatureMap::Given => x,
        }
    }

    /// The slopes where the features are these.
    pub(super) fn slopes<B: Backend>(self, features: Tensor<B, 4>) -> Tensor<B, 4> {
        match self {
            FeatureMap::Elu1 => features.clamp_max(1.0),
            FeatureMap::Relu => features.greater_elem(RELU_FLOOR).float(),
            FeatureMap::Given => features.ones_like(),
        }
    }
}
