use serde_json::{Value, json};

use super::support::Server;

fn create(study: &str, cheap: bool) -> Value {
    json!({
        "type": "create", "study": study, "seed": 1,
        "space": [{"name": "x", "type": "float", "low": 0, "high": 4}],
        "objectives": [
            {"name": "loss", "direction": "minimize"},
            {"name": "bytes", "direction": "minimize", "cheap": cheap},
        ],
    })
}

/// The answer to one message, which has status 200 whatever it is.
async fn say(server: &Server, role: &str, message: Value) -> Value {
    let answer = server.call(role, "POST", "/optimize", Some(message)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn values(question: &Value) -> Value {
    let configs = question["configs"].as_array().unwrap();
    let rows = configs.iter().map(|c| json!([c["x"].as_f64().unwrap()]));
    json!({"type": "cheap_values", "study": question["study"], "values": rows.collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_study_is_searched_with_questions_in_between() {
    let server = Server::new().await;
    let hello = say(&server, "submit", json!({"type": "hello", "protocol": 1})).await;
    assert_eq!(
        (&hello["type"], &hello["name"]),
        (&json!("hello_ok"), &json!("parsimony"))
    );
    assert_eq!(say(&server, "submit", create("s", true)).await["type"], "ok");
    let mut questions = 0;
    for _ in 0..6 {
        let mut answer = say(&server, "submit", json!({"type": "ask", "study": "s", "n": 4})).await;
        while answer["type"] == "cheap" {
            questions += 1;
            answer = say(&server, "submit", values(&answer)).await;
        }
        for trial in answer["trials"].as_array().unwrap_or_else(|| panic!("{answer}")) {
            let x = trial["params"]["x"].as_f64().unwrap();
            let result = json!({"id": trial["id"], "status": "ok", "values": [(x - 2.0).powi(2), x]});
            let told = json!({"type": "tell", "study": "s", "results": [result]});
            assert_eq!(say(&server, "submit", told).await["type"], "ok");
        }
    }
    assert!(questions >= 6);
    let front = say(&server, "submit", json!({"type": "front", "study": "s"})).await;
    assert!(front["trials"].as_array().unwrap().len() > 4, "{front}");
    assert_eq!(
        say(&server, "submit", json!({"type": "close", "study": "s"})).await["type"],
        "ok"
    );
    let gone = say(&server, "submit", json!({"type": "front", "study": "s"})).await;
    assert!(
        gone["message"].as_str().unwrap().contains("none is open"),
        "{gone}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_study_goes_on() {
    let server = Server::new().await;
    say(&server, "submit", create("s", true)).await;
    let question = say(&server, "submit", json!({"type": "ask", "study": "s"})).await;
    assert_eq!(question["type"], "cheap", "{question}");
    let wrong = say(
        &server,
        "submit",
        json!({"type": "cheap_values", "study": "s", "values": []}),
    )
    .await;
    assert!(
        wrong["message"].as_str().unwrap().contains("ask again"),
        "{wrong}"
    );
    for bad in [
        json!(null),
        json!({"type": "aks"}),
        json!({"type": "ask", "study": "s", "n": 0}),
        create("s", true),
    ] {
        let answer = say(&server, "submit", bad).await;
        assert_eq!(answer["type"], "error", "{answer}");
    }
    let question = say(&server, "submit", json!({"type": "ask", "study": "s"})).await;
    let trials = say(&server, "submit", values(&question)).await;
    assert_eq!(trials["trials"][0]["id"], 0, "{trials}");
}

#[tokio::test]
async fn studies_belong_to_their_token_and_are_bounded() {
    let server = Server::new().await;
    for i in 0..16 {
        assert_eq!(
            say(&server, "submit", create(&i.to_string(), false)).await["type"],
            "ok"
        );
    }
    let full = say(&server, "submit", create("16", false)).await;
    assert!(full["message"].as_str().unwrap().contains("16 studies"), "{full}");
    assert_eq!(
        say(&server, "admin", create("0", false)).await["type"],
        "ok",
        "a name of its own"
    );
    let foreign = say(&server, "admin", json!({"type": "ask", "study": "1"})).await;
    assert_eq!(foreign["type"], "error", "{foreign}");
    assert_eq!(say(&server, "submit", json!({"type": "bye"})).await["type"], "ok");
    assert_eq!(say(&server, "submit", create("16", false)).await["type"], "ok");
    assert_eq!(
        say(&server, "admin", json!({"type": "ask", "study": "0"})).await["type"],
        "trials"
    );
}
