//! A conversation: which study a message is about, and its answer.

use std::collections::BTreeMap;

use super::{
    Driver, Refusal,
    message::{Answer, Request},
    study::Study,
};

/// Form of the messages.
pub const PROTOCOL: u64 = 1;

/// Most trials of one `ask`.
pub const MOST_TRIALS: u64 = 1024;

/// A conversation about any number of studies, which share nothing.
#[derive(Default)]
pub struct Session {
    studies: BTreeMap<String, Study>,
}

impl Session {
    /// Answers one message; `driver` answers the questions that come up in between.
    ///
    /// After an [`Answer::Error`] everything is as it was before the message.
    pub fn handle(&mut self, request: Request, driver: &mut dyn Driver) -> Answer {
        self.answer(request, driver)
            .unwrap_or_else(|refusal| refusal.into())
    }

    fn answer(&mut self, request: Request, driver: &mut dyn Driver) -> Result<Answer, Refusal> {
        match request {
            Request::Hello(hello) if hello.protocol == PROTOCOL => Ok(Answer::HelloOk {
                protocol: PROTOCOL,
                name: "parsimony",
                version: env!("CARGO_PKG_VERSION"),
                capabilities: &["conditional", "multi_objective", "batch", "cheap"],
            }),
            Request::Hello(hello) => Err(Refusal::Protocol(hello.protocol)),
            Request::Create(create) => {
                let name = create.study.clone();
                if self.studies.contains_key(&name) {
                    return Err(Refusal::StudyIsOpen(name));
                }
                self.studies.insert(name, Study::new(create)?);
                Ok(Answer::Ok)
            }
            Request::Ask(ask) => {
                let trials = self.find(&ask.study)?.ask(ask.n, driver)?;
                Ok(Answer::Trials { trials })
            }
            Request::Tell(tell) => {
                self.find(&tell.study)?.tell(&tell.results)?;
                Ok(Answer::Ok)
            }
            Request::Front(named) => {
                let (trials, hypervolume) = self.find(&named.study)?.front();
                Ok(Answer::Front { trials, hypervolume })
            }
            Request::CheapValues(_) => Err(Refusal::NoQuestion),
            Request::Close(named) => {
                self.find(&named.study)?;
                self.studies.remove(&named.study);
                Ok(Answer::Ok)
            }
            Request::Bye(_) => {
                self.studies.clear();
                Ok(Answer::Ok)
            }
        }
    }

    fn find(&mut self, name: &str) -> Result<&mut Study, Refusal> {
        if !self.studies.contains_key(name) {
            return Err(Refusal::no_study(name, self.studies.keys().map(String::as_str)));
        }
        Ok(self.studies.get_mut(name).expect("it was looked up above"))
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        Answer::Error {
            message: refusal.to_string(),
        }
    }
}
