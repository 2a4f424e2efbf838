//! Costs, memory and refusals of the Attention-Free Transformer.

use evaluator::plan::Plan;

use crate::support::{VOCABULARY, config, plan, recall};

fn read(fixed: &str) -> Result<Plan, String> {
    Plan::read(
        &config(recall(), &format!("attention = 'aft'\n{fixed}")),
        VOCABULARY,
        None,
    )
}

#[test]
fn settings_without_a_meaning_are_refused() {
    for (fixed, part) in [
        ("kv_heads = 2", "kv_heads 2 with aft attention"),
        (
            "aft_variant = 'local'\naft_window = 16",
            "aft_window 16 is not below context 16",
        ),
        (
            "aft_variant = 'conv'\naft_window = 17",
            "aft_window 17 is above context 16",
        ),
    ] {
        let message = read(fixed).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
    assert!(read("aft_variant = 'conv'\naft_window = 16").is_ok());
}

#[test]
fn only_the_full_form_remembers_the_whole_context() {
    let bytes = |form: &str, context: usize| {
        let fixed = format!("attention = 'aft'\naft_variant = {form}\ncontext = {context}");
        plan(&fixed).served.state_bytes()
    };
    // 2 layers, 32 channels, 4 bytes: largest key, denominator and numerator; keys and values of the window beside them
    assert_eq!(bytes("'simple'", 64), 2 * 32 * 4 * 3);
    assert_eq!(bytes("'conv'\naft_window = 8", 64), 2 * 32 * 4 * (3 + 2 * 8));
    assert_eq!(bytes("'full'", 64), 2 * 32 * 4 * 2 * 64);
    for form in ["'simple'", "'local'\naft_window = 8", "'conv'\naft_window = 8"] {
        assert_eq!(bytes(form, 64), bytes(form, 1024), "{form}");
    }
}

#[test]
fn the_known_costs_come_out() {
    let forward = |form: &str, n: usize| {
        let fixed = format!("attention = 'aft'\naft_variant = {form}\ncontext = 64\nlayers = 1");
        let plan = plan(&fixed).served;
        let macs = |n| {
            let core = plan.layers[0].attention.core;
            core.training_pass(&plan.layers[0].attention, n).forward
        };
        (macs(n), plan.parameters())
    };
    let (simple, base) = forward("'simple'", 64);
    assert_eq!(simple, 0);
    // two products of 32 channels for each of the pairs, and one of the rank where a bias is a product
    assert_eq!(
        forward("'full'\naft_rank = 8", 64),
        (64 * 65 / 2 * (2 * 32 + 8), base + 2 * 64 * 8)
    );
    let pairs = 10 + 60 * 4;
    assert_eq!(
        forward("'local'\naft_window = 4\naft_rank = 8", 64),
        (pairs * (2 * 32 + 8), base + 2 * 64 * 8)
    );
    assert_eq!(
        forward("'conv'\naft_window = 4", 64),
        (pairs * 2 * 32, base + 4 * 4)
    );
}
