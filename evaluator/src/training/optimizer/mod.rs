//! How the weights of a model's named tensors are changed, by their gradients, with clipping by the norm of all of them.

mod adamw;
pub(super) mod badam;
mod layer_rates;
pub(super) mod lomo;
pub(super) mod mezo;
mod rule;
mod sgd;

use std::collections::BTreeMap;

use burn::{
    module::{Param, ParamId},
    tensor::{
        DType, Int, Shape, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};

pub(super) use self::layer_rates::Rates;
pub(crate) use self::layer_rates::{ACTIVITY as SLOWED_ACTIVITY, read as layer_decay};
pub use self::rule::Rule;
pub(crate) use self::rule::{about, parameters};
use crate::{
    model::{Model, Parts, TensorMut, each_tensor},
    ops::{Ops, total_norm},
    plan::TrainingPlan,
};

/// Running means of one tensor, flat.
pub(super) type Moments<B> = [Tensor<B, 1>; 2];

/// What an optimizer remembers: AdamW's two running means for each weight that is trained, and none for frozen ones. Where
/// single weights of a tensor are trained, the means are of these, beside their numbers.
pub struct Optimizer<B: Backend> {
    pub(super) moments: BTreeMap<String, Moments<B>>,
    pub(super) kept: BTreeMap<String, Tensor<B, 1, Int>>,
    /// Sums of `-w · ∂L/∂w` over the steps, where weights are judged by them.
    pub(super) scores: BTreeMap<String, Tensor<B, 1>>,
    pub(super) steps: u32,
}

impl<B: Backend> Default for Optimizer<B> {
    /// An optimizer of whole tensors that has seen nothing.
    fn default() -> Self {
        Optimizer::new(BTreeMap::new(), &Default::default())
    }
}

impl<B: Backend> Optimizer<B> {
    /// An optimizer that has seen nothing; of the tensors named it changes the weights of these numbers alone.
    pub fn new(kept: BTreeMap<String, Vec<i32>>, device: &B::Device) -> Self {
        let numbers = |list: Vec<i32>| {
            let n = list.len();
            Tensor::from_data(TensorData::new(list, [n]), (device, DType::I32))
        };
        Optimizer {
            moments: BTreeMap::new(),
            scores: BTreeMap::new(),
            kept: kept
                .into_iter()
                .map(|(name, list)| (name, numbers(list)))
                .collect(),
            steps: 0,
        }
    }
}

impl<B: Backend> Optimizer<B> {
    /// Begins anew.
    pub(crate) fn forget(&mut self) {
        self.moments.clear();
        self.steps = 0;
    }
}

impl<B: Ops> Optimizer<B> {
    /// One step with the gradients of one batch; `rate` is the highest of its layers.
    pub fn step<A>(
        &mut self,
        model: &mut Model<A>,
        gradients: &mut A::Gradients,
        rate: f64,
        plan: &TrainingPlan,
    ) where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        let collected = collect(model, gradients);
        let rates = Rates::of(model, rate, plan.layer_decay);
        self.apply(model, collected, &rates, plan);
    }

    /// One step at these rates with these gradients, flat and by tensor.
    pub(super) fn apply<A>(
        &mut self,
        model: &mut impl Parts<A>,
        mut gradients: BTreeMap<String, Tensor<B, 1>>,
        rates: &Rates,
        plan: &TrainingPlan,
    ) where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        for (name, kept) in &self.kept {
            if let Some(gradient) = gradients.get_mut(name) {
                *gradient = gradient.clone().select(0, kept.clone());
            }
        }
        self.steps += 1;
        let scale = plan.clipping(total_norm(gradients.values()));
        match plan.rule {
            Rule::AdamW | Rule::Badam { .. } => {
                self.adamw(model, gradients, (rates, scale), plan.weight_decay)
            }
            Rule::Sgd => sgd::step(model, gradients, (rates, scale), plan.weight_decay),
            Rule::Lomo | Rule::Mezo { .. } => unreachable!("gradients of all weights are not theirs"),
        }
    }
}

/// Takes the gradients of a model's tensors, flat and by name.
pub(super) fn collect<A: AutodiffBackend>(
    model: &mut impl Parts<A>,
    gradients: &mut A::Gradients,
) -> BTreeMap<String, Tensor<A::InnerBackend, 1>> {
    let mut collected = BTreeMap::new();
    each_tensor(model, &mut |name, tensor| {
        let gradient = match tensor {
            TensorMut::Matrix(param) => param.val().grad_remove(gradients).map(flat),
            TensorMut::Vector(param) => param.val().grad_remove(gradients),
        };
        if let Some(gradient) = gradient {
            collected.insert(name, gradient);
        }
    });
    collected
}

/// Trains the tensors of which the name is chosen and freezes all others; they stay the parameters that they were. Tells whether
/// any of them was frozen before and is trained now.
pub(crate) fn choose_trained<B: Backend>(
    model: &mut impl Parts<B>,
    is_chosen: impl Fn(&str) -> bool,
) -> bool {
    fn choose<B: Backend, const D: usize>(param: &mut Param<Tensor<B, D>>, is_chosen: bool) -> bool {
        let tensor = param.val();
        let is_new = tensor.is_require_grad() != is_chosen;
        if is_new {
            *param = Param::initialized(param.id, tensor.detach().set_require_grad(is_chosen));
        }
        is_new && is_chosen
    }
    let mut thawed = false;
    each_tensor(model, &mut |name, tensor| {
        thawed |= match tensor {
            TensorMut::Matrix(param) => choose(param, is_chosen(&name)),
            TensorMut::Vector(param) => choose(param, is_chosen(&name)),
        };
    });
    thawed
}

/// What a parameter was, beside its values.
struct Place {
    id: ParamId,
    shape: Vec<usize>,
}

/// The weights out of their place, so that the update finds itself the only owner and works in place.
fn take<A: AutodiffBackend, const D: usize>(
    param: &mut Param<Tensor<A, D>>,
) -> (Place, Tensor<A::InnerBackend, 1>) {
    let shape = param.dims().to_vec();
    let empty = Param::from_tensor(Tensor::<A, D>::empty([0; D], &param.val().device()));
    let (id, tensor, _) = std::mem::replace(param, empty).consume();
    (Place { id, shape }, flat(tensor.inner()))
}

fn give_back<A: AutodiffBackend, const D: usize>(
    param: &mut Param<Tensor<A, D>>,
    place: Place,
    w: Tensor<A::InnerBackend, 1>,
) {
    let tensor = Tensor::from_inner(w.reshape::<D, _>(Shape::from(place.shape)));
    *param = Param::initialized(place.id, tensor.require_grad());
}

/// Changes a tensor's weights, flat, where they are; they go on to be trained.
fn change<A: AutodiffBackend>(
    tensor: TensorMut<'_, A>,
    change: impl FnOnce(Tensor<A::InnerBackend, 1>) -> Tensor<A::InnerBackend, 1>,
) {
    match tensor {
        TensorMut::Matrix(param) => {
            let (place, w) = take(param);
            give_back(param, place, change(w));
        }
        TensorMut::Vector(param) => {
            let (place, w) = take(param);
            give_back(param, place, change(w));
        }
    }
}

fn flat<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, 1> {
    let n = tensor.shape().num_elements();
    tensor.reshape([n])
}
