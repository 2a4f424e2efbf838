//! What sampled attention costs, remembers and refuses, looking back and in both directions.

use burn::backend::Flex;
use evaluator::{
    counter::count_macs,
    model::{Model, Trainable},
    plan::Plan,
};

use crate::{
    kinds,
    support::{VOCABULARY, config, plan, recall, tokens},
};

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

#[test]
fn in_both_directions_a_token_costs_its_block_the_samples_and_its_codes() {
    let macs = |fixed: &str| {
        let plan = kinds::read(&format!("kind = 'encoder'\n{fixed}")).unwrap();
        plan.served.serving_macs()
    };
    // context 16, 2 layers, 4 heads of 8: five blocks of 3 and one of 1, 4 samples; codes of queries and keys, 2 bits
    let pairs = 5 * 9 + 1 + 16 * 4;
    let layer = 2 * 32 * pairs + 2 * 16 * 2 * 32;
    let full = macs("attention = 'full'") - 2 * (2 * 32 * 16 * 16);
    let kde = "attention = 'kde'\nkde_samples = 4";
    assert_eq!(
        macs(&format!("{kde}\nkde_block = 3\nkde_bits = 2")),
        full + 2 * layer
    );
    assert_eq!(
        macs(&format!("{kde}\nkde_block = 0")),
        full + 2 * (2 * 32 * 16 * 4)
    );
    // twice the context, twice the work
    let attention = |n: usize| {
        let fixed = |attention| format!("context = {n}\nlayers = 1\nattention = '{attention}'");
        let others = macs(&fixed("full")) - (2 * 32 * n * n) as u64;
        macs(&fixed("kde")) - others
    };
    assert_eq!(attention(2048), 2 * attention(1024));
}

#[test]
fn blocks_and_samples_that_reach_the_context_are_refused() {
    let kde = |context: usize| {
        let fixed = "kind = 'encoder'\nattention = 'kde'\nkde_samples = 32\nkde_block = 16";
        kinds::read(&format!("{fixed}\ncontext = {context}"))
    };
    let message = kde(48).unwrap_err();
    assert!(
        message.starts_with("kde_samples 32 and kde_block 16 together are not below context 48"),
        "{message}"
    );
    assert!(kde(49).is_ok());
}

#[test]
fn each_kind_has_the_settings_of_its_form_and_no_others() {
    let refused = |kind: &str, setting: &str| {
        let text = format!(
            "{}\n[fixed]\nkind = '{kind}'\nattention = 'kde'\n{setting}",
            recall()
        );
        spaces::study::config_from_toml(&text, &evaluator::catalog()).is_err()
    };
    for (kind, looks_back, both_ways) in [
        ("decoder", true, false),
        ("encoder", false, true),
        ("dual_encoder", false, true),
        ("encoder_decoder", true, true),
    ] {
        assert_eq!(refused(kind, "kde_leaf = 8"), !looks_back, "{kind}");
        for setting in ["kde_block = 8", "kde_bits = 3"] {
            assert_eq!(refused(kind, setting), !both_ways, "{kind} {setting}");
        }
        assert!(refused(kind, "kde_block = 0\nkde_bits = 3"), "{kind}");
    }
}
