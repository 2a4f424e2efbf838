//! Small configurations, models and text.

use std::{path::Path, time::Duration};

use burn::{
    backend::{Autodiff, Flex},
    module::Param,
    tensor::{Int, Tensor, TensorData},
};
use evaluator::{
    Job,
    data::{DataAccess, Dataset},
    device::DeviceChoice,
    model::{Initial, Model, TensorMut, each_tensor},
    ops::Ops,
    plan::Plan,
    techniques::{
        calibration::Statistics,
        quantization::{observe, quantize},
        sparsity,
    },
    training::{Batches, Record, Stretch},
};
use spaces::{Config, DataSpec, study::config_from_toml};

pub(crate) type A = Autodiff<Flex>;

pub(crate) const VOCABULARY: usize = 19;

/// A configuration of a two-layer model of width 32 and context 16, with these lines below `[fixed]`.
pub(crate) fn config(data: &str, fixed: &str) -> Config {
    let common = unless_said(
        "context = 16\nlayers = 2\nwidth = 32\nheads = 4\nbatch = 4\ntokens = 640\nlearning_rate = 3e-3\n",
        fixed,
    );
    let text = format!("{data}\n[fixed]\n{common}{fixed}\n");
    config_from_toml(&text, &evaluator::catalog()).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

/// The lines of `common` whose keys are not in `fixed`.
fn unless_said(common: &str, fixed: &str) -> String {
    let own: Vec<&str> = fixed
        .lines()
        .filter_map(|l| l.split_once('='))
        .map(|(k, _)| k.trim())
        .collect();
    common
        .lines()
        .filter(|l| !own.iter().any(|k| l.starts_with(k)))
        .map(|l| format!("{l}\n"))
        .collect()
}

pub(crate) fn recall() -> &'static str {
    "[data]\ncorpus = \"markov\""
}

/// The plan of [`config`] for the vocabulary of these tests. From a line with `fine_tune` on, lines are what is done with a
/// base of the lines before.
pub(crate) fn plan(fixed: &str) -> Plan {
    plan_for(VOCABULARY, fixed).unwrap()
}

/// [`plan`] for another vocabulary.
pub(crate) fn plan_for(vocabulary: usize, fixed: &str) -> Result<Plan, String> {
    let (base, tuning) = fixed.split_at(fixed.find("fine_tune").unwrap_or(fixed.len()));
    let plan = Plan::read(&config(recall(), base), vocabulary, None)?;
    if tuning.is_empty() {
        return Ok(plan);
    }
    let common = unless_said(
        "context = 16\nbatch = 4\ntokens = 640\nlearning_rate = 3e-3\n",
        tuning,
    );
    let text = format!("{}\n[base]\npath = 'base'\n[fixed]\n{common}{tuning}\n", recall());
    let config = config_from_toml(&text, &evaluator::catalog()).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    Plan::read(&config, vocabulary, Some(&plan.model))
}

/// One entry for each technique and mixture of techniques that the contracts are held against.
pub(crate) const TECHNIQUES: &[&str] = &[
    "attention = 'full'",
    "kv_heads = 2",
    "kv_heads = 1\nlayers = 1",
    "attention = 'tiled'\nattention_block_q = 4\nattention_block_k = 3",
    "attention = 'tiled'\nkv_heads = 2\nhead_prune_ratio = 0.5",
    "attention = 'sliding_window'\nwindow = 5",
    "attention = 'sliding_window'\nwindow = 1\nkv_heads = 2",
    "attention = 'linear'\nlinear_chunk = 5",
    "attention = 'linear'\nlinear_chunk = 64\nkv_heads = 2",
    "attention = 'linear'\nlinear_features = 'relu'\nlinear_chunk = 5\nkv_heads = 2",
    "attention = 'linear'\nlinear_features = 'favor'\nlinear_random_features = 16\nlinear_chunk = 5",
    "attention = 'linear'\nlinear_features = 'favor'\nlinear_random_features = 40\nkv_heads = 2\nhead_prune_ratio = 0.5",
    "attention = 'kde'\nkde_leaf = 2\nkde_samples = 3",
    "attention = 'kde'\nkde_leaf = 3\nkde_samples = 1\nhead_prune_ratio = 0.5",
    "attention = 'kde'\nkde_leaf = 1\nkde_samples = 2\nattention_layer_1 = 'full'",
    "attention_layer_2 = 'linear'",
    "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
    "attention = 'lsh'\nlsh_chunk = 1\nlsh_buckets = 2\nlsh_rounds = 4\nhead_prune_ratio = 0.5",
    "attention = 'lsh'\nlsh_chunk = 7\nlsh_buckets = 8\nlsh_rounds = 1\nexperts = 2",
    "attention = 'sliding_window'\nwindow = 5\nattention_layer_1 = 'full'\nlayers = 3",
    "attention = 'aft'\naft_variant = 'full'\naft_rank = 8",
    "attention = 'aft'\naft_variant = 'local'\naft_window = 5\naft_rank = 8",
    "attention = 'aft'\naft_variant = 'simple'",
    "attention = 'aft'\naft_variant = 'conv'\naft_window = 5",
    "attention = 'aft'\naft_variant = 'conv'\naft_window = 16\nhead_prune_ratio = 0.5",
    "attention = 'aft'\naft_variant = 'local'\naft_window = 1\naft_rank = 9\nhead_prune_ratio = 0.5",
    "attention_layer_2 = 'aft'",
    "attention = 'aft'\naft_variant = 'conv'\naft_window = 3\nbits = 8",
    "experts = 4\ntop_k = 1",
    "experts = 4\ntop_k = 2\nattention = 'linear'\nlinear_chunk = 4",
    "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nrouter_jitter = 0.1",
    "experts = 3\nrouter = 'gshard'\ncapacity_factor = 1.0\nrouter_z_loss = 1e-3",
    "experts = 4\nrouter = 'noisy_top_k'\ntop_k = 2\nmoe_every = 2",
    "experts = 2\nrouter = 'switch'\nmoe_every = 2\nlayers = 3\nprune_ratio = 0.5\nbits = 8",
    "prune_ratio = 0.5\nhead_prune_ratio = 0.5",
    "prune_latency = 0.6\nkv_heads = 2",
    "layer_prune_ratio = 0.5",
    "width_prune_ratio = 0.25",
    "width_prune_ratio = 0.5\nprune_ratio = 0.25\nhead_prune_ratio = 0.5\nlayer_prune_ratio = 0.5\nexperts = 4\nrouter = 'noisy_top_k'\ntop_k = 2",
    "width_prune_ratio = 0.25\nattention = 'linear'\nlinear_chunk = 5\nkv_heads = 2\nbits = 4",
    "width_prune_ratio = 0.25\nattention = 'aft'\naft_variant = 'local'\naft_window = 5\naft_rank = 8\nsparsity = 0.5",
    "layer_prune_ratio = 0.34\nlayers = 3\nprune_ratio = 0.25\nattention = 'aft'\naft_variant = 'conv'\naft_window = 5",
    "layer_prune_ratio = 0.5\nreversible = true\nhead_prune_ratio = 0.5\nbits = 8",
    "prune_ratio = 0.3\nexperts = 2\ntop_k = 2\nattention = 'sliding_window'\nwindow = 7",
    "attention = 'rwkv'",
    "attention = 'rwkv'\nlayers = 1\nbits = 4",
    "attention = 'rwkv'\nattention_layer_2 = 'full'\nhead_prune_ratio = 0.5\nexperts = 2",
    "feed_forward = 'channel_mix'",
    "attention = 'rwkv'\nfeed_forward = 'channel_mix'\nffn_ratio = 4\nlayers = 3",
    "attention = 'rwkv'\nfeed_forward = 'channel_mix'\nlayers = 1\nhead_prune_ratio = 0.5\nbits = 4",
    "reversible = true",
    "reversible = true\nff_chunks = 3\nkv_heads = 2\nhead_prune_ratio = 0.5",
    "reversible = true\nattention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4\nff_chunks = 4",
    "reversible = true\nattention = 'linear'\nlinear_chunk = 5\nbits = 8",
    "reversible = true\nattention = 'rwkv'\nfeed_forward = 'channel_mix'\nff_chunks = 5",
    "reversible = true\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nrouter_jitter = 0.1",
    "bits = 8",
    "bits = 4\nquant_group = 32",
    "bits = 2\nexperts = 2\nprune_ratio = 0.25",
    "sparsity = 0.5",
    "sparsity = 0.9\nsparsity_method = 'magnitude'\nexperts = 2\ntop_k = 2",
    "sparsity = 0.7\nsparsity_method = 'sparsegpt'\nprune_ratio = 0.3\nhead_prune_ratio = 0.5",
    "sparsity = 0.5\nsparsity_pattern = '2:4'\nfeed_forward = 'channel_mix'",
    "sparsity = 0.5\nsparsity_pattern = '2:4'\nsparsity_method = 'sparsegpt'\nexperts = 4\nrouter = 'switch'\nmoe_every = 2",
    "sparsity = 0.5\nsparsity_pattern = '4:8'\nattention = 'linear'\nlinear_chunk = 5\nkv_heads = 2",
    "sparsity = 0.6\nreversible = true\nattention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4\nff_chunks = 3",
    "sparsity = 0.75\nsparsity_method = 'movement'\nsparsity_recovery = 0.2\nsparsity_schedule = 'cubic'\nkv_heads = 2",
    "sparsity = 0.5\nbits = 4\nquant_group = 32",
    "sparsity = 0.5\nsparsity_pattern = '2:4'\nbits = 3\nquant_method = 'gptq'\nexperts = 4\nrouter = 'switch'\nmoe_every = 2",
    "bits = 3\nquant_group = 128",
    "bits = 5\nattention = 'linear'\nkv_heads = 2",
    "bits = 6\nquant_group = 32\nhead_prune_ratio = 0.5",
    "bits = 4\nquant_method = 'nf4'\nattention = 'sliding_window'\nwindow = 5",
    "bits = 3\nquant_method = 'gptq'\nquant_group = 32\nkv_heads = 2",
    "bits = 4\nquant_method = 'gptq'\nexperts = 4\nrouter = 'switch'\nprune_ratio = 0.5",
    "bits = 4\nquant_method = 'awq'\ncalibration_batches = 2",
    "bits = 3\nquant_method = 'awq'\nexperts = 4\nrouter = 'noisy_top_k'\ntop_k = 2\nkv_heads = 2",
    "bits = 8\nquant_method = 'awq'\nattention = 'rwkv'\nfeed_forward = 'channel_mix'",
    "bits = 8\nbits_layer_1 = 3\nbits_layer_2 = 32",
    "bits = 4\nquant_method = 'gptq'\nbits_layer_2 = 2\nquant_group = 32",
    "bits = 8\nactivation_bits = 8\nkv_heads = 2",
    "bits = 4\nactivation_bits = 8\nquant_group = 32\nattention = 'linear'\nfeed_forward = 'channel_mix'",
    "bits = 8\nactivation_bits = 8\nquant_method = 'smooth'\nkv_heads = 4",
    "bits = 8\nbits_layer_2 = 4\nactivation_bits = 8\nquant_method = 'smooth'\nexperts = 4\nrouter = 'switch'",
    "bits = 8\nactivation_bits = 8\nquant_method = 'int8_outlier'\nint8_threshold = 1.5\nkv_heads = 2",
    "bits = 8\nactivation_bits = 8\nquant_method = 'integer_only'\nkv_heads = 2",
    "bits = 8\nactivation_bits = 8\nquant_method = 'integer_only'\nlayers = 3\nprune_ratio = 0.5\nhead_prune_ratio = 0.5",
    "context_keep = 0.3\ncontext_predictor_rank = 5",
    "context_keep = 0.25\nprune_ratio = 0.5\nattention = 'linear'\nlinear_chunk = 5\nkv_heads = 2",
    "context_keep = 0.5\nreversible = true\nff_chunks = 3",
    "early_exit = 'max_prob'\nlayers = 3\nkv_heads = 2",
    "early_exit = 'state_similarity'\nlayers = 3\nexit_every = 2\nattention = 'sliding_window'\nwindow = 5\nbits = 4",
    "cache_bits = 8",
    "cache_bits = 4\nkv_heads = 2\nhead_prune_ratio = 0.5",
    "cache_bits = 4\nattention = 'sliding_window'\nwindow = 5\nbits = 4",
    "cache_bits = 8\nattention = 'tiled'\nattention_block_q = 4\nattention_block_k = 3\nreversible = true",
    "cache_bits = 8\nattention = 'rwkv'\nattention_layer_2 = 'full'",
    "kv_heads = 2\nfine_tune = 'adapter'\nadapter_size = 5",
    "attention = 'linear'\nlinear_chunk = 5\nfine_tune = 'adapter'\nadapter_kind = 'pfeiffer'\nadapter_size = 3\nprune_ratio = 0.5",
    "attention = 'rwkv'\nfeed_forward = 'channel_mix'\nfine_tune = 'adapter'\nadapter_kind = 'parallel'\nadapter_size = 9\nbits = 8",
    "experts = 2\nfine_tune = 'adapter'\nadapter_kind = 'parallel'\nadapter_size = 9\nbits = 3\nquant_method = 'awq'",
    "fine_tune = 'adapter'\nadapter_size = 6\nbits = 4\nquant_method = 'gptq'",
    "kv_heads = 2\nfine_tune = 'adapter'\nadapter_size = 6\nsparsity = 0.7",
];

/// One entry for each method of fine-tuning and mixture of methods, as lines for [`plan`].
pub(crate) const TUNINGS: &[&str] = &[
    "fine_tune = 'full'",
    "fine_tune = 'full'\noptimizer = 'sgd'\nlearning_rate = 0.5",
    "fine_tune = 'full'\nlayerwise_lr_decay = 0.7",
    "fine_tune = 'lora'\nlora_rank = 3",
    "fine_tune = 'lora'\nlora_rank = 3\nlora_targets = 'all'\nbase_bits = 4",
    "fine_tune = 'dylora'\nlora_rank = 4",
    "fine_tune = 'dylora'\nlora_rank = 6\nlora_targets = 'all'\ndylora_min_rank = 3",
    "fine_tune = 'ia3'",
    "fine_tune = 'adapter'\nadapter_size = 5",
    "fine_tune = 'adapter'\nadapter_kind = 'pfeiffer'\nadapter_size = 4",
    "fine_tune = 'adapter'\nadapter_kind = 'parallel'\nadapter_size = 4",
    "fine_tune = 'mask'\nmask = 'bias'",
    "fine_tune = 'mask'\nmask = 'layer_subset'",
    "fine_tune = 'mask'\nmask = 'fisher'\nmask_fraction = 0.05\nfisher_samples = 3",
    "fine_tune = 'mask'\nmask = 'magnitude'\nmask_fraction = 0.01",
    "fine_tune = 'mask'\nmask = 'child_f'",
];

/// Makes a model what its plan serves: sparse as by inputs of one size, or packed by what matrices are given on a short text.
pub(crate) fn compress<B: Ops>(model: &mut Model<B>, plan: &Plan) {
    if let Some(sparsity) = &plan.sparsity {
        sparsity::sparsify_by(model, sparsity, &Default::default());
    }
    let Some(packing) = plan.quantization else { return };
    let inputs = if packing.calibration_batches > 0 {
        let spec = DataSpec {
            corpus: "markov".into(),
            options: [("length".to_owned(), 2000i64.into())].into(),
        };
        let data = Dataset::load(&spec, &DataAccess::anywhere()).unwrap();
        observe(model, packing, &Batches::new(&data, 1, &plan.training))
    } else {
        Statistics::new()
    };
    quantize(model, &plan.served, packing, &inputs);
}

/// Gives every weight a random value of some size.
pub(crate) fn random_weights<B: Ops>(model: &mut Model<B>) {
    let mut initial = Initial::<B>::new(7, 1, Default::default());
    each_tensor(model, &mut |_, tensor| match tensor {
        TensorMut::Matrix(param) => {
            let [out, input] = param.dims();
            *param = Param::from_tensor(initial.normal(out, input, 0.3));
        }
        TensorMut::Vector(param) => {
            let noise = initial.normal(1, param.dims()[0], 0.2).reshape([param.dims()[0]]);
            *param = Param::from_tensor(noise + 1.0);
        }
    });
}

pub(crate) fn tokens<B: burn::tensor::backend::Backend>(
    batch: usize,
    n: usize,
    seed: u32,
) -> Tensor<B, 2, Int> {
    let values: Vec<i32> = (0..batch * n)
        .map(|i| ((i as u32 * 7 + seed * 13 + (i as u32 * i as u32)) % VOCABULARY as u32) as i32)
        .collect();
    Tensor::from_data(TensorData::new(values, [batch, n]), &Default::default())
}

pub(crate) fn job(config: Config, dir: &Path) -> Job {
    Job {
        target: 1.0,
        stages: None,
        times: None,
        config,
        seed: 1,
        work_dir: dir.to_owned(),
        access: DataAccess::anywhere(),
        expected_fingerprint: None,
        device: DeviceChoice::Cpu,
        labels: Default::default(),
    }
}

/// A text of sentences with some regularity, about `n` bytes.
pub(crate) fn prose(n: usize) -> String {
    let (who, what, how) = (
        ["the cat", "a dog", "my bird"],
        ["sees", "likes", "hears"],
        ["well", "often", "again"],
    );
    let mut text = String::new();
    let mut i = 0usize;
    while text.len() < n {
        text += &format!(
            "{} {} {} {}.\n",
            who[i % 3],
            what[(i / 3 + i) % 3],
            who[(i * i + 1) % 3],
            how[(i * 5 + 2) % 3]
        );
        i += 1;
    }
    text
}

/// A data section of a file with [`prose`] in this folder.
pub(crate) fn text_data(dir: &Path, n: usize) -> String {
    let file = dir.join("text.txt");
    std::fs::write(&file, prose(n)).unwrap();
    format!("[data]\ncorpus = \"text\"\npath = \"{}\"", file.display())
}

/// A whole training with a checkpoint after every step.
pub(crate) fn stretch<'a>(plan: &'a Plan, data: &'a Dataset, checkpoints: &'a Path) -> Stretch<'a> {
    Stretch {
        phase: "train",
        plan: &plan.training,
        budget: plan.training.budget,
        tuning: plan.fine_tuning,
        rounding: None,
        thinning: None,
        batches: Batches::new(data, 1, &plan.training),
        checkpoints,
        checkpoint_every: Duration::ZERO,
        earlier: Record::default(),
        stop: None,
    }
}
