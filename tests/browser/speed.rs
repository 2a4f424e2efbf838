use parsimony_tests::browser::Browser;
use store::Role;

use crate::site::Site;

/// Two thousand trials: the page is there within 1.5 s, and a delta is drawn within 100 ms.
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
        .await
        .as_f64()
        .unwrap();
    site.finish(study, 5000).await;
    browser
        .until("document.getElementById('summary').textContent.includes('of 2001 results')")
        .await;
    let redraw: f64 = browser
        .text("document.body.dataset.redrawMs")
        .await
        .parse()
        .unwrap();
    println!("2000 trials: shown after {shown:.0} ms, a delta redrawn in {redraw:.1} ms");
    assert!(shown < 1500.0, "the page took {shown:.0} ms");
    assert!(redraw < 100.0, "a delta took {redraw:.1} ms");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await.unwrap();
}
