use std::time::{Duration, Instant};

use serde_json::json;
use web::Settings;

use super::support::{Server, done, measured, spec};

#[tokio::test]
async fn a_trial_goes_from_lease_to_front() {
    let server = Server::new().await;
    let study = server.submit(spec("whole")).await;
    server.propose(study, [41]).await;
    let lease = server.lease().await;
    let id = lease["trial"].as_i64().unwrap();
    assert_eq!(lease["study_name"], "whole");
    assert_eq!(lease["attempt"], 1);
    assert_eq!(lease["lease_s"], 60.0);
    assert_eq!(lease["data_fingerprint"], "fingerprint");
    assert_eq!(
        lease["config"],
        json!({
            "data": { "corpus": "text", "path": "input.txt" },
            "values": { "width": 42, "layers": 4, "experts": 1 },
        })
    );
    assert!(lease["seed"].as_u64().unwrap() < 1 << 53);
    let token = &lease["lease"];
    let beat = server
        .work(&format!("trials/{id}/heartbeat"), json!({ "lease": token }))
        .await
        .ok();
    assert_eq!(beat, json!({ "lease_s": 60.0, "cancel": false }));
    let report = json!({ "lease": token, "measurements": [measured("validation_loss", 3.0)] });
    for _ in 0..2 {
        server
            .work(&format!("trials/{id}/report"), report.clone())
            .await
            .ok();
    }
    let values = vec![measured("validation_loss", 1.5), measured("model_bytes", 1000.0)];
    let finish = json!({ "lease": token, "outcome": done(values, &[]) });
    for _ in 0..2 {
        let ended = server
            .work(&format!("trials/{id}/finish"), finish.clone())
            .await
            .ok();
        assert_eq!(ended["state"], "done", "the same finish again is harmless");
    }
    let front = server.get("/studies/whole/front").await.ok();
    assert_eq!(front["trials"][0]["id"], id);
    assert_eq!(front["trials"][0]["config"]["width"], 42);
}

#[tokio::test]
async fn a_late_worker_gets_409_and_writes_nothing() {
    let server = Server::new().await;
    let study = server.submit(spec("late")).await;
    server.propose(study, 0..1).await;
    let first = server.lease().await;
    let id = first["trial"].as_i64().unwrap();
    let released = server
        .work(
            &format!("trials/{id}/release"),
            json!({ "lease": first["lease"] }),
        )
        .await
        .ok();
    assert_eq!(released["state"], "queued");
    let second = server.lease().await;
    assert_ne!(first["lease"], second["lease"]);
    let late = &first["lease"];
    let values = vec![measured("validation_loss", 0.1), measured("model_bytes", 1.0)];
    for (verb, body) in [
        ("heartbeat", json!({ "lease": late })),
        (
            "report",
            json!({ "lease": late, "measurements": [measured("validation_loss", 0.1)] }),
        ),
        ("finish", json!({ "lease": late, "outcome": done(values, &[]) })),
        ("release", json!({ "lease": late })),
        ("heartbeat", json!({ "lease": "no token at all" })),
    ] {
        let answer = server.work(&format!("trials/{id}/{verb}"), body).await;
        assert!(
            answer
                .problem(409)
                .contains("drop this trial and lease the next one"),
            "{verb}"
        );
        assert_eq!(answer.json()["type"], "urn:parsimony:problem:lease-lost");
    }
    let path = format!(
        "/worker/trials/{id}/artifacts/model.bin?lease={}",
        late.as_str().unwrap()
    );
    server
        .call("worker", "PUT", &path, Some(json!(1)))
        .await
        .problem(409);
    let shown = server.get(&format!("/trials/{id}")).await.ok();
    assert_eq!(
        (&shown["state"], &shown["artifacts"]),
        (&json!("running"), &json!([]))
    );
    assert_eq!(
        server.get(&format!("/trials/{id}/curve")).await.ok()["curves"],
        json!([])
    );
}

#[tokio::test]
async fn a_lease_that_nobody_keeps_is_given_to_another() {
    let settings = Settings {
        lease: Duration::from_millis(50),
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = tokio::spawn(web::serve(listener, server.state.clone(), std::future::pending()));
    let study = server.submit(spec("silent")).await;
    server.propose(study, 0..1).await;
    let lease = server.lease().await;
    let start = Instant::now();
    let shown = loop {
        let shown = server.get(&format!("/trials/{}", lease["trial"])).await.ok();
        if shown["state"] == "queued" {
            break shown;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the reaper never came");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(shown["failure"]["kind"], "lost");
    serving.abort();
}

#[tokio::test]
async fn a_worker_waits_until_a_trial_turns_up() {
    let server = Server::new().await;
    let study = server.submit(spec("patient")).await;
    let request = |wait: f64| json!({ "protocol": 1, "worker": "w", "device": "cpu", "wait_s": wait });
    let start = Instant::now();
    assert_eq!(server.work("lease", request(0.3)).await.status, 204);
    assert!(start.elapsed() >= Duration::from_millis(300));
    let start = Instant::now();
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.propose(study, 0..1).await
    };
    let (leased, _) = tokio::join!(server.work("lease", request(20.0)), later);
    assert_eq!(leased.ok()["number"], 0);
    // told at once, not at the next look two seconds later
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    let workers = server.get("/workers").await.ok();
    assert_eq!(workers["workers"][0]["name"], "w");
    assert_eq!(workers["workers"][0]["study"], "patient");
    assert!(workers["workers"][0]["silent_s"].as_f64().unwrap() < 5.0);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let server = Server::new().await;
    for (body, status, says) in [
        (
            json!({ "protocol": 2, "worker": "w", "device": "cpu" }),
            409,
            "speaks version 1, but the worker speaks version 2",
        ),
        (
            json!({ "protocol": 1, "worker": " ", "device": "cpu" }),
            422,
            "worker: ",
        ),
        (
            json!({ "protocol": 1, "worker": "w", "device": "x".repeat(300) }),
            422,
            "device: 300 bytes",
        ),
        (
            json!({ "protocol": 1, "worker": "w" }),
            400,
            "missing field `device`",
        ),
    ] {
        let detail = server.work("lease", body).await.problem(status);
        assert!(detail.contains(says), "{detail}");
    }
    let study = server.submit(spec("nonsense")).await;
    server.propose(study, 0..1).await;
    let lease = server.lease().await;
    let trial = format!("trials/{}", lease["trial"]);
    let mut named = measured("validation_loss", 1.0);
    named["metric"] = json!("loss; drop table");
    let report = json!({ "lease": lease["lease"], "measurements": [named] });
    let detail = server.work(&format!("{trial}/report"), report).await.problem(422);
    assert!(
        detail.contains("'loss; drop table' is not the name of a metric"),
        "{detail}"
    );
    let twice = vec![measured("accuracy", 0.5), measured("accuracy", 0.6)];
    let finish = json!({ "lease": lease["lease"], "outcome": done(twice, &[]) });
    let detail = server.work(&format!("{trial}/finish"), finish).await.problem(422);
    assert!(detail.contains("'accuracy' twice"), "{detail}");
    let finish = json!({ "lease": lease["lease"], "outcome": done(vec![], &["model.bin"]) });
    let detail = server.work(&format!("{trial}/finish"), finish).await.problem(422);
    assert!(detail.contains("'model.bin', which was not uploaded"), "{detail}");
    let finish = json!({ "lease": lease["lease"], "outcome": { "state": "lost" } });
    assert!(
        server
            .work(&format!("{trial}/finish"), finish)
            .await
            .problem(400)
            .contains("unknown variant")
    );
    server
        .work("trials/999/heartbeat", json!({ "lease": lease["lease"] }))
        .await
        .problem(409);
}
