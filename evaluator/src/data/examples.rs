//! Examples with an answer, and the rows that they become.

use std::ops::Range;

use super::{Batch, Form};

/// Token sequences that end in questions and answers.
#[derive(Debug)]
pub(super) struct Examples {
    /// All sequences, one after the other; 16 bits because a hundred thousand long examples are kept at once.
    tokens: Vec<u16>,
    /// Where each sequence ends.
    ends: Vec<usize>,
    /// Answers in a sequence: its last token, and every second token before it.
    queries: usize,
    /// Tokens that an answer can be, where a sequence has one answer.
    classes: Option<Range<u16>>,
    /// The token between the two texts of a sequence, where it has two.
    separator: Option<u16>,
}

/// Fills the row behind a short example; corpora of examples keep this id free.
pub(super) const PAD: u32 = 0;

impl Examples {
    pub(super) fn new(queries: usize) -> Self {
        Examples {
            tokens: vec![],
            ends: vec![],
            queries,
            classes: None,
            separator: None,
        }
    }

    /// Sequences with one answer, which is one of these tokens.
    pub(super) fn of_classes(classes: Range<u16>) -> Self {
        Examples {
            classes: Some(classes),
            ..Examples::new(1)
        }
    }

    /// The same, of two texts with this token between them and one token before the answer.
    pub(super) fn of_pairs(classes: Range<u16>, separator: u16) -> Self {
        Examples {
            separator: Some(separator),
            ..Examples::of_classes(classes)
        }
    }

    pub(super) fn push(&mut self, tokens: impl IntoIterator<Item = u16>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    /// Classes that the one answer can be, where there are such.
    pub(super) fn classes(&self) -> Option<usize> {
        self.classes.as_ref().map(Range::len)
    }

    /// Whether an example is two texts.
    pub(super) fn are_pairs(&self) -> bool {
        self.separator.is_some()
    }

    /// Tokens of all sequences together.
    pub(super) fn tokens(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, i: usize) -> &[u16] {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[start..self.ends[i]]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u16]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Every answer of every example.
    pub(super) fn answers(&self) -> impl Iterator<Item = u16> {
        self.iter()
            .flat_map(|tokens| tokens.iter().rev().step_by(2).take(self.queries).copied())
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let tokens = self.tokens.iter().flat_map(|t| t.to_le_bytes());
        let ends = self.ends.iter().flat_map(|e| (*e as u64).to_le_bytes());
        tokens.chain(ends).collect()
    }

    /// Tokens of each row of an example.
    pub(super) fn reads(&self, form: Form) -> impl Iterator<Item = usize> {
        self.iter().flat_map(move |tokens| {
            let (left, right) = match (form, self.separator) {
                (Form::Pair, Some(separator)) => texts(tokens, separator),
                _ => (&tokens[..tokens.len() - 1], [].as_slice()),
            };
            [left.len(), right.len()].into_iter().take(form.texts())
        })
    }

    /// Adds an example; one that does not fit loses the end of its body and keeps the question.
    pub(super) fn row(&self, i: usize, batch: &mut Batch, form: Form) {
        let tokens = self.get(i);
        if let (Form::Pair, Some(separator)) = (form, self.separator) {
            let (left, right) = texts(tokens, separator);
            for text in [left, right] {
                let kept = text.iter().take(batch.context).map(|t| u32::from(*t));
                batch.push_text(&kept.collect::<Vec<_>>(), PAD);
            }
            batch.targets.push(self.class(tokens));
            return;
        }
        let (read, answer) = tokens.split_at(tokens.len() - 1);
        let kept = read.len().min(batch.context);
        let mut inputs: Vec<u32> = read[..kept].iter().map(|t| u32::from(*t)).collect();
        inputs[kept - 1] = u32::from(read[read.len() - 1]);
        if form == Form::Class {
            batch.push_text(&inputs, PAD);
            batch.targets.push(self.class(tokens));
            return;
        }
        let mut targets = vec![-1; kept];
        targets[kept - 1] = i32::from(answer[0]);
        for back in (2..2 * self.queries).step_by(2) {
            targets[kept - 1 - back] = i32::from(tokens[tokens.len() - 1 - back]);
        }
        batch.push(&inputs, targets.into_iter(), PAD);
    }

    /// The number of the class that an example's answer is.
    fn class(&self, tokens: &[u16]) -> i32 {
        let first = self.classes.as_ref().map_or(0, |classes| classes.start);
        i32::from(tokens[tokens.len() - 1]) - i32::from(first)
    }
}

/// The two texts of a sequence `left, separator, right, question, answer`.
fn texts(tokens: &[u16], separator: u16) -> (&[u16], &[u16]) {
    let at = tokens.iter().position(|t| *t == separator).unwrap_or(0);
    (&tokens[..at], &tokens[at + 1..tokens.len() - 2])
}
