//! A configuration, read and checked: what is built, trained, removed, packed. Costs that follow from it alone.

mod comparable;
mod parameters;
mod shape;

use std::collections::BTreeMap;

use spaces::{Config, Evidence, Measurement};

pub(crate) use self::parameters::parameters;
use self::shape::{check_tables, read_model};
pub use self::{comparable::incomparable, parameters::conflicts_with_base};
use crate::{
    bundle,
    data::{DataFacts, Form, Rows, Symbols},
    device::Device,
    model::{LayerPlan, ModelPlan, Trainable},
    ops::{Precision, set_precision},
    parameter::Values,
    techniques::{
        distillation::{self, DistillationPlan},
        dynamic::{
            context_keep::{self, ContextKeep},
            draft::{self, DraftPlan},
            early_exit::{EXITS_ACTIVITY, EarlyExit},
            token_keep::{ACTIVITY as TOKENS_ACTIVITY, TokenKeep},
        },
        feed_forward::{CHANNEL_MIX_ACTIVITY, FeedForwardPlan},
        fine_tuning::FineTuning,
        pruning::PruningPlan,
        quantization::{
            QuantizationPlan,
            cache::{ACTIVITY as CACHE_ACTIVITY, CacheForm},
            packed::INTEGER_ACTIVITY,
        },
        reversible::{CHUNKS_ACTIVITY, REVERSED_ACTIVITY},
        sparsity::{self, SparsityPlan},
    },
    training::Rule,
};

/// Everything an evaluation does, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The model as it is trained.
    pub model: ModelPlan,
    /// The model as it is served, after pruning and with what its weights are stored as.
    pub served: ModelPlan,
    /// How a base is adapted; `None` when training starts from scratch.
    pub fine_tuning: Option<FineTuning>,
    /// The training.
    pub training: TrainingPlan,
    /// What is removed afterwards.
    pub pruning: Option<PruningPlan>,
    /// What recovery learns from the model before pruning.
    pub distillation: Option<DistillationPlan>,
    /// Which single weights are removed after that.
    pub sparsity: Option<SparsityPlan>,
    /// How weights are packed.
    pub quantization: Option<QuantizationPlan>,
    /// How neurons are chosen for each token, where they are.
    pub contextual: Option<ContextKeep>,
    /// Tokens that the final loss is measured on, at most.
    pub validation_tokens: usize,
    /// Percentage points of accuracy that early exits may lose, where there are any.
    pub exit_tolerance: f64,
    /// What a GPU multiplies matrices in.
    pub precision: Precision,
}

/// How long a training lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// A number of optimizer steps.
    Steps(u64),
    /// Wall time in seconds; turned into steps by timing the first ones.
    Seconds(f64),
}

/// The training loop's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingPlan {
    /// How long it lasts.
    pub budget: Budget,
    /// Examples of one step.
    pub batch: usize,
    /// Tokens of one row, and what is asked of it.
    pub rows: Rows,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Share of the steps in which the rate rises from 0.
    pub warmup: f64,
    /// The last rate over the highest one.
    pub final_rate: f64,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// Largest norm of the gradient of all weights together.
    pub gradient_clip: f64,
    /// How a step changes the weights.
    pub rule: Rule,
}

impl TrainingPlan {
    fn read(values: Values, form: Form, rule: Rule) -> Self {
        let (batch, context, seconds) = (
            values.int("batch"),
            values.int("context"),
            values.float("training_time"),
        );
        TrainingPlan {
            budget: if seconds > 0.0 {
                Budget::Seconds(seconds)
            } else {
                let step = batch * form.texts() * context;
                Budget::Steps((values.int("tokens") as u64 / step as u64).max(1))
            },
            batch,
            rows: Rows { context, form },
            learning_rate: values.float("learning_rate"),
            warmup: values.float("warmup"),
            final_rate: values.float("final_rate"),
            weight_decay: values.float("weight_decay"),
            gradient_clip: values.float("gradient_clip"),
            rule,
        }
    }

    /// The factor on gradients whose norm, all together, is this.
    pub(crate) fn clipping(&self, norm: f64) -> f64 {
        // a norm that is not a number passes through, so that the loop sees it in the loss
        if norm > self.gradient_clip {
            self.gradient_clip / norm
        } else {
            1.0
        }
    }

    /// Tokens of one step, padding included.
    pub fn step_tokens(&self) -> usize {
        self.batch * self.rows.form.texts() * self.rows.context
    }
}

impl Plan {
    /// Reads a configuration for data with these symbols; `base` is the shape of the checkpoint it starts from.
    ///
    /// # Errors
    /// One sentence: which value cannot be built with which other, and what to use instead.
    pub fn read(config: &Config, data: impl Into<Symbols>, base: Option<&ModelPlan>) -> Result<Plan, String> {
        let data: Symbols = data.into();
        let vocabulary = data.vocabulary;
        let values = Values(&config.values);
        let context = values.int("context");
        // how a base remembered is of its serving
        let base = base.map(ModelPlan::with_whole_cache);
        let base = base.as_ref();
        let model = match base {
            // exits have no weights of their own, so they are the configuration's, not the base's
            Some(base) => ModelPlan {
                context,
                early_exit: EarlyExit::read(values, base.kind, base.layers.len(), base.reversible.is_some())?,
                tokens: TokenKeep::read(values, base.kind, &base.layers, base.reversible.is_some())?,
                draft: None,
                ..base.clone()
            },
            None => read_model(values, data, context)?,
        };
        let known = model.vocabulary.saturating_sub(model.kind.more_tokens());
        if known != vocabulary {
            return Err(format!(
                "the data has {vocabulary} tokens and the base {known}; use the base's tokenizer by leaving data.tokenizer out"
            ));
        }
        if let Some(base) = base {
            base.kind.check(data, context)?;
            check_tables(base, &model)?;
        }
        let fine_tuning = FineTuning::read(values);
        if base.is_none() && fine_tuning != FineTuning::None {
            return Err(format!(
                "fine_tune = '{}' needs a checkpoint to start from; add [base] with path = \"FOLDER\"",
                values.text("fine_tune")
            ));
        }
        let model = fine_tuning.adapted(model)?;
        let rule = Rule::read(values, &model, base.is_some())?;
        let form = model.kind.form();
        let pruning = PruningPlan::read(values);
        let mut served = match &pruning {
            Some(pruning) => pruning.pruned(&model)?,
            None => model.clone(),
        };
        let distillation = DistillationPlan::read(values);
        if distillation.is_some() && model.reversible.is_some() {
            return Err(
                "distill = 'logits' needs layers that keep what they computed, and reversible = true keeps nothing; use distill = 'none' or reversible = false"
                    .into(),
            );
        }
        let sparsity = SparsityPlan::read(values, &served)?;
        if sparsity.is_some() && model.early_exit.is_some() {
            return Err(format!(
                "sparsity = {} and early exits are not offered together yet; use sparsity = 0 or early_exit = 'none'",
                values.float("sparsity")
            ));
        }
        served.sparsity = sparsity.map(|plan| plan.form);
        let quantization = QuantizationPlan::read(values, &served)?;
        CacheForm::give(values, &mut served)?;
        let contextual = ContextKeep::read(values, &served)?;
        if let Some(keep) = contextual {
            served = keep.given(&served);
        }
        served.draft = DraftPlan::read(values, &served)?;
        Ok(Plan {
            model,
            served,
            fine_tuning: base.map(|_| fine_tuning),
            training: TrainingPlan::read(values, form, rule),
            pruning,
            distillation,
            sparsity,
            quantization,
            contextual,
            validation_tokens: values.int("validation_tokens"),
            exit_tolerance: values.float("exit_tolerance"),
            precision: read_precision(values),
        })
    }

    /// The plan of an exported model: nothing is left to be done but to measure it.
    pub(crate) fn of_bundle(config: &Config, served: &bundle::Served, trained: ModelPlan) -> Plan {
        let values = Values(&config.values);
        Plan {
            model: trained,
            served: served.model.clone(),
            fine_tuning: None,
            training: TrainingPlan::read(values, served.model.kind.form(), Rule::AdamW),
            pruning: None,
            distillation: None,
            sparsity: None,
            quantization: served.quantization,
            contextual: None,
            validation_tokens: values.int("validation_tokens"),
            exit_tolerance: values.float("exit_tolerance"),
            precision: read_precision(values),
        }
    }

    /// Has this process multiply as the plan says from now on.
    ///
    /// # Errors
    /// A sentence on what the device cannot, and what to use instead.
    pub fn prepare(&self, device: &Device) -> Result<(), String> {
        if *device == Device::Cpu && self.precision == Precision::Bf16 {
            return Err(
                "precision = 'bf16' needs a GPU: processors multiply 16-bit floats no faster; use precision = 'f32', or device cuda:0"
                    .into(),
            );
        }
        if let Some(packing) = &self.quantization {
            packing.check_device(device)?;
        }
        self.served.check_choice(device)?;
        set_precision(self.precision);
        Ok(())
    }

    /// Counters that are above zero once every technique that is on has done its work.
    pub fn expected_activity(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self
            .model
            .layers
            .iter()
            .filter_map(|l| l.attention.core.activity())
            .collect();
        names.sort_unstable();
        names.dedup();
        if self.model.layers.iter().any(|l| l.feed_forward.networks() > 1) {
            names.push("expert_rows_dispatched");
        }
        let mixes = |l: &LayerPlan| matches!(l.feed_forward, FeedForwardPlan::ChannelMix { .. });
        if self.model.layers.iter().any(mixes) {
            names.push(CHANNEL_MIX_ACTIVITY);
        }
        if let Some(form) = self.model.reversible {
            names.extend(self.trainable().map(|_| REVERSED_ACTIVITY));
            names.extend((form.ff_chunks > 1 && self.model.context > 1).then_some(CHUNKS_ACTIVITY));
        }
        names.extend(self.fine_tuning.iter().flat_map(FineTuning::activity));
        names.extend(self.trainable().and_then(|_| self.training.rule.activity()));
        names.extend(self.pruning.iter().flat_map(PruningPlan::activity));
        names.extend(self.distillation.map(|_| distillation::ACTIVITY));
        if self.sparsity.is_some() {
            names.extend(sparsity::ACTIVITY);
        }
        if let Some(quantization) = self.quantization {
            names.extend([quantization.activity(), "packed_products"]);
            names.extend((quantization.activation_bits < 32).then_some(INTEGER_ACTIVITY));
        }
        let packs_cache = self.served.layers.iter().any(|l| l.attention.cache.is_some());
        names.extend(packs_cache.then_some(CACHE_ACTIVITY));
        if self.contextual.is_some() {
            names.extend(context_keep::ACTIVITY);
        }
        names.extend(self.served.early_exit.map(|_| EXITS_ACTIVITY));
        names.extend(self.served.tokens.map(|_| TOKENS_ACTIVITY));
        // a draft may be wrong each time, but not silent
        names.extend(self.served.draft.map(|_| draft::ACTIVITY[2]));
        names
    }

    /// Which weights the main training changes; `None` where there is no training.
    pub fn trainable(&self) -> Option<Trainable> {
        self.fine_tuning
            .map_or(Some(Trainable::All), |method| method.trainable())
    }

    /// Optimizer steps of the recovery after pruning, for a main training of `steps`.
    pub fn recovery_steps(&self, steps: u64) -> u64 {
        let share = self.pruning.map_or(0.0, |p| p.recovery);
        if share > 0.0 {
            ((share * steps as f64).round() as u64).max(1)
        } else {
            0
        }
    }

    /// Whether [`Plan::training_flops`] is what a training executes; where experts have a capacity, attention leaves out
    /// padding, or a rank is drawn for each step, it is the most, because what is left out costs nothing.
    pub fn training_flops_are_exact(&self) -> bool {
        !self.model.kind.form().pads()
            && !self.model.layers.iter().any(|l| l.feed_forward.may_drop())
            && self.fine_tuning.is_none_or(|method| method.has_one_cost())
    }

    /// FLOPs of the whole training for a main training of `steps`: choosing weights, training, judging importance and slicing, recovery, finding single weights to remove, calibration, lessons of predictors.
    pub fn training_flops(&self, steps: u64) -> u64 {
        let TrainingPlan {
            batch, rows, rule, ..
        } = self.training;
        let step = |model: &ModelPlan, trainable| rule.macs(model, batch, rows.context, trainable);
        let chosen = self
            .fine_tuning
            .map_or(0, |method| method.macs_before(&self.model, rows.context));
        let main = self
            .trainable()
            .map_or(0, |trainable| steps * step(&self.model, trainable));
        let judged = self
            .pruning
            .map_or(0, |plan| plan.judging_macs(&self.model, batch, rows.context));
        let taught = self
            .distillation
            .map_or(0, |_| self.model.forward_macs(batch, rows.context));
        let recovery = step(&self.served, Trainable::All) + taught;
        let sparsity = self
            .sparsity
            .map_or(0, |plan| plan.macs(&self.served, batch, rows.context));
        let packing = self
            .quantization
            .map_or(0, |plan| plan.macs(&self.served, batch, rows.context));
        let lessons = self
            .contextual
            .map_or(0, |keep| keep.macs(&self.served, batch, rows.context));
        2 * (chosen + main + judged + self.recovery_steps(steps) * recovery + sparsity + packing + lessons)
    }

    /// The metrics that follow from the plan alone, exactly.
    pub fn known(&self, facts: &DataFacts) -> BTreeMap<String, f64> {
        let bytes = bundle::served_bytes(&self.served, self.quantization, facts.tokenizer_bytes as u64);
        let mut known = BTreeMap::from([
            ("parameters".to_owned(), self.served.parameters() as f64),
            (
                "active_parameters".to_owned(),
                self.served.active_parameters() as f64,
            ),
            ("model_bytes".to_owned(), bytes as f64),
            (
                "state_bytes_per_sequence".to_owned(),
                self.served.state_bytes() as f64,
            ),
        ]);
        // where texts leave early depends on the texts, and so does what a draft is right about
        if self.served.early_exit.is_none() && self.served.draft.is_none() {
            let flops = self.served.inference_flops_per_token();
            known.insert("inference_flops_per_token".to_owned(), flops);
        }
        if let Budget::Steps(steps) = self.training.budget
            && self.training_flops_are_exact()
        {
            known.insert("training_flops".to_owned(), self.training_flops(steps) as f64);
        }
        known
    }

    /// [`Plan::known`] as measurements.
    pub fn known_measurements(&self, facts: &DataFacts) -> Vec<Measurement> {
        let row = |(metric, value)| Measurement {
            metric,
            step: 0,
            value,
            spread: None,
            evidence: Evidence::Analytic,
            source: "formula".into(),
        };
        self.known(facts).into_iter().map(row).collect()
    }
}

/// What products are multiplied in; 32-bit floats where a bundle of an older version says nothing.
fn read_precision(values: Values) -> Precision {
    match values.text("precision") {
        "bf16" => Precision::Bf16,
        _ => Precision::F32,
    }
}
