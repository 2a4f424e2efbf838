//! Peak memory: of the exported model while it is loaded and serves a full-length example, and of the training.

use spaces::{Evidence, Measurement};

use super::{Subject, drafted, next_token, pass};
use crate::{EvaluationError, bundle, device::Device, energy::Nvml, memory::peak_bytes, ops::Ops};

pub(super) const METRICS: &[&str] = &["peak_memory_bytes", "training_peak_memory_bytes"];

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let device = s.model.device();
    let (example, decodes) = (s.example(), s.decodes());
    let prompt = s.prompt();
    let capacity = s.plan.served.capacity();
    let (result, peak) = peak_bytes(|| -> Result<(), EvaluationError> {
        let (model, served) = bundle::read_model::<B>(s.bundle, &device)?;
        if !decodes {
            pass::read(&model, example);
            return Ok(());
        }
        if let Some(draft) = served.model.draft {
            drafted::write((&model, &served.model), draft, vec![0], capacity - 1, &mut |_| ())?;
            return Ok(());
        }
        let mut memory = model.memory(&served.model, 1, capacity);
        let mut token = prompt.first_token(&model, &mut memory);
        while memory.position() < capacity {
            token = next_token(&model, token, &mut memory);
        }
        Ok(())
    });
    result?;
    let serving = match s.device {
        Device::Cpu => s.row(
            "peak_memory_bytes",
            peak as f64,
            Evidence::Measured,
            "counting_allocator: load and serve",
        ),
        Device::Cuda { uuid, .. } => match Nvml::open(uuid).ok().and_then(|n| n.process_bytes()) {
            // the driver tells what the process holds, training leftovers in the pool included
            Some(bytes) => s.row(
                "peak_memory_bytes",
                bytes as f64,
                Evidence::Measured,
                "nvml_process: whole process",
            ),
            None => s.row(
                "peak_memory_bytes",
                peak as f64,
                Evidence::Estimated,
                "counting_allocator: host side only",
            ),
        },
    };
    let mut rows = vec![serving];
    if let Some(bytes) = s.training.and_then(|run| run.peak_bytes) {
        rows.push(s.row(
            "training_peak_memory_bytes",
            bytes as f64,
            Evidence::Measured,
            "process high-water mark (VmHWM)",
        ));
    }
    Ok(rows)
}
