//! `parsimony optimize`: the search as a conversation on stdin and stdout, with no server and no database.

use std::io::{BufRead, StdinLock, StdoutLock, Write, stdin, stdout};

use clap::Args;
use search::ask_tell::{Answer, Driver, Refusal, Request, Session};

use crate::settings::Global;

/// Proposes configurations for anything: asked and told in JSON lines, without server and database
///
/// Reads one JSON object a line from stdin and answers each with one line on stdout, until 'bye' or the end of input.
/// docs/optimize.md has every message; examples/optimize.py is a program that uses them.
#[derive(Debug, Args)]
#[command(after_help = r#"Example:
  parsimony optimize <<'END'
  {"type":"create","study":"s","space":[{"name":"lr","type":"float","low":1e-4,"high":0.1,"log":true}],"objectives":[{"name":"loss","direction":"minimize"}]}
  {"type":"ask","study":"s"}
  {"type":"tell","study":"s","results":[{"id":0,"status":"ok","values":[1.9]}]}
  {"type":"front","study":"s"}
  {"type":"bye"}
  END"#)]
pub(crate) struct Optimize {}

impl Optimize {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let mut session = Session::default();
        let mut lines = Lines {
            input: stdin().lock(),
            output: stdout().lock(),
            line: vec![],
        };
        while lines.next()? {
            let (answer, ends) = match Request::read(&lines.line) {
                Ok(request) => {
                    let ends = matches!(request, Request::Bye(_));
                    (session.handle(request, &mut lines), ends)
                }
                Err(refusal) => (refusal.into(), false),
            };
            lines.write(&answer)?;
            if ends {
                break;
            }
        }
        Ok(())
    }
}

/// The driver at the other end of stdin and stdout.
struct Lines {
    input: StdinLock<'static>,
    output: StdoutLock<'static>,
    line: Vec<u8>,
}

impl Lines {
    /// Reads the next line; whether there is one.
    fn next(&mut self) -> std::io::Result<bool> {
        self.line.clear();
        Ok(self.input.read_until(b'\n', &mut self.line)? > 0)
    }

    fn write(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        self.output.write_all(&line)?;
        Ok(self.output.flush()?)
    }
}

impl Driver for Lines {
    fn exchange(&mut self, question: Answer) -> Result<Request, Refusal> {
        let gone = |problem: String| Refusal::Gone(problem);
        self.write(&question)
            .map_err(|e| gone(format!("the question cannot be sent: {e}")))?;
        match self.next() {
            Ok(true) => Request::read(&self.line),
            Ok(false) => Err(gone("the input has ended".into())),
            Err(e) => Err(gone(format!("the answer cannot be read: {e}"))),
        }
    }
}
