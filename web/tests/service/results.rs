use serde_json::{Value, json};

use super::support::{Server, measured, spec};

fn ids(front: &Value) -> Vec<i64> {
    front["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["number"].as_i64().unwrap())
        .collect()
}

const RESULTS: &[(f64, f64)] = &[
    (3.0, 100.0),
    (2.0, 200.0),
    (1.0, 900.0),
    (2.5, 300.0),
    (1.9, 220.0),
];

#[tokio::test]
async fn the_front_is_what_no_other_trial_beats() {
    let server = Server::new().await;
    server.studied("front", RESULTS).await;
    let front = server.get("/studies/front/front").await.ok();
    assert_eq!(front["study"], "front");
    assert_eq!(
        front["objectives"],
        json!([
            { "metric": "validation_loss", "direction": "minimize", "unit": "nats/token" },
            { "metric": "model_bytes", "direction": "minimize", "unit": "B" },
        ])
    );
    assert_eq!(ids(&front), [0, 1, 2, 4]);
    assert_eq!((&front["results"], &front["feasible"]), (&json!(5), &json!(5)));
    assert_eq!(front["evidence"]["model_bytes"], json!(["measured"]));
    let member = &front["trials"][1];
    assert_eq!(member["state"], "done");
    assert_eq!(member["config"]["layers"], 4);
    assert_eq!(member["metrics"]["model_bytes"]["unit"], "B");
    assert_eq!(front["knee"], front["trials"][3]["id"]);
    assert_eq!(front["note"], Value::Null);
    assert!(front.get("split").is_none());
    // worst values plus a tenth of the range
    assert_eq!(
        front["reference"],
        json!({ "validation_loss": 3.2, "model_bytes": 980.0 })
    );
}

#[tokio::test]
async fn other_metrics_and_limits_make_another_front() {
    let server = Server::new().await;
    server.studied("other", RESULTS).await;
    let get = async |query: &str| server.get(&format!("/studies/other/front?{query}")).await;
    let limited = get("where=model_bytes%3C%3D250").await.ok();
    assert_eq!(ids(&limited), [0, 1, 4]);
    assert_eq!(limited["feasible"], 3);
    assert_eq!(
        limited["limits"][0],
        json!({ "metric": "model_bytes", "unit": "B", "min": null, "max": 250.0 })
    );
    let single = get("metric=validation_loss").await.ok();
    assert_eq!(ids(&single), [2]);
    let known = get("metric=validation_loss&metric=parameters").await.ok();
    assert_eq!(ids(&known), [0, 1, 2], "what is known before training counts");
    assert_eq!(known["evidence"]["parameters"], json!(["analytic"]));
    let none = get("where=model_bytes%3C%3D1").await.ok();
    assert_eq!(ids(&none), Vec::<i64>::new());
    assert!(
        none["note"]
            .as_str()
            .unwrap()
            .contains("none of 5 results keeps the limits")
    );
    for (query, says) in [
        ("metric=model_byte", "did you mean 'model_bytes'?"),
        ("metric=accuracy&metric=accuracy", "given twice"),
        ("where=model_bytes", "write METRIC<=VALUE"),
        ("where=model_bytes%3C%3D4%20parsecs", "parsecs"),
        ("format=pdf", "pdf"),
        ("metrics=a", "metrics"),
    ] {
        let detail = get(query).await.problem(400);
        assert!(detail.contains(says), "{query}: {detail}");
    }
    server.get("/studies/none/front").await.problem(404);
}

#[tokio::test]
async fn an_empty_study_has_an_empty_front() {
    let server = Server::new().await;
    server.submit(spec("empty")).await;
    let front = server.get("/studies/empty/front").await.ok();
    assert_eq!(
        (&front["trials"], &front["hypervolume"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(front["reference"], json!({}));
    let svg = server.get("/studies/empty/front?format=svg").await;
    assert!(svg.text().contains("no trial has a value of both objectives yet"));
    let answer = server.get("/studies/empty/recommend").await;
    assert!(answer.problem(409).contains("wait for a trial to finish"));
}

#[tokio::test]
async fn the_studys_own_limits_always_hold() {
    let server = Server::new().await;
    let mut limited = spec("limited");
    limited["constraint"] = json!([{ "metric": "model_bytes", "max": "250 B" }]);
    let study = server.submit(limited).await;
    server.propose(study, 0..5).await;
    for (loss, bytes) in RESULTS {
        server
            .finish_next(&[("validation_loss", *loss), ("model_bytes", *bytes)])
            .await;
    }
    let front = server.get("/studies/limited/front").await.ok();
    assert_eq!(ids(&front), [0, 1, 4]);
    let trials = server.get("/studies/limited/trials").await.ok();
    assert_eq!(trials["trials"][2]["feasible"], false);
    assert_eq!(trials["trials"][0]["feasible"], true);
    let best = server.get("/studies/limited").await.ok()["best"].clone();
    assert_eq!(best[0]["value"], 1.9, "a trial beyond the limits is no best");
}

/// Energy that was measured must not meet energy that was estimated.
#[tokio::test]
async fn measured_and_estimated_energy_make_two_fronts() {
    let server = Server::new().await;
    let mut mixed = spec("mixed");
    mixed["objective"] = json!([{ "metric": "validation_loss" }, { "metric": "energy_j_per_token" }]);
    let study = server.submit(mixed).await;
    server.propose(study, 0..4).await;
    for (loss, energy, evidence) in [
        (1.0, 5.0, "estimated"),
        (2.0, 9.0, "measured"),
        (3.0, 8.0, "measured"),
        (0.5, 6.0, "estimated"),
    ] {
        let mut joule = measured("energy_j_per_token", energy);
        joule["evidence"] = json!(evidence);
        server
            .finish_next_with(vec![measured("validation_loss", loss), joule])
            .await;
    }
    let front = server.get("/studies/mixed/front").await.ok();
    assert_eq!(
        ids(&front),
        [1, 2],
        "the measured ones, though each is beaten by an estimate"
    );
    assert_eq!(front["evidence"]["energy_j_per_token"], json!(["measured"]));
    assert_eq!(ids(&front["split"][0]), [0, 3]);
    assert_eq!(
        front["split"][0]["evidence"],
        json!({ "energy_j_per_token": "estimated" })
    );
    assert_eq!(
        front["note"],
        "energy_j_per_token is measured in 2 trials and estimated of 2: these cannot be compared, so this front holds \
         the measured ones and 'split' the others"
    );
    let recommended = server
        .get("/studies/mixed/recommend?rule=min:validation_loss")
        .await
        .ok();
    assert_eq!(recommended["trial"]["number"], 1);
    assert_eq!(recommended["looked_at"], 2);
    let named = server.get("/studies/mixed/recommend?rule=trial:4").await;
    assert!(named.status == 200 || named.status == 404);
    let loss_only = server
        .get("/studies/mixed/front?metric=validation_loss&metric=parameters")
        .await
        .ok();
    assert_eq!(
        ids(&loss_only),
        [0, 3],
        "without energy there is nothing to split"
    );
    assert!(
        server
            .get("/studies/mixed/front?format=svg")
            .await
            .text()
            .contains("cannot be compared")
    );
}

#[tokio::test]
async fn one_configuration_is_recommended_with_the_reason() {
    let server = Server::new().await;
    server.studied("advice", RESULTS).await;
    let knee = server.get("/studies/advice/recommend").await.ok();
    assert_eq!(knee["rule"], "knee");
    assert_eq!(knee["trial"]["number"], 4);
    assert!(
        knee["reason"]
            .as_str()
            .unwrap()
            .contains("is the knee of 4 trade-offs")
    );
    assert_eq!(knee["relax"], json!([]));
    assert_eq!(knee["given_up"][0]["best"], 1.0);
    assert_eq!(knee["given_up"][0]["unit"], "nats/token");
    let small = server
        .get("/studies/advice/recommend?rule=min:validation_loss&where=model_bytes%3C%3D210")
        .await
        .ok();
    assert_eq!(small["trial"]["number"], 1);
    assert_eq!(small["feasible"], 2);
    let nothing = server
        .get("/studies/advice/recommend?where=model_bytes%3C%3D50")
        .await
        .ok();
    assert_eq!(nothing["feasible"], 0);
    assert_eq!(nothing["trial"]["number"], 0, "the one that comes closest");
    assert_eq!(nothing["relax"][0]["value"], 100.0);
    assert_eq!(nothing["relax"][0]["by"], 1.0);
    for (query, status, says) in [
        ("rule=elbow", 400, "write knee, trial:ID"),
        ("rule=trial:999", 404, "there is no trial 999"),
        ("rule=max:accuracy", 422, "no trial has a value of 'accuracy'"),
        ("where=nonsense", 400, "is not a limit"),
    ] {
        let detail = server
            .get(&format!("/studies/advice/recommend?{query}"))
            .await
            .problem(status);
        assert!(detail.contains(says), "{query}: {detail}");
    }
}

#[tokio::test]
async fn the_front_comes_as_table_and_picture_too() {
    let server = Server::new().await;
    server.studied("shown", RESULTS).await;
    let csv = server.get("/studies/shown/front?format=csv").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(
        csv.text()
            .starts_with("number,id,experts,layers,width,model_bytes,parameters,validation_loss\n0,")
    );
    assert_eq!(csv.text().lines().count(), 5);
    let svg = server.get("/studies/shown/front?format=svg").await;
    assert_eq!(svg.header("content-type"), "image/svg+xml");
    assert!(svg.text().contains("shown: 4 of 5 results on the front"));
    let png = server.get("/studies/shown/front?format=png").await;
    assert_eq!(png.header("content-type"), "image/png");
    assert_eq!(&png.bytes[..8], b"\x89PNG\r\n\x1a\n");
    let single = server
        .get("/studies/shown/front?format=png&metric=accuracy")
        .await;
    assert!(single.problem(422).contains("name two metrics"));
    let volume = server.get("/studies/shown/hypervolume").await;
    assert!(volume.text().contains("shown: hypervolume by trial"));
    let volume = server.get("/studies/shown/hypervolume?format=png").await;
    assert_eq!(volume.header("content-type"), "image/png");
}
