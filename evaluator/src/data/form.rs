//! What a batch asks of a model, which is what the kinds of model differ in.

/// What is to be foretold from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Of a text the token after each one; of an example its answers, each where it would stand.
    NextToken,
    /// The class of an example, from the example without its answer.
    Class,
    /// The class of two texts, each of them a row of its own.
    Pair,
}

impl Form {
    /// Rows of one example.
    pub fn texts(self) -> usize {
        match self {
            Form::NextToken | Form::Class => 1,
            Form::Pair => 2,
        }
    }

    /// What is scored, for people.
    pub fn scored(self) -> &'static str {
        match self {
            Form::NextToken => "tokens",
            Form::Class => "texts",
            Form::Pair => "pairs",
        }
    }
}

/// How rows are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
