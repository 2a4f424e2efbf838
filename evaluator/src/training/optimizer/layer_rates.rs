//! Lower rates for lower layers (discriminative fine-tuning, 1801.06146): what a base knows of any text lies at its bottom, and
//! changes least. A layer of `L` has the step's rate times `decay^(L - l)`, `l` from 1: the last one all of it.
//!
//! What is above the layers, head and last norm, has all of it too. An embedding is below them, `decay^L`, also where it is the
//! head of a decoder. The layers of a half that reads lie below those of the one that writes, and its last norm with the last
//! of them.

use std::{collections::BTreeMap, ops::Bound};

use burn::tensor::backend::Backend;
use spaces::{Domain, ParameterInfo};

use super::Rule;
use crate::{
    counter,
    model::Model,
    parameter::{Declared, Values, float},
};

/// The counter of tensors that were changed at less than the step's rate.
pub(crate) const ACTIVITY: &str = "slowed_tensors";

const NAME: &str = "layerwise_lr_decay";

/// The parameter.
pub(super) fn parameter() -> ParameterInfo {
    float(
        NAME,
        "rate of a layer over that of the next higher one; 1 for one rate of all (1801.06146)",
        0.1,
        1.0,
        1.0,
    )
    .when("fine_tune == 'full'")
    .search(Domain::float(0.6, 1.0, false, None).expect("not empty"))
}

/// Reads the decay; 1 where the parameter has no meaning.
pub(crate) fn read(values: Values) -> f64 {
    match values.float(NAME) {
        0.0 => 1.0,
        decay => decay,
    }
}

/// # Errors
/// A sentence where a rule has no rate for each layer.
pub(super) fn check(values: Values, rule: Rule) -> Result<Rule, String> {
    let decay = read(values);
    match rule {
        Rule::Mezo { .. } if decay < 1.0 => Err(format!(
            "{NAME} = {decay} gives each layer a rate of its own, and optimizer = 'mezo' learns one number for all of them; use {NAME} = 1, or optimizer = 'adamw', 'badam', 'sgd' or 'lomo'"
        )),
        rule => Ok(rule),
    }
}

/// The rate of each tensor in a step.
#[derive(Clone, Debug)]
pub(in crate::training) struct Rates {
    /// Of what is above all layers.
    highest: f64,
    below: Option<Below>,
}

/// How rates fall below that.
#[derive(Clone, Debug)]
struct Below {
    decay: f64,
    layers: usize,
    /// What names begin with of what lies in or beside a layer, and how many layers lie above.
    places: BTreeMap<String, usize>,
}

impl Rates {
    /// One rate of all.
    pub(in crate::training) fn one(rate: f64) -> Self {
        Rates {
            highest: rate,
            below: None,
        }
    }

    /// Those of a model's tensors, where the highest one is `rate`.
    pub(in crate::training) fn of<B: Backend>(model: &Model<B>, rate: f64, decay: f64) -> Self {
        let layers = model.blocks.len();
        let below = (decay < 1.0).then(|| {
            let blocks =
                (0..layers).map(|block| (format!("{}.", model.block_path(block)), layers - 1 - block));
            let others = [
                ("model.embed_tokens.", layers),
                ("model.encoder.norm.", layers - model.reading()),
            ];
            Below {
                decay,
                layers,
                places: others
                    .map(|(name, above)| (name.to_owned(), above))
                    .into_iter()
                    .chain(blocks)
                    .collect(),
            }
        });
        Rates { highest: rate, below }
    }

    /// The rate of a tensor of the whole model.
    pub(super) fn at(&self, name: &str) -> f64 {
        let Some(below) = &self.below else {
            return self.highest;
        };
        // a name's beginning is the greatest of those that are not above it: they end in a dot
        let beginnings = (Bound::Unbounded, Bound::Included(name));
        let place = below.places.range::<str, _>(beginnings).next_back();
        let above = place.filter(|(path, _)| name.starts_with(path.as_str()));
        self.below_layers(above.map_or(0, |(_, above)| *above))
    }

    /// The one rate of a block, counted from 0.
    pub(super) fn of_block(&self, block: usize) -> Rates {
        let above = self.below.as_ref().map_or(0, |below| below.layers - 1 - block);
        Rates::one(self.below_layers(above))
    }

    fn below_layers(&self, above: usize) -> f64 {
        match &self.below {
            Some(below) if above > 0 => {
                counter::add_activity(ACTIVITY, 1);
                self.highest * below.decay.powi(above as i32)
            }
            _ => self.highest,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::{Autodiff, Flex},
        module::Param,
        tensor::{Tensor, TensorData},
    };

    use super::*;
    use crate::{
        data::Symbols,
        model::{TensorMut, each_tensor},
        plan::Plan,
        training::Optimizer,
    };

    type A = Autodiff<Flex>;

    fn plan_of(fixed: &str) -> Plan {
        let shape = "context = 32\nwidth = 16\nheads = 2\nweight_decay = 0.0";
        let text = format!("[data]\ncorpus = 'markov'\n[fixed]\n{shape}\n{fixed}\n");
        let config = spaces::study::config_from_toml(&text, &crate::catalog()).unwrap();
        let data = Symbols {
            classes: fixed.contains("'encoder'").then_some(3),
            ..19.into()
        };
        Plan::read(&config, data, None).unwrap()
    }

    fn model(fixed: &str) -> Model<A> {
        Model::new(&plan_of(fixed).model, 1, &Default::default())
    }

    #[test]
    fn rates_fall_from_the_head_to_the_embedding() {
        for (fixed, expected) in [
            (
                "layers = 12",
                vec![
                    ("model.embed_tokens.weight", 12),
                    ("model.layers.0.input_layernorm.weight", 11),
                    ("model.layers.1.self_attn.q_proj.weight", 10),
                    ("model.layers.10.mlp.up_proj.weight", 1),
                    ("model.layers.11.mlp.up_proj.weight", 0),
                    ("model.norm.weight", 0),
                ],
            ),
            (
                "kind = 'encoder'\nlayers = 2",
                vec![
                    ("model.embed_tokens.weight", 2),
                    ("model.layers.1.mlp.up_proj.weight", 0),
                    ("score.weight", 0),
                ],
            ),
            (
                "kind = 'encoder_decoder'\nlayers = 2",
                vec![
                    ("model.embed_tokens.weight", 4),
                    ("model.encoder.layers.0.mlp.up_proj.weight", 3),
                    ("model.encoder.layers.1.mlp.up_proj.weight", 2),
                    ("model.encoder.norm.weight", 2),
                    ("model.decoder.layers.0.mlp.up_proj.weight", 1),
                    ("model.decoder.layers.1.mlp.up_proj.weight", 0),
                    ("model.norm.weight", 0),
                ],
            ),
        ] {
            let mut model = model(fixed);
            let rates = Rates::of(&model, 0.5, 0.8);
            let mut names = vec![];
            each_tensor(&mut model, &mut |name, _| names.push(name));
            for (name, above) in expected {
                assert!(names.iter().any(|n| n == name), "{name} of {fixed}: {names:?}");
                assert_eq!(rates.at(name), 0.5 * 0.8f64.powi(above), "{name} of {fixed}");
            }
            let last = model.blocks.len() - 1;
            assert_eq!(rates.of_block(last).at("any"), 0.5);
            assert_eq!(rates.of_block(0).at("any"), 0.5 * 0.8f64.powi(last as i32));
        }
    }

    /// What a step adds to weights that are 0, by tensor.
    fn step_from_zero(rule: Rule, decay: f64) -> BTreeMap<String, Vec<f32>> {
        let mut model = model("layers = 3");
        let mut gradients = BTreeMap::new();
        let zero = |n: usize| vec![0.0f32; n];
        each_tensor(&mut model, &mut |name, tensor| {
            let n = match tensor {
                TensorMut::Matrix(param) => {
                    let [rows, columns] = param.dims();
                    let data = TensorData::new(zero(rows * columns), [rows, columns]);
                    *param = Param::from_tensor(Tensor::from_data(data, &Default::default()));
                    rows * columns
                }
                TensorMut::Vector(param) => {
                    let [n] = param.dims();
                    *param = Param::from_tensor(Tensor::from_data(
                        TensorData::new(zero(n), [n]),
                        &Default::default(),
                    ));
                    n
                }
            };
            let values: Vec<f32> = (0..n).map(|i| (i as f32 + name.len() as f32).sin()).collect();
            gradients.insert(
                name,
                Tensor::from_data(TensorData::new(values, [n]), &Default::default()),
            );
        });
        let mut training = plan_of("layers = 3").training;
        training.rule = rule;
        let rates = Rates::of(&model, 0.3, decay);
        Optimizer::<Flex>::default().apply(&mut model, gradients, &rates, &training);
        let mut steps = BTreeMap::new();
        each_tensor(&mut model, &mut |name, tensor| {
            let values = match tensor {
                TensorMut::Matrix(param) => param.val().into_data(),
                TensorMut::Vector(param) => param.val().into_data(),
            };
            steps.insert(name, values.iter().collect());
        });
        steps
    }

    #[test]
    fn a_layers_step_is_the_whole_step_times_a_power_of_the_decay() {
        let above = |name: &str| match name {
            _ if name.starts_with("model.embed_tokens.") => 3,
            _ if name.starts_with("model.layers.0.") => 2,
            _ if name.starts_with("model.layers.1.") => 1,
            _ => 0,
        };
        for rule in [Rule::Sgd, Rule::AdamW] {
            let whole = step_from_zero(rule, 1.0);
            // by halves floats lose nothing
            for (decay, room) in [(0.5, 0.0f32), (0.8, 1e-6)] {
                let slowed = step_from_zero(rule, decay);
                for (name, whole) in &whole {
                    let factor = decay.powi(above(name)) as f32;
                    for (slowed, whole) in slowed[name].iter().zip(whole) {
                        let expected = whole * factor;
                        assert!(*whole != 0.0, "{name} was not changed");
                        assert!(
                            (slowed - expected).abs() <= room * expected.abs(),
                            "{rule:?} {decay} {name}: {slowed} {expected}"
                        );
                    }
                }
            }
        }
    }
}
