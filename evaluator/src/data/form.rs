//! What a batch asks of a model, which is what the kinds of model differ in.

use super::Corruption;

/// What is to be foretold from a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// Of a text the token after each one; of an example its answers, each where it would stand.
    NextToken,
    /// The class of an example, from the example without its answer.
    Class,
    /// The class of two texts, each of them a row of its own.
    Pair,
    /// The spans that were taken out of a text, from the rest of it.
    Spans(Corruption),
}

impl Form {
    /// Rows of one example.
    pub fn texts(self) -> usize {
        match self {
            Form::NextToken | Form::Class | Form::Spans(_) => 1,
            Form::Pair => 2,
        }
    }

    /// Tokens that are read of a row of `context`.
    pub fn read(self, context: usize) -> usize {
        match self {
            Form::NextToken | Form::Class | Form::Pair => context,
            Form::Spans(corruption) => corruption.read(context),
        }
    }

    /// Tokens that are written of a row of `context`, by a half of the model that reads nothing else; 0 where there is none.
    pub fn written(self, context: usize) -> usize {
        match self {
            Form::NextToken | Form::Class | Form::Pair => 0,
            Form::Spans(corruption) => corruption.written(context),
        }
    }

    /// Whether rows of a training can be shorter than others.
    pub fn pads(self) -> bool {
        matches!(self, Form::Class | Form::Pair)
    }

    /// What is scored, for people.
    pub fn scored(self) -> &'static str {
        match self {
            Form::NextToken => "tokens",
            Form::Class => "texts",
            Form::Pair => "pairs",
            Form::Spans(_) => "tokens of spans and sentinels",
        }
    }
}

/// How rows are cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows {
    /// Tokens of a row.
    pub context: usize,
    /// What is asked of it.
    pub form: Form,
}

impl From<usize> for Rows {
    /// Rows of so many tokens for a language model.
    fn from(context: usize) -> Self {
        Rows {
            context,
            form: Form::NextToken,
        }
    }
}
