//! What can be taught, and by whom.

use super::{DistillationPlan, Method, own_text};
use crate::{
    model::{ModelPlan, Trainable},
    ops::Band,
    techniques::attention::Core,
    training::Rule,
};

/// What a training in which somebody is taught consists of.
pub(crate) struct Lesson<'a> {
    /// Who is taught.
    pub(crate) student: &'a ModelPlan,
    /// The model of `[teacher]`, where there is one.
    pub(crate) teacher: Option<&'a ModelPlan>,
    /// How weights are changed.
    pub(crate) rule: Rule,
    /// Which weights the main training changes, where there is one.
    pub(crate) trainable: Option<Trainable>,
    /// Whether a head is trained alone before them.
    pub(crate) head_first: bool,
    /// Whether something is pruned, and training recovers it.
    pub(crate) recovers: bool,
}

impl DistillationPlan {
    /// Whether it can be learnt in this training.
    ///
    /// # Errors
    /// A sentence on what it cannot be learnt from, or by whom, and what to use instead.
    pub(crate) fn check(self, lesson: &Lesson) -> Result<(), String> {
        let asked = format!("distill = '{}'", self.method.name());
        let Lesson { student, teacher, .. } = lesson;
        match (teacher, lesson.recovers) {
            (Some(_), false) if lesson.trainable.is_none() => {
                return Err(format!(
                    "{asked} and nothing is trained that could learn; use fine_tune = 'full', prune something with recovery above 0, or distill = 'none'"
                ));
            }
            (None, false) => {
                return Err(format!(
                    "{asked} has nobody to learn from; add [teacher] with path = \"FOLDER\", prune something (prune_ratio, head_prune_ratio, layer_prune_ratio, width_prune_ratio) with recovery above 0, or use distill = 'none'"
                ));
            }
            _ => {}
        }
        if student.reversible.is_some() {
            return Err(format!(
                "{asked} needs layers that keep what they computed, and reversible = true keeps nothing; use distill = 'none' or reversible = false"
            ));
        }
        if self.own_text > 0.0 {
            self.check_own_text(lesson)?;
        }
        if self.method.is_inside() {
            self.check_inside(&asked, lesson)?;
        }
        if let Some(teacher) = teacher {
            speaks_alike(teacher, student)?;
        }
        match self.method {
            Method::Attention => looks_alike(&asked, *teacher, student),
            _ => Ok(()),
        }
    }

    /// The same of texts that the student writes.
    fn check_own_text(self, lesson: &Lesson) -> Result<(), String> {
        let asked = format!("{} = {}", own_text::NAME, self.own_text);
        let kind = lesson.student.kind;
        if !kind.writes() || kind.reading() > 0 {
            return Err(format!(
                "{asked} has a model write on after a prompt, and an {} does not; use {} = 0 or kind = 'decoder'",
                kind.words(),
                own_text::NAME
            ));
        }
        let adds = matches!(
            lesson.trainable,
            Some(Trainable::LowRank { .. } | Trainable::Scales)
        );
        if lesson.teacher.is_some() && adds {
            return Err(format!(
                "{asked} has a model write while it learns, and what this fine_tune adds is merged for writing only at the end; use {} = 0, or fine_tune = 'full', 'mask' or 'adapter'",
                own_text::NAME
            ));
        }
        Ok(())
    }

    /// The same of what is learnt from the inside of a model.
    fn check_inside(self, asked: &str, lesson: &Lesson) -> Result<(), String> {
        let Lesson { student, teacher, .. } = lesson;
        let shortens = student.tokens.is_some() || teacher.is_some_and(|teacher| teacher.tokens.is_some());
        if shortens {
            return Err(format!(
                "{asked} compares tokens one by one, and with token_keep below 1 two models keep other ones; use distill = 'logits' or token_keep = 1"
            ));
        }
        match lesson.rule {
            Rule::AdamW | Rule::Sgd => {}
            Rule::Lomo | Rule::Mezo { .. } | Rule::Badam { .. } => {
                return Err(format!(
                    "{asked} is learnt from gradients of the whole model, which this optimizer never has; use distill = 'logits', or optimizer = 'adamw' or 'sgd'"
                ));
            }
        }
        let partly = lesson
            .trainable
            .is_some_and(|trainable| trainable != Trainable::All)
            || lesson.head_first;
        if teacher.is_some() && partly {
            return Err(format!(
                "{asked} wants every layer to learn, and this fine_tune trains a part of the weights; use distill = 'logits', or fine_tune = 'full' with lp_first = 0"
            ));
        }
        Ok(())
    }
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Logits => super::logits::ABOUT.name,
            Method::ReverseKl => super::reverse_kl::ABOUT.name,
            Method::Hidden => super::hidden::ABOUT.name,
            Method::Relation => super::relation::ABOUT.name,
            Method::Attention => super::attention::ABOUT.name,
        }
    }

    /// Whether more than a model's outputs is learnt.
    fn is_inside(self) -> bool {
        matches!(self, Method::Hidden | Method::Relation | Method::Attention)
    }
}

/// Whether a teacher's outputs are those of a student.
fn speaks_alike(teacher: &ModelPlan, student: &ModelPlan) -> Result<(), String> {
    if teacher.kind.name() != student.kind.name() {
        return Err(format!(
            "the model of [teacher] is an {} and what learns from it an {}; use kind = '{}' or another teacher",
            teacher.kind.words(),
            student.kind.words(),
            teacher.kind.name()
        ));
    }
    if teacher.kind.form() != student.kind.form() || teacher.vocabulary != student.vocabulary {
        return Err(format!(
            "the model of [teacher] foretells {} tokens and what learns from it {}, or fills other gaps; use a teacher of the same tokenizer and settings",
            teacher.vocabulary, student.vocabulary
        ));
    }
    if teacher.context < student.context {
        return Err(format!(
            "context {} is longer than the {} that the model of [teacher] has seen; use context = {} or less",
            student.context, teacher.context, teacher.context
        ));
    }
    Ok(())
}

/// Whether the last layers of both have attention rows, over the same tokens.
fn looks_alike(asked: &str, teacher: Option<&ModelPlan>, student: &ModelPlan) -> Result<(), String> {
    let last = |plan: &ModelPlan| plan.layers.last().expect("a model has layers").attention.core;
    let has_rows = |core: Core| core.band(Band::causal(1)).is_some();
    let own = last(student);
    if !has_rows(own) {
        return Err(format!(
            "{asked} learns the softmax of the last layer, and '{}' attention has none; use attention = 'full', 'tiled' or 'sliding_window' there, or distill = 'relation'",
            own.name()
        ));
    }
    let Some(given) = teacher.map(last) else {
        return Ok(());
    };
    if !has_rows(given) {
        return Err(format!(
            "{asked} learns the softmax of the last layer, and '{}' attention, which the model of [teacher] has there, has none; use another teacher or distill = 'relation'",
            given.name()
        ));
    }
    if given.window() != own.window() {
        let seen = |core: Core| {
            let window = core.window();
            window.map_or("all of a row".into(), |window| format!("a window of {window}"))
        };
        return Err(format!(
            "{asked} compares what tokens look at, and the last layer of [teacher] sees {} and that of what learns from it {}; use the same attention and window, or distill = 'relation'",
            seen(given),
            seen(own)
        ));
    }
    Ok(())
}
