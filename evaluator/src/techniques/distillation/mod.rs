//! Knowledge distillation: a model learns from another one, not from the data alone.
//!
//! The teacher is the model before it was pruned, for what is left of it, or the one of `[teacher]`, for the training itself and
//! for recovery. The loss of the data stays, with the rest of the weight. A method is one file, a line in the list below, and
//! the arms that the compiler then asks for.

mod attention;
mod check;
#[cfg(test)]
mod fixture;
mod hidden;
mod logits;
mod own_text;
mod relation;
mod reverse_kl;
mod streams;

use burn::tensor::{
    Int, Tensor,
    backend::{AutodiffBackend, Backend},
};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

pub(crate) use self::{check::Lesson, own_text::ACTIVITY as OWN_TEXT_ACTIVITY, streams::LastPass};
use super::About;
use crate::{
    counter,
    data::Batch,
    model::{Form, Initial, Inputs, Matrix, Model, ModelPlan, matrix_pass},
    ops::{Lengths, Ops},
    parameter::{Declared, Values, choice, float},
};

/// The counter of rows that a teacher has told something of.
pub(crate) const ACTIVITY: &str = "distilled_rows";

/// What of a teacher is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Its probabilities.
    Logits,
    /// Its probabilities, what it finds unlikely first.
    ReverseKl,
    /// Its residual stream.
    Hidden,
    /// How alike its tokens' values are.
    Relation,
    /// What its tokens look at.
    Attention,
}

/// What is learnt from the teacher, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillationPlan {
    /// What is learnt.
    pub method: Method,
    /// Divides the logits of both models, where they are learnt.
    pub temperature: f64,
    /// Share of the loss that is the teacher's; the rest is that of the data.
    pub weight: f64,
    /// Share of the steps in which the student writes the texts itself, and the loss is the teacher's alone.
    pub own_text: f64,
}

impl DistillationPlan {
    /// Reads the parameters of the family; `None` where the data alone teaches.
    pub(crate) fn read(values: Values) -> Option<Self> {
        let method = match values.text("distill") {
            "logits" => Method::Logits,
            "reverse_kl" => Method::ReverseKl,
            "hidden" => Method::Hidden,
            "relation" => Method::Relation,
            "attention" => Method::Attention,
            _ => return None,
        };
        Some(DistillationPlan {
            method,
            temperature: values.float("distill_temperature"),
            weight: values.float("distill_weight"),
            own_text: values.float(own_text::NAME),
        })
    }

    /// Multiply-adds that `steps` take more on `batch` examples of `n` tokens a row, the teacher's own included.
    pub(crate) fn macs(
        self,
        student: &ModelPlan,
        teacher: &ModelPlan,
        steps: u64,
        [batch, n]: [usize; 2],
    ) -> u64 {
        let own = own_text::steps(self.own_text, steps);
        let written = if own > 0 {
            own * own_text::macs(student, batch, n)
        } else {
            0
        };
        steps * self.step_macs(student, teacher, batch, n) + written
    }

    /// Multiply-adds that a step takes more on `batch` examples of `n` tokens a row, the teacher's own included.
    fn step_macs(self, student: &ModelPlan, teacher: &ModelPlan, batch: usize, n: usize) -> u64 {
        let rows = batch * student.kind.form().texts();
        let inside = match self.method {
            Method::Logits | Method::ReverseKl => 0,
            Method::Relation => relation::macs(student, teacher, rows, n),
            Method::Attention => attention::macs(student, teacher, rows, n),
            Method::Hidden if student.width == teacher.width => 0,
            Method::Hidden => {
                let translated = |layer| {
                    let tokens = (rows * student.seen(layer, n)) as u64;
                    let (from, to) = (student.width as u64, teacher.width as u64);
                    matrix_pass(tokens, from, to, true, Form::Trained).total()
                };
                (0..student.layers.len()).map(translated).sum()
            }
        };
        teacher.forward_macs(batch, n) + inside
    }
}

/// A model that is learnt from.
pub struct Teacher<B: Backend> {
    pub(crate) model: Model<B>,
    pub(crate) plan: DistillationPlan,
    /// The block that each of the student's came from, where it came from this model.
    pub(crate) origins: Option<Vec<usize>>,
    /// The student's shape, by which it remembers a text that it writes.
    student: ModelPlan,
}

/// What a teacher tells of a batch.
pub(crate) struct Told<B: Backend> {
    /// Its logits, `[rows, outputs]`.
    logits: Tensor<B, 2>,
    inside: Inside<B>,
}

enum Inside<B: Backend> {
    Nothing,
    /// The stream after each block, `[b, n, width]`.
    Streams(Vec<Tensor<B, 3>>),
    /// The values of the last block, `[b, n, heads, depth]`.
    Values(Tensor<B, 4>),
    /// Logarithms of the attention rows of the last block, `[b, heads, n, n]`.
    Rows(Tensor<B, 4>),
}

impl<B: Ops> Teacher<B> {
    /// A teacher of a plan and a student; `origins` are the blocks that the student's came from, where they came from this
    /// model.
    pub fn new(
        mut model: Model<B>,
        plan: DistillationPlan,
        student: &ModelPlan,
        origins: Option<Vec<usize>>,
    ) -> Self {
        plan.method.watch(&mut model);
        Teacher {
            model,
            plan,
            origins,
            student: student.clone(),
        }
    }

    /// Whether the student writes the texts of a step itself.
    pub(crate) fn asks_for_own_text(&self, step: u64) -> bool {
        own_text::is_own(self.plan.own_text, step)
    }

    /// A batch of the data with the latter half of each row as the student writes it in a step of a training of this seed.
    pub(crate) fn own_text(&self, student: &Model<B>, batch: Batch, seed: u64, step: u64) -> Batch {
        // nothing goes back through it
        counter::without_backward(|| own_text::write(student, &self.student, batch, [seed, step]))
    }

    /// What it tells of a batch.
    pub(crate) fn tell(&self, inputs: Inputs<B>) -> Told<B> {
        // nothing goes back through it
        counter::without_backward(|| {
            let logits = self.model.forward(inputs).logits;
            let [b, n, outputs] = logits.dims();
            counter::add_activity(ACTIVITY, b * n);
            Told {
                logits: logits.reshape([b * n, outputs]),
                inside: match self.plan.method {
                    Method::Logits | Method::ReverseKl => Inside::Nothing,
                    Method::Hidden => {
                        let blocks = self.model.blocks.iter();
                        Inside::Streams(blocks.map(|block| streams::taken(block).after).collect())
                    }
                    Method::Relation => Inside::Values(last_values(&self.model).0),
                    Method::Attention => Inside::Rows(attention::rows(&self.model).0),
                },
            }
        })
    }
}

impl<B: Backend> Teacher<B> {
    /// Makes a student ready to learn, before its first step.
    pub(crate) fn attach<A>(&self, student: &mut Model<A>, seed: u64)
    where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        self.plan.method.watch(student);
        let (from, to) = (student.embedding.dims()[1], self.model.embedding.dims()[1]);
        if self.plan.method == Method::Hidden && from != to {
            let blocks = student.blocks.len();
            let mut initial = Initial::new(seed, blocks, student.device());
            let deviation = 1.0 / (from as f32).sqrt();
            let matrix = |_| Matrix::dense(initial.normal(to, from, deviation));
            student.translations = (0..blocks).map(matrix).collect();
        }
    }

    /// The loss of the student's logits after any of its layers, `[rows, outputs]`, of which `data` is that of the data, both `[1]`.
    pub(crate) fn loss<A>(
        &self,
        data: Tensor<A, 1>,
        logits: Tensor<A, 2>,
        told: &Told<B>,
        targets: Tensor<A, 1, Int>,
    ) -> Tensor<A, 1>
    where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        let weight = self.plan.weight;
        let data = data * (1.0 - weight);
        match self.loss_of_outputs(logits, told, targets) {
            Some(of_teacher) => data + of_teacher * weight,
            None => data,
        }
    }

    /// The teacher's part of that loss, all of it, where outputs are learnt.
    pub(crate) fn loss_of_outputs<A>(
        &self,
        logits: Tensor<A, 2>,
        told: &Told<B>,
        targets: Tensor<A, 1, Int>,
    ) -> Option<Tensor<A, 1>>
    where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        let of_teacher = match self.plan.method {
            Method::Logits => logits::loss,
            Method::ReverseKl => reverse_kl::loss,
            Method::Hidden | Method::Relation | Method::Attention => return None,
        };
        let told = Tensor::from_inner(told.logits.clone());
        Some(of_teacher(logits, told, targets, self.plan.temperature))
    }

    /// The loss of what is inside a student that has just gone through the same batch, `[1]`, where that is learnt.
    pub(crate) fn loss_inside<A>(&self, student: &Model<A>, told: &Told<B>) -> Option<Tensor<A, 1>>
    where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        let loss = match &told.inside {
            Inside::Nothing => return None,
            Inside::Values(values) => {
                let (own, lengths) = last_values(student);
                relation::loss(own, Tensor::from_inner(values.clone()), lengths.as_ref())
            }
            Inside::Rows(rows) => {
                let (own, lengths) = attention::rows(student);
                attention::loss(own, Tensor::from_inner(rows.clone()), lengths.as_ref())
            }
            Inside::Streams(streams) => {
                let layers = self.layers_for(student);
                let n = layers.len() as f64;
                let blocks = student.blocks.iter().zip(layers).enumerate();
                let losses = blocks.map(|(i, (block, layer))| {
                    let told = Tensor::from_inner(streams[layer].clone());
                    hidden::loss(streams::taken(block), told, student.translations.get(i))
                });
                losses.reduce(|a, b| a + b)? / n
            }
        };
        Some(loss * self.plan.weight)
    }

    /// The block that each of a student's learns from: the one it came from, or the one as far on in its half.
    fn layers_for<A: Ops>(&self, student: &Model<A>) -> Vec<usize> {
        if let Some(origins) = &self.origins {
            return origins.clone();
        }
        let (reading, read) = (student.reading(), self.model.reading());
        let mut layers = as_far_on(reading, read);
        let writing = as_far_on(student.blocks.len() - reading, self.model.blocks.len() - read);
        layers.extend(writing.into_iter().map(|layer| read + layer));
        layers
    }
}

impl Method {
    /// Has a model keep what is asked of it.
    fn watch<B: Backend>(self, model: &mut Model<B>) {
        let blocks = model.blocks.len();
        match self {
            Method::Logits | Method::ReverseKl => {}
            Method::Hidden => streams::keep(model, 0..blocks),
            Method::Relation | Method::Attention => streams::keep(model, blocks - 1..blocks),
        }
    }
}

/// Takes away what a student had beside it while it was taught.
pub(crate) fn detach<B: Backend>(student: &mut Model<B>) {
    student.translations.clear();
    for block in &mut student.blocks {
        block.watched = None;
    }
}

/// Of each of `few` layers the one of `many` that ends as far on, from 0.
fn as_far_on(few: usize, many: usize) -> Vec<usize> {
    (1..=few).map(|layer| (layer * many).div_ceil(few) - 1).collect()
}

/// The values of a model's last block in the pass that is done, `[b, n, heads, depth]`, and how long its rows are.
fn last_values<B: Ops>(model: &Model<B>) -> (Tensor<B, 4>, Option<Lengths>) {
    let last = model.blocks.last().expect("a model has blocks");
    let around = streams::taken(last);
    (last.values(around.before), around.lengths)
}

/// What the methods say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![
        About {
            name: "none",
            doc: "the data alone",
            paper: "",
        },
        logits::ABOUT,
        reverse_kl::ABOUT,
        hidden::ABOUT,
        relation::ABOUT,
        attention::ABOUT,
    ]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let range = |low, high, log| Domain::float(low, high, log, None).expect("not empty");
    vec![
        choice(
            "distill",
            "what is learnt beside the data: by recovery from the model before it was pruned, or from [teacher]",
            &names,
        ),
        float(
            "distill_temperature",
            "divides the logits of both models, so that less likely outputs count",
            0.1,
            100.0,
            2.0,
        )
        .when("distill in ['logits', 'reverse_kl']")
        .search(range(1.0, 8.0, true)),
        float(
            "distill_weight",
            "share of the loss that is the teacher's",
            0.01,
            1.0,
            0.5,
        )
        .when("distill != 'none'")
        .search(range(0.1, 1.0, false)),
        own_text::parameter(),
    ]
}

#[cfg(test)]
mod tests;
