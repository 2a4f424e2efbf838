//! How memory grows with the context.

use evaluator::{attention_cost, device::DeviceChoice};

use crate::support::{config, recall};

#[test]
fn memory_grows_with_the_square_of_the_context_only_where_the_matrix_of_all_pairs_is_formed() {
    let slope = |fixed: &str| {
        let bytes = |context: u32| {
            let config = config(recall(), &format!("{fixed}\nlayers = 1\ncontext = {context}"));
            let cost = attention_cost(&config, 0.0, DeviceChoice::Cpu).unwrap();
            cost.peak_bytes as f64
        };
        (bytes(4096) / bytes(512)).ln() / 8f64.ln()
    };
    let full = slope("attention = 'full'");
    assert!(full > 1.8, "{full}");
    for fixed in [
        "attention = 'tiled'",
        "attention = 'linear'",
        "attention = 'linear'\nlinear_features = 'favor'",
        "attention = 'rwkv'",
        "attention = 'lsh'",
        "attention = 'kde'",
    ] {
        let slope = slope(fixed);
        assert!(slope < 1.2, "{fixed}: {slope}");
    }
}
