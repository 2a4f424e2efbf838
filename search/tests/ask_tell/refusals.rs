//! What is wrong is refused in one sentence that names it, and changes nothing.

use serde_json::{Value, json};

use crate::{Conversation, create};

#[test]
fn a_tell_that_is_wrong_changes_nothing() {
    let mut conversation = Conversation::new(json!({}));
    conversation.ask(3);
    let good = json!({"id": 1, "status": "ok", "values": [1, 2, 3]});
    conversation.tell(json!([{"id": 0, "status": "failed"}]));
    for (bad, parts) in [
        (
            json!({"id": 7, "status": "failed"}),
            ["results[1]", "trial 7 has not been proposed"],
        ),
        (
            json!({"id": 0, "status": "failed"}),
            ["results[1]", "trial 0 has been told already"],
        ),
        (
            json!({"id": 1, "status": "failed"}),
            ["results[1]", "trial 1 has been told already"],
        ),
        (
            json!({"id": 2, "status": "ok", "values": [1, 2]}),
            ["results[1].values", "2 numbers for 3"],
        ),
        (
            json!({"id": 2, "status": "ok", "values": [1, 2, null]}),
            ["results[1].values[2]", "null"],
        ),
        (
            json!({"id": 2, "status": "ok", "values": [1, 2, "3"]}),
            ["results[1].values[2]", "\"3\""],
        ),
        (
            json!({"id": 2, "status": "ok"}),
            ["results[1]", "'values' is missing"],
        ),
        (
            json!({"id": 2, "status": "failed", "values": [1, 2, 3]}),
            ["results[1]", "has no values"],
        ),
        (
            json!({"id": 2, "status": "done"}),
            ["results[1].status", "'done'"],
        ),
        (json!({"id": -2, "status": "failed"}), ["results[1].id", "-2"]),
        (
            json!({"id": 2, "status": "failed", "seconds": -0.5}),
            ["results[1].seconds", "cannot run for -0.5 s"],
        ),
        (
            json!({"id": 2, "status": "failed", "seconds": "1 min"}),
            ["results[1].seconds", "1 min"],
        ),
        (json!({"id": 2}), ["results[1]", "'status' is missing"]),
    ] {
        let sentence = conversation.refused(json!({"type": "tell", "study": "s", "results": [good, bad]}));
        for part in parts {
            assert!(sentence.contains(part), "'{part}' is not in: {sentence}");
        }
    }
    let both = json!([good, {"id": 2, "status": "ok", "values": [1, 2, 3], "message": null}]);
    assert_eq!(conversation.tell(both), json!({"type": "ok"}), "both still wait");
    assert_eq!(conversation.front()["trials"].as_array().unwrap().len(), 2);
}

#[test]
fn studies_that_cannot_be_searched_are_refused_at_their_place() {
    let mut conversation = Conversation::default();
    let x = json!({"name": "x", "type": "float", "low": 0, "high": 1});
    let with = |key: &str, value: Value| {
        let mut entry = x.clone();
        entry[key] = value;
        json!({"space": [entry]})
    };
    let child = |clause: Value| {
        json!({"space": [
            {"name": "k", "type": "categorical", "choices": ["a", "b"]},
            {"name": "x", "type": "float", "low": 0, "high": 1, "condition": [clause]},
            {"name": "late", "type": "int", "low": 0, "high": 1},
        ]})
    };
    let loss = json!({"name": "loss", "direction": "minimize"});
    for (changes, parts) in [
        (json!({"space": []}), ["space", "name at least one"]),
        (json!({"space": [x, x]}), ["space[1]", "'x' is given twice"]),
        (with("low", json!(2)), ["'x' (space[0])", "[2, 1] is empty"]),
        (with("low", json!(null)), ["space[0]", "has no 'low'"]),
        (
            json!({"space": [{"name": "x", "type": "int", "low": 0, "high": 3, "log": true}]}),
            ["'x'", "start at 0"],
        ),
        (with("log", json!(true)), ["'x'", "cannot start at 0"]),
        (with("log", json!("yes")), ["space[0].log", "\"yes\""]),
        (with("low", json!("0")), ["space[0].low", "\"0\""]),
        (with("hihg", json!(3)), ["space[0]", "did you mean 'high'"]),
        (with("type", json!("int64")), ["space[0].type", "'int64'"]),
        (with("type", json!("int")), ["none", "none"]),
        (with("choices", json!([1])), ["space[0]", "has choices"]),
        (
            json!({"space": [{"name": "x", "type": "int", "low": 0.5, "high": 3}]}),
            ["'x'", "0.5"],
        ),
        (
            json!({"space": [{"name": "x", "type": "categorical"}]}),
            ["'x'", "no choices"],
        ),
        (
            json!({"space": [{"name": "x", "type": "categorical", "choices": []}]}),
            ["'x'", "choices is empty"],
        ),
        (
            json!({"space": [{"name": "x", "type": "categorical", "choices": [1, 1]}]}),
            ["'x'", "1 is given twice"],
        ),
        (
            child(json!({"parent": "q", "in": ["a"]})),
            ["space[1].condition[0]", "'q'"],
        ),
        (
            child(json!({"parent": "late", "ge": 1})),
            ["'late'", "comes later"],
        ),
        (child(json!({"parent": "x", "ge": 1})), ["'x'", "itself"]),
        (
            child(json!({"parent": "k"})),
            ["space[1].condition[0]", "exactly one of 'in' and 'ge'"],
        ),
        (
            child(json!({"parent": "k", "in": ["c"]})),
            ["k == 'c'", "never holds"],
        ),
        (child(json!({"parent": "k", "ge": 2})), ["k >= 2", "never holds"]),
        (json!({"objectives": []}), ["no objective", "at least one"]),
        (json!({"objectives": [loss, loss]}), ["'loss'", "given twice"]),
        (
            json!({"objectives": [{"name": "loss", "direction": "down"}]}),
            ["objectives[0].direction", "'down'"],
        ),
        (json!({"ref_point": [1.0]}), ["ref_point", "1 number for 3"]),
        (json!({"ref_point": [1.0, 2.0, "x"]}), ["ref_point[2]", "\"x\""]),
        (json!({"method": "atuo"}), ["method", "did you mean 'auto'"]),
        (json!({"seed": -1}), ["seed", "-1"]),
        (json!({"budget": 0}), ["budget", "at least 1"]),
        (json!({"sede": 1}), ["unknown key 'sede'", "did you mean 'seed'"]),
        (
            json!({"starting_points": [{"params": {"width": 3}}]}),
            ["starting_points[0].params", "'rate'"],
        ),
        (
            json!({"earlier": [{"params": {"width": 0}, "values": [1, 2, 3]}]}),
            ["earlier[0].params", "'width': 0"],
        ),
    ] {
        if parts == ["none", "none"] {
            assert_eq!(
                conversation.send(create(changes))["type"],
                "ok",
                "0 and 1 are whole numbers"
            );
            conversation.send(json!({"type": "close", "study": "s"}));
            continue;
        }
        let sentence = conversation.refused(create(changes));
        for part in parts {
            assert!(sentence.contains(part), "'{part}' is not in: {sentence}");
        }
    }
    assert_eq!(conversation.send(create(json!({})))["type"], "ok");
    assert!(
        conversation
            .refused(create(json!({})))
            .contains("'s' is open already")
    );
    assert!(
        conversation
            .refused(json!({"type": "ask", "study": "t"}))
            .contains("'t'")
    );
    assert!(
        conversation
            .refused(json!({"type": "hello", "protocol": 2}))
            .contains("protocol 2")
    );
    assert!(
        conversation
            .refused(json!({"type": "ask", "study": "s", "n": 0}))
            .contains("n is 0")
    );
    assert!(
        conversation
            .refused(json!({"type": "ask", "study": "s", "n": 5000}))
            .contains("1 to 1024")
    );
    let stray = json!({"type": "cheap_values", "study": "s", "values": []});
    assert!(conversation.refused(stray).contains("no open question"));
    assert_eq!(conversation.ask(1)[0]["id"], 0);
}
