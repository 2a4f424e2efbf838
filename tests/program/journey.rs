use std::fs;

use parsimony_tests::{
    browser::{Browser, Screen},
    program::{Program, Running, wait_for},
    repository,
};
use serde_json::{Value, json};

use crate::program;

/// Ten trainings of a few seconds.
const STUDY: &str = r#"name = "journey"

[data]
corpus = "crate_sources"
tokenizer = "byte"

[fixed]
context = 32
heads = 2
batch = 8
tokens = 30_000
validation_tokens = 1024

[space]
attention = ["full", "sliding_window", "linear"]
width = { int = [32, 64], step = 16 }
bits = [32, 8, 4]

[[objective]]
metric = "validation_loss"

[[objective]]
metric = "inference_flops_per_token"

[[objective]]
metric = "model_bytes"

[search]
trials = 10
"#;

/// Starts the program on a free port; gives the link that it prints.
fn up(program: &Program, arguments: &[&str]) -> (Running, String) {
    let mut server = program.start(&[&["up", "--listen", "127.0.0.1:0"], arguments].concat());
    let line = server.printed_after("Open ");
    let link = line.split_whitespace().next().unwrap().to_owned();
    (server, link)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_goes_from_the_form_to_a_model_in_a_folder() {
    let program = program();
    let (server, link) = up(&program, &[]);
    let browser = Browser::start().await;

    browser.open(&link).await;
    browser.until("location.pathname === '/'").await;
    let origin = browser.text("location.origin").await;
    browser.open(&format!("{origin}/new")).await;
    browser.click("#tab-toml").await;
    browser
        .until("document.getElementById('toml').value.length > 0")
        .await;
    let study = serde_json::to_string(STUDY).unwrap();
    browser
        .js(&format!("(document.getElementById('toml').value = {study}, 1)"))
        .await;
    browser.click("#tab-form").await;
    browser
        .until("document.getElementById('f-name')?.value === 'journey'")
        .await;
    browser.click("#submit").await;
    browser.until("location.pathname === '/studies/journey'").await;
    browser.ready().await;

    // points appear in this very page
    browser.js("(window.__same = true, 1)").await;
    for least in [1, 3] {
        wait_for("results on the page", || {
            let done = program.json(&["trials", "journey", "--format", "json"]);
            let done = done["trials"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|t| t["state"] == "done")
                .count();
            (done >= least).then_some(())
        });
        let shown = "Number(document.getElementById('summary').textContent.match(/of (\\d+) result/)?.[1])";
        browser.until(&format!("{shown} >= {least}")).await;
    }
    assert_eq!(browser.js("window.__same").await, json!(true), "without a reload");

    browser.choose("#axis-x", "latency_ms_per_token").await;
    browser
        .until("location.search.includes('x=latency_ms_per_token')")
        .await;
    browser.choose("#axis-y", "bits_per_byte").await;
    browser.until("location.search.includes('y=bits_per_byte')").await;
    wait_for("the end of the study", || {
        let studies = program.json(&["studies", "--format", "json"]);
        (studies["studies"][0]["state"] == "finished").then_some(())
    });
    browser
        .until("document.getElementById('summary').textContent.includes('of 10 results')")
        .await;
    browser
        .until("document.querySelector('#recommended-body .lead a')")
        .await;
    assert_eq!(
        browser.js("window.__same").await,
        json!(true),
        "still the same page"
    );
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.click("#recommended-body .lead a").await;
    browser.until("location.pathname.startsWith('/trials/')").await;
    browser.ready().await;
    browser
        .until("!document.getElementById('curve-panel').hidden")
        .await;
    download(&browser, &program).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await.unwrap();
    assert_eq!(server.stop(), Some(0));

    let measured: Value = program.json(&["evaluate", "downloaded", "--json"]);
    assert!(measured["metrics"]["validation_loss"]["value"].as_f64() > Some(0.0));
}

/// Clicks the export on a trial's page and unpacks what the browser saves.
async fn download(browser: &Browser, program: &Program) {
    let folder = program.path("downloads");
    fs::create_dir(&folder).unwrap();
    let rule = json!({ "behavior": "allow", "downloadPath": folder });
    browser.command("Browser.setDownloadBehavior", rule).await;
    browser.click("#export").await;
    let file = wait_for("the download", || {
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        files
            .into_iter()
            .find(|path| path.extension().is_some_and(|e| e == "zip"))
    });
    let mut archive = zip::ZipArchive::new(fs::File::open(file).unwrap()).unwrap();
    archive
        .extract_unwrapped_root_dir(program.path("downloaded"), zip::read::root_dir_common_filter)
        .unwrap();
}

/// The picture of the README: the finished demonstration.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs the whole demonstration, some minutes; writes docs/images/study.png"]
async fn the_picture_of_the_readme() {
    let program = program();
    let (mut server, link) = up(&program, &["--demo"]);
    server.printed_after("Parsimony serves ");
    while !server.printed().contains("Recommended (*): ") {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    let browser = Browser::start().await;
    browser
        .resize(Screen {
            width: 1440,
            height: 1000,
            ..Screen::DESKTOP
        })
        .await;
    browser.open(&link).await;
    let origin = browser.text("location.origin").await;
    browser.open(&format!("{origin}/studies/demo")).await;
    browser
        .until("document.querySelector('#recommended-body .lead a')")
        .await;
    let picture = repository().join("docs/images/study.png");
    fs::create_dir_all(picture.parent().unwrap()).unwrap();
    browser.picture(&picture).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await.unwrap();
    assert_eq!(server.stop(), Some(0));
}
