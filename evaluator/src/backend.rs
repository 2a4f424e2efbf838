//! The one place that names concrete backends.

use std::path::Path;

use burn::backend::{Autodiff, Flex, flex::FlexDevice};
use spaces::{Config, protocol::Evaluation};

use crate::{
    EvaluationError, Events, bundle_use,
    bundle_use::Sampling,
    data::DataAccess,
    decoding::{Speculation, Written},
    device::{Device, DeviceChoice},
    energy,
    evaluate::{Job, run},
    pool::{awake, on_pool},
    scaling::{self, AttentionCost},
    sensitivity::{self, Sensitivity},
    sparse_speed::{self, SparseProduct},
    speed::{self, Rounds, Speed, Work},
    techniques::sparsity::SparseForm,
};

/// Runs an expression with `$backend` bound to the backend of a device and `$handle` to its handle.
macro_rules! on_device {
    ($device:expr, |$backend:ident, $handle:ident| $body:expr) => {
        match $device {
            Device::Cpu => {
                type $backend = Flex;
                let $handle = &FlexDevice;
                on_pool(|| $body)
            }
            #[cfg(feature = "cuda")]
            Device::Cuda { index, .. } => {
                type $backend = burn::backend::Cuda;
                let $handle = &burn::backend::cuda::CudaDevice::new(*index);
                $body
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda { .. } => Err(EvaluationError::Invalid("this build has no CUDA support".into())),
        }
    };
}

/// Evaluates a configuration: trains, compresses, exports and measures.
///
/// The exported model lies in `bundle` below the job's folder. A process evaluates one job: counters, memory and the
/// device are its own. Interrupted work goes on from the last checkpoint in the folder.
///
/// # Errors
/// [`EvaluationError`], each a sentence for people.
pub fn evaluate(job: &Job, events: &mut dyn Events) -> Result<Evaluation, EvaluationError> {
    let device = job.device.find().map_err(EvaluationError::Invalid)?;
    on_device!(&device, |B, handle| run::<Autodiff<B>>(
        job, &device, handle, events
    ))
}

/// Measures an exported model again, on the data that its configuration names.
///
/// # Errors
/// [`EvaluationError`]: no bundle, other data, a device that is not there.
pub fn remeasure(
    dir: &Path,
    access: &DataAccess,
    device: DeviceChoice,
) -> Result<Evaluation, EvaluationError> {
    let device = device.find().map_err(EvaluationError::Invalid)?;
    on_device!(&device, |B, handle| bundle_use::remeasure::<B>(
        dir, access, &device, handle
    ))
}

/// Measures what each part of a configuration's base loses by fewer bits, or fewer weights.
///
/// # Errors
/// [`EvaluationError`]: no base, nothing to pack, a device that is not there.
pub fn measure_sensitivity(
    config: &Config,
    access: &DataAccess,
    device: DeviceChoice,
    events: &mut dyn Events,
) -> Result<Sensitivity, EvaluationError> {
    let device = device.find().map_err(EvaluationError::Invalid)?;
    on_device!(&device, |B, handle| sensitivity::measure::<B>(
        config, access, handle, events
    ))
}

/// Times a configuration on random tokens of so large a vocabulary.
///
/// # Errors
/// [`EvaluationError`]: a configuration that cannot be built, a device that is not there.
pub fn time(
    config: &Config,
    vocabulary: usize,
    work: Work,
    rounds: Rounds,
    device: DeviceChoice,
) -> Result<Speed, EvaluationError> {
    let device = device.find().map_err(EvaluationError::Invalid)?;
    let mut energy = energy::open(device.gpu_uuid());
    on_device!(&device, |B, handle| speed::time::<Autodiff<B>>(
        config,
        vocabulary,
        work,
        rounds,
        energy.as_mut(),
        (&device, handle)
    ))
}

/// What one pass of a configuration's first attention costs, forward and backward, over one full-length sequence.
///
/// # Errors
/// [`EvaluationError`]: a configuration that cannot be built, a device that is not there.
pub fn attention_cost(
    config: &Config,
    seconds: f64,
    device: DeviceChoice,
) -> Result<AttentionCost, EvaluationError> {
    let device = device.find().map_err(EvaluationError::Invalid)?;
    on_device!(&device, |B, handle| scaling::attention_cost::<Autodiff<B>>(
        config,
        seconds,
        (&device, handle)
    ))
}

/// FLOPs a second that a device gives a large product of 32-bit matrices, the best within so many seconds.
///
/// # Errors
/// [`EvaluationError`]: a device that is not there.
pub fn gemm_flops_per_s(seconds: f64, device: DeviceChoice) -> Result<f64, EvaluationError> {
    let device = device.find().map_err(EvaluationError::Invalid)?;
    on_device!(&device, |B, handle| speed::gemm::<B>(seconds, handle))
}

/// What a product of `inputs` rows with a random matrix `[width, width]` takes, dense and sparse, the best within so many seconds.
///
/// # Errors
/// [`EvaluationError`]: a device that is not there.
pub fn sparse_product(
    form: SparseForm,
    width: usize,
    inputs: usize,
    seconds: f64,
    device: DeviceChoice,
) -> Result<SparseProduct, EvaluationError> {
    let device = device.find().map_err(EvaluationError::Invalid)?;
    on_device!(&device, |B, handle| {
        let measure = || sparse_speed::sparse_product::<B>(form, width, inputs, seconds, handle);
        // threads stay awake as they do while a model decodes, and not while it reads
        if inputs == 1 { awake(measure) } else { measure() }
    })
}

/// Continues a prompt with an exported model or fills its gaps (`___`), handing over each piece of text as it is written, the
/// prompt's own included. A model that was measured with a draft writes with it. Says what it took where a prompt was
/// continued.
///
/// # Errors
/// [`EvaluationError`]: no bundle, a prompt with characters that the tokenizer does not know, or without gaps where the model
/// fills gaps.
pub fn generate(
    dir: &Path,
    prompt: &str,
    sampling: Sampling,
    device: DeviceChoice,
    write: &mut (dyn FnMut(&str) + Send),
) -> Result<Written, EvaluationError> {
    generate_with(dir, prompt, sampling, None, device, write)
}

/// [`generate`] for a decoder, with a draft that guesses ahead; the text follows the same law. Says what it took.
///
/// # Errors
/// As [`generate`]; also a model that fills gaps or has tokens leave early, and a draft that is no decoder, has another tokenizer, or exits after the
/// last layer.
pub fn speculate(
    dir: &Path,
    prompt: &str,
    sampling: Sampling,
    speculation: &Speculation,
    device: DeviceChoice,
    write: &mut (dyn FnMut(&str) + Send),
) -> Result<Written, EvaluationError> {
    generate_with(dir, prompt, sampling, Some(speculation), device, write)
}

fn generate_with(
    dir: &Path,
    prompt: &str,
    sampling: Sampling,
    speculation: Option<&Speculation>,
    device: DeviceChoice,
    write: &mut (dyn FnMut(&str) + Send),
) -> Result<Written, EvaluationError> {
    let device = device.find().map_err(EvaluationError::Invalid)?;
    on_device!(&device, |B, handle| awake(|| bundle_use::generate::<B>(
        dir,
        prompt,
        sampling,
        speculation,
        handle,
        write
    )))
}
