//! Fine-tuning from a base checkpoint.
//!
//! A method is one file, a line in the list below, and the arms that the compiler then asks for.

pub mod adapter;
pub mod dylora;
pub mod ia3;
pub mod lora;
pub mod lp_first;
pub mod mask;

use std::collections::BTreeMap;

use burn::{
    module::Param,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};
use serde::{Deserialize, Serialize};
use spaces::ParameterInfo;

use super::About;
use crate::{
    model::{Initial, Model, ModelPlan, Parts, TensorMut, Trainable, each_tensor, make_trainable},
    ops::Ops,
    parameter::{Values, choice},
    training::{Batches, Optimizer, Rule},
};

/// How a base is adapted to the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fine_tune", rename_all = "snake_case")]
pub enum FineTuning {
    /// Not at all: the base is compressed and measured as it is.
    None,
    /// All weights are trained on.
    Full(lp_first::FullPlan),
    /// Low-rank additions are trained.
    Lora(lora::LoraPlan),
    /// Low-rank additions are trained at changing ranks.
    Dylora(dylora::DyloraPlan),
    /// Vectors that multiply activations are trained.
    Ia3,
    /// Small networks in the blocks are trained, and stay.
    Adapter(adapter::AdapterPlan),
    /// A part of the base's weights is trained.
    Mask(mask::MaskPlan),
}

impl FineTuning {
    /// Reads the parameters of the family.
    pub(crate) fn read(values: Values) -> Self {
        match values.text("fine_tune") {
            "full" => FineTuning::Full(lp_first::FullPlan::read(values)),
            "lora" => FineTuning::Lora(lora::LoraPlan::read(values)),
            "dylora" => FineTuning::Dylora(dylora::DyloraPlan::read(values)),
            "ia3" => FineTuning::Ia3,
            "adapter" => FineTuning::Adapter(adapter::AdapterPlan::read(values)),
            "mask" => FineTuning::Mask(mask::MaskPlan::read(values)),
            _ => FineTuning::None,
        }
    }

    /// The plan of the base as this method trains it.
    ///
    /// # Errors
    /// A sentence where the base cannot be adapted so.
    pub(crate) fn adapted(self, base: ModelPlan) -> Result<ModelPlan, String> {
        match self {
            FineTuning::Lora(plan) => plan.check(base.width)?,
            FineTuning::Dylora(plan) => {
                plan.check()?;
                plan.lora.check(base.width)?;
            }
            FineTuning::Mask(plan) => plan.check(&base)?,
            FineTuning::Adapter(plan) => return plan.put_on(base),
            FineTuning::Full(plan) => plan.check(&base)?,
            FineTuning::None | FineTuning::Ia3 => {}
        }
        Ok(base)
    }

    /// # Errors
    /// A sentence where the method cannot be had with this rule.
    pub(crate) fn check_rule(&self, rule: Rule) -> Result<(), String> {
        match self {
            FineTuning::Full(plan) => plan.check_rule(rule),
            _ => Ok(()),
        }
    }

    /// Which weights the training changes; `None` if there is no training.
    pub fn trainable(&self) -> Option<Trainable> {
        match self {
            FineTuning::None => None,
            FineTuning::Full(_) => Some(Trainable::All),
            FineTuning::Lora(plan) => Some(plan.trainable()),
            FineTuning::Dylora(plan) => Some(plan.lora.trainable()),
            FineTuning::Ia3 => Some(Trainable::Scales),
            FineTuning::Adapter(_) => Some(Trainable::Adapters),
            FineTuning::Mask(plan) => Some(plan.trainable()),
        }
    }

    /// Counters that are above zero once the method has done its work.
    pub(crate) fn activity(&self) -> Vec<&'static str> {
        match self {
            FineTuning::Full(plan) if plan.lp_first > 0.0 => vec![lp_first::ACTIVITY],
            FineTuning::None | FineTuning::Full(_) => vec![],
            FineTuning::Lora(plan) => {
                let packed = plan.base.map(|_| "packed_products");
                [lora::ACTIVITY].into_iter().chain(packed).collect()
            }
            FineTuning::Dylora(_) => vec![lora::ACTIVITY, dylora::ACTIVITY],
            FineTuning::Ia3 => vec![ia3::ACTIVITY],
            FineTuning::Adapter(_) => vec![adapter::ACTIVITY],
            FineTuning::Mask(_) => vec![mask::ACTIVITY],
        }
    }

    /// Whether every step's work is that of the formula; where it is not, the formula is the most.
    pub(crate) fn has_one_cost(&self) -> bool {
        !matches!(self, FineTuning::Dylora(_))
    }

    /// How many of `steps` train the head alone.
    pub(crate) fn head_steps(&self, steps: u64) -> u64 {
        match self {
            FineTuning::Full(plan) => plan.head_steps(steps),
            _ => 0,
        }
    }

    /// Multiply-adds before the first step, on rows of `context` tokens.
    pub(crate) fn macs_before(&self, model: &ModelPlan, context: usize) -> u64 {
        match self {
            FineTuning::Mask(plan) => plan.choice_macs(model, context),
            _ => 0,
        }
    }

    /// Makes a base ready to be trained so.
    pub fn attach<A: AutodiffBackend + Ops>(self, model: &mut Model<A>, plan: &ModelPlan, seed: u64) {
        let mut initial = Initial::new(seed, plan.layers.len(), model.device());
        match self {
            FineTuning::None | FineTuning::Full(_) => {}
            FineTuning::Lora(lora) => lora::attach(model, lora, &mut initial),
            FineTuning::Dylora(dylora) => lora::attach(model, dylora.lora, &mut initial),
            FineTuning::Ia3 => ia3::attach(model),
            FineTuning::Adapter(adapter) => adapter::attach(model, adapter, plan.width, &mut initial),
            FineTuning::Mask(mask) => mask.attach(model, plan),
        }
    }

    /// The numbers of the single weights that are trained, by tensor; empty where tensors are trained as wholes.
    pub(crate) fn kept<A>(self, model: &mut Model<A>, batches: &Batches) -> BTreeMap<String, Vec<i32>>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        match self {
            FineTuning::Mask(mask) => mask.kept(model, batches),
            _ => BTreeMap::new(),
        }
    }

    /// Before a step of `total`, where that is known: chooses the weights that it trains.
    pub(crate) fn choose<A>(
        self,
        model: &mut Model<A>,
        optimizer: &mut Optimizer<A::InnerBackend>,
        step: u64,
        total: Option<u64>,
    ) where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        if let FineTuning::Full(plan) = self {
            plan.begin_step(model, optimizer, step, total);
        }
    }

    /// Before the forward pass of a step.
    pub fn begin_step<A: AutodiffBackend>(self, model: &mut Model<A>, seed: u64, step: u64) {
        if let FineTuning::Dylora(plan) = self {
            plan.draw(model, seed, step);
        }
    }

    /// Between the gradients of a step, flat and by tensor, and the optimizer.
    pub(crate) fn end_step<A>(
        self,
        model: &mut Model<A>,
        gradients: &mut BTreeMap<String, Tensor<A::InnerBackend, 1>>,
        seed: u64,
        step: u64,
    ) where
        A: AutodiffBackend,
        A::InnerBackend: Ops,
    {
        match self {
            FineTuning::Dylora(plan) => plan.restore(model),
            FineTuning::Mask(mask) => mask.mask_step(gradients, seed, step),
            _ => {}
        }
    }

    /// Merges what can be merged, and lets everything be trained again.
    pub fn finish<A: AutodiffBackend + Ops>(self, model: &mut Model<A>) {
        match self {
            FineTuning::None | FineTuning::Full(_) => {}
            FineTuning::Lora(_) | FineTuning::Dylora(_) => lora::merge(model),
            FineTuning::Ia3 => ia3::merge(model),
            FineTuning::Adapter(_) | FineTuning::Mask(_) => make_trainable(model),
        }
    }
}

/// Freezes every 32-bit tensor but those that are chosen by their name and by whether they are vectors.
fn freeze_but<B: Backend>(model: &mut impl Parts<B>, is_trained: impl Fn(&str, bool) -> bool) {
    each_tensor(model, &mut |name, tensor| match tensor {
        TensorMut::Matrix(param) if !is_trained(&name, false) => *param = frozen(param),
        TensorMut::Vector(param) if !is_trained(&name, true) => *param = frozen(param),
        _ => {}
    });
}

fn frozen<B: Backend, const D: usize>(param: &Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
    Param::from_tensor(param.val().detach()).set_require_grad(false)
}

/// What the methods say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![
        About {
            name: "none",
            doc: "the base is compressed and measured as it is",
            paper: "",
        },
        About {
            name: "full",
            doc: "all weights of the base are trained on; at first the head of a classifier alone, where lp_first asks for it",
            paper: "2202.10054",
        },
        lora::ABOUT,
        dylora::ABOUT,
        ia3::ABOUT,
        adapter::ABOUT,
        mask::ABOUT,
    ]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let mut all = vec![choice(
        "fine_tune",
        "how a base checkpoint is adapted to the data; needs [base]",
        &names,
    )];
    all.push(lp_first::parameter());
    all.extend(lora::parameters());
    all.extend(dylora::parameters());
    all.extend(adapter::parameters());
    all.extend(mask::parameters());
    all
}
