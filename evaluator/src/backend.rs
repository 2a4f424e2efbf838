//! The one place that names concrete backends.

use burn::backend::{Autodiff, Flex, flex::FlexDevice};
use spaces::protocol::Evaluation;

use crate::{
    EvaluationError, Events,
    device::Device,
    evaluate::{Job, run},
};

/// Evaluates a configuration: trains, compresses, exports and measures.
///
/// The exported model lies in `bundle` below the job's folder. A process evaluates one job: counters, memory and the
/// device are its own. Interrupted work goes on from the last checkpoint in the folder.
///
/// # Errors
/// [`EvaluationError`], each a sentence for people.
pub fn evaluate(job: &Job, events: &mut dyn Events) -> Result<Evaluation, EvaluationError> {
    let device = job.device.find().map_err(EvaluationError::Invalid)?;
    match &device {
        Device::Cpu => run::<Autodiff<Flex>>(job, &device, &FlexDevice, events),
        #[cfg(feature = "cuda")]
        Device::Cuda { index, .. } => {
            let backend = burn::backend::cuda::CudaDevice::new(*index);
            run::<Autodiff<burn::backend::Cuda>>(job, &device, &backend, events)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda { .. } => Err(EvaluationError::Invalid("this build has no CUDA support".into())),
    }
}
