use serde_json::json;

use super::support::{Server, spec};

#[tokio::test]
async fn a_study_is_submitted_and_shown() {
    let server = Server::new().await;
    let answer = server
        .post("/studies", json!({ "spec": spec("shakespeare") }))
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let study = answer.json();
    assert_eq!(
        answer.header("location"),
        format!("/api/v1/studies/{}", study["id"])
    );
    for address in ["shakespeare".to_owned(), study["id"].to_string()] {
        let shown = server.get(&format!("/studies/{address}")).await.ok();
        assert_eq!(shown["name"], "shakespeare");
        assert_eq!(shown["state"], "running");
        assert_eq!(
            shown["spec"]["space"],
            json!({ "width": { "int": [1, 1_000_000] } })
        );
        assert!(shown["toml"].as_str().unwrap().contains("name = \"shakespeare\""));
        assert_eq!(shown["data_fingerprint"], "fingerprint");
        assert_eq!(
            shown["fixed"],
            json!([{ "name": "layers", "unit": "", "value": 4 }])
        );
        assert_eq!(shown["parameters"][0]["name"], "width");
        assert_eq!(
            shown["objectives"][1],
            json!({
                "metric": "model_bytes", "unit": "B", "direction": "minimize",
                "doc": "bytes of the files needed to serve the model", "known_before_training": true,
            })
        );
        assert_eq!(
            shown["progress"],
            json!({ "finished": 0, "wanted": 10, "trained": 0.0, "full_trials": null, "elapsed_s": null, "eta": null })
        );
        assert_eq!(shown["best"], json!([]));
        assert_eq!(
            shown["hypervolume"],
            json!({ "value": 0.0, "reference": {}, "fixed": false, "curve": [] })
        );
    }
    let list = server.get("/studies").await.ok();
    assert_eq!(list["studies"][0]["name"], "shakespeare");
    assert_eq!(list["studies"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_study_file_is_as_good_as_a_form() {
    let server = Server::new().await;
    let toml = r#"
        name = "from-file"
        [data]
        corpus = "text"
        path = "input.txt"
        [space]
        preset = "tiny"
        width = { int = [8, 64], step = 8 }
        [[objective]]
        metric = "accuracy"
    "#;
    let answer = server.post("/studies", json!({ "toml": toml })).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let study = answer.json();
    assert_eq!(study["objectives"][0]["direction"], "maximize");
    assert_eq!(study["fixed"][0]["value"], 3, "the preset's");
}

#[tokio::test]
async fn mistakes_are_named_at_their_places() {
    let server = Server::new().await;
    let toml = "name = \"x\"\n[data]\ncorpus = \"text\"\npath = \"input.txt\"\n[space]\nwidht = [1, 2]\n[[objective]]\nmetric = \"validation_los\"\n";
    let answer = server.post("/studies", json!({ "toml": toml })).await;
    let detail = answer.problem(422);
    assert!(
        detail.contains("did you mean 'width'?") && detail.contains("and 1 more"),
        "{detail}"
    );
    assert_eq!(answer.json()["type"], "urn:parsimony:problem:invalid-study");
    assert_eq!(
        answer.json()["errors"],
        json!([
            { "path": "space.widht", "line": 6, "message": "unknown parameter 'widht'; did you mean 'width'?" },
            { "path": "objective[0].metric", "line": 8,
              "message": "unknown metric 'validation_los'; did you mean 'validation_loss'?" },
        ])
    );
    let mut missing = spec("missing");
    missing["data"]["path"] = json!("missing.txt");
    let answer = server.post("/studies", json!({ "spec": missing })).await;
    assert!(answer.problem(422).contains("'missing.txt' is not there"));
    assert_eq!(answer.json()["errors"][0]["path"], "data.path");
    assert_eq!(server.get("/studies").await.ok()["studies"], json!([]));
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let server = Server::new().await;
    for (body, status, says) in [
        (json!({}), 400, "either 'spec' or 'toml'"),
        (json!({ "spec": {}, "toml": "" }), 400, "either 'spec' or 'toml'"),
        (json!({ "speck": {} }), 400, "speck"),
        (json!({ "toml": 7 }), 400, "toml"),
        (json!({ "toml": "name = " }), 422, "line 1"),
        (json!({ "spec": spec("../escape") }), 422, "cannot name a folder"),
        (json!({ "spec": spec("<script>") }), 422, "cannot name a folder"),
        (json!({ "spec": spec("2024") }), 422, "is empty or a number"),
    ] {
        let detail = server.post("/studies", body.clone()).await.problem(status);
        assert!(detail.contains(says), "{body}: {detail}");
    }
    server.submit(spec("taken")).await;
    let answer = server.post("/studies", json!({ "spec": spec("taken") })).await;
    assert!(answer.problem(409).contains("'taken' exists already"));
    assert_eq!(answer.json()["type"], "urn:parsimony:problem:name-taken");
    for path in ["/studies/none", "/studies/999"] {
        assert!(server.get(path).await.problem(404).contains("there is no study"));
    }
    let large = "x".repeat(9 << 20);
    let detail = server
        .post("/studies", json!({ "toml": large }))
        .await
        .problem(413);
    assert!(detail.contains("larger than this route takes"));
}

#[tokio::test]
async fn form_and_file_convert_both_ways_without_loss() {
    let server = Server::new().await;
    let checked = server
        .post("/studies/check", json!({ "spec": spec("both") }))
        .await
        .ok();
    assert_eq!(checked["errors"], json!([]));
    let toml = checked["toml"].as_str().unwrap();
    let back = server.post("/studies/check", json!({ "toml": toml })).await.ok();
    assert_eq!(back["errors"], json!([]));
    let again = server
        .post("/studies/check", json!({ "spec": back["spec"] }))
        .await
        .ok();
    assert_eq!(again["toml"], checked["toml"]);
    assert_eq!(back["spec"]["space"], spec("both")["space"]);
    let commented = format!("# mine\n{toml}");
    let kept = server
        .post("/studies/check", json!({ "toml": commented }))
        .await
        .ok();
    assert_eq!(kept["toml"], commented, "what a person wrote stays as it is");
    assert_eq!(
        server.get("/studies").await.ok()["studies"],
        json!([]),
        "checking creates nothing"
    );
}

#[tokio::test]
async fn half_a_study_converts_too() {
    let server = Server::new().await;
    let half =
        json!({ "name": "", "data": { "corpus": "text" }, "space": { "width": [1, 2] }, "colour": "red" });
    let checked = server.post("/studies/check", json!({ "spec": half })).await.ok();
    let toml = checked["toml"].as_str().unwrap();
    assert!(
        toml.contains("colour = \"red\"") && toml.contains("width = [1, 2]"),
        "{toml}"
    );
    assert!(checked["errors"].as_array().unwrap().len() >= 2);
    let back = server.post("/studies/check", json!({ "toml": toml })).await.ok();
    assert_eq!(back["spec"]["colour"], "red");
    assert_eq!(
        back["errors"].as_array().unwrap().len(),
        checked["errors"].as_array().unwrap().len()
    );
    let broken = server
        .post("/studies/check", json!({ "toml": "name = " }))
        .await
        .ok();
    assert_eq!(broken["spec"], json!(null));
    assert_eq!(broken["errors"][0]["line"], 1);
    let missing = json!({ "name": "m", "data": { "corpus": "text", "path": "missing.txt" },
        "space": { "width": [1, 2] }, "objective": [{ "metric": "accuracy" }] });
    let checked = server
        .post("/studies/check", json!({ "spec": missing }))
        .await
        .ok();
    assert_eq!(
        checked["errors"][0]["path"], "data.path",
        "the machine is asked, too"
    );
}

#[tokio::test]
async fn a_study_is_steered_to_its_end() {
    let server = Server::new().await;
    let id = server.submit(spec("steered")).await;
    server.propose(id, 0..3).await;
    let steer = async |verb: &str| server.post(&format!("/studies/steered/{verb}"), json!({})).await;
    assert_eq!(steer("pause").await.ok()["state"], "paused");
    assert_eq!(steer("pause").await.ok()["state"], "paused", "twice is harmless");
    let request = json!({ "protocol": 1, "worker": "w", "device": "cpu" });
    assert_eq!(
        server.work("lease", request).await.status,
        204,
        "nothing is leased of a paused study"
    );
    assert_eq!(steer("resume").await.ok()["state"], "running");
    let lease = server.lease().await;
    let cancelled = steer("cancel").await.ok();
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(cancelled["counts"]["cancelled"], 2);
    assert_eq!(cancelled["counts"]["running"], 1);
    let beat = server
        .work(
            &format!("trials/{}/heartbeat", lease["trial"]),
            json!({ "lease": lease["lease"] }),
        )
        .await
        .ok();
    assert_eq!(beat["cancel"], true, "the running one is asked to stop");
    let detail = steer("resume").await.problem(409);
    assert!(detail.contains("clone it to search on"), "{detail}");
    let refused = server.post("/studies/none/pause", json!({})).await;
    refused.problem(404);
}

#[tokio::test]
async fn a_clone_is_the_same_study_under_a_free_name() {
    let server = Server::new().await;
    server.submit(spec("a")).await;
    server.submit(spec("a-2")).await;
    let clone = server.post("/studies/a/clone", json!({})).await.ok();
    let mut expected = server.get("/studies/a").await.ok()["spec"].clone();
    expected["name"] = json!("a-3");
    assert_eq!(clone["spec"], expected);
    assert_eq!(
        server.get("/studies").await.ok()["studies"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let submitted = server.post("/studies", json!({ "toml": clone["toml"] })).await;
    assert_eq!(submitted.status, 201, "{}", submitted.text());
}

#[tokio::test]
async fn a_clone_may_begin_with_the_front() {
    let server = Server::new().await;
    server
        .studied("found", &[(1.0, 2.0), (3.0, 3.0), (2.0, 1.0)])
        .await;
    let clone = server
        .post("/studies/found/clone?front=true", json!({}))
        .await
        .ok();
    assert_eq!(
        clone["spec"]["search"]["start"],
        json!([{ "width": 1 }, { "width": 3 }])
    );
    let submitted = server.post("/studies", json!({ "toml": clone["toml"] })).await;
    assert_eq!(submitted.status, 201, "{}", submitted.text());
    let again = server
        .post("/studies/found-2/clone?front=true", json!({}))
        .await
        .ok();
    assert_eq!(again["spec"]["search"]["start"], clone["spec"]["search"]["start"]);
    let detail = server
        .post("/studies/found/clone?best=true", json!({}))
        .await
        .problem(400);
    assert!(detail.contains("best"), "{detail}");
}

#[tokio::test]
async fn a_deleted_study_is_gone_with_its_trials() {
    let server = Server::new().await;
    let id = server.studied("gone", &[(1.0, 2.0)]).await;
    let trial = server.get(&format!("/studies/{id}/trials")).await.ok()["trials"][0]["id"].clone();
    assert_eq!(
        server
            .call("submit", "DELETE", "/studies/gone", None)
            .await
            .status,
        204
    );
    server.get("/studies/gone").await.problem(404);
    server.get(&format!("/trials/{trial}")).await.problem(404);
    server
        .call("submit", "DELETE", "/studies/gone", None)
        .await
        .problem(404);
    assert_eq!(server.get("/studies").await.ok()["studies"], json!([]));
}

#[tokio::test]
async fn progress_best_and_hypervolume_follow_the_trials() {
    let server = Server::new().await;
    let id = server
        .studied("progress", &[(3.0, 30.0), (2.0, 40.0), (2.5, 20.0), (4.0, 50.0)])
        .await;
    server.propose(id, 10..12).await;
    let shown = server.get("/studies/progress").await.ok();
    assert_eq!(shown["counts"]["done"], 4);
    assert_eq!(shown["progress"]["finished"], 4);
    let eta = &shown["progress"]["eta"];
    assert!(eta["low_s"].as_f64().unwrap() <= eta["high_s"].as_f64().unwrap());
    assert_eq!(shown["best"][0]["value"], 2.0);
    assert_eq!(shown["best"][0]["number"], 1);
    assert_eq!(shown["best"][1]["value"], 20.0);
    let curve = shown["hypervolume"]["curve"].as_array().unwrap();
    let results: Vec<i64> = curve.iter().map(|p| p["results"].as_i64().unwrap()).collect();
    assert_eq!(results, [1, 2, 3], "the fourth adds nothing");
    // worst values 4 and 50, a tenth of the ranges 2 and 30 beyond
    assert_eq!(
        shown["hypervolume"]["reference"],
        json!({ "validation_loss": 4.2, "model_bytes": 53.0 })
    );
    let expected = 1.7 * (53.0 - 20.0) + 0.5 * (53.0 - 40.0);
    let value = shown["hypervolume"]["value"].as_f64().unwrap();
    assert!((value - expected).abs() < 1e-9, "{value}");
    let front = server.get("/studies/progress/front").await.ok();
    assert!((front["hypervolume"].as_f64().unwrap() - value).abs() < 1e-9);
}
