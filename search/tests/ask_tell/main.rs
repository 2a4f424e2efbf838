//! The ask/tell conversation, message by message.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod refusals;

use std::collections::BTreeSet;

use search::ask_tell::{Answer, Driver, Refusal, Request, Session};
use serde_json::{Value, json};

/// A driver that knows how wide a model is, and what it was asked.
#[derive(Default)]
struct Widths {
    asked: BTreeSet<String>,
    questions: usize,
    /// What it says instead.
    instead: Option<Value>,
}

impl Driver for Widths {
    fn exchange(&mut self, question: Answer) -> Result<Request, Refusal> {
        self.questions += 1;
        if let Some(instead) = self.instead.take() {
            return Request::read(instead.to_string().as_bytes());
        }
        let Answer::Cheap { study, configs } = question else {
            panic!("{question:?}")
        };
        let values = configs.iter().map(|config| {
            assert!(
                self.asked.insert(config.hash()),
                "{config:?} is asked about twice"
            );
            json!([config.get("width").unwrap().as_f64().unwrap() * 12.0])
        });
        let values: Vec<Value> = values.collect();
        Request::read(
            json!({"type": "cheap_values", "study": study, "values": values})
                .to_string()
                .as_bytes(),
        )
    }
}

#[derive(Default)]
struct Conversation {
    session: Session,
    driver: Widths,
}

impl Conversation {
    /// One with the study `s`.
    fn new(changes: Value) -> Conversation {
        let mut conversation = Conversation::default();
        assert_eq!(conversation.send(create(changes)), json!({"type": "ok"}));
        conversation
    }

    fn send(&mut self, message: Value) -> Value {
        let answer = match Request::read(message.to_string().as_bytes()) {
            Ok(request) => self.session.handle(request, &mut self.driver),
            Err(refusal) => refusal.into(),
        };
        serde_json::to_value(answer).unwrap()
    }

    /// The sentence of a refusal.
    fn refused(&mut self, message: Value) -> String {
        let answer = self.send(message);
        assert_eq!(answer["type"], "error", "{answer}");
        let sentence = answer["message"].as_str().unwrap().to_owned();
        assert!(!sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
        sentence
    }

    fn ask(&mut self, n: u64) -> Vec<Value> {
        let answer = self.send(json!({"type": "ask", "study": "s", "n": n}));
        answer["trials"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .clone()
    }

    fn tell(&mut self, results: Value) -> Value {
        self.send(json!({"type": "tell", "study": "s", "results": results}))
    }

    fn front(&mut self) -> Value {
        self.send(json!({"type": "front", "study": "s"}))
    }
}

/// A `create` with the given keys replaced; null removes one.
fn create(changes: Value) -> Value {
    let mut message = json!({
        "type": "create", "study": "s", "seed": 3, "budget": 20,
        "space": [
            {"name": "width", "type": "int", "low": 1, "high": 4096, "log": true},
            {"name": "rate", "type": "float", "low": 0.0, "high": 1.0},
            {"name": "tied", "type": "categorical", "choices": [true, false]},
            {"name": "kind", "type": "categorical", "choices": ["full", "lsh", 3]},
            {"name": "hashes", "type": "int", "low": 1, "high": 8, "condition": [{"parent": "kind", "in": ["lsh"]}]},
            {"name": "buckets", "type": "float", "low": 1, "high": 2, "condition": [{"parent": "hashes", "ge": 4}]},
        ],
        "objectives": [
            {"name": "loss", "direction": "minimize"},
            {"name": "accuracy", "direction": "maximize"},
            {"name": "bytes", "direction": "minimize", "cheap": true},
        ],
    });
    for (key, value) in changes.as_object().unwrap() {
        message[key] = value.clone();
    }
    message.as_object_mut().unwrap().retain(|_, v| !v.is_null());
    message
}

#[test]
fn a_study_is_asked_told_and_read() {
    let mut conversation = Conversation::new(json!({}));
    let mut ids = vec![];
    for round in 0..12 {
        for trial in conversation.ask(3) {
            let (id, params) = (trial["id"].as_u64().unwrap(), &trial["params"]);
            let width = params["width"].as_i64().unwrap();
            assert!(
                (1..=4096).contains(&width) && params["tied"].is_boolean(),
                "{params}"
            );
            assert!((0.0..=1.0).contains(&params["rate"].as_f64().unwrap()));
            let hashed = params["kind"] == "lsh";
            assert_eq!(params["hashes"].is_i64(), hashed, "{params}");
            let buckets = hashed && params["hashes"].as_i64().unwrap() >= 4;
            assert_eq!(params["buckets"].is_number(), buckets, "{params}");
            assert_eq!(
                params.as_object().unwrap().len(),
                4 + usize::from(hashed) + usize::from(buckets),
                "{params}"
            );
            let result = match id % 4 {
                1 => json!({"id": id, "status": "failed"}),
                2 => json!({"id": id, "status": "invalid", "message": "no"}),
                _ => json!({"id": id, "status": "ok", "values": [1.0 / width as f64, id, width * 12]}),
            };
            assert_eq!(
                conversation.tell(json!([result])),
                json!({"type": "ok"}),
                "{round}"
            );
            ids.push(id);
        }
    }
    assert_eq!(ids, (0..36).collect::<Vec<u64>>());
    assert!(conversation.driver.asked.len() >= 36);
    let front = conversation.front();
    assert!(front["hypervolume"].as_f64().unwrap() > 0.0, "{front}");
    let trials = front["trials"].as_array().unwrap();
    assert!(
        trials.iter().all(|t| t["id"].as_u64().unwrap() % 4 % 3 == 0),
        "{front}"
    );
    // the last that went well has the best accuracy, in the direction told
    let last = trials.last().unwrap();
    assert_eq!((&last["id"], &last["values"][1]), (&json!(35), &json!(35.0)));
    assert_eq!(
        conversation.send(json!({"type": "close", "study": "s"})),
        json!({"type": "ok"})
    );
    assert!(
        conversation
            .refused(json!({"type": "front", "study": "s"}))
            .contains("none is open")
    );
}

#[test]
fn the_same_messages_get_the_same_answers() {
    let play = |seed, seconds: f64| {
        let mut conversation = Conversation::new(json!({"seed": seed}));
        let rounds = (0..8).flat_map(|_| {
            let trials = conversation.ask(4);
            for trial in &trials {
                let width = trial["params"]["width"].as_f64().unwrap();
                conversation.tell(json!([{
                    "id": trial["id"], "status": "ok", "values": [1.0 / width, width, width], "seconds": seconds
                }]));
            }
            trials
        });
        rounds.collect::<Vec<Value>>()
    };
    assert_eq!(play(1, 60.0), play(1, 60.0));
    assert_eq!(play(1, 60.0), play(1, 90.0), "both are worth the same thought");
    assert_ne!(play(1, 60.0), play(1, 1e-3), "quick trials get less of it");
    assert_ne!(play(1, 60.0), play(2, 60.0));
}

#[test]
fn volume_and_front_follow_directions_and_reference() {
    let objectives = json!([{"name": "a", "direction": "minimize"}, {"name": "b", "direction": "maximize"}]);
    let mut conversation = Conversation::new(json!({"objectives": objectives, "ref_point": [4.0, 1.0]}));
    assert_eq!(
        conversation.front(),
        json!({"type": "front", "trials": [], "hypervolume": null})
    );
    conversation.ask(4);
    let ok = |id: u32, values: [f64; 2]| json!({"id": id, "status": "ok", "values": values});
    conversation.tell(json!([
        ok(2, [1.0, 3.0]),
        ok(0, [2.0, 4.0]),
        ok(1, [2.0, 2.0]),
        ok(3, [5.0, 9.0])
    ]));
    let front = conversation.front();
    // 3 wide and 2 high, and 2 wide and 1 high on top of it; the last is worse than the reference
    assert_eq!(front["hypervolume"], 8.0);
    let ids: Vec<u64> = front["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [2, 0, 3]);
    assert_eq!(front["trials"][1]["values"], json!([2.0, 4.0]));
}

#[test]
fn trials_go_where_the_reference_lets_them_count() {
    let useless = |reference: Value| {
        let mut conversation = Conversation::new(json!({
            "space": [{"name": "x", "type": "float", "low": 0, "high": 1}],
            "objectives": [{"name": "a", "direction": "minimize"}, {"name": "b", "direction": "maximize"}],
            "ref_point": reference,
        }));
        let values = (0..30).map(|_| {
            let trial = conversation.ask(1).remove(0);
            let x = trial["params"]["x"].as_f64().unwrap();
            conversation.tell(json!([{"id": trial["id"], "status": "ok", "values": [x, x.sqrt()]}]));
            x
        });
        values.skip(10).filter(|x| *x > 0.2).count()
    };
    // a line of which each point is on the front, and a fifth is wanted
    assert_eq!(useless(json!([0.2, 0.0])), 0);
    assert!(useless(Value::Null) >= 10);
}

#[test]
fn an_ask_whose_question_is_not_answered_leaves_no_trace() {
    let (mut conversation, mut other) = (Conversation::new(json!({})), Conversation::new(json!({})));
    for (instead, part) in [
        (
            json!({"type": "cheap_values", "study": "s", "values": []}),
            "0 rows for",
        ),
        (
            json!({"type": "cheap_values", "study": "t", "values": []}),
            "study 't'",
        ),
        (
            json!({"type": "cheap_values", "study": "s", "values": [[null]]}),
            "values[0][0]: null",
        ),
        (json!({"type": "error", "message": "no"}), "'error'"),
        (json!({"type": "front", "study": "s"}), "another message"),
    ] {
        conversation.driver.instead = Some(instead);
        let sentence = conversation.refused(json!({"type": "ask", "study": "s", "n": 2}));
        assert!(
            sentence.contains(part) && sentence.contains("ask again"),
            "{sentence}"
        );
    }
    assert_eq!(conversation.ask(3), other.ask(3));
}

#[test]
fn a_space_that_is_used_up_gives_what_is_left() {
    let space = json!([{"name": "x", "type": "int", "low": 1, "high": 3}]);
    let loss = json!([{"name": "loss", "direction": "minimize"}]);
    let mut conversation = Conversation::new(json!({"space": space, "objectives": loss}));
    assert_eq!(conversation.ask(2).len(), 2);
    assert_eq!(conversation.ask(5).len(), 1);
    let sentence = conversation.refused(json!({"type": "ask", "study": "s", "n": 1}));
    assert!(sentence.contains("all 3 configurations"), "{sentence}");
    assert_eq!(
        conversation.tell(json!([{"id": 0, "status": "ok", "values": [1]}]))["type"],
        "ok"
    );
}

#[test]
fn starting_points_come_first_and_earlier_results_count() {
    let point = |width: i64| json!({"width": width, "rate": 0.5, "tied": true, "kind": 3});
    let mut conversation = Conversation::new(json!({
        "starting_points": [{"params": point(7)}, {"params": point(9)}],
        "earlier": [
            {"params": point(1), "values": [0.1, 0.9, 12]},
            {"params": point(2), "status": "failed"},
        ],
    }));
    let trials = conversation.ask(3);
    assert_eq!(trials[0], json!({"id": 0, "params": point(7)}));
    assert_eq!(trials[1], json!({"id": 1, "params": point(9)}));
    assert_eq!(trials[2]["id"], 2);
    // worse than what an earlier study has found
    conversation.tell(json!([{"id": 0, "status": "ok", "values": [0.2, 0.5, 84]}]));
    let front = conversation.front();
    assert_eq!(
        front["trials"],
        json!([{"id": null, "params": point(1), "values": [0.1, 0.9, 12.0]}])
    );
    let twice =
        create(json!({"study": "t", "starting_points": [{"params": point(7)}, {"params": point(7)}]}));
    assert!(conversation.refused(twice).contains("starting_points[1]"));
}

#[test]
fn starting_points_are_proposed_again_after_a_fault() {
    let point = json!({"width": 7, "rate": 0.5, "tied": true, "kind": 3});
    let mut conversation = Conversation::new(json!({"starting_points": [{"params": point}]}));
    conversation.driver.instead = Some(json!({"type": "bye"}));
    conversation.refused(json!({"type": "ask", "study": "s", "n": 2}));
    assert_eq!(conversation.ask(1)[0]["params"], point);
}
