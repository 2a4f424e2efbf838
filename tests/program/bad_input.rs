use std::{fs, process::Command};

use parsimony_tests::program::{Program, Ran};

use crate::program;

const DATA: &str = "[data]\ncorpus = \"text\"\npath = \"text.txt\"\ntokenizer = \"char\"\n";

const FIXED: &str = "[fixed]\ncontext = 32\nwidth = 32\nheads = 2\nlayers = 1\nbatch = 4\ntokens = 2000\n";

const REST: &str = "[space]\nffn_ratio = [1.0, 2.0]\n[[objective]]\nmetric = \"validation_loss\"\n[[objective]]\nmetric = \"model_bytes\"\n[search]\ntrials = 2\n";

/// A study file with one place changed.
fn study(program: &Program, from: &str, to: &str) {
    let text = format!("name = \"bad\"\n{DATA}{FIXED}{REST}");
    assert!(text.contains(from));
    program.write("study.toml", &text.replace(from, to));
    program.write("config.toml", &format!("{DATA}{FIXED}").replace(from, to));
}

fn with_text() -> Program {
    let program = program();
    program.write(
        "text.txt",
        &"a text that is long enough to train on\n".repeat(100),
    );
    program.write("empty.txt", "");
    program.write("short.txt", "too short");
    program
}

/// One sentence that has all of `parts`, exit code 2, and nothing printed or left.
fn assert_refused(program: &Program, ran: &Ran, parts: &[&str]) {
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let sentence = ran.stderr.trim_end();
    assert!(
        sentence.starts_with("error: ") && !sentence.contains('\n'),
        "{sentence}"
    );
    assert!(!sentence.contains("panicked"), "{sentence}");
    for part in parts {
        assert!(sentence.contains(part), "'{part}' is not in: {sentence}");
    }
    assert_eq!(ran.stdout, "");
    assert!(!program.path("out").join("front.json").exists());
    assert!(!program.path("model").exists());
}

#[test]
fn study_files_are_refused_with_place_value_and_remedy() {
    let program = with_text();
    for (from, to, parts) in [
        (
            "ffn_ratio",
            "fnn_ratio",
            ["study.toml:", "fnn_ratio", "did you mean 'ffn_ratio'"],
        ),
        (
            "trials = 2",
            "trials = \"two\"",
            ["study.toml:", "\"two\"", "whole number"],
        ),
        ("width = 32", "width = true", ["study.toml:", "width", "true"]),
        ("text.txt", "empty.txt", ["study.toml", "empty.txt", "is empty"]),
        (
            "text.txt",
            "short.txt",
            ["study.toml", "context 32", "use at most"],
        ),
        (
            "text.txt",
            "none.txt",
            ["none.txt", "is not there", "check the path"],
        ),
        (
            "heads = 2",
            "heads = 3",
            ["heads 3", "width 32", "use one of 1, 2, 4"],
        ),
        (
            "trials = 2",
            "trials = 2\nstart = [{ ffn_ratio = 3.0 }]",
            ["study.toml:", "'ffn_ratio' is 3", "use"],
        ),
        (
            "trials = 2",
            "trials = 2\nstart = [{ ffn_ratio = 1.0 }]\n[[constraint]]\nmetric = \"model_bytes\"\nmax = 10",
            ["study.toml:", "its model_bytes is", "change or remove it"],
        ),
    ] {
        study(&program, from, to);
        let ran = program.run(&["search", "study.toml", "--out", "out"]);
        assert_refused(&program, &ran, &parts);
    }
    let nothing = program.run(&["studies", "--format", "json"]);
    assert!(nothing.stdout.contains("\"studies\":[]"), "{nothing:?}");
}

#[test]
fn configurations_are_refused_with_place_value_and_remedy() {
    let program = with_text();
    for (from, to, parts) in [
        (
            "width = 32",
            "widht = 32",
            ["config.toml:", "widht", "did you mean 'width'"],
        ),
        (
            "width = 32",
            "width = 32.5",
            ["config.toml:", "32.5", "whole numbers"],
        ),
        (
            "text.txt",
            "short.txt",
            ["config.toml", "context 32", "use at most"],
        ),
        (
            "text.txt",
            "none.txt",
            ["config.toml", "none.txt", "correct data.path"],
        ),
        (
            "heads = 2",
            "heads = 3",
            ["heads 3", "width 32", "use one of 1, 2, 4"],
        ),
    ] {
        study(&program, from, to);
        let ran = program.run(&["measure", "config.toml", "--out", "model"]);
        assert_refused(&program, &ran, &parts);
    }
}

#[test]
fn what_is_not_there_is_named() {
    let program = program();
    for (arguments, parts) in [
        (vec!["search", "none.toml"], ["'none.toml'", "check the path"]),
        (
            vec!["export", "none", "--out", "model"],
            ["'none'", "look it up in the list"],
        ),
        (
            vec!["export", "none", "--out", "model", "--pick", "best"],
            ["'best'", "write knee"],
        ),
        (
            vec!["evaluate", "none"],
            ["none/", "name the folder of an exported model"],
        ),
        (
            vec!["generate", "none", "--prompt", "x"],
            ["none/", "name the folder of an exported model"],
        ),
        (
            vec!["--database-url", "mysql://h/d", "studies"],
            ["not one of Postgres", "write postgres://"],
        ),
        (
            vec!["worker", "--server", "lab", "--token", "x"],
            ["'lab'", "write for example"],
        ),
    ] {
        assert_refused(&program, &program.run(&arguments), &parts);
    }
}

#[test]
fn a_wrong_token_and_a_taken_address_are_refused() {
    let program = program();
    let mut server = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    let url = server.printed_after("Parsimony serves ");
    let address = url.trim_start_matches("http://").to_owned();
    let worker = program.run(&["worker", "--server", &url, "--token", "wrong", "--once"]);
    assert_refused(&program, &worker, &["token is unknown", "ask an administrator"]);
    for command in ["serve", "up"] {
        let second = program.run(&[command, "--listen", &address]);
        assert_refused(&program, &second, &[&address, "is in use", "--listen"]);
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let program = with_text();
    study(&program, "tokens = 2000", "tokens = 2000");
    let full = program.path("full");
    fs::create_dir(&full).unwrap();
    // a file system of its own, in a world of its own; the program's other folders have room
    let run = |arguments: &str| {
        let script = format!(
            "mount -t tmpfs -o size=32k none '{0}' && {arguments}; code=$?; ls -A '{0}'; exit $code",
            full.display()
        );
        let inner = program.command(&[]);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", &script])
            .current_dir(program.path(""));
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("PROGRAM", inner.get_program());
        command.output()
    };
    if !run("true").is_ok_and(|o| o.status.success()) {
        println!("skipped: only root may mount a small file system");
        return;
    }
    let output = run("$PROGRAM measure config.toml --out full/model").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let sentence = said.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        sentence.contains("full/model") && sentence.contains("free space or choose another --out"),
        "{said}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing is left");
    // nothing is lost either: with room, the same measurement goes on
    program.ok(&["measure", "config.toml", "--out", "model"]);

    let output = run("$PROGRAM --data-dir full search study.toml --out results").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("choose another data folder") && said.trim_end().lines().count() == 1,
        "{said}"
    );
}

#[test]
fn a_training_that_diverges_fails_and_the_study_goes_on() {
    let program = program();
    program.write(
        "study.toml",
        r#"
name = "divergent"
[data]
corpus = "crate_sources"
tokenizer = "byte"
[fixed]
context = 32
width = 128
heads = 4
batch = 8
tokens = 12_000
validation_tokens = 1024
gradient_clip = 1e6
warmup = 0.0
weight_decay = 10.0
[space]
learning_rate = [0.001, 1.0]
layers = [1, 2]
[[objective]]
metric = "validation_loss"
[[objective]]
metric = "model_bytes"
[search]
trials = 6
"#,
    );
    // there are only four configurations: that is said, and no reason to fail
    let said = program.ok(&["search", "study.toml"]);
    assert!(said.contains("ended after 4 of 6 trials"), "{said}");
    let listed = program.json(&["trials", "divergent", "--format", "json"]);
    let trials = listed["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    for trial in trials {
        let reason = trial["failure"]["message"].as_str().unwrap_or_default();
        match trial["config"]["learning_rate"].as_f64() {
            Some(1.0) => {
                assert_eq!(trial["state"], "failed", "{trial}");
                assert!(
                    reason.contains("was not a number at step") && reason.contains("learning_rate"),
                    "{reason}"
                );
            }
            _ => assert_eq!(trial["state"], "done", "{trial}"),
        }
    }
}
