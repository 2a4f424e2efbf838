use std::convert::Infallible;

use proptest::prelude::*;
use spaces::study::config_from_toml;

use super::*;
use crate::plan::Plan;

/// The plan of a decoder of width 32, with these lines.
fn read(fixed: &str) -> Result<Plan, String> {
    let text = format!("[data]\ncorpus = 'markov'\n[fixed]\ncontext = 16\nwidth = 32\n{fixed}");
    let config = config_from_toml(&text, &crate::catalog()).map_err(|e| format!("{e:?}"))?;
    Plan::read(&config, 19, None)
}

fn shape(fixed: &str) -> ModelPlan {
    read(fixed).unwrap().served
}

fn sized(plan: &ModelPlan, sizes: &[LayerSize]) -> ModelPlan {
    let mut plan = plan.clone();
    give(&mut plan, sizes);
    plan
}

/// Something that does not change, and each layer's heads and neurons.
fn additive(plan: &ModelPlan) -> f64 {
    let layer = |layer: &crate::model::LayerPlan| {
        0.5 * layer.attention.kv_heads as f64 + 0.03 * layer.feed_forward.hidden() as f64
    };
    2.0 + plan.layers.iter().map(layer).sum::<f64>()
}

fn measured(plan: &ModelPlan, time: impl Fn(&ModelPlan) -> f64) -> TimeTable {
    let mut times = |shape: &ModelPlan| Ok::<_, Infallible>([time(plan), time(shape)]);
    TimeTable::measure(plan, &mut times).unwrap()
}

fn found(plan: &ModelPlan, losses: &Losses, share: f64, time: impl Fn(&ModelPlan) -> f64) -> FoundSizes {
    let table = measured(plan, &time);
    let mut times = |shape: &ModelPlan| Ok::<_, Infallible>([time(plan), time(shape)]);
    let found = FoundSizes::find(plan, &table, losses, share, &mut times);
    found.unwrap().unwrap()
}

/// Losses of every size of a table.
fn losses_by(table: &TimeTable, loss: impl Fn(usize, Structure, usize) -> f64) -> Losses {
    let of_part = |part: &TimedPart| {
        let layers = part.layers.iter();
        let of_layer = |layer: &usize| {
            let sizes = part.sizes.iter();
            sizes.map(|size| loss(*layer, part.structure, *size)).collect()
        };
        layers.map(of_layer).collect()
    };
    table.parts.iter().map(of_part).collect()
}

/// The least loss within a budget, by trying everything.
fn brute_force(table: &TimeTable, losses: &Losses, budget: f64) -> Option<f64> {
    let mut sums = vec![(table.rest, 0.0)];
    for (part, losses) in table.parts.iter().zip(losses) {
        for losses in losses {
            let add = |(share, loss): &(f64, f64)| {
                let sizes = part.shares.iter().zip(losses);
                let (share, loss) = (*share, *loss);
                sizes.map(move |(s, l)| (share + s, loss + l)).collect::<Vec<_>>()
            };
            sums = sums.iter().flat_map(add).collect();
        }
    }
    let within = sums.into_iter().filter(|(share, _)| *share <= budget + 1e-9);
    within.map(|(_, loss)| loss).min_by(f64::total_cmp)
}

/// A table of two layers alike and one of another kind, in whole units of time.
fn tables() -> impl Strategy<Value = (TimeTable, Losses, u32)> {
    let part = |layers: Vec<usize>, structure: Structure, sizes: Vec<usize>| {
        let steps = prop::collection::vec(1u32..400, sizes.len() - 1);
        let n = layers.len();
        let losses = prop::collection::vec(prop::collection::vec(-0.1..1.0, sizes.len()), n);
        (steps, losses).prop_map(move |(steps, losses): (Vec<u32>, Vec<Vec<f64>>)| {
            let rise = |sum: &mut u32, step: u32| {
                *sum += step;
                Some(*sum)
            };
            let shares = std::iter::once(0).chain(steps.into_iter().scan(0, rise));
            let part = TimedPart {
                layers: layers.clone(),
                structure,
                sizes: sizes.clone(),
                shares: shares.map(|units| f64::from(units) / 1e4).collect(),
            };
            (part, losses)
        })
    };
    let parts = (
        part(vec![0, 2], Structure::Heads, vec![1, 2, 4]),
        part(vec![0, 2], Structure::Neurons, vec![16, 32, 64, 96]),
        part(vec![1], Structure::Neurons, vec![8, 64, 96]),
    );
    (parts, 0u32..3000, 0u32..8000).prop_map(|((a, b, c), rest, budget)| {
        let (parts, losses) = [a, b, c].into_iter().unzip();
        let table = TimeTable {
            whole_ms: 1.0,
            rest: f64::from(rest) / 1e4,
            parts,
        };
        (table, losses, budget)
    })
}

proptest! {
    #[test]
    fn the_choice_is_the_best_of_all((table, losses, budget) in tables()) {
        let plan = shape("layers = 3\nheads = 4\nattention_layer_2 = 'linear'");
        let share = f64::from(budget) / 1e4;
        let best = brute_force(&table, &losses, share);
        match table.choose(&plan, &losses, share) {
            None => prop_assert_eq!(best, None),
            Some(chosen) => {
                prop_assert!(chosen.share <= share + 1e-9, "{} {share}", chosen.share);
                prop_assert!((chosen.loss - best.unwrap()).abs() < 1e-9, "{} {best:?}", chosen.loss);
            }
        }
    }
}

#[test]
fn times_that_add_up_are_found_exactly_and_what_is_chosen_takes_what_was_foretold() {
    for fixed in [
        "layers = 3\nheads = 4",
        "layers = 4\nheads = 8\nkv_heads = 2\nattention_layer_1 = 'linear'",
        "layers = 2\nheads = 4\nexperts = 2\nmoe_every = 2",
        "layers = 2\nkv_heads = 1",
    ] {
        let plan = shape(&format!("prune_latency = 0.5\n{fixed}"));
        let table = measured(&plan, additive);
        assert!((table.whole_ms - additive(&plan)).abs() < 1e-9);
        let mut smallest = plan.clone();
        for part in &table.parts {
            for layer in &part.layers {
                part.structure.cut(&mut smallest.layers[*layer], part.sizes[0]);
            }
        }
        let least = additive(&smallest) / additive(&plan);
        assert!((table.rest - least).abs() < 1e-9, "{fixed}: {table:?}");
        let losses = losses_by(&table, |layer, _, size| (layer + 1) as f64 / size as f64);
        for share in [0.5, 0.8, 0.95] {
            let found = found(&plan, &losses, share, additive);
            let time = additive(&sized(&plan, &found.layers)) / additive(&plan);
            assert!((found.predicted - time).abs() < 1e-9 && (found.measured - time).abs() < 1e-9);
            assert!(time <= share && found.removed(&plan) > 0, "{fixed}: {found:?}");
            // no more is removed than has to be
            assert!(time > share - 0.1, "{fixed}: {found:?}");
        }
    }
}

#[test]
fn layers_that_lose_less_keep_less() {
    let plan = shape("layers = 3\nheads = 4\nprune_latency = 0.6");
    let table = measured(&plan, additive);
    let losses = losses_by(&table, |layer, _, size| [1.0, 1e-3, 1.0][layer] / size as f64);
    let found = found(&plan, &losses, 0.7, additive);
    let [first, idle, last] = found.layers[..] else {
        panic!("three layers");
    };
    assert!(idle.neurons < first.neurons.min(last.neurons), "{found:?}");
    assert!(idle.kv_heads < first.kv_heads.min(last.kv_heads), "{found:?}");
    // and a target above everything, times being rounded up, leaves all as it is
    let whole = self::found(&plan, &losses, 1.001, additive);
    assert_eq!((sized(&plan, &whole.layers), whole.removed(&plan)), (plan, 0));
}

#[test]
fn noise_has_no_smaller_size_take_longer_and_no_part_more_than_the_whole() {
    let plan = shape("layers = 2\nheads = 4\nprune_latency = 0.6");
    let noisy = |shape: &ModelPlan| {
        let cut: usize = shape.layers.iter().map(|layer| layer.feed_forward.hidden()).sum();
        // every other size seems slow
        additive(shape) * if (cut / 16).is_multiple_of(2) { 1.3 } else { 0.9 }
    };
    let table = measured(&plan, noisy);
    for part in &table.parts {
        assert_eq!(part.shares[0], 0.0);
        assert!(part.shares.is_sorted(), "{part:?}");
    }
    let most: f64 = table
        .parts
        .iter()
        .map(|part| part.layers.len() as f64 * part.shares.last().unwrap())
        .sum();
    assert!((table.rest + most - 1.0).abs() < 1e-9, "{table:?}");
    // each part alone seems to take nearly all
    let greedy = |shape: &ModelPlan| if *shape == plan { 1.0 } else { 0.1 };
    let table = measured(&plan, greedy);
    let most: f64 = table
        .parts
        .iter()
        .map(|part| part.layers.len() as f64 * part.shares.last().unwrap())
        .sum();
    assert!(table.rest == 0.0 && (most - 1.0).abs() < 1e-9, "{table:?}");
}

#[test]
fn a_choice_that_turns_out_too_slow_is_made_again() {
    let plan = shape("layers = 2\nheads = 4\nprune_latency = 0.6");
    let table = measured(&plan, additive);
    let losses = losses_by(&table, |_, structure, size| match structure {
        Structure::Heads => 0.02 / size as f64,
        Structure::Neurons => 1.0 / size as f64,
    });
    // cut in both structures at once a model gains less than by each alone
    let slower = |shape: &ModelPlan| {
        let layers = || shape.layers.iter();
        let is_cut = layers().any(|layer| layer.feed_forward.hidden() < 96)
            && layers().any(|layer| layer.attention.kv_heads < 4);
        additive(shape) + if is_cut { 0.5 } else { 0.0 }
    };
    let found = found(&plan, &losses, 0.6, slower);
    assert!(
        found.predicted < found.measured && found.measured <= 0.6,
        "{found:?}"
    );
    assert_eq!(found.target, 0.6);
}

#[test]
fn a_target_that_cannot_be_met_names_the_lowest_that_can() {
    let plan = shape("layers = 2\nheads = 4\nprune_latency = 0.6");
    let table = measured(&plan, additive);
    let losses = losses_by(&table, |_, _, _| 0.0);
    let named = |message: String, name: &str| -> f64 {
        let text = message.split(&format!("use at least {name} = ")).nth(1);
        text.unwrap_or_else(|| panic!("{message}")).parse().unwrap()
    };
    let least = named(Target::Share(0.1).share(&table).unwrap_err(), "prune_latency");
    assert!((0.1..1.0).contains(&least));
    let share = Target::Share(least).share(&table).unwrap();
    assert!(found(&plan, &losses, share, additive).measured <= least);
    let least_ms = named(Target::Ms(0.1).share(&table).unwrap_err(), "prune_latency_ms");
    let share = Target::Ms(least_ms).share(&table).unwrap();
    assert!((share - table.least()).abs() < 1e-3, "{share} {}", table.least());
    let idle = Target::Ms(additive(&plan) + 1.0).share(&table).unwrap_err();
    assert!(
        idle.contains("is no less than the 11.7600 ms") && idle.contains("prune_latency_ms = 0"),
        "{idle}"
    );
}

#[test]
fn what_cannot_be_cut_to_a_time_is_refused_before_training() {
    for (fixed, part) in [
        ("prune_ratio = 0.5", "use prune_ratio = 0 or prune_latency = 1"),
        ("head_prune_ratio = 0.5", "use head_prune_ratio = 0"),
        ("layer_prune_ratio = 0.5", "use layer_prune_ratio = 0"),
        ("width_prune_ratio = 0.5", "use width_prune_ratio = 0"),
        ("feed_forward = 'channel_mix'", "not of channel_mix"),
        ("prune_latency_ms = 2.0", "two targets for one time"),
        ("context_keep = 0.5", "use context_keep = 1"),
        (
            "sparsity = 0.5\nsparsity_pattern = '2:4'",
            "use sparsity_pattern = 'free'",
        ),
        ("heads = 1\nffn_ratio = 0.25", "nothing to cut"),
    ] {
        let message = read(&format!("prune_latency = 0.6\n{fixed}")).unwrap_err();
        assert!(
            message.contains(part) && message.contains("prune_latency"),
            "{message}"
        );
    }
    let read = |fixed: &str| read(fixed).unwrap();
    assert_eq!(read("prune_latency = 1.0\nprune_latency_ms = 0.0").pruning, None);
    let plan = read("prune_latency = 0.6");
    assert_eq!((&plan.served, plan.finds_sizes()), (&plan.model, true));
}
