use std::{
    io::{Cursor, Read},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    http::Request,
};
use futures::{TryStreamExt, stream};
use object_store::{ObjectStore, local::LocalFileSystem};
use serde_json::{Value, json};
use web::Settings;

use super::support::{Answer, Server, done, measured, spec};

async fn put(server: &Server, lease: &Value, name: &str, body: Body) -> Answer {
    let uri = format!(
        "/api/v1/worker/trials/{}/artifacts/{name}?lease={}",
        lease["trial"],
        lease["lease"].as_str().unwrap()
    );
    let request = Request::put(uri).header("authorization", format!("Bearer {}", server.token("worker")));
    server.send(request.body(body).unwrap()).await
}

async fn objects(server: &Server) -> Vec<String> {
    let mut names: Vec<String> = server
        .objects
        .list(None)
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    names.sort();
    names
}

async fn leased(server: &Server, name: &str, trials: i64) -> Value {
    let study = server.submit(spec(name)).await;
    server.propose(study, 0..trials).await;
    server.lease().await
}

#[tokio::test]
async fn a_bundle_goes_up_in_pieces_and_down_as_an_archive() {
    let server = Server::new().await;
    let lease = leased(&server, "bundle", 1).await;
    // larger than a piece of the upload, and cut at other places
    let weights: Vec<u8> = (0..20_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let chunks: Vec<Result<Bytes, std::io::Error>> = weights
        .chunks(777_777)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    let stored = put(
        &server,
        &lease,
        "model.safetensors",
        Body::from_stream(stream::iter(chunks)),
    )
    .await
    .ok();
    assert_eq!(stored["size_bytes"], 20_000_000);
    let sha256 = stored["sha256"].as_str().unwrap().to_owned();
    put(&server, &lease, "parsimony.json", Body::from("{}"))
        .await
        .ok();
    put(&server, &lease, "scratch.log", Body::from("half")).await.ok();
    put(&server, &lease, "scratch.log", Body::from("whole"))
        .await
        .ok();
    put(&server, &lease, "empty", Body::empty()).await.ok();
    let files = ["parsimony.json", "model.safetensors"];
    let finish = json!({ "lease": lease["lease"], "outcome": done(vec![measured("accuracy", 0.5)], &files) });
    server
        .work(&format!("trials/{}/finish", lease["trial"]), finish)
        .await
        .ok();

    let kept = objects(&server).await;
    assert!(
        kept.contains(&format!("sha256/{}/{}", &sha256[..2], &sha256[2..])),
        "{kept:?}"
    );
    assert!(kept.iter().all(|name| name.starts_with("sha256/")), "{kept:?}");

    let export = server.get(&format!("/trials/{}/export", lease["trial"])).await;
    assert_eq!(export.status, 200, "{}", export.text());
    assert_eq!(export.header("content-type"), "application/zip");
    assert_eq!(
        export.header("content-disposition"),
        "attachment; filename=\"bundle-trial-0.zip\""
    );
    assert_eq!(export.header("content-length"), export.bytes.len().to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(export.bytes)).unwrap();
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    assert_eq!(
        names,
        ["parsimony.json", "model.safetensors", "empty", "scratch.log"]
            .map(|n| format!("bundle-trial-0/{n}"))
    );
    let mut read = |name: &str| {
        let mut bytes = vec![];
        archive
            .by_name(&format!("bundle-trial-0/{name}"))
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    };
    assert!(read("model.safetensors") == weights, "every byte comes back");
    assert_eq!(read("scratch.log"), b"whole");
    assert_eq!(read("empty"), b"");

    let path = format!("/worker/trials/{}/artifacts/model.safetensors", lease["trial"]);
    let back = server.call("worker", "GET", &path, None).await;
    assert!(back.bytes == weights);
    assert_eq!(back.header("etag"), format!("\"{sha256}\""));
    let missing = path.replace("model.safetensors", "other.bin");
    assert!(
        server
            .call("worker", "GET", &missing, None)
            .await
            .problem(404)
            .contains("has no file 'other.bin'")
    );
}

#[tokio::test]
async fn names_cannot_lead_out_and_sizes_are_limited() {
    let settings = Settings {
        max_artifact_bytes: 1000,
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let lease = leased(&server, "limits", 1).await;
    for name in [
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e",
        ".hidden",
        "a%00b",
        "a%20b",
        "%C3%A4",
        "a%5Cb",
    ] {
        let answer = put(&server, &lease, name, Body::from("x")).await;
        assert!(answer.problem(422).contains("cannot name a file"), "{name}");
    }
    assert!(
        put(&server, &lease, "fits", Body::from(vec![0; 1000]))
            .await
            .status
            .is_success()
    );
    let detail = put(&server, &lease, "large", Body::from(vec![0; 1001]))
        .await
        .problem(413);
    assert!(detail.contains("1000 bytes"), "{detail}");
    assert_eq!(
        objects(&server).await.len(),
        1,
        "what was refused leaves nothing behind"
    );
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_behind() {
    let server = Server::new().await;
    let lease = leased(&server, "broken", 1).await;
    let pieces = [
        Ok(Bytes::from(vec![1; 9 << 20])),
        Err(std::io::Error::other("the line is dead")),
    ];
    let answer = put(
        &server,
        &lease,
        "model.bin",
        Body::from_stream(stream::iter(pieces)),
    )
    .await;
    assert!(answer.problem(400).contains("the upload broke off"));
    assert_eq!(objects(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn equal_files_are_kept_once_and_go_with_their_last_study() {
    let server = Server::new().await;
    for name in ["one", "two"] {
        let lease = leased(&server, name, 1).await;
        put(&server, &lease, "model.bin", Body::from("the same"))
            .await
            .ok();
        let finish = json!({ "lease": lease["lease"], "outcome": done(vec![], &["model.bin"]) });
        server
            .work(&format!("trials/{}/finish", lease["trial"]), finish)
            .await
            .ok();
    }
    assert_eq!(objects(&server).await.len(), 1);
    server.call("submit", "DELETE", "/studies/one", None).await.ok();
    assert_eq!(objects(&server).await.len(), 1, "the other study still needs it");
    server.call("submit", "DELETE", "/studies/two", None).await.ok();
    assert_eq!(objects(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_export_of_a_study_is_that_of_its_recommended_trial() {
    let server = Server::new().await;
    let study = server.submit(spec("picked")).await;
    server.propose(study, 0..2).await;
    for (loss, bytes) in [(2.0, 100.0), (1.0, 500.0)] {
        let lease = server.lease().await;
        put(&server, &lease, "model.bin", Body::from(format!("{bytes}")))
            .await
            .ok();
        let values = vec![measured("validation_loss", loss), measured("model_bytes", bytes)];
        let finish = json!({ "lease": lease["lease"], "outcome": done(values, &["model.bin"]) });
        server
            .work(&format!("trials/{}/finish", lease["trial"]), finish)
            .await
            .ok();
    }
    let name = async |query: &str| {
        let answer = server.get(&format!("/studies/picked/export{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("content-disposition").to_owned()
    };
    assert!(
        name("?pick=min:validation_loss")
            .await
            .contains("picked-trial-1.zip")
    );
    assert!(
        name("?pick=min:validation_loss&where=model_bytes%3C%3D200%20B")
            .await
            .contains("picked-trial-0.zip")
    );
    let broken = server
        .get("/studies/picked/export?where=model_bytes%3C%3D1")
        .await;
    assert!(broken.problem(409).contains("no trial keeps model_bytes"));
    server.get("/studies/picked/export?pick=elbow").await.problem(400);
    server
        .get("/studies/picked/export?pick=trial:999")
        .await
        .problem(404);
    server.propose(study, 5..6).await;
    let queued = server.get("/studies/picked/trials?state=queued").await.ok()["trials"][0]["id"].clone();
    let answer = server.get(&format!("/trials/{queued}/export")).await;
    assert!(answer.problem(409).contains("is queued and has no files"));
}

/// What the binary uses where no other place is named.
#[tokio::test]
async fn files_can_be_kept_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new().await;
    let mut state = server.state.clone();
    state.objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    server.app = web::router(state);
    let lease = leased(&server, "local", 1).await;
    let weights = vec![7; 9 << 20];
    let stored = put(&server, &lease, "model.bin", Body::from(weights.clone()))
        .await
        .ok();
    put(&server, &lease, "again.bin", Body::from(weights)).await.ok();
    put(&server, &lease, "empty", Body::empty()).await.ok();
    let finish = json!({ "lease": lease["lease"], "outcome": done(vec![], &["model.bin"]) });
    server
        .work(&format!("trials/{}/finish", lease["trial"]), finish)
        .await
        .ok();
    let sha256 = stored["sha256"].as_str().unwrap();
    let path = folder.path().join("sha256").join(&sha256[..2]).join(&sha256[2..]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 9 << 20);
    let export = server.get(&format!("/trials/{}/export", lease["trial"])).await;
    assert_eq!(export.status, 200, "{}", export.text());
    server.call("submit", "DELETE", "/studies/local", None).await.ok();
    assert!(!path.exists());
}
