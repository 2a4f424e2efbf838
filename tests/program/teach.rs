//! A corpus that another model writes, an exported one or one of a server.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};

use crate::program;

const KEY: &str = "a-key-of-this-test";

/// What a server has heard, and when it fails.
#[derive(Default)]
struct Heard {
    prompts: Vec<String>,
    /// The numbers of requests, from 1 on, that it answers so.
    fails: Vec<(usize, StatusCode)>,
    calls: usize,
}

type Shared = Arc<Mutex<Heard>>;

async fn complete(
    State(heard): State<Shared>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut heard = heard.lock().unwrap();
    heard.calls += 1;
    let key = headers.get("authorization").and_then(|value| value.to_str().ok());
    if key != Some(&format!("Bearer {KEY}")) {
        let error = json!({ "error": { "message": "no such key" } });
        return (StatusCode::UNAUTHORIZED, Json(error));
    }
    let calls = heard.calls;
    if let Some((_, status)) = heard.fails.iter().find(|(number, _)| *number == calls) {
        let error = json!({ "error": { "message": "the quota of today is used up" } });
        return (*status, Json(error));
    }
    assert_eq!(request["model"], "large");
    assert_eq!(request["max_tokens"], 7);
    let prompt = request["prompt"].as_str().unwrap().to_owned();
    let text = format!(" and so on, {}", prompt.len());
    heard.prompts.push(prompt);
    let usage = json!({ "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 });
    (
        StatusCode::OK,
        Json(json!({ "choices": [{ "text": text }], "usage": usage })),
    )
}

/// A server of completions that fails at these requests; gives its address.
fn serve(fails: Vec<(usize, StatusCode)>) -> (String, Shared) {
    let heard = Shared::new(Mutex::new(Heard {
        fails,
        ..Heard::default()
    }));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/v1/completions", post(complete))
        .with_state(heard.clone());
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
    });
    (address, heard)
}

/// Sentences whose held-out tenth is of another kind.
fn text() -> String {
    "the teacher reads and the pupil writes it down.\n".repeat(90) + &"HELD OUT. ".repeat(48)
}

#[test]
fn a_server_is_asked_patiently_and_nothing_twice() {
    let program = program();
    program.write("input.txt", &text());
    let (url, heard) = serve(vec![
        // tried again
        (3, StatusCode::SERVICE_UNAVAILABLE),
        (4, StatusCode::TOO_MANY_REQUESTS),
        // not tried again
        (8, StatusCode::PAYMENT_REQUIRED),
    ]);
    let arguments = |requests: &str| {
        let list = [
            "teach",
            "--url",
            &url,
            "--model",
            "large",
            "--prompts",
            "input.txt",
            "--requests",
            requests,
            "--characters",
            "20",
            "--tokens",
            "7",
            "--out",
            "taught.txt",
            "--json",
        ];
        list.map(String::from)
    };
    let run = |requests: &str, key: Option<&str>| {
        let arguments = arguments(requests);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = program.command(&arguments);
        command.envs(key.map(|key| ("PARSIMONY_TEACHER_KEY", key)));
        command.output().unwrap()
    };

    let stopped = run("9", Some(KEY));
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(2), "{said}");
    assert!(said.contains("the quota of today is used up"), "{said}");
    assert!(said.contains("5 of 9 answers are kept"), "{said}");
    assert!(!program.path("taught.txt").exists() && !program.path("taught.txt.json").exists());
    // a crash in the middle of a line
    let records = program.path("taught.txt.requests.jsonl");
    let kept = fs::read_to_string(&records).unwrap();
    fs::write(&records, format!("{kept}{{\"index\":5,\"pro")).unwrap();

    let done = run("9", Some(KEY));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}");
    let note: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(note["requests"], 9);
    assert_eq!(
        (&note["prompt_tokens"], &note["written_tokens"]),
        (&json!(99), &json!(63))
    );
    assert_eq!(note["teacher"], json!({ "url": url, "model": "large" }));
    let written: Value =
        serde_json::from_str(&fs::read_to_string(program.path("taught.txt.json")).unwrap()).unwrap();
    assert_eq!(written, note);
    let corpus = fs::read_to_string(program.path("taught.txt")).unwrap();
    assert_eq!(note["corpus_bytes"], corpus.len());
    {
        let heard = heard.lock().unwrap();
        assert_eq!(heard.prompts.len(), 9);
        for prompt in &heard.prompts {
            assert!(prompt.len() == 20 && !prompt.contains("HELD"), "{prompt}");
            assert!(corpus.contains(&format!("{prompt} and so on, 20\n\n")));
        }
    }
    // nothing is asked for again, and more adds to it
    run("9", Some(KEY));
    assert_eq!(heard.lock().unwrap().prompts.len(), 9);
    run("12", Some(KEY));
    assert_eq!(heard.lock().unwrap().prompts.len(), 12);
    assert!(
        fs::read_to_string(program.path("taught.txt"))
            .unwrap()
            .starts_with(&corpus)
    );

    // answers to other questions are not mixed in
    let other = program.run(&[
        "teach",
        "--url",
        &url,
        "--model",
        "other",
        "--prompts",
        "input.txt",
        "--out",
        "taught.txt",
    ]);
    assert_eq!(other.code, Some(2));
    assert!(
        other.stderr.contains("answers to other questions"),
        "{}",
        other.stderr
    );
    fs::remove_file(&records).unwrap();
    let refused = run("2", None);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("set PARSIMONY_TEACHER_KEY"), "{said}");
}

#[test]
fn an_exported_model_writes_what_another_one_trains_on() {
    let program = program();
    program.write("input.txt", &text());
    let fixed = "[fixed]\ncontext = 32\nwidth = 32\nheads = 4\nlayers = 1\nbatch = 8\ntokens = 12_800\n";
    let data =
        |path: &str| format!("[data]\ncorpus = \"text\"\npath = \"{path}\"\ntokenizer = \"byte\"\n\n{fixed}");
    program.write("large.toml", &data("input.txt"));
    program.write("small.toml", &data("taught.txt"));
    program.json(&["measure", "large.toml", "--out", "large", "--json"]);
    let arguments = [
        "teach",
        "--bundle",
        "large",
        "--prompts",
        "input.txt",
        "--requests",
        "12",
        "--tokens",
        "60",
        "--out",
        "taught.txt",
        "--json",
    ];
    let note = program.json(&arguments);
    assert_eq!(note["requests"], 12);
    assert_eq!(note["written_tokens"], 12 * 60);
    assert_eq!(note["teacher"]["bundle"], "large");
    let corpus = fs::read_to_string(program.path("taught.txt")).unwrap();
    assert!(!corpus.contains("HELD OUT"), "{corpus}");
    // a smaller part of the same answers is the beginning of the same corpus
    let fewer = program.json(&[
        "teach",
        "--bundle",
        "large",
        "--prompts",
        "input.txt",
        "--requests",
        "5",
        "--tokens",
        "60",
        "--out",
        "taught.txt",
        "--json",
    ]);
    assert_eq!(fewer["requests"], 5);
    assert!(corpus.starts_with(&fs::read_to_string(program.path("taught.txt")).unwrap()));
    program.json(&arguments);
    let measured = program.json(&["measure", "small.toml", "--json"]);
    assert!(measured["metrics"]["validation_loss"]["value"].as_f64().unwrap() > 0.0);
    for (wrong, what) in [
        (&["teach", "--prompts", "input.txt", "--out", "x"][..], "--bundle"),
        (
            &[
                "teach",
                "--bundle",
                "gone",
                "--prompts",
                "input.txt",
                "--out",
                "x",
            ][..],
            "'gone",
        ),
        (
            &[
                "teach",
                "--url",
                "large",
                "--model",
                "m",
                "--prompts",
                "input.txt",
                "--out",
                "x",
            ][..],
            "https://host",
        ),
    ] {
        let refused = program.run(wrong);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(what), "{}", refused.stderr);
    }
}
