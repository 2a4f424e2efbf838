//! Weight quantisation after training.
//!
//! A method is one file, a line in `parameters.rs`, and the arms that the compiler then asks for. The packed form it writes is
//! shared. Methods that judge weights by their inputs calibrate the matrices of blocks; the embedding, which is looked up as
//! well as multiplied with, adapters and what a kind adds of its own are rounded to nearest by them.

mod awq;
pub mod cache;
#[cfg(test)]
mod fixture;
mod folds;
mod gptq;
pub mod int8_outlier;
mod integer_only;
pub(crate) mod layers;
mod levels;
mod nf4;
pub(crate) mod nonzeros;
pub mod packed;
mod parameters;
pub mod qat;
mod rtn;
mod smooth;
mod whole;

use serde::{Deserialize, Serialize};

pub(crate) use self::integer_only::observe as observe_integers;
use self::layers::LayerBits;
use self::packed::{INTEGER_ACTIVITY, PackedShape, Spacing};
pub(super) use self::parameters::{about, parameters};
use self::whole::{PACKED, note_unjudged};
pub use self::whole::{observe, quantize, quantize_unseen};
use super::{About, calibration::check_rows_are_known, sparsity::coded::CodeForm};
use crate::{
    device::Device,
    model::{INTEGER_ONLY_ACTIVITY, ModelPlan},
    parameter::Values,
};

/// How the codes of weights are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Round to nearest; what bundles have that do not say it.
    #[default]
    Rtn,
    /// Later columns make up for what earlier ones lose.
    Gptq,
    /// Channels that are large are scaled up first.
    Awq,
    /// Levels that suit normally distributed weights.
    Nf4,
    /// Channels of inputs that are large are scaled down first, for inputs in whole numbers.
    Smooth {
        /// How much of their size they hand over to weights, from 0 to 1.
        alpha: f64,
    },
    /// Columns of inputs that are large stay floats, beside whole numbers.
    Int8Outlier {
        /// The size from which on they are large.
        threshold: f64,
    },
    /// Whole numbers alone from embedding to logits.
    IntegerOnly,
}

/// Numbers of bits that a weight can have.
pub(crate) const BITS: [i64; 7] = [32, 8, 6, 5, 4, 3, 2];

/// How weights are packed for serving.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationPlan {
    /// Bits of one weight: 2, 3, 4, 5, 6 or 8.
    pub bits: usize,
    /// Weights of a row that share a scale and a zero; 0 where all of it have one scale.
    pub group: usize,
    /// How codes are chosen.
    #[serde(default)]
    pub method: Method,
    /// Batches of training data that inputs are judged on; 0 where the method asks for none.
    #[serde(default)]
    pub calibration_batches: u64,
    /// Bits of what packed matrices are given: 8 for products in whole numbers, or 32.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub activation_bits: usize,
    /// Bits of single layers.
    #[serde(default, skip_serializing_if = "LayerBits::is_same")]
    pub layers: LayerBits,
}

fn whole() -> usize {
    32
}

fn is_whole(bits: &usize) -> bool {
    *bits == whole()
}

impl QuantizationPlan {
    /// Reads the parameters of the family; `None` for 32-bit weights.
    ///
    /// # Errors
    /// A sentence where the method has no codes of so many bits, or what matrices of this model are given is not known.
    pub(crate) fn read(values: Values, model: &ModelPlan) -> Result<Option<Self>, String> {
        let bits = values.int("bits");
        if bits >= 32 {
            return Ok(None);
        }
        let method = match values.text("quant_method") {
            name if name == gptq::ABOUT.name => Method::Gptq,
            name if name == awq::ABOUT.name => Method::Awq,
            name if name == nf4::ABOUT.name => Method::Nf4,
            name if name == smooth::ABOUT.name => Method::Smooth {
                alpha: values.float(smooth::ALPHA),
            },
            name if name == int8_outlier::ABOUT.name => Method::Int8Outlier {
                threshold: values.float(int8_outlier::THRESHOLD),
            },
            name if name == integer_only::ABOUT.name => Method::IntegerOnly,
            _ => Method::Rtn,
        };
        let layers = LayerBits::read(values, model)?;
        if method == Method::IntegerOnly {
            integer_only::check(values, model, layers)?;
        }
        let first_not_of = |known: &[usize]| {
            let mut packed = std::iter::once(bits)
                .chain(layers.asked())
                .filter(|bits| *bits < 32);
            packed.find(|bits| !known.contains(bits))
        };
        if method == Method::Nf4
            && let Some(bits) = first_not_of(&[nf4::BITS])
        {
            return Err(format!(
                "quant_method = 'nf4' has 16 levels, which are codes of {} bits, not of {bits}; use bits = {0} or another quant_method",
                nf4::BITS
            ));
        }
        let activation_bits = match values.int("activation_bits") {
            8 => 8,
            _ => whole(),
        };
        if activation_bits < 32 {
            if method == Method::Nf4 {
                return Err(format!(
                    "activation_bits = {activation_bits} multiplies whole numbers, and levels of quant_method = 'nf4' are none; use activation_bits = 32 or another quant_method"
                ));
            }
            if let Some(bits) = first_not_of(&[4, 8]) {
                return Err(format!(
                    "activation_bits = {activation_bits} multiplies codes of 8 or 4 bits, not of {bits}; use bits = 8 or 4 everywhere, or activation_bits = 32"
                ));
            }
        }
        if matches!(method, Method::Smooth { .. } | Method::Int8Outlier { .. }) && activation_bits == whole()
        {
            return Err(format!(
                "quant_method = '{}' has inputs lose less by rounding, and activation_bits = {activation_bits} rounds none; use activation_bits = 8 or another quant_method",
                values.text("quant_method")
            ));
        }
        if matches!(method, Method::Gptq | Method::Awq) {
            let name = values.text("quant_method");
            check_rows_are_known(model, &format!("quant_method = '{name}'"), "quant_method = 'rtn'")?;
        }
        Ok(Some(QuantizationPlan {
            bits,
            group: values.int("quant_group"),
            method,
            calibration_batches: values.int("calibration_batches") as u64,
            activation_bits,
            layers,
        }))
    }

    /// Refuses to measure whole numbers where there is no kernel for them and floats would be multiplied in their place.
    pub(crate) fn check_device(&self, device: &Device) -> Result<(), String> {
        if self.activation_bits == whole() || *device == Device::Cpu {
            return Ok(());
        }
        if self.is_integer_only() {
            return Err(format!(
                "quant_method = '{}' computes on processors alone yet; use another quant_method, or device cpu",
                integer_only::ABOUT.name
            ));
        }
        Err(format!(
            "activation_bits = {} multiplies whole numbers on processors alone yet; use activation_bits = {}, or device cpu",
            self.activation_bits,
            whole()
        ))
    }

    /// How the matrix of this path is packed; `None` where it is not.
    pub(crate) fn at(&self, path: &str) -> Option<QuantizationPlan> {
        self.with_bits(self.layers.of_path(path))
    }

    /// The same of a layer's matrices, counted from 0 in its half.
    pub(crate) fn at_layer(&self, layer: usize) -> Option<QuantizationPlan> {
        self.with_bits(self.layers.of_layer(layer))
    }

    fn with_bits(&self, bits: Option<usize>) -> Option<QuantizationPlan> {
        let bits = bits.unwrap_or(self.bits);
        (bits < 32).then_some(QuantizationPlan { bits, ..*self })
    }

    /// The packing of one layer alone, counted from 0 in its half.
    pub(crate) fn of_layer_alone(&self, layer: usize, bits: usize) -> Self {
        QuantizationPlan {
            bits: 32,
            layers: LayerBits::of_one(layer, bits),
            ..*self
        }
    }

    /// The packing of all that has no bits of its own.
    pub(crate) fn of_rest_alone(&self, bits: usize) -> Self {
        QuantizationPlan {
            bits,
            layers: LayerBits::none_packed(),
            ..*self
        }
    }

    /// The packed form of a matrix `[rows, columns]`.
    pub fn shape(&self, rows: usize, columns: usize) -> PackedShape {
        if self.is_integer_only() {
            return PackedShape::of_bytes([rows, columns]);
        }
        PackedShape {
            rows,
            columns,
            bits: self.bits,
            group: self.group,
            spacing: match self.method {
                Method::Nf4 => Spacing::NormalFloat,
                _ => Spacing::Even,
            },
            integer: self.activation_bits == 8,
        }
    }

    /// Whether the model computes in whole numbers alone.
    pub(crate) fn is_integer_only(&self) -> bool {
        self.method == Method::IntegerOnly
    }

    /// How the nonzeros of a matrix that is stored sparse are packed.
    pub(crate) fn of_nonzeros(&self) -> CodeForm {
        CodeForm {
            bits: self.bits,
            group: self.group,
        }
    }

    /// Whether it is known before calibration how many bytes weights take.
    pub(crate) fn bytes_are_known(&self) -> bool {
        !matches!(self.method, Method::Int8Outlier { .. })
    }

    /// The bits, for people.
    pub(crate) fn words(&self) -> String {
        if self.is_integer_only() {
            return "integer-only 8-bit".into();
        }
        match (self.layers.asked().min(), self.layers.asked().max()) {
            (Some(least), Some(most)) => {
                format!("{}- to {}-bit", least.min(self.bits), most.max(self.bits))
            }
            _ => format!("{}-bit", self.bits),
        }
    }

    /// The counters that are above zero once the method has done its work, and what is packed has served.
    pub(crate) fn activity(&self) -> Vec<&'static str> {
        let method = match self.method {
            Method::Rtn => PACKED,
            Method::Gptq => gptq::ACTIVITY,
            Method::Awq => awq::ACTIVITY,
            Method::Nf4 => nf4::ACTIVITY,
            Method::Smooth { .. } => smooth::ACTIVITY,
            Method::Int8Outlier { .. } => int8_outlier::ACTIVITY,
            Method::IntegerOnly => return vec![PACKED, INTEGER_ONLY_ACTIVITY],
        };
        let mut names = vec![method, "packed_products"];
        names.extend((self.activation_bits < whole()).then_some(INTEGER_ACTIVITY));
        names
    }

    /// Multiply-adds to calibrate a model on batches of `batch` examples of `n` tokens a row, and to choose codes.
    pub(crate) fn macs(&self, model: &ModelPlan, batch: usize, n: usize) -> u64 {
        let choice = match self.method {
            Method::Rtn | Method::Nf4 => return 0,
            Method::Gptq => model
                .block_matrices()
                .filter(|m| self.at_layer(m.place(model)).is_some())
                .map(|m| m.copies as u64 * gptq::macs(m.out as u64, m.input as u64))
                .sum(),
            Method::Awq => awq::macs(model, *self),
            Method::Smooth { .. } | Method::Int8Outlier { .. } => {
                return self.calibration_batches * model.forward_macs(batch, n);
            }
            Method::IntegerOnly => {
                return self.calibration_batches * integer_only::macs(model, batch, n);
            }
        };
        // what is removed by then is not multiplied
        let reading = model.calibration_macs(batch, n) - model.left_out_of_reading(batch, n);
        self.calibration_batches * reading + choice
    }
}
