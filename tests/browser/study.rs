use parsimony_tests::browser::Browser;
use store::Role;

use crate::{assert_clean, site::Site};

const LEFT: &str = "\u{e012}";
const RIGHT: &str = "\u{e014}";
const HOME: &str = "\u{e011}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

#[tokio::test(flavor = "multi_thread")]
async fn the_front_is_walked_budgeted_and_alive() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    let study = site.study("trade-offs", 60).await;
    browser
        .open(&site.login(Role::Submit, "/studies/trade-offs").await)
        .await;
    browser
        .until("document.querySelector('#recommended-body .lead')")
        .await;
    let summary = browser
        .text("document.getElementById('summary').textContent")
        .await;
    assert!(summary.contains("of 60 results are on the front"), "{summary}");
    assert!(
        browser
            .text("document.getElementById('evidence-note').textContent")
            .await
            .is_empty()
    );
    assert_clean(&browser, "the study").await;

    // a result that comes in shows without a reload, once
    site.finish(study, 901).await;
    browser
        .until("document.getElementById('summary').textContent.includes('of 61 results')")
        .await;
    browser
        .until("document.getElementById('trials-count').textContent.includes('64')")
        .await;

    // axes, and the address that keeps them
    browser.choose("#axis-x", "energy_j_per_token").await;
    browser
        .until("location.search.includes('x=energy_j_per_token')")
        .await;
    browser
        .until("document.getElementById('evidence-note').textContent.includes('estimated')")
        .await;
    let log = "document.getElementById('log-x').getAttribute('aria-pressed')";
    let before = browser.text(log).await;
    browser.click("#log-x").await;
    browser.until(&format!("{log} !== '{before}'")).await;

    // the front by keyboard
    browser.keys("#scatter", HOME).await;
    browser
        .until("document.getElementById('status').textContent.includes(', 1 of')")
        .await;
    browser.keys("#scatter", RIGHT).await;
    browser
        .until("document.getElementById('status').textContent.includes(', 2 of')")
        .await;
    browser.keys("#scatter", LEFT).await;
    browser.keys("#scatter", ENTER).await;
    browser
        .until("document.querySelector('#pins li')?.textContent.includes('A')")
        .await;
    browser.until("location.search.includes('pin=')").await;
    browser.keys("#scatter", ESCAPE).await;
    browser.until("document.getElementById('pinned').hidden").await;

    // budgets
    let chosen = browser
        .text("document.querySelector('#recommended-body .lead a').textContent")
        .await;
    browser.fill("#budget-peak_memory_bytes", "0.3").await;
    browser.keys("#budget-peak_memory_bytes", "\u{e004}").await;
    browser
        .until("/^\\d+ of 61 keep to the budgets/.test(document.getElementById('budget-count').textContent)")
        .await;
    browser
        .until("decodeURIComponent(location.search).includes('where=peak_memory_bytes<=')")
        .await;
    browser
        .until(&format!(
            "document.querySelector('#recommended-body .lead a').textContent !== '{chosen}'"
        ))
        .await;
    browser.fill("#budget-peak_memory_bytes", "0.000001").await;
    browser.keys("#budget-peak_memory_bytes", "\u{e004}").await;
    browser.until("document.querySelector('#recommended-body .note.bad')?.textContent.includes('Relax peak memory')").await;
    // a shared link shows the same view
    let link = browser.text("location.href").await;
    browser.open(&link).await;
    browser
        .until("document.querySelector('#recommended-body .note.bad')")
        .await;
    assert_eq!(
        browser.text("document.getElementById('axis-x').value").await,
        "energy_j_per_token"
    );
    browser.click("#budget-clear").await;
    browser
        .until("document.getElementById('budget-count').textContent.startsWith('no budgets')")
        .await;
    assert_eq!(
        browser
            .text("document.getElementById('budget-peak_memory_bytes').value")
            .await,
        ""
    );
    // the recommendation follows, and with it the height of what stands above the table
    browser
        .until("!document.querySelector('#recommended-body .note.bad')")
        .await;

    // the table: sorted, filtered, the same selection
    browser.click("[data-key='sort m:validation_loss']").await;
    browser
        .until("document.querySelector('th[aria-sort=ascending]')?.textContent.startsWith('Validation loss')")
        .await;
    browser.choose("#trials-filter", "failed").await;
    browser
        .until("document.querySelectorAll('#trials-body tr').length === 1")
        .await;
    assert!(
        browser
            .text("document.getElementById('failures-list').textContent")
            .await
            .contains("lower learning_rate")
    );
    browser.click("#retry-failed").await;
    browser.until("document.getElementById('failures').hidden").await;
    assert_clean(&browser, "the study after use").await;
    browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_finds_points_and_two_are_compared() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    site.study("pointed", 60).await;
    browser
        .open(&site.login(Role::View, "/studies/pointed").await)
        .await;
    // the table pins, the chart shows the letters
    browser.choose("#trials-filter", "front").await;
    browser
        .until("document.querySelectorAll('#trials-body tr').length > 3")
        .await;
    browser.click("#trials-body tr:nth-child(1) input").await;
    browser.click("#trials-body tr:nth-child(2) input").await;
    browser
        .until("document.querySelectorAll('#pins li').length === 2")
        .await;
    browser.click("#compare").await;
    browser.ready().await;
    browser
        .until("location.pathname === '/compare' && document.querySelectorAll('#metrics tr').length > 5")
        .await;
    assert!(
        browser
            .text("document.getElementById('metrics').textContent")
            .await
            .contains(" %")
    );
    assert_clean(&browser, "the comparison").await;
    browser.client.goto(&site.url("/compare?trials=1")).await.unwrap();
    browser
        .until("document.body.textContent.includes('does not name two to four trials')")
        .await;
    browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_shows_and_heals() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    let study = site.study("offline", 5).await;
    browser
        .open(&site.login(Role::View, "/studies/offline").await)
        .await;
    let network = |offline| serde_json::json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    browser.command("Network.enable", serde_json::json!({})).await;
    browser
        .command("Network.emulateNetworkConditions", network(true))
        .await;
    // an emulated outage leaves open streams alone: the page is told to open a new one, as after a suspend
    browser.js("dispatchEvent(new PageTransitionEvent('pagehide')), dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))").await;
    browser
        .until("!document.getElementById('connection').hidden")
        .await;
    site.finish(study, 902).await;
    browser
        .command("Network.emulateNetworkConditions", network(false))
        .await;
    browser
        .until("document.getElementById('connection').hidden")
        .await;
    browser
        .until("document.getElementById('summary').textContent.includes('of 6 results')")
        .await;
    browser.close().await.unwrap();
}
