//! The pages in a real browser, on a study that was seeded through the store.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod form;
mod home;
mod invented;
mod looks;
mod site;
mod speed;
mod study;
mod trial;

use parsimony_tests::browser::Browser;

/// Nothing went wrong in the page, and no rule of accessibility is broken.
async fn assert_clean(browser: &Browser, page: &str) {
    assert_eq!(
        browser.complaints().await,
        Vec::<String>::new(),
        "complaints of {page}"
    );
    assert_eq!(browser.axe().await, Vec::<String>::new(), "axe on {page}");
}
