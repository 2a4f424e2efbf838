use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use parsimony_tests::{program::Program, repository};
use serde_json::{Value, json};

use crate::program;

/// `parsimony optimize`, spoken to line by line.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn new(program: &Program) -> Talk {
        let mut child = program
            .command(&["optimize"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Talk {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// The one line that answers a line.
    fn line(&mut self, line: &str) -> Value {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{line} is answered with {answer}: {e}"))
    }

    fn send(&mut self, message: Value) -> Value {
        self.line(&message.to_string())
    }

    fn ok(&mut self, message: Value) {
        assert_eq!(self.send(message), json!({"type": "ok"}));
    }

    /// The sentence of an error.
    fn refused(&mut self, line: &str) -> String {
        let answer = self.line(line);
        assert_eq!(answer["type"], "error", "{line} is answered with {answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    /// Trials; questions about the cheap objective are answered with the width.
    fn ask(&mut self, n: u32) -> Vec<Value> {
        let mut answer = self.send(json!({"type": "ask", "study": "s", "n": n}));
        while answer["type"] == "cheap" {
            let configs = answer["configs"].as_array().unwrap();
            let values: Vec<Value> = configs.iter().map(|c| json!([c["width"]])).collect();
            answer = self.send(json!({"type": "cheap_values", "study": "s", "values": values}));
        }
        answer["trials"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .clone()
    }

    fn ended(mut self) -> Option<i32> {
        drop(self.input);
        self.child.wait().unwrap().code()
    }
}

fn create(study: &str, space: Value) -> Value {
    json!({
        "type": "create", "study": study, "seed": 1, "budget": 30, "space": space,
        "objectives": [
            {"name": "loss", "direction": "minimize"},
            {"name": "width", "direction": "minimize", "cheap": true},
        ],
    })
}

fn space() -> Value {
    json!([
        {"name": "width", "type": "int", "low": 1, "high": 512, "log": true},
        {"name": "rate", "type": "float", "low": 1e-4, "high": 1.0, "log": true},
        {"name": "kind", "type": "categorical", "choices": ["full", "lsh"]},
        {"name": "hashes", "type": "int", "low": 1, "high": 8, "condition": [{"parent": "kind", "in": ["lsh"]}]},
    ])
}

#[test]
fn a_conversation_from_hello_to_bye() {
    let program = program();
    let mut talk = Talk::new(&program);
    let hello = talk.send(json!({"type": "hello", "protocol": 1}));
    assert_eq!(
        hello["capabilities"],
        json!(["conditional", "multi_objective", "batch", "cheap"])
    );
    talk.ok(create("s", space()));
    for _ in 0..8 {
        let results = talk.ask(4).into_iter().map(|trial| {
            let (id, params) = (&trial["id"], &trial["params"]);
            assert_eq!(params["kind"] == "lsh", params["hashes"].is_i64(), "{params}");
            match id.as_u64().unwrap() % 5 {
                3 => json!({"id": id, "status": "failed"}),
                4 => json!({"id": id, "status": "invalid"}),
                _ => {
                    let width = params["width"].as_f64().unwrap();
                    json!({"id": id, "status": "ok", "values": [1.0 / width, width]})
                }
            }
        });
        let results: Vec<Value> = results.collect();
        talk.ok(json!({"type": "tell", "study": "s", "results": results}));
    }
    let front = talk.send(json!({"type": "front", "study": "s"}));
    assert!(front["trials"].as_array().unwrap().len() > 5, "{front}");
    assert!(front["hypervolume"].as_f64().unwrap() > 0.0, "{front}");
    talk.ok(json!({"type": "close", "study": "s"}));
    talk.ok(json!({"type": "bye"}));
    assert_eq!(talk.ended(), Some(0));
    assert!(!program.path("data").exists(), "nothing is kept");
}

#[test]
fn bad_lines_are_answered_and_the_study_goes_on() {
    let program = program();
    let mut talk = Talk::new(&program);
    talk.ok(create("s", space()));
    talk.ask(2);
    let x = |low: f64, high: f64, log: bool| json!({"name": "x", "type": "float", "low": low, "high": high, "log": log});
    let stray =
        json!([{"name": "y", "type": "int", "low": 1, "high": 2, "condition": [{"parent": "z", "ge": 1}]}]);
    let told = |result: &str| format!(r#"{{"type":"tell","study":"s","results":[{result}]}}"#);
    for (line, part) in [
        (
            create("t", json!([x(0.0, 1.0, false), x(0.0, 1.0, false)])).to_string(),
            "'x' is given twice",
        ),
        (
            create("t", json!([x(2.0, 1.0, false)])).to_string(),
            "[2, 1] is empty",
        ),
        (
            create("t", json!([x(0.0, 1.0, true)])).to_string(),
            "cannot start at 0",
        ),
        (create("t", stray).to_string(), "'z'"),
        (create("s", space()).to_string(), "'s' is open already"),
        (told(r#"{"id":0,"status":"ok","values":[1.0]}"#), "1 number for 2"),
        (told(r#"{"id":0,"status":"ok"}"#), "'values' is missing"),
        (told(r#"{"id":0,"status":"ok","values":[NaN,1.0]}"#), "NaN"),
        (told(r#"{"id":0,"status":"ok","values":[null,1.0]}"#), "null"),
        (
            told(r#"{"id":9,"status":"failed"}"#),
            "trial 9 has not been proposed",
        ),
        (String::new(), "not JSON"),
        ("{".into(), "not JSON"),
        ("[]".into(), "object"),
        (r#"{"type":"asq"}"#.into(), "did you mean 'ask'"),
        (r#"{"type":"front","study":"x"}"#.into(), "'x'"),
    ] {
        let sentence = talk.refused(&line);
        assert!(sentence.contains(part), "{line}: {sentence}");
    }
    talk.ok(
        json!({"type": "tell", "study": "s", "results": [{"id": 0, "status": "ok", "values": [1.0, 2.0]}]}),
    );
    assert_eq!(talk.ask(1)[0]["id"], 2);
    assert_eq!(talk.ended(), Some(0), "the end of input is no failure");
}

#[test]
fn the_end_of_input_in_a_question_is_no_failure() {
    let program = program();
    let mut talk = Talk::new(&program);
    talk.ok(create("s", space()));
    let question = talk.send(json!({"type": "ask", "study": "s"}));
    assert_eq!(question["type"], "cheap", "{question}");
    assert_eq!(talk.ended(), Some(0));
}

#[test]
fn the_example_runs() {
    let example = repository().join("examples/optimize.py");
    let run = Command::new("python3")
        .arg(example)
        .arg(env!("CARGO_BIN_EXE_parsimony"))
        .output();
    let output = match run {
        Ok(output) => output,
        Err(e) => {
            println!("skipped: python3 cannot be started: {e}");
            return;
        }
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        printed.lines().count() > 5 && printed.contains("hypervolume"),
        "{printed}"
    );
}
