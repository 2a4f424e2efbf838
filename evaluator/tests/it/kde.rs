//! What sampled attention costs, remembers and refuses.

use burn::backend::Flex;
use evaluator::{
    counter::count_macs,
    model::{Model, Trainable},
    plan::Plan,
};

use crate::support::{VOCABULARY, config, plan, recall, tokens};

#[test]
fn executed_work_grows_hardly_faster_than_the_sequence_and_less_than_full_attention() {
    let macs = |fixed: &str, n: usize| {
        let plan = plan(&format!("{fixed}\ncontext = {n}\nlayers = 1"));
        let model = Model::<Flex>::new(&plan.model, 3, &Default::default());
        // beside what grows with the sequence as it is: 4 projections, a feed-forward part, the head
        let others =
            |n: usize| plan.model.training_pass(1, 1, Trainable::All).forward * n as u64 - 2 * 32 * n as u64;
        count_macs(|| model.forward(tokens::<Flex>(1, n, 1))).1 - others(n)
    };
    let kde = "attention = 'kde'\nkde_leaf = 32\nkde_samples = 16";
    let (short, long) = (macs(kde, 512), macs(kde, 1024));
    assert!(long < short * 5 / 2, "{short} {long}");
    assert!(long < macs("attention = 'full'", 1024) / 5);
    // scores and weighted sum of 4 heads of 8, leaf by leaf
    let pairs: u64 = (0..32u64)
        .map(|leaf| 32 * 33 / 2 + 32 * 16 * u64::from(leaf.count_ones()))
        .sum();
    assert_eq!(long, 2 * 32 * pairs);
}

#[test]
fn the_state_is_the_cache_and_the_draws() {
    let state = |context: usize| {
        plan(&format!(
            "attention = 'kde'\nkde_leaf = 32\nkde_samples = 32\ncontext = {context}"
        ))
    };
    // 2 layers, 4 heads: keys and values of 8, and at every second of 32 leaves but the last 32 indices and weights
    let values = 2 * 4 * (2 * 8 * 1024 + 15 * 2 * 32);
    assert_eq!(state(1024).served.state_bytes(), 4 * values);
}

#[test]
fn settings_that_sample_nothing_and_shared_keys_are_refused() {
    let read = |fixed: &str| Plan::read(&config(recall(), fixed), VOCABULARY, None);
    let message = read("attention = 'kde'\ncontext = 64").unwrap_err();
    assert!(
        message.contains("nothing to sample within context 64"),
        "{message}"
    );
    assert!(read("attention = 'kde'\ncontext = 128").is_ok());
    let message = read("attention = 'kde'\ncontext = 128\nkv_heads = 2").unwrap_err();
    assert!(message.contains("use kv_heads = 0"), "{message}");
}
