use parsimony_tests::browser::Browser;
use store::Role;

use crate::{assert_clean, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_link_logs_in_once_and_the_list_is_alive() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    // without a session every page leads to the login, and back
    browser.client.goto(&site.url("/")).await.unwrap();
    browser.until("location.pathname === '/login'").await;
    browser.fill("#token", "wrong").await;
    browser.click("form button").await;
    browser
        .until("document.getElementById('login-error')?.textContent.includes('token')")
        .await;

    let link = site.login(Role::Admin, "/").await;
    browser.open(&link).await;
    browser.until("!document.getElementById('empty').hidden").await;
    assert_clean(&browser, "the empty list").await;

    let study = site.study("first", 6).await;
    browser
        .until("document.querySelector('#studies h2')?.textContent === 'first'")
        .await;
    browser
        .until("document.querySelector('.study-progress').textContent.includes('7 of 10')")
        .await;
    site.finish(study, 900).await;
    browser
        .until("document.querySelector('.study-progress').textContent.includes('8 of 10')")
        .await;
    assert_clean(&browser, "the list").await;

    browser.click("[aria-label='Pause first']").await;
    browser
        .until("document.querySelector('#studies .pill').textContent === 'paused'")
        .await;
    browser.click("[aria-label='Cancel first']").await;
    browser.click("dialog button[value=yes]").await;
    browser
        .until("document.querySelector('#studies .pill').textContent === 'cancelled'")
        .await;
    browser.click("[aria-label='Delete first']").await;
    browser.click("dialog button[value=yes]").await;
    browser.until("!document.getElementById('empty').hidden").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // the link was good for one use
    browser.click("#logout").await;
    browser.until("location.pathname === '/login'").await;
    browser.client.goto(&link).await.unwrap();
    browser.until("location.pathname === '/login' && document.getElementById('login-error')?.textContent.includes('used up')").await;
    browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_no_button_that_would_be_refused() {
    let (site, browser) = (Site::start().await, Browser::start().await);
    site.study("looked-at", 4).await;
    browser.open(&site.login(Role::View, "/").await).await;
    assert_eq!(
        browser
            .js("document.querySelectorAll('.study-row button').length")
            .await,
        0
    );
    assert_eq!(
        browser
            .js("document.querySelectorAll('a[href=\"/new\"]').length")
            .await,
        0
    );
    browser.client.goto(&site.url("/new")).await.unwrap();
    browser
        .until("document.body.textContent.includes('may look but not submit')")
        .await;
    browser.client.goto(&site.url("/studies/nothing")).await.unwrap();
    browser
        .until("document.querySelector('h1').textContent === 'Not Found'")
        .await;
    assert!(
        browser
            .text("document.querySelector('main').textContent")
            .await
            .contains("nothing")
    );
    browser.close().await.unwrap();
}
