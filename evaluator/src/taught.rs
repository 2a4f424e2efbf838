//! Who teaches a training: the model of `[teacher]`, or the one before pruning, which is kept while its recovery may have to go on.

use std::{collections::HashMap, path::PathBuf};

use crate::{
    EvaluationError, bundle,
    model::{Model, ModelPlan},
    ops::Ops,
    techniques::distillation::Teacher,
    trainer::Trainer,
    training::floats::{put_weights, read_tensors, weights_of, write_tensors},
};

/// Under which name a kept teacher's file says which of its blocks the student's came from.
const ORIGINS: &str = "origins";

impl Trainer<'_> {
    /// The model of `[teacher]`, where something is learnt from it, for a student of this shape.
    pub(crate) fn given_teacher<B: Ops>(
        &self,
        student: &ModelPlan,
        backend: &B::Device,
    ) -> Result<Option<Teacher<B>>, EvaluationError> {
        let (Some(plan), Some(_), Some(given)) = (
            self.plan.distillation,
            &self.plan.teacher,
            &self.job.config.teacher,
        ) else {
            return Ok(None);
        };
        let (model, _) = bundle::read_model(&self.job.access.resolve(&given.path)?, backend)?;
        Ok(Some(Teacher::new(model, plan, student, None)))
    }

    /// Where the model before pruning lies while a recovery that learns from it may have to go on from a checkpoint.
    fn teacher_file(&self) -> PathBuf {
        self.job.work_dir.join("teacher.safetensors")
    }

    /// Keeps the model before pruning, where a recovery is to learn from it.
    pub(crate) fn keep_teacher<B: Ops>(&self, teacher: &Teacher<B>) -> Result<(), EvaluationError> {
        let Some(origins) = &teacher.origins else {
            return Ok(());
        };
        let origins = serde_json::to_string(origins).expect("plain data serialises");
        let about = HashMap::from([(ORIGINS.to_owned(), origins)]);
        let (file, part) = (self.teacher_file(), self.job.work_dir.join("teacher.part"));
        write_tensors(&part, &weights_of(&mut teacher.model.clone()), Some(about))
            .and_then(|()| std::fs::rename(&part, &file))
            .map_err(|source| EvaluationError::Disk {
                path: file.display().to_string(),
                source,
            })
    }

    /// The same model again.
    pub(crate) fn teacher_from_file<B: Ops>(
        &self,
        backend: &B::Device,
    ) -> Result<Option<Teacher<B>>, EvaluationError> {
        let Some(plan) = self.plan.distillation else {
            return Ok(None);
        };
        let file = self.teacher_file();
        let mut model = Model::empty(&self.plan.model, backend);
        let gone = || EvaluationError::Disk {
            path: file.display().to_string(),
            source: std::io::Error::other("the teacher of a recovery that goes on is not there any more"),
        };
        let mut found = read_tensors(&file).ok_or_else(gone)?;
        put_weights(&mut model, &mut found.floats);
        let origins = found
            .about
            .get(ORIGINS)
            .and_then(|text| serde_json::from_str(text).ok());
        let origins = origins.ok_or_else(gone)?;
        Ok(Some(Teacher::new(
            model,
            plan,
            &self.plan.recovered(),
            Some(origins),
        )))
    }
}
