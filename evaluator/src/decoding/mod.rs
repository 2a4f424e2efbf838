//! Decoding: text written token after token, with or without a draft that guesses ahead.
//!
//! Speculative decoding (2211.17192, 2302.01318): a draft guesses several tokens, the model scores all of them in one call,
//! and a rule of acceptance keeps as many as leave the law of what is written unchanged. A draft is one file with a type
//! that implements [`Draft`] and one arm of [`DraftSource`].

mod draft;
mod first_layers;
mod law;
mod ngram;
mod reader;
mod small_model;
mod writing;

pub use self::{
    draft::{Draft, DraftSource, Speculation},
    first_layers::FirstLayers,
    law::{Choice, Guess, Law, Laws, Verdict, residual, verify},
    ngram::Ngram,
    reader::Reader,
    small_model::SmallModel,
    writing::{Written, write_on},
};
