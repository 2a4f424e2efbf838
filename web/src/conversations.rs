//! Ask/tell studies of those who call over HTTP: kept in memory, each for the token that opened it.
//!
//! A message is answered where blocking is allowed, because a proposal may take a while. An ask that has a question
//! about cheap objectives waits there for the next message of its study.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, mpsc as replies},
    time::{Duration, Instant},
};

use search::ask_tell::{Answer, Driver, Refusal, Request, Session};
use tokio::{
    sync::{Mutex as Seat, OwnedMutexGuard, mpsc as turns},
    task::spawn_blocking,
};

/// Studies that one token may have open.
const OF_ONE: usize = 16;
/// Studies open in all, each of which may hold a thread while it waits for `cheap_values`.
const OF_ALL: usize = 256;
/// How long a study is kept without a message.
const IDLE: Duration = Duration::from_secs(3600);
/// How long an ask waits for `cheap_values`.
const PATIENCE: Duration = Duration::from_secs(600);

/// The open studies.
#[derive(Default)]
pub(crate) struct Conversations {
    open: Mutex<HashMap<(i64, String), Open>>,
}

struct Open {
    study: Arc<Seat<Talk>>,
    /// When its last message came.
    used: Instant,
}

/// One study: a session of its own, so that studies do not wait for each other.
enum Talk {
    /// It waits for a message.
    Idle(Session),
    /// An ask waits for `cheap_values`.
    Asking {
        replies: replies::Sender<Request>,
        turns: turns::UnboundedReceiver<Turn>,
    },
}

/// What the thread that answers a message says.
enum Turn {
    Question(Answer),
    Done(Box<Session>, Answer),
}

/// The driver at the other end of the requests.
struct Remote {
    turns: turns::UnboundedSender<Turn>,
    replies: replies::Receiver<Request>,
}

impl Conversations {
    /// Answers one message of the token.
    pub(crate) async fn answer(self: &Arc<Self>, token: i64, request: Request) -> Answer {
        let all = Arc::clone(self);
        // a caller that hangs up must not tear a study apart
        let task = tokio::spawn(async move { all.dispatch(token, request).await });
        task.await.unwrap_or_else(|e| {
            tracing::error!("a message of the ask/tell protocol was not answered: {e}");
            error("the server failed to answer; the reason is in its log")
        })
    }

    async fn dispatch(&self, token: i64, request: Request) -> Answer {
        let (name, ends) = match &request {
            Request::Hello(_) => return self::turn(&mut Talk::default(), request).await,
            Request::Bye(_) => {
                self.lock().retain(|(owner, _), _| *owner != token);
                return Answer::Ok;
            }
            Request::Create(create) => {
                let name = create.study.clone();
                return self.create((token, name), request).await;
            }
            Request::Ask(ask) => (ask.study.clone(), false),
            Request::Tell(tell) => (tell.study.clone(), false),
            Request::Front(study) => (study.study.clone(), false),
            Request::CheapValues(values) => (values.study.clone(), false),
            Request::Close(study) => (study.study.clone(), true),
        };
        let mut study = match self.find(token, &name, Instant::now()) {
            Ok(study) => study,
            Err(answer) => return answer,
        };
        let answer = turn(&mut study, request).await;
        if ends && answer == Answer::Ok {
            self.lock().remove(&(token, name));
        }
        answer
    }

    /// Opens a study if there is room for it.
    async fn create(&self, key: (i64, String), request: Request) -> Answer {
        let mut study = Talk::default();
        let answer = turn(&mut study, request).await;
        if answer != Answer::Ok {
            return answer;
        }
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|_, o| now.duration_since(o.used) < IDLE);
        if open.contains_key(&key) {
            return Refusal::StudyIsOpen(key.1).into();
        }
        let own = open.keys().filter(|(owner, _)| *owner == key.0).count();
        if own >= OF_ONE {
            return error(&format!("{own} studies of this token are open; close one first"));
        }
        if open.len() >= OF_ALL {
            return error(
                "the server has no room for another study; try again later, or run parsimony optimize",
            );
        }
        let study = Arc::new(Seat::new(study));
        open.insert(key, Open { study, used: now });
        answer
    }

    /// The study, for one message at a time.
    fn find(&self, token: i64, name: &str, now: Instant) -> Result<OwnedMutexGuard<Talk>, Answer> {
        let mut open = self.lock();
        open.retain(|_, o| now.duration_since(o.used) < IDLE);
        let Some(found) = open.get_mut(&(token, name.to_owned())) else {
            let own = open.keys().filter(|(owner, _)| *owner == token);
            return Err(Refusal::no_study(name, own.map(|(_, name)| name.as_str())).into());
        };
        found.used = now;
        Arc::clone(&found.study).try_lock_owned().map_err(|_| {
            error(&format!(
                "study '{name}' still answers another message; send one at a time"
            ))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(i64, String), Open>> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Says the message to the study and waits for its next answer.
async fn turn(talk: &mut Talk, request: Request) -> Answer {
    if let Talk::Asking { turns, .. } = talk
        && let Ok(Turn::Done(session, _)) = turns.try_recv()
    {
        // the ask has lost its patience
        *talk = Talk::Idle(*session);
    }
    let (replies, mut turns) = match mem::take(talk) {
        Talk::Idle(session) => begin(session, request),
        Talk::Asking { replies, turns } => {
            // an ask that loses its patience just now has its last word in `turns`
            let _ = replies.send(request);
            (replies, turns)
        }
    };
    match turns.recv().await {
        Some(Turn::Question(question)) => {
            *talk = Talk::Asking { replies, turns };
            question
        }
        Some(Turn::Done(session, answer)) => {
            *talk = Talk::Idle(*session);
            answer
        }
        None => error("the server failed to answer, and the study is lost; create it again"),
    }
}

/// Starts to answer a message.
fn begin(
    mut session: Session,
    request: Request,
) -> (replies::Sender<Request>, turns::UnboundedReceiver<Turn>) {
    let (reply, replies) = replies::channel();
    let (said, turns) = turns::unbounded_channel();
    let mut remote = Remote { turns: said, replies };
    spawn_blocking(move || {
        let answer = session.handle(request, &mut remote);
        // nobody listens where the study was dropped in between
        let _ = remote.turns.send(Turn::Done(Box::new(session), answer));
    });
    (reply, turns)
}

impl Driver for Remote {
    fn exchange(&mut self, question: Answer) -> Result<Request, Refusal> {
        // where nobody listens, nobody replies
        let _ = self.turns.send(Turn::Question(question));
        let minutes = PATIENCE.as_secs() / 60;
        self.replies
            .recv_timeout(PATIENCE)
            .map_err(|_| Refusal::Gone(format!("no cheap_values came within {minutes} minutes")))
    }
}

impl Default for Talk {
    fn default() -> Self {
        Talk::Idle(Session::default())
    }
}

fn error(message: &str) -> Answer {
    Answer::Error {
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(study: &str) -> Request {
        let message = format!(
            r#"{{"type":"create","study":"{study}","space":[{{"name":"x","type":"int","low":0,"high":1}}],
            "objectives":[{{"name":"loss","direction":"minimize"}}]}}"#
        );
        Request::read(message.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_study_is_forgotten_when_nobody_speaks_to_it() {
        let all = Arc::new(Conversations::default());
        assert_eq!(all.answer(1, create("s")).await, Answer::Ok);
        let later = Instant::now() + IDLE - Duration::from_secs(60);
        assert!(all.find(1, "s", later).is_ok());
        assert!(
            all.find(1, "s", later + IDLE - Duration::from_secs(1)).is_ok(),
            "it was used"
        );
        assert!(all.find(1, "s", later + 3 * IDLE).is_err());
        assert!(all.lock().is_empty());
    }

    #[tokio::test]
    async fn one_message_at_a_time() {
        let all = Arc::new(Conversations::default());
        all.answer(1, create("s")).await;
        let _first = all.find(1, "s", Instant::now()).ok();
        let Err(Answer::Error { message }) = all.find(1, "s", Instant::now()) else {
            panic!("two messages hold the study")
        };
        assert!(message.contains("one at a time"), "{message}");
    }
}
