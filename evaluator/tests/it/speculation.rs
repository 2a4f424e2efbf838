//! Speculative decoding: the same text, the same law, and memories that go back.

use burn::backend::Flex;
use evaluator::{
    decoding::{Choice, Draft, FirstLayers, Law, Laws, Ngram, Reader, SmallModel, Written, write_on},
    model::{Model, ModelPlan},
};

use crate::support::{TECHNIQUES, VOCABULARY, compress, plan, random_weights, tokens};

/// One of each attention, whose states go back in ways of their own.
const ATTENTIONS: &[&str] = &[
    "attention = 'full'\nkv_heads = 2",
    "attention = 'tiled'\nattention_block_q = 4\nattention_block_k = 3",
    "attention = 'sliding_window'\nwindow = 5",
    "attention = 'linear'\nlinear_chunk = 5",
    "attention = 'kde'\nkde_leaf = 2\nkde_samples = 3",
    "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
    "attention = 'aft'\naft_variant = 'local'\naft_window = 5\naft_rank = 8",
    "attention = 'aft'\naft_variant = 'simple'",
    "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
    "reversible = true\nattention_layer_2 = 'linear'",
];

fn model(fixed: &str) -> (Model<Flex>, ModelPlan) {
    let plan = plan(fixed);
    let mut model = Model::<Flex>::new(&plan.served, 3, &Default::default());
    random_weights(&mut model);
    compress(&mut model, &plan);
    (model, plan.served)
}

fn text(n: usize, seed: u32) -> Vec<u32> {
    let ids = tokens::<Flex>(1, n, seed).into_data();
    ids.iter::<i64>().map(|id| id as u32).collect()
}

/// What is written after a prompt.
fn written(
    (model, plan): &(Model<Flex>, ModelPlan),
    prompt: &[u32],
    tokens: usize,
    draft: Option<(&mut dyn Draft<Flex>, usize)>,
    temperature: f64,
) -> (Vec<u32>, Written) {
    let (mut reader, mut text) = (Reader::new(model, plan, prompt.len()), prompt.to_vec());
    let mut choice = Choice::new(temperature, 5);
    let written = write_on(
        &mut reader,
        &mut text,
        tokens,
        draft,
        &mut choice,
        &mut |_| Ok(()),
    )
    .unwrap();
    assert_eq!(text.len(), prompt.len() + tokens);
    assert_eq!(written.tokens, tokens);
    (text, written)
}

/// Holds what every draft writes greedily against plain greedy text of `prompts` prompts, past the end of the context.
fn same_text(fixed: &str, prompts: u32) {
    let target = model(fixed);
    let (small, small_plan) = model("layers = 1\ncontext = 11");
    let exits = target.1.layers.len() > 1;
    for prompt in 0..prompts {
        let prompt = text(1 + prompt as usize % 20, prompt);
        let guesses = 1 + prompt.len() % 5;
        let (plain, once) = written(&target, &prompt, 24, None, 0.0);
        assert_eq!(once.calls, 24);
        let mut small = SmallModel::new(&small, &small_plan, prompt.len());
        let (mut ngram, mut exit) = (Ngram, exits.then(|| FirstLayers::of(1, &target.1).unwrap()));
        let mut drafts: Vec<&mut dyn Draft<Flex>> = vec![&mut ngram, &mut small];
        drafts.extend(exit.as_mut().map(|exit| exit as &mut dyn Draft<Flex>));
        for (i, draft) in drafts.into_iter().enumerate() {
            let (text, took) = written(&target, &prompt, 24, Some((draft, guesses)), 0.0);
            assert_eq!(text, plain, "{fixed}, draft {i}, prompt {prompt:?}");
            assert!(
                took.accepted <= took.judged && took.judged <= took.scored,
                "{took:?}"
            );
        }
    }
}

#[test]
fn greedy_text_is_the_same_with_every_draft_for_every_attention() {
    for attention in ATTENTIONS {
        same_text(attention, 200);
    }
}

#[test]
fn greedy_text_is_the_same_for_every_technique() {
    for technique in TECHNIQUES {
        same_text(technique, 4);
    }
}

#[test]
fn a_memory_that_went_back_is_that_of_a_fresh_reading() {
    for technique in TECHNIQUES {
        let (model, plan) = model(technique);
        let right = text(16, 4);
        let mut reader = Reader::new(&model, &plan, 9);
        let mut wrong = right[..9].to_vec();
        let unread = reader.follow(&wrong);
        reader.read(unread, 1);
        // two guesses that are kept and three that are not
        wrong.extend([right[9], right[10], 1 + right[11] % 5, 3, 3]);
        reader.mark();
        reader.read(&wrong[9..], 5);
        let unread = reader.follow(&right).to_vec();
        let logits = reader.read(&unread, unread.len()).into_data();
        let fresh = model.forward(tokens::<Flex>(1, 16, 4)).logits;
        let fresh = fresh.narrow(1, 16 - unread.len(), unread.len()).into_data();
        let pairs = logits.iter::<f32>().zip(fresh.iter::<f32>());
        let worst = pairs
            .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
            .fold(0.0, f32::max);
        assert!(worst < 2e-5, "{technique}: {worst}");
    }
}

#[test]
fn a_draft_that_is_the_model_is_always_right() {
    for attention in ATTENTIONS {
        let target = model(attention);
        for temperature in [0.0, 1.0] {
            let prompt = text(3, 8);
            let mut same = SmallModel::new(&target.0, &target.1, prompt.len());
            let (_, took) = written(&target, &prompt, 12, Some((&mut same, 3)), temperature);
            assert_eq!((took.acceptance(), took.calls), (Some(1.0), 3), "{attention}");
            assert_eq!(took.tokens_per_call(), 4.0);
        }
    }
}

#[test]
fn what_repeats_is_written_in_fewer_calls_than_tokens() {
    for attention in ATTENTIONS {
        // greedy text of a fixed model ends in a circle
        let target = model(&format!("{attention}\ncontext = 96"));
        let (_, took) = written(&target, &text(12, 8), 80, Some((&mut Ngram, 4)), 0.0);
        assert!(
            took.calls < took.tokens && took.accepted > 0,
            "{attention}: {took:?}"
        );
    }
}

/// χ² of what the whole loop writes: two tokens, drafted by the first layer, against the model's own law.
#[test]
fn sampled_text_follows_the_law_of_the_model() {
    for attention in ["attention = 'full'", "attention = 'rwkv'"] {
        let (model, plan) = model(attention);
        let prompt = text(4, 8);
        let law = |text: &[u32]| {
            let mut reader = Reader::new(&model, &plan, text.len());
            let unread = reader.follow(text);
            match Laws::read(reader.read(unread, 1), 2.0) {
                laws @ Laws::Shares { .. } => match laws.at(0) {
                    Law::Shares(shares) => shares.to_vec(),
                    Law::Certain(_) => panic!("a temperature above 0"),
                },
                Laws::Certain(_) => panic!("a temperature above 0"),
            }
        };
        let samples = 20_000;
        let mut seen = vec![0u32; VOCABULARY * VOCABULARY];
        let mut choice = Choice::new(2.0, 11);
        let (mut judged, mut accepted) = (0, 0);
        let mut exit = FirstLayers::of(1, &plan).unwrap();
        for _ in 0..samples {
            let (mut reader, mut text) = (Reader::new(&model, &plan, prompt.len()), prompt.clone());
            let draft: (&mut dyn Draft<Flex>, usize) = (&mut exit, 4);
            let took = write_on(&mut reader, &mut text, 2, Some(draft), &mut choice, &mut |_| {
                Ok(())
            })
            .unwrap();
            (judged, accepted) = (judged + took.judged, accepted + took.accepted);
            seen[text[4] as usize * VOCABULARY + text[5] as usize] += 1;
        }
        assert!(accepted > 0 && accepted < judged, "{accepted} of {judged}");
        let (mut chi, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
        let mut cell = |seen: f64, expected: f64| {
            chi += (seen - expected).powi(2) / expected;
            cells += 1;
        };
        for (first, p) in law(&prompt).iter().enumerate() {
            let text = [&prompt[..], &[first as u32]].concat();
            for (second, then) in law(&text).iter().enumerate() {
                let expected = f64::from(samples) * f64::from(*p) * f64::from(*then);
                let seen = f64::from(seen[first * VOCABULARY + second]);
                if expected < 5.0 {
                    rare = (rare.0 + seen, rare.1 + expected);
                } else {
                    cell(seen, expected);
                }
            }
        }
        cell(rare.0, rare.1.max(1e-9));
        // the quantile 0.999 of so many degrees of freedom, by Wilson and Hilferty
        let k = f64::from(cells - 1);
        let quantile = k * (1.0 - 2.0 / (9.0 * k) + 3.0902 * (2.0 / (9.0 * k)).sqrt()).powi(3);
        assert!(
            chi < quantile,
            "{attention}: {chi} is above {quantile} of {cells} cells"
        );
    }
}

#[test]
fn a_draft_that_saves_nothing_is_refused_in_one_sentence() {
    let (_, plan) = model("layers = 3");
    for layers in [0, 3, 4] {
        let error = FirstLayers::of(layers, &plan).unwrap_err();
        assert!(error.contains("use exit:1 to exit:2"), "{error}");
    }
    FirstLayers::of(2, &plan).unwrap();
}
