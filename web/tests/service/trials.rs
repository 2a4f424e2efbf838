use serde_json::json;

use super::support::{Server, measured, spec};

#[tokio::test]
async fn trials_are_listed_page_by_page() {
    let server = Server::new().await;
    let id = server.submit(spec("pages")).await;
    server.propose(id, 0..5).await;
    server.finish_next(&[("validation_loss", 1.5)]).await;
    let page = server.get("/studies/pages/trials?limit=2").await.ok();
    assert_eq!(page["next"], 1);
    let first = &page["trials"][0];
    assert_eq!(first["state"], "done");
    assert_eq!(first["worker"], "node1");
    assert_eq!(first["attempt"], 1);
    assert_eq!(
        first["config"],
        json!({ "width": 1, "layers": 4, "experts": 1 }),
        "constants and defaults, too"
    );
    assert_eq!(
        first["metrics"],
        json!({
            "parameters": { "value": 10.0, "unit": "parameters", "evidence": "analytic", "spread": null, "source": "formula" },
            "validation_loss": { "value": 1.5, "unit": "nats/token", "evidence": "measured", "spread": null, "source": "clock" },
        })
    );
    let last = server.get("/studies/pages/trials?limit=2&after=3").await.ok();
    assert_eq!(last["trials"].as_array().unwrap().len(), 1);
    assert_eq!(last["next"], json!(null));
    let states = server
        .get("/studies/pages/trials?state=done&state=running")
        .await
        .ok();
    assert_eq!(states["trials"].as_array().unwrap().len(), 1);
    let single = server.get("/studies/pages/trials?state=queued").await.ok();
    assert_eq!(single["trials"].as_array().unwrap().len(), 4);
    for (query, says) in [
        ("state=finished", "finished"),
        ("limit=0", "between 1 and 2000"),
        ("limit=2001", "between 1 and 2000"),
        ("after=-1", "query cannot be read"),
        ("colour=red", "colour"),
    ] {
        let detail = server
            .get(&format!("/studies/pages/trials?{query}"))
            .await
            .problem(400);
        assert!(detail.contains(says), "{query}: {detail}");
    }
    server.get("/studies/none/trials").await.problem(404);
}

#[tokio::test]
async fn a_trial_shows_all_that_is_kept_of_it() {
    let server = Server::new().await;
    let id = server.submit(spec("detail")).await;
    server.propose(id, 0..1).await;
    let lease = server.lease().await;
    let trial = lease["trial"].as_i64().unwrap();
    let point = |step: u64, value: f64| json!({ "metric": "validation_loss", "step": step, "value": value, "evidence": "measured", "source": "clock" });
    let report = json!({ "lease": lease["lease"], "measurements": [point(10, 3.0), point(20, 2.0)],
        "progress": { "phase": "train", "step": 20, "steps": 100, "eta_s": 8.0 } });
    server.work(&format!("trials/{trial}/report"), report).await.ok();
    let running = server.get(&format!("/trials/{trial}")).await.ok();
    assert_eq!(running["progress"]["phase"], "train");
    let mut loss = measured("validation_loss", 1.5);
    loss["spread"] = json!(0.25);
    let finish = json!({ "lease": lease["lease"], "outcome": super::support::done(vec![loss], &[]) });
    server.work(&format!("trials/{trial}/finish"), finish).await.ok();
    let shown = server.get(&format!("/trials/{trial}")).await.ok();
    assert_eq!(shown["study_name"], "detail");
    assert_eq!(shown["candidate"], json!({ "width": 1 }));
    assert_eq!(shown["activity"], json!({ "prune": 7 }));
    assert_eq!(shown["provenance"], json!({ "version": "0.1.0" }));
    assert_eq!(shown["metrics"]["validation_loss"]["spread"], 0.25);
    assert_eq!(shown["data"], json!({ "corpus": "text", "path": "input.txt" }));
    assert_eq!(shown["progress"], json!(null));
    assert_eq!(shown["wall_s"], 1.5);
    let curves = server
        .get(&format!("/trials/{trial}/curve?metric=validation_loss"))
        .await
        .ok();
    assert_eq!(curves["curves"].as_array().unwrap().len(), 1);
    assert_eq!(curves["curves"][0]["unit"], "nats/token");
    assert_eq!(
        curves["curves"][0]["points"],
        json!([
            { "step": 10, "value": 3.0, "evidence": "measured" },
            { "step": 20, "value": 2.0, "evidence": "measured" },
        ])
    );
    let none = server
        .get(&format!("/trials/{trial}/curve?metric=accuracy"))
        .await
        .ok();
    assert_eq!(none["curves"], json!([]));
    for path in ["/trials/999", "/trials/999/curve"] {
        server.get(path).await.problem(404);
    }
    assert!(
        server
            .get("/trials/first")
            .await
            .problem(404)
            .contains("cannot be read")
    );
}

#[tokio::test]
async fn failed_trials_say_why_and_are_retried_alone_or_together() {
    let server = Server::new().await;
    let id = server.submit(spec("failing")).await;
    let ids = server.propose(id, 0..3).await;
    for _ in 0..2 {
        let lease = server.lease().await;
        let outcome =
            json!({ "state": "failed", "kind": "not_a_number", "message": "the loss was NaN at step 7" });
        let finish = json!({ "lease": lease["lease"], "outcome": outcome });
        let ended = server
            .work(&format!("trials/{}/finish", lease["trial"]), finish)
            .await
            .ok();
        assert_eq!(ended["state"], "failed");
    }
    let shown = server.get(&format!("/trials/{}", ids[0])).await.ok();
    assert_eq!(
        shown["failure"],
        json!({ "kind": "not_a_number", "message": "the loss was NaN at step 7" })
    );
    let retried = server
        .post(&format!("/trials/{}/retry", ids[0]), json!({}))
        .await
        .ok();
    assert_eq!(retried["state"], "queued");
    let again = server.post(&format!("/trials/{}/retry", ids[0]), json!({})).await;
    assert!(again.problem(409).contains("only a failed trial can be"));
    let rest = server.post("/studies/failing/retry-failed", json!({})).await.ok();
    assert_eq!(rest["retried"], 1);
    let cancelled = server
        .post(&format!("/trials/{}/cancel", ids[2]), json!({}))
        .await
        .ok();
    assert_eq!(cancelled["state"], "cancelled");
    let twice = server
        .post(&format!("/trials/{}/cancel", ids[2]), json!({}))
        .await;
    assert!(twice.problem(409).contains("it is over already"));
    server.post("/trials/999/cancel", json!({})).await.problem(404);
}

#[tokio::test]
async fn the_table_has_a_column_for_each_parameter_and_metric() {
    let server = Server::new().await;
    server.studied("table", &[(1.5, 20.0), (1.25, 30.0)]).await;
    let answer = server.get("/studies/table/trials.csv").await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"table-trials.csv\""
    );
    let text = answer.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "number,id,repeats,state,trainings,attempt,worker,feasible,experts,layers,width,model_bytes,parameters,validation_loss,trained,wall_s,started_at,finished_at,failure"
    );
    assert!(
        lines[2].contains(",,done,1,1,node1,true,1,4,2,30,20,1.25,1,1.5,"),
        "{}",
        lines[2]
    );
    assert_eq!(lines.len(), 3);
}
