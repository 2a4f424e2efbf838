//! Low-rank adaptation (2106.09685): `y = W x + (α/r) B (A x)` with `W` frozen, `A` normal and `B` zero at the start.
//!
//! Merged for serving: `W' = W + (α/r) B A`, at no cost for each token. With `base_bits` below 32 (QLoRA, 2305.14314) every
//! matrix of the base is packed while the additions are trained, in 4 bits by NF4; `W` is then what the packed weights stand for.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::{About, freeze_but, frozen};
use crate::{
    counter,
    model::{Dense, Initial, Matrix, Part, Parts, Pass, Trainable, make_trainable},
    ops::{Ops, linear, tracks},
    parameter::{Declared, Values, choice, float, int},
    techniques::quantization::{Method, QuantizationPlan, packed::Packed, quantize_unseen},
};

pub(super) const ABOUT: About = About {
    name: "lora",
    doc: "the base is frozen and low-rank additions are trained, merged on export",
    paper: "2106.09685, 2305.14314",
};

/// The counter of matrices that have an addition.
pub(super) const ACTIVITY: &str = "lora_matrices";

/// Weights of a row of a packed base that share a scale and a zero.
const BASE_GROUP: usize = 64;

/// Settings of the method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraPlan {
    /// Rank of the additions.
    pub rank: usize,
    /// Their scale is `alpha / rank`.
    pub alpha: f64,
    /// On the feed-forward matrices too.
    pub feed_forward: bool,
    /// How the base is packed while the additions are trained; `None` for 32-bit weights.
    pub base: Option<QuantizationPlan>,
}

pub(super) fn parameters() -> Vec<ParameterInfo> {
    let lora = "fine_tune in ['lora', 'dylora']";
    vec![
        int("lora_rank", "rank of the additions", 1, 1024, 8)
            .when(lora)
            .search(Domain::int(1, 32, true, 1).expect("not empty")),
        float(
            "lora_alpha",
            "the additions are scaled by alpha over rank",
            0.01,
            1024.0,
            16.0,
        )
        .when(lora)
        .search(Domain::float(4.0, 64.0, true, None).expect("not empty")),
        choice(
            "lora_targets",
            "matrices that get an addition",
            &["attention", "all"],
        )
        .when(lora),
        choice(
            "base_bits",
            "bits of the base's weights while additions to them are trained (QLoRA)",
            &[32, 8, 4].map(i64::from),
        )
        .unit("bits")
        .when("fine_tune == 'lora'"),
    ]
}

impl LoraPlan {
    pub(super) fn read(values: Values) -> Self {
        let bits = values.int("base_bits");
        LoraPlan {
            rank: values.int("lora_rank"),
            alpha: values.float("lora_alpha"),
            feed_forward: values.text("lora_targets") == "all",
            // 0 where the method takes no packed base
            base: (1..32).contains(&bits).then_some(QuantizationPlan {
                bits,
                group: BASE_GROUP,
                // its levels are 16
                method: if bits == 4 { Method::Nf4 } else { Method::Rtn },
                calibration_batches: 0,
                activation_bits: 32,
                layers: Default::default(),
            }),
        }
    }

    /// # Errors
    /// A sentence where the rank is above what a matrix of this width can have.
    pub(super) fn check(&self, width: usize) -> Result<(), String> {
        if self.rank <= width {
            return Ok(());
        }
        Err(format!(
            "lora_rank {} is above width {width}; use a smaller rank",
            self.rank
        ))
    }

    pub(super) fn trainable(&self) -> Trainable {
        Trainable::LowRank {
            rank: self.rank as u64,
            feed_forward: self.feed_forward,
        }
    }
}

/// The frozen weights below an addition, `[out, in]`.
#[derive(Module, Debug)]
pub enum Base<B: Backend> {
    /// In 32 bits.
    Dense(Dense<B>),
    /// In few bits.
    Packed(Packed<B>),
}

/// Frozen weights with a trained low-rank addition.
#[derive(Module, Debug)]
pub struct LowRank<B: Backend> {
    /// The frozen weights.
    pub base: Base<B>,
    /// `[rank, in]`
    pub a: Param<Tensor<B, 2>>,
    /// `[out, rank]`
    pub b: Param<Tensor<B, 2>>,
    alpha: f64,
    /// Rows of `a` and columns of `b` that are used, the first ones.
    used: usize,
}

impl<B: Ops> LowRank<B> {
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let (a, b) = self.used_parts();
        self.note_unused(&x);
        let addition = linear(linear(x.clone(), a), b);
        let y = match &self.base {
            Base::Dense(dense) => linear(x, dense.weight.val()),
            Base::Packed(packed) => packed.apply(x),
        };
        y + addition * self.scale()
    }

    /// Notes the work of rows and columns that are not used, as the formula has all of them.
    fn note_unused<const D: usize>(&self, x: &Tensor<B, D>) {
        let [out, input] = self.dims().map(|n| n as u64);
        let rows = x.shape().num_elements() as u64 / input;
        let unused = (self.a.dims()[0] - self.used) as u64 * rows;
        if unused == 0 {
            return;
        }
        let upstream = u64::from(tracks(x));
        counter::add_skipped(Pass {
            forward: unused * (input + out),
            backward: unused * (input * (1 + upstream) + 2 * out),
        });
    }

    fn merged(&self) -> Tensor<B, 2> {
        let (a, b) = self.used_parts();
        let weight = match &self.base {
            Base::Dense(dense) => dense.weight.val(),
            Base::Packed(packed) => packed.all_rows(),
        };
        weight + b.matmul(a) * self.scale()
    }
}

impl<B: Backend> LowRank<B> {
    /// An addition to frozen weights `[out, in]`, of `a [rank, in]` and `b [out, rank]`.
    pub fn new(base: Base<B>, a: Tensor<B, 2>, b: Tensor<B, 2>, alpha: f64) -> Self {
        LowRank {
            used: a.dims()[0],
            base,
            a: Param::from_tensor(a),
            b: Param::from_tensor(b),
            alpha,
        }
    }

    /// Rows and columns of the weights.
    pub fn dims(&self) -> [usize; 2] {
        [self.b.dims()[0], self.a.dims()[1]]
    }

    pub(super) fn use_rank(&mut self, rank: usize) {
        self.used = rank;
    }

    fn scale(&self) -> f64 {
        self.alpha / self.used as f64
    }

    fn used_parts(&self) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let (a, b) = (self.a.val(), self.b.val());
        if self.used == a.dims()[0] {
            return (a, b);
        }
        (a.narrow(0, 0, self.used), b.narrow(1, 0, self.used))
    }
}

/// Freezes the model, packs it where the plan says so, and puts an addition on each target.
pub fn attach<B: Ops>(model: &mut impl Parts<B>, plan: LoraPlan, initial: &mut Initial<B>) {
    freeze_but(model, |_, _| false);
    if let Some(packing) = plan.base {
        quantize_unseen(model, packing);
    }
    model.each_part("", &mut |path, part| {
        let Part::Matrix(matrix) = part else { return };
        if !is_target(path, plan) {
            return;
        }
        let [out, input] = matrix.dims();
        let base = match &*matrix {
            Matrix::Dense(dense) => Base::Dense(Dense {
                weight: frozen(&dense.weight),
            }),
            Matrix::Packed(packed) => Base::Packed(packed.clone()),
            _ => return,
        };
        let a = initial.normal(plan.rank, input, 1.0 / (input as f32).sqrt());
        let b = Tensor::zeros([out, plan.rank], initial.device());
        *matrix = Matrix::LowRank(LowRank::new(base, a, b, plan.alpha));
        counter::add_activity(ACTIVITY, 1);
    });
}

/// Adds the additions to the weights, of which none is packed afterwards, and lets everything be trained again.
pub fn merge<B: Ops>(model: &mut impl Parts<B>) {
    model.each_part("", &mut |_, part| {
        let Part::Matrix(matrix) = part else { return };
        let weight = match &*matrix {
            Matrix::LowRank(low_rank) => low_rank.merged(),
            Matrix::Packed(packed) => packed.all_rows(),
            _ => return,
        };
        *matrix = Matrix::dense(weight.detach());
    });
    make_trainable(model);
}

fn is_target(path: &str, plan: LoraPlan) -> bool {
    path.contains("self_attn.")
        || path.contains("encoder_attn.")
        || (plan.feed_forward && (path.contains(".mlp.") || path.contains(".experts.")))
}
