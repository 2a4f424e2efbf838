//! A configuration, read and checked: what is built, trained, removed, packed.

mod comparable;
mod cost;
mod known;
mod parameters;
mod shape;
mod training;

use spaces::Config;

pub(crate) use self::parameters::parameters;
use self::shape::{check_tables, read_model};
pub use self::{
    comparable::incomparable,
    parameters::conflicts_with_base,
    training::{Budget, TrainingPlan},
};
use crate::{
    bundle,
    data::Symbols,
    device::Device,
    model::{LayerPlan, ModelPlan, Trainable},
    ops::{Precision, set_precision},
    parameter::Values,
    techniques::{
        distillation::{self, DistillationPlan, Lesson},
        dynamic::{
            context_keep::{self, ContextKeep},
            draft::{self, DraftPlan},
            early_exit::{EXITS_ACTIVITY, EarlyExit},
            token_keep::{ACTIVITY as TOKENS_ACTIVITY, TokenKeep},
        },
        feed_forward::{CHANNEL_MIX_ACTIVITY, FeedForwardPlan},
        fine_tuning::FineTuning,
        pruning::{
            PruningPlan,
            latency::{FoundSizes, give},
        },
        quantization::{
            QuantizationPlan,
            cache::{ACTIVITY as CACHE_ACTIVITY, CacheForm},
            nonzeros::ACTIVITY as NONZEROS_ACTIVITY,
            qat,
        },
        reversible::{CHUNKS_ACTIVITY, REVERSED_ACTIVITY},
        sparsity::{self, SparsityPlan},
    },
    training::{Rule, SLOWED_ACTIVITY},
};

/// Everything an evaluation does, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The model as it is trained.
    pub model: ModelPlan,
    /// The model as it is served, after pruning and with what its weights are stored as; unpruned in shape as long as sizes are
    /// to be found.
    pub served: ModelPlan,
    /// How a base is adapted; `None` when training starts from scratch.
    pub fine_tuning: Option<FineTuning>,
    /// The training.
    pub training: TrainingPlan,
    /// What is removed afterwards.
    pub pruning: Option<PruningPlan>,
    /// What is learnt from a teacher.
    pub distillation: Option<DistillationPlan>,
    /// The model of `[teacher]`, where something is learnt and there is one; otherwise recovery learns from the model before
    /// pruning.
    pub teacher: Option<ModelPlan>,
    /// Which single weights are removed after that.
    pub sparsity: Option<SparsityPlan>,
    /// How weights are packed.
    pub quantization: Option<QuantizationPlan>,
    /// Training with weights rounded as they are packed, as a share of the main training; 0 for none.
    pub qat: f64,
    /// How neurons are chosen for each token, where they are.
    pub contextual: Option<ContextKeep>,
    /// Tokens that the final loss is measured on, at most.
    pub validation_tokens: usize,
    /// Percentage points of accuracy that early exits may lose, where there are any.
    pub exit_tolerance: f64,
    /// What a GPU multiplies matrices in.
    pub precision: Precision,
}

/// Models that are there before a training begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The one that it starts from.
    pub base: Option<&'a ModelPlan>,
    /// The one that it learns from.
    pub teacher: Option<&'a ModelPlan>,
}

impl<'a> From<Option<&'a ModelPlan>> for Given<'a> {
    fn from(base: Option<&'a ModelPlan>) -> Self {
        Given { base, teacher: None }
    }
}

impl Plan {
    /// Reads a configuration for data with these symbols; `given` are the shapes of the checkpoint it starts from, and of
    /// the model it learns from.
    ///
    /// # Errors
    /// One sentence: which value cannot be built with which other, and what to use instead.
    pub fn read<'a>(
        config: &Config,
        data: impl Into<Symbols>,
        given: impl Into<Given<'a>>,
    ) -> Result<Plan, String> {
        let (data, Given { base, teacher }): (Symbols, Given) = (data.into(), given.into());
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
                early_exit: EarlyExit::read(values, base.kind, &base.layers, base.reversible.is_some())?,
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
        fine_tuning.check_rule(rule)?;
        let form = model.kind.form();
        let pruning = PruningPlan::read(values)?;
        let mut served = match &pruning {
            Some(pruning) => pruning.pruned(&model)?,
            None => model.clone(),
        };
        let distillation = DistillationPlan::read(values);
        let teacher = distillation.and(teacher).map(ModelPlan::with_whole_cache);
        let fine_tuning_here = base.map(|_| fine_tuning);
        if let Some(distillation) = distillation {
            distillation.check(&Lesson {
                student: &model,
                teacher: teacher.as_ref(),
                rule,
                trainable: trainable(fine_tuning_here),
                head_first: fine_tuning_here.is_some_and(|method| method.head_steps(2) > 0),
                recovers: pruning.as_ref().is_some_and(|plan| plan.recovery > 0.0),
            })?;
        }
        let sparsity = SparsityPlan::read(values, &served)?;
        if sparsity.is_some_and(|plan| plan.recovery.is_some())
            && base.is_some()
            && fine_tuning == FineTuning::None
        {
            return Err(format!(
                "sparsity_recovery = {} is a share of the training before, and fine_tune = 'none' has none; use fine_tune = 'full', or sparsity_recovery = 0",
                values.float("sparsity_recovery")
            ));
        }
        served.sparsity = sparsity.map(|plan| plan.form);
        let quantization = QuantizationPlan::read(values, &served)?;
        if let (Some(sparsity), Some(packing)) = (&sparsity, &quantization) {
            sparsity.check_beside(values, packing, &served)?;
        }
        CacheForm::give(values, &mut served)?;
        if quantization.is_some_and(|plan| plan.is_integer_only()) && served.kind.writes() {
            for layer in &mut served.layers {
                layer.attention.cache = Some(CacheForm::OF_INTEGERS);
            }
        }
        let trains = base.is_none() || fine_tuning.trainable().is_some();
        let qat = qat::read(values, rule, trains)?;
        let contextual = ContextKeep::read(values, &served)?;
        if let Some(target) = pruning.and_then(|pruning| pruning.latency) {
            target.check_beside(sparsity.as_ref(), contextual.is_some())?;
        }
        if let Some(keep) = contextual {
            served = keep.given(&served);
        }
        served.draft = DraftPlan::read(values, &served)?;
        Ok(Plan {
            model,
            served,
            fine_tuning: fine_tuning_here,
            training: TrainingPlan::read(values, form, rule),
            pruning,
            distillation,
            teacher,
            sparsity,
            quantization,
            qat,
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
            teacher: None,
            sparsity: None,
            quantization: served.quantization,
            qat: 0.0,
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
        names.extend((self.training.layer_decay < 1.0).then_some(SLOWED_ACTIVITY));
        names.extend(self.pruning.iter().flat_map(PruningPlan::activity));
        names.extend(self.distillation.map(|_| distillation::ACTIVITY));
        let writes = self.distillation.is_some_and(|plan| plan.own_text > 0.0);
        names.extend(writes.then_some(distillation::OWN_TEXT_ACTIVITY));
        if let Some(sparsity) = &self.sparsity {
            names.extend(sparsity::ACTIVITY);
            names.extend(sparsity.recovery_activity());
        }
        if let Some(quantization) = self.quantization {
            names.extend(quantization.activity());
            let packs_nonzeros =
                |plan: &SparsityPlan| plan.packed_layer(&quantization, &self.served).is_some();
            names.extend(
                self.sparsity
                    .as_ref()
                    .is_some_and(packs_nonzeros)
                    .then_some(NONZEROS_ACTIVITY),
            );
        }
        names.extend((self.qat > 0.0).then_some(qat::ACTIVITY));
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
        trainable(self.fine_tuning)
    }

    /// Whether sizes of layers are found after training, so that what follows from them is not known before.
    pub fn finds_sizes(&self) -> bool {
        self.pruning.is_some_and(|pruning| pruning.latency.is_some())
    }

    /// The same plan with the sizes that were found, where some were.
    pub(crate) fn sized(&self, found: Option<&FoundSizes>) -> Plan {
        let mut plan = self.clone();
        if let Some(found) = found {
            give(&mut plan.served, &found.layers);
        }
        plan
    }

    /// The served model as trainings after pruning know it: with a whole cache, and all neurons for each token.
    pub(crate) fn recovered(&self) -> ModelPlan {
        self.served.with_whole_cache().with_all_neurons()
    }
}

/// Which weights a training changes that starts from a base, adapted so, or from scratch.
fn trainable(fine_tuning: Option<FineTuning>) -> Option<Trainable> {
    fine_tuning.map_or(Some(Trainable::All), |method| method.trainable())
}

/// What products are multiplied in; 32-bit floats where a bundle of an older version says nothing.
fn read_precision(values: Values) -> Precision {
    match values.text("precision") {
        "bf16" => Precision::Bf16,
        _ => Precision::F32,
    }
}
