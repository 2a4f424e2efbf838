//! The cheap objectives: asked of the driver, once for each configuration.

use std::collections::{HashMap, HashSet};

use spaces::Candidate;

use super::{Refusal, Request, message::Answer};
use crate::{AskError, Known, Oracle, Proposal};

/// Most configurations whose values are kept; beyond it, some may be asked about again.
const MOST_KEPT: usize = 1 << 20;

/// Who sits at the other end of the conversation.
pub trait Driver {
    /// Sends the question and gives the message that comes back.
    ///
    /// # Errors
    /// A [`Refusal`] where the message cannot be read or none comes.
    fn exchange(&mut self, question: Answer) -> Result<Request, Refusal>;
}

/// What the driver has said, by configuration.
#[derive(Default)]
pub(super) struct Memory {
    /// Where a configuration's values begin, by its hash.
    places: HashMap<u128, usize>,
    values: Vec<f64>,
}

/// Answers the search from memory, and from the driver where that has nothing.
pub(super) struct CheapOracle<'a> {
    pub(super) study: &'a str,
    /// The cheap objectives.
    pub(super) names: &'a [String],
    pub(super) memory: &'a mut Memory,
    pub(super) driver: &'a mut dyn Driver,
    /// Why there are no answers any more.
    pub(super) fault: Option<Refusal>,
}

impl Oracle for CheapOracle<'_> {
    fn known(&mut self, candidates: &[Candidate]) -> Vec<Known> {
        if self.names.is_empty() {
            return vec![Known::Values(Default::default()); candidates.len()];
        }
        let keys: Vec<u128> = candidates.iter().map(Candidate::key).collect();
        if self.fault.is_none() {
            self.fault = self.learn(candidates, &keys).err();
        }
        if self.fault.is_some() {
            // the wrong number of answers ends the proposal at once
            return vec![];
        }
        let width = self.names.len();
        let known = |key| {
            let at = self.memory.places[key];
            let values = &self.memory.values[at..at + width];
            Known::Values(self.names.iter().cloned().zip(values.iter().copied()).collect())
        };
        keys.iter().map(known).collect()
    }
}

impl CheapOracle<'_> {
    /// A proposal of this very candidate.
    pub(super) fn proposal(&mut self, candidate: &Candidate) -> Result<Proposal, AskError> {
        match self.known(std::slice::from_ref(candidate)).pop() {
            Some(Known::Values(known)) => Ok(Proposal {
                candidate: candidate.clone(),
                known,
            }),
            _ => Err(AskError::Oracle {
                asked: 1,
                answered: 0,
            }),
        }
    }

    /// Asks about those that are not in memory.
    fn learn(&mut self, candidates: &[Candidate], keys: &[u128]) -> Result<(), Refusal> {
        if self.memory.places.len() + candidates.len() > MOST_KEPT {
            *self.memory = Memory::default();
        }
        let (mut configs, mut fresh, mut met) = (vec![], vec![], HashSet::new());
        for (candidate, key) in candidates.iter().zip(keys) {
            if !self.memory.places.contains_key(key) && met.insert(*key) {
                configs.push(candidate.clone());
                fresh.push(*key);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let values = self.ask(configs)?;
        for (key, values) in fresh.into_iter().zip(values) {
            self.memory.places.insert(key, self.memory.values.len());
            self.memory.values.extend(values);
        }
        Ok(())
    }

    /// One row of values for each configuration.
    fn ask(&mut self, configs: Vec<Candidate>) -> Result<Vec<Vec<f64>>, Refusal> {
        let unanswered = |problem: String| Refusal::Unanswered {
            study: self.study.to_owned(),
            problem,
        };
        let asked = configs.len();
        let question = Answer::Cheap {
            study: self.study.to_owned(),
            configs,
        };
        let answer = self
            .driver
            .exchange(question)
            .map_err(|e| unanswered(e.to_string()))?;
        let answer = match answer {
            Request::CheapValues(answer) if answer.study == self.study => answer,
            Request::CheapValues(answer) => {
                return Err(unanswered(format!(
                    "cheap_values came for study '{}'",
                    answer.study
                )));
            }
            _ => {
                return Err(unanswered(
                    "another message came where cheap_values were expected".into(),
                ));
            }
        };
        if answer.values.len() != asked {
            let n = answer.values.len();
            return Err(unanswered(format!(
                "cheap_values has {n} rows for {asked} configurations"
            )));
        }
        let width = self.names.len();
        if let Some((i, row)) = answer
            .values
            .iter()
            .enumerate()
            .find(|(_, row)| row.len() != width)
        {
            let n = row.len();
            return Err(unanswered(format!(
                "values[{i}] has {n} numbers for {width} cheap objectives"
            )));
        }
        Ok(answer.values)
    }
}
