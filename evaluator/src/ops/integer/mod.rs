//! Whole numbers in place of floats (I-BERT, 2101.01321): products, norm, softmax and gate of a block, each from integers to
//! integers.
//!
//! What a number stands for is fixed while a model is built: a tensor has one step, and a change of step is a multiplication
//! by a whole number and a shift ([`Dyadic`]). Tensors are slices of `i8` between matrices, of `i32` on the residual stream.
//! Sums of products are `i32` and so exact in any order; `i64` stands only where one is multiplied further.
//!
//! That no float is among them is what [`Whole`] says: structs of this kind are declared by a macro that takes no field
//! without it, and clippy refuses float arithmetic here.

#![deny(clippy::float_arithmetic)]

mod attention;
mod dyadic;
mod functions;
mod norm;
mod product;
mod rotation;

use std::sync::Arc;

pub use self::{
    attention::{HeadShape, KeysAndValues, attend, softmax},
    dyadic::Dyadic,
    functions::{FRACTION_BITS, i_exp, i_gelu, i_silu, i_sqrt},
    norm::{IntegerNorm, STREAM_LIMIT},
    product::{IntegerMatrix, MOST_COLUMNS, Product},
    rotation::Turns,
};

/// What is made of whole numbers alone.
pub trait Whole {}

macro_rules! whole_types {
    ($($type:ty),+) => { $(impl Whole for $type {})+ };
}

whole_types!(bool, i8, i16, i32, i64, u32, usize);

impl<T: Whole> Whole for [T] {}
impl<T: Whole> Whole for Vec<T> {}
impl<T: Whole + ?Sized> Whole for Arc<T> {}

/// Declares a struct that is [`Whole`]; a field that is not, as a float is, does not compile.
macro_rules! whole {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$of_field:meta])* $field_vis:vis $field:ident: $type:ty,)+
    }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$of_field])* $field_vis $field: $type,)+ }

        impl $crate::ops::integer::Whole for $name where $($type: $crate::ops::integer::Whole,)+ {}
    };
}
pub(crate) use whole;
