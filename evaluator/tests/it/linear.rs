//! Costs of linear attention with each kind of features, and what files from before there was a choice mean.

use evaluator::model::AttentionPlan;

use crate::support::plan;

fn attention(fixed: &str) -> AttentionPlan {
    let plan = plan(&format!(
        "attention = 'linear'\nlinear_chunk = 4\nlayers = 1\n{fixed}"
    ));
    plan.model.layers[0].attention
}

#[test]
fn the_known_costs_come_out() {
    // four heads of 8; of 11 tokens in chunks of 4, 7 read the sum and 8 are added to it
    let pairs = 2 * (4 * 5 / 2) + 3 * 4 / 2;
    for (fixed, groups, features, projected) in [
        ("", 4, 8, 0),
        ("linear_features = 'relu'\nkv_heads = 2", 2, 8, 0),
        (
            "linear_features = 'favor'\nlinear_random_features = 16",
            4,
            16,
            16,
        ),
        (
            "linear_features = 'favor'\nlinear_random_features = 40\nkv_heads = 2",
            2,
            40,
            40,
        ),
    ] {
        let attention = attention(fixed);
        let (pair, sum) = (features + 8, features * 8);
        let projections = (4 + groups) * 8 * projected;
        let pass = attention.core.training_pass(&attention, 11);
        let forward = 11 * projections + 4 * pairs * pair + sum * (4 * 7 + groups * 8);
        let backward = 11 * projections + 3 * 4 * pairs * pair + sum * (2 * 4 * 7 + 3 * groups * 8);
        assert_eq!((pass.forward, pass.backward), (forward, backward), "{fixed}");
        for position in [0, 15] {
            let macs = attention.core.decoding_macs(&attention, position);
            assert_eq!(macs, projections + (4 + groups) * sum, "{fixed}");
        }
        let state = attention.core.state_values(&attention, 16);
        assert_eq!(state, groups * (sum + features), "{fixed}");
    }
}

#[test]
fn without_a_word_on_features_a_plan_is_read_as_it_was() {
    let before = r#"{"heads": 4, "kv_heads": 4, "depth": 8, "core": {"attention": "linear", "chunk": 4}}"#;
    let read: AttentionPlan = serde_json::from_str(before).unwrap();
    assert_eq!(read, attention(""));
    let random = attention("linear_features = 'favor'\nlinear_random_features = 16");
    assert_ne!(read, random);
    let text = serde_json::to_string(&random).unwrap();
    assert_eq!(serde_json::from_str::<AttentionPlan>(&text).unwrap(), random);
}
