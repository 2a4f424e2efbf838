use parsimony_tests::browser::Browser;
use store::Role;

use crate::{assert_clean, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_study_is_written_mended_and_submitted() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    browser.open(&site.login(Role::Submit, "/new").await).await;
    assert_clean(&browser, "the form").await;

    browser.fill("#f-name", "not a name").await;
    browser.choose("#f-data-corpus", "text").await;
    browser
        .choose("#parameters [data-path='space.layers']", "range")
        .await;
    browser.fill("input[aria-label='Layers, from']", "9").await;
    browser.fill("input[aria-label='Layers, to']", "2").await;
    browser.click("#submit").await;
    browser.until("!document.getElementById('errors').hidden").await;
    assert!(
        browser
            .text("document.getElementById('f-name-error').textContent")
            .await
            .contains("cannot name a folder")
    );
    assert_clean(&browser, "the form with mistakes").await;
    browser.click("#errors a").await;
    browser.until("document.activeElement.id === 'f-name'").await;

    // nothing typed is lost by a reload
    browser.fill("#f-name", "mended").await;
    browser
        .until("sessionStorage.getItem('parsimony-draft')?.includes('mended')")
        .await;
    browser.client.refresh().await.unwrap();
    browser.ready().await;
    assert_eq!(
        browser
            .text("document.querySelector(\"[aria-label='Layers, from']\").value")
            .await,
        "9"
    );
    browser.click("#submit").await;
    browser
        .until("document.getElementById('errors').textContent.includes('File or folder:')")
        .await;
    assert!(
        browser
            .text("document.getElementById('errors').textContent")
            .await
            .contains("Layers:")
    );
    browser.fill("#f-data-path", "missing.txt").await;
    browser.fill("input[aria-label='Layers, from']", "1").await;
    browser.click("#submit").await;
    browser
        .until("document.getElementById('f-data-path-error').textContent.includes('is not there')")
        .await;
    browser.fill("#f-data-path", "input.txt").await;

    // the same study as a file, changed there, and back
    browser.click("#tab-toml").await;
    browser
        .until("document.getElementById('toml').value.includes('layers = { int = [1, 2]')")
        .await;
    assert_clean(&browser, "the file").await;
    browser.js("(document.getElementById('toml').value = document.getElementById('toml').value.replace('trials = 64', 'trials = 7\\nbudget = 3'), 1)").await;
    browser.click("#check").await;
    browser
        .until("document.getElementById('errors').textContent.includes('budget')")
        .await;
    assert!(
        browser
            .text("document.getElementById('errors').textContent")
            .await
            .contains("line ")
    );
    browser.js("(document.getElementById('toml').value = document.getElementById('toml').value.replace('budget = 3', ''), 1)").await;
    browser.click("#tab-form").await;
    browser
        .until("document.getElementById('f-search-trials')?.value === '7'")
        .await;

    browser.click("#submit").await;
    browser.until("location.pathname === '/studies/mended'").await;
    browser.ready().await;
    let study = site.db.store.find_study("mended").await.unwrap();
    assert_eq!(study.spec.search.trials, 7);
    assert_eq!(study.spec.data.path(), Some("input.txt"));
    assert_clean(&browser, "a study without results").await;

    // a clone starts from it under a free name
    browser.click("#clone").await;
    browser
        .until("document.getElementById('f-name')?.value === 'mended-2'")
        .await;
    browser.close().await.unwrap();
}
