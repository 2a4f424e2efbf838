//! Weight quantisation after training.
//!
//! A method is one file, a line in the list below, and the arms that the compiler then asks for. The
//! packed form it writes is shared.

pub mod packed;
mod round_to_nearest;

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use self::packed::PackedShape;
use super::About;
use crate::{
    counter,
    model::{Matrix, Part, Parts},
    parameter::{Declared, Values, choice},
};

/// How weights are packed for serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizationPlan {
    /// Bits of one weight: 2, 4 or 8.
    pub bits: usize,
    /// Weights of a row that share a scale and a zero.
    pub group: usize,
}

impl QuantizationPlan {
    /// Reads the parameters of the family; `None` for 32-bit weights.
    pub(crate) fn read(values: Values) -> Option<Self> {
        let bits = values.int("bits");
        (bits < 32).then(|| QuantizationPlan {
            bits,
            group: values.int("quant_group"),
        })
    }

    /// The packed form of a matrix `[rows, columns]`.
    pub fn shape(&self, rows: usize, columns: usize) -> PackedShape {
        PackedShape {
            rows,
            columns,
            bits: self.bits,
            group: self.group,
        }
    }
}

/// Packs every matrix of the model but the routers.
pub fn quantize<B: Backend>(model: &mut impl Parts<B>, plan: QuantizationPlan) {
    model.each_part("", &mut |_, part| {
        if let Part::Matrix(matrix) = part
            && let Some(weight) = matrix.as_dense()
        {
            let [rows, columns] = weight.dims();
            let device = weight.device();
            let values: Vec<f32> = weight.into_data().iter::<f32>().collect();
            let packed = round_to_nearest::pack(&values, plan.shape(rows, columns));
            counter::add_activity("packed_weights", values.len());
            *matrix = Matrix::Packed(packed.into_module(&device));
        }
    });
}

/// What the methods say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![round_to_nearest::ABOUT]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let bits = [32, 8, 4].map(Value::Int);
    vec![
        choice(
            "bits",
            "bits of a weight in memory and on disk",
            &[32, 8, 4, 2].map(i64::from),
        )
        .unit("bits")
        .search(Domain::categorical(bits.to_vec()).expect("not empty")),
        choice(
            "quant_group",
            "weights of a row that share a scale and a zero",
            &[64, 32, 128].map(i64::from),
        )
        .unit("weights")
        .when("bits < 32"),
    ]
}
