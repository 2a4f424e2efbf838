//! A language model by formulas: what a token costs, and a loss that behaves as losses do.
//!
//! Our own caricature. FLOPs and bytes are counted as for a real decoder; energy adds data movement and idle power. The
//! loss falls with the parameters that work (Hoffmann et al. 2022) and rises with everything that saves: narrow
//! attention, pruning, few bits, and more than their sum where they meet; fine-tuning wins part of it back at the right
//! learning rate. A little noise that is a function of the candidate stands for the luck of a training.

use spaces::{Candidate, Space, Value};

use super::{
    Benchmark,
    parts::{int, int_log, name, number, one_of, real, real_log, space, when},
};

/// Tokens of context, and of the vocabulary.
const CONTEXT: f64 = 2048.0;
const VOCABULARY: f64 = 16_384.0;
/// Sequences served at once, which share one reading of the weights.
const TOGETHER: f64 = 4.0;
/// Half the range of the noise of the loss, in nats.
const NOISE: f64 = 0.006;

/// log10 of FLOPs per token, of bytes and of joules per token; loss.
pub(super) const LANGUAGE_MODEL: Benchmark = Benchmark {
    name: "language-model",
    doc: "cost and loss of a decoder with compression; 20 mixed parameters, 10 of them conditional, 4 objectives",
    paper: "our own, with the scaling of Hoffmann et al. 2022",
    known: 2,
    ideal: &[6.6, 6.6, -3.45, 1.85],
    // nine of ten random models are better in each
    reference: &[9.0, 9.2, -1.6, 4.4],
    // the largest that examples/best_volume.rs found, rounded up
    best_volume: 20.4,
    space: parameters,
    evaluate: |c| {
        let model = Model::of(c);
        vec![
            model.flops.log10(),
            model.bytes.log10(),
            model.joules.log10(),
            loss(c, &model) + noise(c),
        ]
    },
};

fn parameters() -> Space {
    let cached = "attention in ['full', 'grouped', 'latent', 'window']";
    space(vec![
        one_of("attention", &["full", "grouped", "latent", "linear", "window"]),
        when("attention == 'grouped'", one_of("kv_groups", &[1, 2, 4])),
        when("attention == 'latent'", int_log("latent", 16, 512)),
        when("attention == 'linear'", one_of("features", &[16, 32, 64, 128])),
        when("attention == 'window'", int_log("window", 32, 1024)),
        int_log("layers", 2, 32),
        int("width_64", 2, 24),
        one_of("heads", &[2, 4, 8, 16]),
        real("ffn_ratio", 1.0, 6.0),
        one_of("experts", &[1, 2, 4, 8, 16, 32]),
        when("experts > 1", int("top_k", 1, 4)),
        one_of("prune", &["half", "none", "scattered", "units"]),
        when("prune in ['scattered', 'units']", real("prune_ratio", 0.1, 0.9)),
        one_of("bits", &[16, 8, 6, 4, 3, 2]),
        when("bits < 16", one_of("group", &[32, 64, 128, 256])),
        when(cached, one_of("kv_bits", &[16, 8, 4, 2])),
        one_of("recover", &["full", "lora", "none"]),
        when("recover == 'lora'", int_log("rank", 1, 128)),
        real_log("learning_rate", 1e-5, 1e-1),
        real("warmup", 0.0, 0.2),
    ])
}

/// What a candidate is and costs.
struct Model {
    layers: f64,
    width: f64,
    heads: f64,
    experts: f64,
    /// Experts that each token uses.
    used: f64,
    /// Weights without the embedding: all, and those that a token uses.
    weights: f64,
    active: f64,
    /// The share of the weights that pruning leaves.
    kept: f64,
    flops: f64,
    bytes: f64,
    joules: f64,
}

impl Model {
    fn of(c: &Candidate) -> Model {
        let of = |name, otherwise| number(c, name, otherwise);
        let (layers, width, heads) = (of("layers", 2.0), 64.0 * of("width_64", 2.0), of("heads", 2.0));
        let experts = of("experts", 1.0);
        let used = of("top_k", 1.0).min(experts);
        let bits = of("bits", 16.0);

        // numbers cached for a token and layer; tokens that a token attends to on average
        let (cached, span) = match name(c, "attention") {
            "grouped" => (
                2.0 * width * of("kv_groups", 1.0).min(heads) / heads,
                CONTEXT / 2.0,
            ),
            "latent" => (of("latent", 16.0), CONTEXT / 2.0),
            "window" => (2.0 * width, of("window", 32.0)),
            "linear" => (0.0, 0.0),
            _ => (2.0 * width, CONTEXT / 2.0),
        };
        let features = of("features", 0.0);
        let projections = match name(c, "attention") {
            // down to the latent vector and up to keys and values
            "latent" => width * cached * 3.0,
            "linear" => 2.0 * width * width + 2.0 * heads * features * width / heads,
            _ => width * cached,
        };
        let attention = 2.0 * width * width + projections;
        let expert = 3.0 * width * width * of("ffn_ratio", 1.0);
        let router = if experts > 1.0 { width * experts } else { 0.0 };
        let weights = layers * (attention + expert * experts + router);
        let active = layers * (attention + expert * used + router);

        let (kept, work, overhead_bits) = match name(c, "prune") {
            // two of four stay, with two bits each to say which; kernels gain less than half
            "half" => (0.5, 0.6, 1.0),
            // a bitmap says which stay, and no multiplication is saved
            "scattered" => (1.0 - of("prune_ratio", 0.1), 1.0, 1.0),
            "units" => (1.0 - of("prune_ratio", 0.1), 1.0 - of("prune_ratio", 0.1), 0.0),
            _ => (1.0, 1.0, 0.0),
        };
        let stored_bits = bits
            + if bits < 16.0 {
                32.0 / of("group", 32.0)
            } else {
                0.0
            };
        let bits_each = (kept * stored_bits + overhead_bits).min(stored_bits);

        let mixing = layers * (4.0 * span * width + 4.0 * features * width);
        let embedding = VOCABULARY * width;
        let flops = 2.0 * active * work + mixing + 2.0 * embedding;

        let remembered = match name(c, "attention") {
            "window" => of("window", 32.0),
            _ => CONTEXT,
        };
        let cache = layers * (cached * remembered * of("kv_bits", 16.0) / 8.0 + 2.0 * features * width);
        let bytes = weights * bits_each / 8.0 + 2.0 * embedding + TOGETHER * cache;

        // narrow numbers multiply cheaper, but 3 and 6 bits have to be unpacked
        let per_flop = match bits as u32 {
            16 => 1.0,
            8 => 0.6,
            6 => 0.66,
            4 => 0.42,
            3 => 0.47,
            _ => 0.36,
        };
        let moved = (active * bits_each / 8.0 + 2.0 * embedding) / TOGETHER + cache;
        let seconds = (flops / 4e12).max(moved / 2e11) + layers * 4e-6 * (1.0 + 0.5 * (experts.log2() / 5.0));
        let joules = flops * 8e-13 * per_flop + moved * 4e-11 + 25.0 * seconds;
        Model {
            layers,
            width,
            heads,
            experts,
            used,
            weights,
            active,
            kept,
            flops,
            bytes,
            joules,
        }
    }
}

/// The expected loss, in nats per token.
fn loss(c: &Candidate, m: &Model) -> f64 {
    let of = |name, otherwise| number(c, name, otherwise);
    // weights that rest for most tokens count for less
    let effective = m.active.powf(0.7) * m.weights.powf(0.3);
    let scale = 1.6 + 38.0 / effective.powf(0.24);

    let aspect = (m.width / m.layers / 40.0).ln().powi(2) * 0.02;
    let heads = (m.width / m.heads / 64.0).log2().powi(2) * 0.015;
    let feed_forward = (of("ffn_ratio", 1.0) / 3.2).ln().powi(2) * 0.05;
    let routing = match m.experts > 1.0 {
        true => 0.012 * m.experts.log2() / m.used + 0.008 * (m.used - 1.0),
        false => 0.0,
    };
    let attention = match name(c, "attention") {
        "grouped" => 0.035 * (1.0 - of("kv_groups", 1.0).min(m.heads) / m.heads),
        "latent" => 0.015 + 0.12 * (-of("latent", 16.0) / 60.0).exp(),
        // a window of each layer looks through those below it
        "window" => 0.09 * (CONTEXT / (of("window", 32.0) * m.layers.sqrt())).ln().max(0.0) / 3.0,
        "linear" => 0.08 + 0.16 * (16.0 / of("features", 16.0)).sqrt(),
        _ => 0.0,
    };

    let lost = 1.0 - m.kept;
    let pruning = match name(c, "prune") {
        "half" => 0.11,
        "scattered" => 0.35 * lost.powi(3) / (1.05 - lost),
        "units" => 0.8 * lost.powf(1.7) / (1.1 - lost),
        _ => 0.0,
    };
    let spread = 1.0 + 0.15 * (of("group", 32.0) / 32.0).log2();
    let rounding = spread
        * match of("bits", 16.0) as u32 {
            16 => 0.0,
            8 => 0.003,
            6 => 0.015,
            4 => 0.07,
            3 => 0.26,
            _ => 1.1,
        };
    let cache = match of("kv_bits", 16.0) as u32 {
        16 => 0.0,
        8 => 0.004,
        4 => 0.04,
        _ => 0.28,
    };
    let damage = pruning + rounding + 1.5 * pruning * rounding + cache;

    // wide models want small steps
    let best_rate = 3e-3 * (512.0 / m.width).powf(0.8);
    let off = (of("learning_rate", 1e-3) / best_rate).log10();
    let training =
        0.12 * off * off + 0.5 * (off - 0.7).max(0.0).powi(2) + 2.0 * (of("warmup", 0.0) - 0.06).powi(2);
    let healed = (-off * off).exp()
        * match name(c, "recover") {
            "full" => 0.6,
            "lora" => 0.55 * (1.0 - (-of("rank", 1.0) / 10.0).exp()),
            _ => 0.0,
        };
    // recovery of a model without damage forgets a little
    let forgot = match name(c, "recover") {
        "full" => 0.03,
        "lora" => 0.004 * (1.0 + of("rank", 1.0)).log2(),
        _ => 0.0,
    };
    let structure = aspect + heads + feed_forward + routing + attention;
    scale + structure + training + damage * (1.0 - healed) + forgot
}

/// The same for the same candidate on every machine: FNV-1a over its values, between plus and minus [`NOISE`].
fn noise(c: &Candidate) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (name, value) in &c.values {
        eat(name.as_bytes());
        match value {
            Value::Text(text) => eat(text.as_bytes()),
            other => eat(&other.as_f64().unwrap_or(0.0).to_bits().to_le_bytes()),
        }
    }
    // the low bits of this hash follow the last byte too closely
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    NOISE * (2.0 * (mixed >> 11) as f64 / (1u64 << 53) as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::tests::with;

    fn plain() -> Vec<(&'static str, Value)> {
        vec![
            ("attention", "full".into()),
            ("layers", 8.into()),
            ("width_64", 8.into()),
            ("heads", 8.into()),
            ("ffn_ratio", 3.0.into()),
            ("experts", 1.into()),
            ("prune", "none".into()),
            ("bits", 16.into()),
            ("kv_bits", 16.into()),
            ("recover", "none".into()),
            ("learning_rate", 3e-3.into()),
            ("warmup", 0.06.into()),
        ]
    }

    fn changed(changes: &[(&'static str, Value)]) -> Model {
        let mut values = plain();
        for (name, value) in changes {
            values.retain(|(n, _)| n != name);
            values.push((name, value.clone()));
        }
        Model::of(&with(&values))
    }

    #[test]
    fn costs_are_those_of_a_decoder() {
        let c = with(&plain());
        assert_eq!(LANGUAGE_MODEL.space().check(&c), Ok(()));
        let m = Model::of(&c);
        // 8 layers of 4 + 9 squares of 512; twice that, attention to 1,024 tokens, and the vocabulary
        let weights = 8.0 * 13.0 * 512.0 * 512.0;
        assert_eq!(m.weights, weights);
        assert_eq!(
            m.flops,
            2.0 * weights + 8.0 * 4.0 * 1024.0 * 512.0 + 2.0 * 16_384.0 * 512.0
        );
        // two bytes for each weight, and four caches of 2,048 tokens
        let cache = 8.0 * 2.0 * 512.0 * 2048.0 * 2.0;
        assert_eq!(m.bytes, 2.0 * weights + 2.0 * 16_384.0 * 512.0 + 4.0 * cache);
    }

    #[test]
    fn every_saving_saves_and_costs_loss() {
        let plain_model = changed(&[]);
        let savings: [&[(&str, Value)]; 5] = [
            &[("bits", 4.into()), ("group", 64.into())],
            &[("prune", "units".into()), ("prune_ratio", 0.5.into())],
            &[("kv_bits", 4.into())],
            &[("attention", "window".into()), ("window", 64.into())],
            &[("attention", "grouped".into()), ("kv_groups", 1.into())],
        ];
        let base = loss(&with(&plain()), &plain_model);
        for saving in savings {
            let mut values = plain();
            values.retain(|(n, _)| saving.iter().all(|(m, _)| m != n));
            values.extend(saving.iter().cloned());
            let candidate = with(&values);
            assert_eq!(LANGUAGE_MODEL.space().check(&candidate), Ok(()));
            let model = Model::of(&candidate);
            assert!(
                model.bytes < plain_model.bytes && model.joules < plain_model.joules,
                "{saving:?}"
            );
            assert!(loss(&candidate, &model) > base + 0.003, "{saving:?}");
        }
    }

    #[test]
    fn the_noise_is_small_fixed_and_centred() {
        let space = LANGUAGE_MODEL.space();
        let mut rng = crate::proposal_rng(5, 0);
        let draws: Vec<f64> = (0..4000)
            .map(|_| noise(&space.decode(&crate::ask::uniform(space.len(), &mut rng))))
            .collect();
        let mean = draws.iter().sum::<f64>() / 4000.0;
        let deviation = (draws.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4000.0).sqrt();
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!(
            (deviation / (NOISE / 3f64.sqrt()) - 1.0).abs() < 0.05,
            "{deviation}"
        );
        assert_eq!(noise(&with(&plain())), noise(&with(&plain())));
    }
}
