//! Compiling and launching a kernel from its source.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    cubecl::{
        CompilationError, Compiler, CubeTask, Runtime,
        client::ComputeClient,
        cuda::CudaRuntime,
        ir::{ElemType, StorageType, UIntKind},
        prelude::{
            CompiledKernel, CubeCount, CubeDim, ExecutionMode, KernelDefinition, KernelId, KernelMetadata,
            KernelOptions, Scope,
        },
        server::{KernelArguments, MetadataBindingInfo},
    },
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};
use cubecl_cpp::shared::SharedMemory;

/// A tensor on a GPU.
pub(super) type GpuTensor = CubeTensor<CudaRuntime>;
type CudaCompiler = <CudaRuntime as Runtime>::Compiler;

/// Source text that kernels share, before that of each file.
const COMMON: &str = include_str!("common.cuh");

/// A file of kernels.
pub(super) struct Source {
    text: &'static str,
    // compiled kernels are kept between processes; a changed source must not find those of the old one
    version: u64,
}

impl Source {
    pub(super) const fn new(text: &'static str) -> Self {
        Source {
            text,
            version: hash(hash(0xcbf2_9ce4_8422_2325, COMMON), text),
        }
    }
}

/// FNV-1a
const fn hash(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// One kernel of a file, with what it is compiled for.
pub(super) struct Kernel {
    source: &'static Source,
    name: &'static str,
    settings: Vec<(&'static str, usize)>,
    threads: usize,
    shared_bytes: usize,
}

impl Kernel {
    pub(super) fn new(source: &'static Source, name: &'static str, threads: usize) -> Self {
        Kernel {
            source,
            name,
            settings: vec![],
            threads,
            shared_bytes: 0,
        }
    }

    /// Names that the source is compiled with.
    pub(super) fn with(mut self, settings: &[(&'static str, usize)]) -> Self {
        self.settings.extend(settings);
        self
    }

    /// Shared memory of a block.
    pub(super) fn shared_bytes(mut self, bytes: usize) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// Queues the kernel: pointers to the tensors' first elements, then the words of its `Sizes`.
    pub(super) fn launch(self, blocks: [usize; 3], tensors: &[&GpuTensor], sizes: Sizes) {
        if blocks.contains(&0) {
            return;
        }
        let [x, y, z] = blocks.map(|n| n as u32);
        let client: &ComputeClient<CudaRuntime> = &tensors[0].client;
        let buffers = tensors.iter().map(|t| t.handle.clone().binding()).collect();
        let info = MetadataBindingInfo {
            // all of it by value: nothing follows in a buffer
            dynamic_metadata_offset: sizes.0.len(),
            data: sizes.0,
        };
        let arguments = KernelArguments::new().with_buffers(buffers).with_info(info);
        // SAFETY: each launch below gives a kernel the tensors and sizes that its bounds are computed from, and blocks
        // that cover them; tests/it/cuda.rs compares every one with the plain operations, at sizes that no tile divides
        unsafe { client.launch_unchecked(Box::new(self), CubeCount::Static(x, y, z), arguments) };
    }
}

impl KernelMetadata for Kernel {
    fn name(&self) -> &'static str {
        self.name
    }

    fn id(&self) -> KernelId {
        let what = (
            self.name,
            self.source.version,
            self.settings.clone(),
            self.shared_bytes,
        );
        KernelId::new::<Self>()
            .info(what)
            .cube_dim(CubeDim::new_1d(self.threads as u32))
    }

    fn address_type(&self) -> StorageType {
        ElemType::UInt(UIntKind::U64).into()
    }
}

impl CubeTask<CudaCompiler> for Kernel {
    fn compile(
        &self,
        compiler: &mut CudaCompiler,
        options: &<CudaCompiler as Compiler>::CompilationOptions,
        mode: ExecutionMode,
        address_type: StorageType,
    ) -> Result<CompiledKernel<CudaCompiler>, CompilationError> {
        let cube_dim = CubeDim::new_1d(self.threads as u32);
        // the runtime reads the size of shared memory from a kernel of its own kind: an empty one stands for it
        let empty = KernelDefinition {
            buffers: vec![],
            tensor_maps: vec![],
            scalars: vec![],
            cube_dim,
            body: Scope::root(false),
            options: KernelOptions::default(),
        };
        let mut shape = compiler.compile(empty, options, mode, address_type)?;
        if self.shared_bytes > 0 {
            let item = shape.body.address_type;
            shape.body.shared_memories = vec![SharedMemory::Array {
                index: 0,
                item,
                length: self.shared_bytes.div_ceil(item.size()),
                align: 16,
                offset: 0,
            }];
        }
        let settings = self.settings.iter();
        let settings: String = settings
            .map(|(name, value)| format!("#define {name} {value}\n"))
            .collect();
        Ok(CompiledKernel {
            entrypoint_name: self.name.into(),
            debug_name: Some(self.name),
            source: format!("{settings}{COMMON}{}", self.source.text),
            repr: Some(shape),
            cube_dim,
            debug_info: None,
        })
    }
}

/// The words of a kernel's `struct Sizes`.
pub(super) struct Sizes(Vec<u64>);

impl Sizes {
    /// Whole numbers, `long long` there.
    pub(super) fn of(numbers: &[usize]) -> Self {
        Sizes(numbers.iter().map(|n| *n as u64).collect())
    }

    /// Two floats more.
    pub(super) fn floats(mut self, first: f32, second: f32) -> Self {
        self.0
            .push(u64::from(first.to_bits()) | u64::from(second.to_bits()) << 32);
        self
    }
}

/// Fresh memory of a shape beside `like`, to be filled.
pub(super) fn fresh(like: &GpuTensor, shape: &[usize], dtype: DType) -> GpuTensor {
    let shape = Shape::from(shape.to_vec());
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// The same with 32-bit floats.
pub(super) fn fresh_floats(like: &GpuTensor, shape: &[usize]) -> GpuTensor {
    fresh(like, shape, DType::F32)
}

/// 32-bit floats, row after row.
pub(super) fn floats(x: GpuTensor) -> GpuTensor {
    debug_assert_eq!(x.dtype, DType::F32);
    into_contiguous(x)
}
