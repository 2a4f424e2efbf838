use std::path::PathBuf;

use parsimony_tests::browser::{Browser, Screen};
use store::Role;

use crate::{assert_clean, site::Site};

/// Every page on a desktop, a phone and in the dark: nothing to scroll sideways, contrast kept. With `PARSIMONY_PICTURES`
/// naming a folder, it is drawn there.
#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_a_phone_and_the_dark() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    let study = site.study("shakespeare", 60).await;
    let id = site.finish(study, 904).await;
    let other = site.finish(study, 905).await;
    browser.open(&site.login(Role::Admin, "/").await).await;
    let pictures = std::env::var_os("PARSIMONY_PICTURES").map(PathBuf::from);
    let pages = [
        ("home", "/".to_owned()),
        ("study", "/studies/shakespeare".to_owned()),
        (
            "budgets",
            format!(
                "/studies/shakespeare?where=peak_memory_bytes<=2000000&where=energy_j_per_token<=0.005&pin={id}"
            ),
        ),
        ("trial", format!("/trials/{id}")),
        ("compare", format!("/compare?trials={id},{other}")),
        ("new", "/new".to_owned()),
        ("mistakes", "/new".to_owned()),
        ("file", "/new?demo".to_owned()),
        ("login", "/login".to_owned()),
        ("missing", "/studies/nothing".to_owned()),
        ("about", "/about".to_owned()),
    ];
    let screens = [
        ("desktop", Screen::DESKTOP),
        ("dark", Screen::DESKTOP.dark()),
        ("phone", Screen::PHONE),
        ("phone-dark", Screen::PHONE.dark()),
    ];
    for (screen, size) in screens {
        browser.resize(size).await;
        for (page, path) in &pages {
            // no draft of the form that was looked at before
            browser.js("sessionStorage.clear()").await;
            browser.client.goto(&site.url(path)).await.unwrap();
            browser.ready().await;
            prepare(&browser, page).await;
            if let Some(folder) = &pictures {
                browser
                    .picture(&folder.join(format!("{page}-{screen}.png")))
                    .await;
            }
            assert!(!browser.overflows().await, "{page} is wider than the {screen}");
            assert_clean(&browser, &format!("{page} on the {screen}")).await;
        }
    }
    browser.close().await.unwrap();
}

/// Brings a page into the state that is looked at.
async fn prepare(browser: &Browser, page: &str) {
    match page {
        "study" | "budgets" => {
            browser
                .until("document.querySelector('#recommended-body .lead')")
                .await;
            browser.keys("#scatter", "\u{e014}\u{e014}\u{e014}").await;
            browser.until("!document.getElementById('tip').hidden").await;
        }
        "mistakes" => {
            browser
                .choose("#parameters [data-path='space.layers']", "range")
                .await;
            browser.fill("input[aria-label='Layers, from']", "9").await;
            browser.click("#add-limit").await;
            browser.click("#check").await;
            browser.until("!document.getElementById('errors').hidden").await;
        }
        "file" => {
            browser.click("#tab-toml").await;
            browser
                .until("document.getElementById('toml').value.includes('[data]')")
                .await;
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_theme_switch_is_remembered() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    browser.open(&site.login(Role::View, "/").await).await;
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = browser.text(paper).await;
    browser.click("#theme").await;
    assert_ne!(browser.text(paper).await, light);
    browser.open(&site.url("/")).await;
    assert_ne!(
        browser.text(paper).await,
        light,
        "the server's page comes in the chosen colours"
    );
    browser.close().await.unwrap();
}
