//! What a study or a configuration names: data, the model that a training starts from, the one that it learns from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use spaces::{Config, DataSpec, Value, study::BaseSpec};

use crate::{
    EvaluationError,
    bundle::{self, Served},
    data::{DataAccess, DataFacts, Dataset},
    model::ModelPlan,
    plan::{Given, Plan},
};

/// What a study's data and models say, so that costs are known without loading them again.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Of the data.
    pub data: DataFacts,
    /// Shape of the base checkpoint.
    pub base: Option<ModelPlan>,
    /// Shape of the model that is learnt from.
    pub teacher: Option<ModelPlan>,
}

impl Facts {
    /// The metrics that follow from a configuration alone.
    ///
    /// # Errors
    /// One sentence where it cannot be built.
    pub fn known(&self, config: &Config) -> Result<BTreeMap<String, f64>, String> {
        let given = Given {
            base: self.base.as_ref(),
            teacher: self.teacher.as_ref(),
        };
        let plan = Plan::read(config, &self.data, given)?;
        Ok(plan.known(&self.data))
    }
}

/// Folders of models that are there before a training begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Folders<'a> {
    /// Of the one that it starts from.
    pub base: Option<&'a Path>,
    /// Of the one that it learns from.
    pub teacher: Option<&'a Path>,
}

impl<'a> From<Option<&'a Path>> for Folders<'a> {
    fn from(base: Option<&'a Path>) -> Self {
        Folders { base, teacher: None }
    }
}

impl<'a> Folders<'a> {
    /// Those that a study or a configuration names.
    pub fn of(base: Option<&'a BaseSpec>, teacher: Option<&'a BaseSpec>) -> Self {
        let path = |spec: &'a BaseSpec| Path::new(&spec.path);
        Folders {
            base: base.map(path),
            teacher: teacher.map(path),
        }
    }
}

/// What a study or a configuration names.
pub struct Named {
    /// The data.
    pub data: Dataset,
    /// The model that a training starts from.
    pub base: Option<Served>,
    /// The model that a training learns from.
    pub teacher: Option<Served>,
}

impl Named {
    pub(crate) fn given(&self) -> Given<'_> {
        Given {
            base: self.base.as_ref().map(|served| &served.model),
            teacher: self.teacher.as_ref().map(|served| &served.model),
        }
    }
}

/// Loads the data and the shapes of the models that a configuration names.
///
/// # Errors
/// [`EvaluationError`] where one of them cannot be had, or a model is none to start from or to learn from.
pub fn load_data<'a>(
    data: &DataSpec,
    folders: impl Into<Folders<'a>>,
    access: &DataAccess,
) -> Result<Named, EvaluationError> {
    let Folders { base, teacher } = folders.into();
    let read = |path: &Path| -> Result<(PathBuf, Served), EvaluationError> {
        let dir = access.resolve(&path.display().to_string())?;
        let served = bundle::read_served(&dir)?;
        Ok((dir, served))
    };
    let (base_served, taught_by) = (base.map(read).transpose()?, teacher.map(read).transpose()?);
    let mut spec = data.clone();
    let brings = base
        .map(|base| (base, "base"))
        .or(teacher.map(|teacher| (teacher, "teacher")));
    if let Some((folder, name)) = brings {
        if spec.tokenizer().is_some() {
            return Err(EvaluationError::Invalid(format!(
                "data.tokenizer is given beside [{name}]; remove it, the {name} brings its tokenizer"
            )));
        }
        let file = folder.join("tokenizer.json");
        spec.options.insert(
            "tokenizer".into(),
            Value::Text(format!("file:{}", file.display())),
        );
    }
    let dataset = Dataset::load(&spec, access)?;
    let (base, teacher) = (base_served.map(|(_, served)| served), taught_by);
    for (name, served, does) in [
        ("base", base.as_ref(), "start"),
        ("teacher", teacher.as_ref().map(|(_, served)| served), "learn"),
    ] {
        if served.is_some_and(|s| s.quantization.is_some()) {
            return Err(EvaluationError::Invalid(format!(
                "the {name} is packed to few bits; {does} from a 32-bit model"
            )));
        }
        if served.is_some_and(|s| s.model.sparsity.is_some()) {
            return Err(EvaluationError::Invalid(format!(
                "the weights of the {name} are stored sparse; {does} from a dense model"
            )));
        }
        if served.is_some_and(|s| s.model.chooses_neurons()) {
            return Err(EvaluationError::Invalid(format!(
                "the {name} chooses neurons for each token; {does} from a model with context_keep = 1"
            )));
        }
    }
    if let Some((dir, _)) = &teacher
        && bundle::read_tokenizer(dir)?.to_json() != dataset.tokenizer.to_json()
    {
        return Err(EvaluationError::Invalid(
            "the tokenizer of [teacher] is not that of the data, so its outputs mean other tokens; learn from a model of the same tokenizer"
                .into(),
        ));
    }
    Ok(Named {
        data: dataset,
        base,
        teacher: teacher.map(|(_, served)| served),
    })
}

/// Facts of a study's data and models, for sequences of up to `context` tokens.
///
/// # Errors
/// [`EvaluationError`] where one of them cannot be had, or the data is too short.
pub fn inspect<'a>(
    data: &DataSpec,
    folders: impl Into<Folders<'a>>,
    access: &DataAccess,
    context: usize,
) -> Result<Facts, EvaluationError> {
    let Named { data, base, teacher } = load_data(data, folders, access)?;
    data.check_some_context(context)?;
    Ok(Facts {
        data: data.facts().clone(),
        base: base.map(|s| s.model),
        teacher: teacher.map(|s| s.model),
    })
}
