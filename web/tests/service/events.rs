//! Events over a real connection.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::support::{Server, spec};

struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn run(server: &Server) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    Running {
        address,
        stop: Some(stop),
        serving: tokio::spawn(web::serve(listener, server.state.clone(), shutdown)),
    }
}

/// An event stream as a browser reads it.
struct Stream {
    lines: Lines<BufReader<TcpStream>>,
}

#[derive(Debug)]
struct Received {
    name: String,
    id: Option<i64>,
    data: Value,
}

impl Stream {
    async fn open(running: &Running, server: &Server, path: &str, last: Option<i64>) -> Stream {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        let resume = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        // version 1.0, so that the body comes without chunks
        let request = format!(
            "GET /api/v1{path} HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {}\r\naccept-encoding: gzip\r\n{resume}\r\n",
            server.token("view")
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(socket).lines();
        let mut head = vec![];
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        assert!(head[0].contains("200"), "{head:?}");
        assert!(
            head.iter().any(|h| h == "content-type: text/event-stream"),
            "{head:?}"
        );
        assert!(
            !head.iter().any(|h| h.starts_with("content-encoding")),
            "{head:?}"
        );
        Stream { lines }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Received> {
        tokio::time::timeout(Duration::from_secs(20), self.read())
            .await
            .expect("an event comes in time")
    }

    async fn read(&mut self) -> Option<Received> {
        let (mut name, mut id, mut data) = (String::new(), None, String::new());
        loop {
            let line = self.lines.next_line().await.ok()??;
            if line.is_empty() && !data.is_empty() {
                return Some(Received {
                    name,
                    id,
                    data: serde_json::from_str(&data).unwrap(),
                });
            }
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("id", value)) => id = Some(value.parse().unwrap()),
                Some(("data", value)) => data = value.to_owned(),
                _ => {} // comments, retry
            }
        }
    }

    /// Events until the study's own of at least that revision.
    async fn until(&mut self, revision: i64) -> Vec<Received> {
        let mut events = vec![];
        loop {
            let event = self.next().await.expect("the stream goes on");
            let found = event.name == "study" && event.id >= Some(revision);
            events.push(event);
            if found {
                return events;
            }
        }
    }
}

#[tokio::test]
async fn changes_arrive_as_small_deltas() {
    let server = Server::new().await;
    let running = run(&server).await;
    let study = server.submit(spec("live")).await;
    server.propose(study, 0..3).await;
    let mut stream = Stream::open(&running, &server, "/studies/live/events", None).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first.name, "study", "where it stands, without the trials");
    assert_eq!(first.data["counts"]["queued"], 3);
    let trial = server
        .finish_next(&[("validation_loss", 1.5), ("model_bytes", 100.0)])
        .await;
    let revision = server.state.store.study(study).await.unwrap().revision;
    let events = stream.until(revision).await;
    let deltas: Vec<&Received> = events.iter().filter(|e| e.name == "trial").collect();
    assert!(
        deltas.iter().all(|e| e.data["id"] == trial),
        "only what changed is sent"
    );
    let last = deltas.last().unwrap();
    assert_eq!(last.data["state"], "done");
    assert_eq!(
        last.data,
        server.get("/studies/live/trials?limit=1").await.ok()["trials"][0],
        "a row as in the list"
    );
    let study = &events.last().unwrap().data;
    assert_eq!(study["counts"]["done"], 1);
    assert_eq!(study["best"][0]["value"], 1.5);
    assert!(study["hypervolume"].as_f64().unwrap() > 0.0);
    server.call("submit", "DELETE", "/studies/live", None).await.ok();
    let end = loop {
        match stream.next().await {
            Some(event) if event.name == "deleted" => break event,
            Some(_) => {}
            None => panic!("the deletion was not told"),
        }
    };
    assert_eq!(end.data, json!({ "id": study["id"] }));
    assert!(stream.next().await.is_none(), "and the stream ends");
}

/// The stream is cut again and again while trials finish; what arrives is every trial's end, in order, none twice.
#[tokio::test]
async fn a_broken_stream_resumes_without_loss_or_repetition() {
    let server = Server::new().await;
    let running = run(&server).await;
    let study = server.submit(spec("resumed")).await;
    server.propose(study, 0..12).await;
    let start = server.state.store.study(study).await.unwrap().revision;
    let work = async {
        for i in 0..12 {
            server
                .finish_next(&[("validation_loss", f64::from(i)), ("model_bytes", 1.0)])
                .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.state.store.study(study).await.unwrap().revision
    };
    let read = async {
        let (mut last, mut ids, mut done) = (start, vec![], vec![]);
        while done.len() < 12 {
            let mut stream = Stream::open(&running, &server, "/studies/resumed/events", Some(last)).await;
            for _ in 0..3 {
                let event = stream.next().await.unwrap();
                last = event.id.unwrap();
                if event.name == "trial" {
                    ids.push(last);
                    if event.data["state"] == "done" {
                        done.push(event.data["number"].as_i64().unwrap());
                    }
                }
                if done.len() == 12 {
                    break;
                }
            }
        }
        (ids, done)
    };
    let (_, (ids, done)) = tokio::join!(work, read);
    assert_eq!(done, (0..12).collect::<Vec<i64>>());
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let bad = server.get("/studies/resumed/events?since=soon").await;
    bad.problem(400);
    server.get("/studies/none/events").await.problem(404);
}

#[tokio::test]
async fn a_start_after_a_revision_catches_up() {
    let server = Server::new().await;
    let running = run(&server).await;
    let study = server.studied("caught-up", &[(1.0, 1.0), (2.0, 2.0)]).await;
    let now = server.state.store.study(study).await.unwrap().revision;
    let mut all = Stream::open(&running, &server, "/studies/caught-up/events?since=0", None).await;
    let events = all.until(now).await;
    let numbers: Vec<i64> = events.iter().filter_map(|e| e.data["number"].as_i64()).collect();
    assert_eq!(numbers, [0, 1]);
    let mut none = Stream::open(&running, &server, "/studies/caught-up/events", Some(now)).await;
    assert_eq!(none.until(now).await.len(), 1, "nothing is missing");
    // a revision that is yet to come belongs to a database that is no more
    let mut ahead = Stream::open(&running, &server, "/studies/caught-up/events", Some(now + 1000)).await;
    assert_eq!(ahead.until(now).await.len(), 3);
}

#[tokio::test]
async fn the_home_page_hears_of_every_study() {
    let server = Server::new().await;
    let running = run(&server).await;
    let a = server.submit(spec("a")).await;
    let mut stream = Stream::open(&running, &server, "/events", None).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first.name, "studies");
    assert_eq!(first.data["studies"][0]["name"], "a");
    let b = server.submit(spec("b")).await;
    let event = stream.next().await.unwrap();
    assert_eq!((event.name.as_str(), &event.data["name"]), ("study", &json!("b")));
    server.propose(a, 0..2).await;
    let event = stream.next().await.unwrap();
    assert_eq!(
        (&event.data["name"], &event.data["counts"]["queued"]),
        (&json!("a"), &json!(2))
    );
    server.call("submit", "DELETE", "/studies/b", None).await.ok();
    let end = loop {
        let event = stream.next().await.unwrap();
        if event.name == "deleted" {
            break event;
        }
    };
    assert_eq!(end.data, json!({ "id": b }));
}

#[tokio::test]
async fn many_browsers_share_one_listener_and_the_server_still_stops() {
    let server = Server::new().await;
    let mut running = run(&server).await;
    let study = server.submit(spec("busy")).await;
    let mut streams = vec![];
    for _ in 0..40 {
        let mut stream = Stream::open(&running, &server, "/studies/busy/events", None).await;
        stream.next().await.unwrap();
        streams.push(stream);
    }
    server.propose(study, 0..1).await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().data["number"], 0);
    }
    server.lease().await;
    let waiting = tokio::spawn({
        let (app, token) = (server.app.clone(), server.token("worker").to_owned());
        let body = json!({ "protocol": 1, "worker": "w", "device": "cpu", "wait_s": 30.0 }).to_string();
        async move {
            let request = axum::http::Request::post("/api/v1/worker/lease")
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json");
            let request = request.body(axum::body::Body::from(body)).unwrap();
            tower::ServiceExt::oneshot(app, request).await.unwrap().status()
        }
    });
    running.stop.take().unwrap().send(()).unwrap();
    let served = tokio::time::timeout(Duration::from_secs(5), running.serving).await;
    served
        .expect("the server stops though streams are open")
        .unwrap()
        .unwrap();
    assert_eq!(waiting.await.unwrap(), 204, "a waiting worker is sent away");
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
}
