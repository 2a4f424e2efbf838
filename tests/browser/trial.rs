use parsimony_tests::browser::Browser;
use store::Role;

use crate::{assert_clean, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_shows_all_that_is_known_of_it() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    let study = site.study("closely", 12).await;
    let id = site.finish(study, 903).await;
    browser
        .open(&site.login(Role::Submit, &format!("/trials/{id}")).await)
        .await;
    assert_eq!(
        browser
            .js("document.querySelectorAll('#metrics tr').length")
            .await,
        7
    );
    let metrics = browser
        .text("document.getElementById('metrics').textContent")
        .await;
    for part in ["Validation loss", "nats/token", "± ", "analytic", "power model"] {
        assert!(metrics.contains(part), "'{part}' is not in {metrics}");
    }
    assert!(
        browser
            .text("document.getElementById('curve').getAttribute('aria-label')")
            .await
            .contains("at training step 2000")
    );
    assert!(
        browser
            .text("document.getElementById('activity').textContent")
            .await
            .contains("41207")
    );
    let named = browser.text("document.getElementById('named').textContent").await;
    assert!(named.contains(&format!("trial:{id}")), "{named}");
    assert_clean(&browser, "a trial").await;

    // the one that runs: its curve grows by itself, and it can be stopped
    let running = site
        .db
        .store
        .trials(
            study,
            &store::TrialFilter {
                states: vec![spaces::protocol::TrialState::Running],
                ..Default::default()
            },
        )
        .await
        .unwrap();
    browser
        .open(&site.url(&format!("/trials/{}", running[0].id)))
        .await;
    assert!(
        browser
            .text("document.getElementById('facts').textContent")
            .await
            .contains("train 2000 of 6000")
    );
    browser.click("#cancel").await;
    browser
        .until("document.getElementById('state').textContent === 'stopping'")
        .await;
    assert_clean(&browser, "a running trial").await;

    let failed = site
        .db
        .store
        .trials(
            study,
            &store::TrialFilter {
                states: vec![spaces::protocol::TrialState::Failed],
                ..Default::default()
            },
        )
        .await
        .unwrap();
    browser
        .open(&site.url(&format!("/trials/{}", failed[0].id)))
        .await;
    assert!(
        browser
            .text("document.getElementById('failure').textContent")
            .await
            .contains("lower learning_rate")
    );
    assert_clean(&browser, "a failed trial").await;
    browser.click("#retry").await;
    browser
        .until("document.getElementById('state').textContent === 'queued'")
        .await;
    browser.close().await.unwrap();
}
