use parsimony_tests::browser::Browser;
use store::Role;

use crate::site::Site;

/// Two thousand trials: a delta is drawn in one go, and the table holds one page of rows. How long it takes is printed, not
/// judged, since the machine may be busy.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_trials_do_not_slow_the_page() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    let study = site.study("many", 2000).await;
    browser.open(&site.login(Role::View, "/about").await).await;
    browser.open(&site.url("/studies/many")).await;
    // the second visit: what is measured is the page, not the first compilation of its scripts
    browser.open(&site.url("/studies/many")).await;
    browser
        .until("document.querySelector('#recommended-body .lead')")
        .await;
    let shown = browser
        .js("performance.getEntriesByName('shown')[0]?.startTime")
        .await;
    let redraws = "Number(document.body.dataset.redraws)";
    let before = browser.js(redraws).await.as_f64().unwrap();
    site.finish(study, 5000).await;
    browser
        .until("document.getElementById('summary').textContent.includes('of 2001 results')")
        .await;
    browser
        .until("document.getElementById('trials-count').textContent.includes('of 2004')")
        .await;
    let drawn = browser.js(redraws).await.as_f64().unwrap() - before;
    let redraw = browser.text("document.body.dataset.redrawMs").await;
    println!("2000 trials: shown after {shown} ms, a delta redrawn in {redraw} ms");
    // waiting, running, done, its recommendation and the counts: some frames, however many trials there are
    assert!(drawn <= 12.0, "{drawn} redraws for one more trial");
    let rows = browser
        .js("document.querySelectorAll('#trials-body tr').length")
        .await;
    assert_eq!(rows, 100, "one page of the table");
    let nodes = browser.js("document.querySelectorAll('*').length").await;
    assert!(nodes.as_u64().unwrap() < 6000, "{nodes} elements in the page");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await.unwrap();
}
