//! One evaluation, start to end: data, model, training, pruning, packing, export, measurement.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use burn::{module::AutodiffModule, tensor::backend::AutodiffBackend};
use spaces::{
    Config, fingerprint,
    protocol::{Evaluation, Progress},
};

use crate::{
    EvaluationError, Events, Shelf,
    bundle::{self, Provenance, Served},
    compress::compress,
    counter,
    data::{DataAccess, Dataset},
    device::{Device, DeviceChoice, processor},
    energy,
    meters::{Subject, TrainingRun, measure},
    model::{Model, ModelPlan, make_trainable},
    named::{Folders, load_data},
    ops::Ops,
    plan::Plan,
    sized::SIZES,
    stages::Keys,
    techniques::{
        dynamic::early_exit::calibration::{HeldOut, find_threshold},
        pruning::latency::FoundSizes,
    },
    trainer::{STATE, Trained, Trainer},
    training::{Batches, CHECKPOINT_FILES, Record},
};

/// What shall be evaluated, and where.
#[derive(Clone, Debug)]
pub struct Job {
    /// The configuration.
    pub config: Config,
    /// Seed of weights and batches.
    pub seed: u64,
    /// Holds the checkpoint while it runs and the exported model (`bundle`) afterwards; of a part of a training also the
    /// state from which it can go on (`state`). A training goes on from `start`, where that is given.
    pub work_dir: PathBuf,
    /// The part of the full training after which the model is measured, above 0 and up to 1.
    pub target: f64,
    /// Which files may be read.
    pub access: DataAccess,
    /// Fingerprint that the data must have, where one is known.
    pub expected_fingerprint: Option<String>,
    /// Where it is computed.
    pub device: DeviceChoice,
    /// Where results of stages are kept for other trials; `None` to make every stage.
    pub stages: Option<Shelf>,
    /// Milliseconds that a token takes a model of a shape, where they are known already; `None` to time it where a latency target
    /// asks.
    pub times: Option<fn(&ModelPlan) -> f64>,
    /// Study, trial and the like, for the bundle.
    pub labels: BTreeMap<String, String>,
}

/// Evaluates on the backend `A`; see [`crate::evaluate`].
pub(crate) fn run<A>(
    job: &Job,
    device: &Device,
    backend: &A::Device,
    events: &mut dyn Events,
) -> Result<Evaluation, EvaluationError>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let started = Instant::now();
    events.progress(Progress {
        phase: "load".into(),
        ..Progress::default()
    });
    let folders = Folders::of(job.config.base.as_ref(), job.config.teacher.as_ref());
    let named = load_data(&job.config.data, folders, &job.access)?;
    let data = &named.data;
    if let Some(expected) = job
        .expected_fingerprint
        .as_ref()
        .filter(|f| **f != data.fingerprint)
    {
        return Err(EvaluationError::OtherData {
            found: data.fingerprint.clone(),
            expected: expected.clone(),
        });
    }
    let plan = Plan::read(&job.config, data.facts(), named.given()).map_err(EvaluationError::Invalid)?;
    plan.prepare(device).map_err(EvaluationError::Invalid)?;
    data.check_context(plan.training.rows)?;
    let held_out = HeldOut {
        data,
        rows: plan.training.rows,
        tokens: plan.validation_tokens,
    };
    if plan.served.early_exit.is_some() {
        held_out.check()?;
    }
    prepare_folder(job)?;

    let mut source = energy::open(device.gpu_uuid());
    let trainer = Trainer {
        job,
        plan: &plan,
        data,
        checkpoints: job.work_dir.join("checkpoint"),
        state: job.work_dir.join(STATE),
        stages: match &job.stages {
            Some(shelf) => {
                let resolved = |path: Option<&Path>| {
                    let path = path.map(|path| job.access.resolve(&path.display().to_string()));
                    path.transpose()
                };
                let (base, teacher) = (resolved(folders.base)?, resolved(folders.teacher)?);
                let dirs = [base.as_deref(), teacher.as_deref()];
                Some((shelf, Keys::of(job, data, dirs, (device, plan.finds_sizes()))?))
            }
            None => None,
        },
    };
    let start = |plan: &ModelPlan| -> Result<Model<A>, EvaluationError> {
        Ok(match folders.base {
            Some(path) => {
                let (model, _) = bundle::read_model::<A::InnerBackend>(
                    &job.access.resolve(&path.display().to_string())?,
                    backend,
                )?;
                let mut model = Model::from_inner(model);
                make_trainable(&mut model);
                model.exits = plan.early_exit;
                model.tokens = plan.tokens;
                model
            }
            None => Model::new(plan, job.seed, backend),
        })
    };
    let Trained {
        model,
        record,
        spent,
        peak_bytes,
        found,
        main,
        from,
        sizes,
    } = trainer.run::<A>(start, backend, source.as_mut(), events)?;

    let plan = plan.sized(sizes.as_ref());
    let mut model = model.valid();
    let batches = Batches::new(data, job.seed, &plan.training);
    let compressed = compress(&mut model, &plan, &batches, source.as_mut(), events)?;
    let (mut record, mut spent) = (record.and(compressed), spent.and(compressed));
    let mut served = Served {
        model: plan.served.clone(),
        quantization: plan.quantization,
    };
    if let Some(exits) = &mut served.model.early_exit {
        events.progress(Progress {
            phase: "find exits".into(),
            ..Progress::default()
        });
        // on the weights that are served, packed ones included
        let (threshold, took) = Record::of(source.as_mut(), || {
            find_threshold(&model, *exits, &held_out, plan.exit_tolerance)
        })?;
        exits.threshold = threshold?;
        (record, spent) = (record.and(took.as_search()), spent.and(took.as_search()));
    }
    events.progress(Progress {
        phase: "export".into(),
        ..Progress::default()
    });
    let training = TrainingRun {
        record,
        spent,
        peak_bytes,
        stopped_at: (job.target < 1.0).then_some(main),
    };
    let dir = job.work_dir.join("bundle");
    bundle::write_model(&mut model, &served, &data.tokenizer, &dir)?;
    drop(model);

    events.progress(Progress {
        phase: "measure".into(),
        ..Progress::default()
    });
    let (model, _) = bundle::read_model::<A::InnerBackend>(&dir, backend)?;
    let mut subject = Subject {
        model: &model,
        plan: &plan,
        data,
        bundle: &dir,
        device,
        training: (record.executed_macs() > 0).then_some(&training),
        energy: source.as_mut(),
        // recovery after a part of the training is that of a copy: the training's own steps tell where it is
        step: if job.target < 1.0 { main } else { record.steps },
    };
    let measurements = measure(&mut subject)?;
    let activity = counter::activity();
    if let Some(idle) = plan
        .expected_activity()
        .into_iter()
        .find(|name| activity.get(*name).copied().unwrap_or(0) == 0)
    {
        return Err(EvaluationError::Inert(format!(
            "a technique was on and did nothing: counter '{idle}' is 0"
        )));
    }
    let mut provenance = provenance(job, device, data, &plan, (&served, sizes.as_ref()));
    provenance.insert("training_steps".into(), record.steps.to_string());
    if from > 0 {
        provenance.insert("resumed_at_step".into(), from.to_string());
    }
    if let Some((stage, by)) = found {
        provenance.insert(format!("{stage}_by"), by);
    }
    let written = Provenance {
        config: job.config.clone(),
        trained: plan.model.clone(),
        metrics: measurements.clone(),
        activity: activity.clone(),
        provenance: provenance.clone(),
    };
    bundle::write_provenance(&written, &dir)?;
    // what is left of the checkpoint is of no use any more; that it stays is no failure
    let _ = fs::remove_dir_all(&trainer.checkpoints);
    let files = if job.target < 1.0 {
        // a base that is not trained has no state to go on from
        let kept = |name: &&str| trainer.state.join(name).exists();
        CHECKPOINT_FILES
            .iter()
            .copied()
            .filter(kept)
            .map(String::from)
            .collect()
    } else {
        bundle::FILES.map(String::from).to_vec()
    };
    Ok(Evaluation {
        measurements,
        activity,
        provenance,
        wall_s: started.elapsed().as_secs_f64(),
        artifacts: files,
    })
}

/// Empties the folder where it belongs to another job, so that no foreign checkpoint is resumed.
fn prepare_folder(job: &Job) -> Result<(), EvaluationError> {
    let dir = &job.work_dir;
    let failed = |source| EvaluationError::Disk {
        path: dir.display().to_string(),
        source,
    };
    let identity = serde_json::to_vec(&(&job.config, job.seed, job.target)).expect("plain data serialises");
    let identity = fingerprint(&identity);
    let file = dir.join("job");
    if fs::read_to_string(&file).is_ok_and(|found| found == identity) {
        return Ok(());
    }
    match fs::remove_file(dir.join(SIZES)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed(source)),
        _ => {}
    }
    for leftover in ["checkpoint", "bundle", STATE] {
        let leftover = dir.join(leftover);
        if leftover.exists() {
            fs::remove_dir_all(leftover).map_err(failed)?;
        }
    }
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(file, identity))
        .map_err(failed)
}

fn provenance(
    job: &Job,
    device: &Device,
    data: &Dataset,
    plan: &Plan,
    (served, sizes): (&Served, Option<&FoundSizes>),
) -> BTreeMap<String, String> {
    let mut map = job.labels.clone();
    let mut add = |key: &str, value: String| map.insert(key.into(), value);
    add("version", env!("CARGO_PKG_VERSION").into());
    add("seed", job.seed.to_string());
    add("data", job.config.data.corpus.clone());
    add("data_fingerprint", data.fingerprint.clone());
    add("data_origin", format!("{:?}", data.origin).to_lowercase());
    let trivial = data.baseline(plan.training.rows);
    add("trivial_loss", trivial.loss.to_string());
    add("trivial_accuracy", trivial.accuracy.to_string());
    add("device", device.describe());
    add("processor", processor());
    add("threads", rayon::current_num_threads().to_string());
    add("summary", summary(&served.model, served, sizes));
    for (key, value) in sizes.iter().flat_map(|sizes| sizes.provenance()) {
        add(key, value);
    }
    if let Some((architecture, _)) = served.standard_architecture() {
        add("architecture", architecture.into());
    }
    map
}

fn summary(model: &ModelPlan, served: &Served, sizes: Option<&FoundSizes>) -> String {
    let layer = model.layers.first();
    let attention = layer.map_or("no", |l| l.attention.core.name());
    let networks = layer.map_or(1, |l| l.feed_forward.networks());
    let mixture = if networks > 1 {
        format!(", {networks} experts")
    } else {
        String::new()
    };
    let reversible = if model.reversible.is_some() {
        ", reversible layers"
    } else {
        ""
    };
    let adapters = match layer.and_then(|l| l.adapters) {
        Some(plan) => format!(", adapters of {} neurons", plan.size),
        None => String::new(),
    };
    let bits = match served.quantization {
        None => "32-bit".to_owned(),
        Some(plan) => plan.words(),
    };
    let sparsity = model
        .sparsity
        .map_or_else(String::new, |form| format!(", {}", form.words()));
    let contextual = layer.and_then(|l| l.feed_forward.contextual());
    let contextual = contextual.map_or_else(String::new, |plan| {
        format!(", {} of {} neurons for each token", plan.kept, plan.hidden)
    });
    let sizes = sizes.map_or_else(String::new, |sizes| format!(", cut to {}", sizes.words()));
    let kind = model.kind.words();
    let article = if kind.starts_with('e') { "An" } else { "A" };
    let layers = match (model.kind.reading(), model.layers.len()) {
        (0, all) => all.to_string(),
        (reading, all) => format!("{reading} + {}", all - reading),
    };
    format!(
        "{article} {kind} of {layers} layers and width {} with {attention} attention{mixture}{reversible}{adapters}, {bits} weights{sparsity}{contextual}{sizes}.",
        model.width
    )
}
