//! Models of which matrices are both sparse and packed: whole evaluations, bytes, and what is refused.

use std::fs;

use evaluator::{Rounds, Silent, Work, data::DataAccess, device::DeviceChoice, evaluate, inspect, remeasure};

use crate::{
    evaluation::values,
    support::{config, job, plan_for, recall, text_data},
};

#[test]
fn what_is_foretold_of_them_is_what_is_measured_and_they_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    for (i, fixed) in [
        "sparsity = 0.5\nbits = 4",
        "sparsity = 0.5\nsparsity_pattern = '2:4'\nbits = 4\nquant_method = 'gptq'",
        "sparsity = 0.7\nsparsity_method = 'sparsegpt'\nbits = 8\nquant_method = 'gptq'\nprune_ratio = 0.5\nrecovery = 0.2\nkv_heads = 2",
        "sparsity = 0.8\nsparsity_method = 'magnitude'\nbits = 3\nquant_method = 'gptq'\nsparsity_recovery = 0.3\nsparsity_schedule = 'cubic'\nsparsity_rounds = 2",
        "sparsity = 0.5\nsparsity_pattern = '4:8'\nbits = 5\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0",
        "sparsity = 0.6\nbits = 4\nquant_method = 'gptq'\nexperts = 2\ntop_k = 2\nreversible = true",
        "sparsity = 0.6\nsparsity_layer_1 = -1\nbits = 6\nbits_layer_2 = 4\nquant_method = 'gptq'",
        "sparsity = 0.6\nbits = 8\nbits_layer_1 = 32\nquant_method = 'gptq'\ncache_bits = 8",
    ]
    .into_iter()
    .enumerate()
    {
        let config = config(&data, fixed);
        let known = inspect(&config.data, None, &DataAccess::anywhere(), 16)
            .unwrap()
            .known(&config)
            .unwrap();
        let work = dir.path().join(i.to_string());
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        for counter in ["packed_nonzeros", "sparse_products", "packed_products"] {
            assert!(result.activity[counter] > 0, "{fixed}: {counter}");
        }
        let again = remeasure(&work.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        let (measured, again) = (values(&result), values(&again));
        for (metric, value) in known {
            assert_eq!(measured[metric.as_str()], value, "{metric} of {fixed}");
        }
        for metric in ["validation_loss", "parameters", "model_bytes", "inference_flops_per_token"] {
            assert_eq!(again[metric], measured[metric], "{metric} of {fixed}");
        }
    }
}

#[test]
fn they_are_smaller_than_sparse_or_packed_ones_and_lose_little_more() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 20_000);
    let run = |fixed: &str| {
        let config = config(&data, &format!("width = 128\ntokens = 12800\n{fixed}"));
        let work = dir.path().join(fixed.replace(['\n', ' ', '\'', ':'], ""));
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        let file = fs::metadata(work.join("bundle/model.safetensors")).unwrap().len() as f64;
        let values = values(&result);
        let of = |metric: &str| values[metric];
        [
            file,
            of("peak_memory_bytes"),
            of("inference_flops_per_token"),
            of("validation_loss"),
        ]
    };
    let [_, _, dense_flops, _] = run("");
    let [packed_file, packed_memory, packed_flops, packed_loss] = run("bits = 4");
    let [sparse_file, sparse_memory, sparse_flops, sparse_loss] = run("sparsity = 0.5");
    assert_eq!(dense_flops, packed_flops);
    for both in [
        "sparsity = 0.5\nbits = 4",
        "sparsity = 0.5\nsparsity_pattern = '2:4'\nbits = 4\nquant_method = 'gptq'",
    ] {
        let [file, memory, flops, loss] = run(both);
        println!(
            "{both}: {file} bytes, of packed ones {packed_file}; loss {loss}, sparse {sparse_loss}, packed {packed_loss}"
        );
        // 3.375 bits for each weight in place of 4.375, the embedding and small tensors aside
        assert!(
            file < 0.85 * packed_file && file < 0.3 * sparse_file,
            "{both}: {file}"
        );
        assert!(
            memory < packed_memory && memory < sparse_memory,
            "{both}: {memory}"
        );
        assert_eq!(flops, sparse_flops, "{both}");
        assert!(loss < sparse_loss + 0.1, "{both}: {loss} {sparse_loss}");
    }
}

#[test]
fn what_needs_dense_matrices_is_refused_in_one_sentence() {
    let refused = |fixed: &str| plan_for(19, &format!("sparsity = 0.5\n{fixed}")).unwrap_err();
    for (fixed, remedy) in [
        (
            "bits = 4\nquant_method = 'awq'",
            "use quant_method = 'gptq' or 'rtn', or sparsity = 0",
        ),
        (
            "bits = 4\nquant_method = 'nf4'",
            "use quant_method = 'gptq' or 'rtn', or for layer 1",
        ),
        (
            "bits = 8\nactivation_bits = 8",
            "use activation_bits = 32, or for layer 1",
        ),
        (
            "bits = 8\nactivation_bits = 8\nquant_method = 'smooth'",
            "works on dense matrices alone",
        ),
        ("bits = 8\nqat = 0.1", "use qat = 0 or sparsity = 0"),
    ] {
        let error = refused(fixed);
        assert!(error.contains(remedy), "{fixed}: {error}");
    }
    // beside sparse layers each of the two goes on its own
    for fixed in [
        "bits = 4\nquant_method = 'nf4'\nbits_layer_1 = 32\nsparsity_layer_2 = -1",
        "bits = 8\nactivation_bits = 8\nbits_layer_1 = 32\nsparsity_layer_2 = -1",
    ] {
        plan_for(19, &format!("sparsity = 0.5\n{fixed}")).unwrap();
    }
}

#[test]
fn their_speed_is_that_of_the_form_that_is_served() {
    for fixed in [
        "sparsity = 0.5\nbits = 4",
        "sparsity = 0.5\nsparsity_pattern = '2:4'\nbits = 8",
        "sparsity = 0.9",
    ] {
        let config = config(recall(), fixed);
        let rounds = Rounds {
            rounds: 1,
            seconds: 0.01,
        };
        let forward = evaluator::time(&config, 19, Work::Forward, rounds, DeviceChoice::Cpu).unwrap();
        assert_eq!(
            forward.flops_per_token, forward.formula_flops_per_token,
            "{fixed}"
        );
        let decode = evaluator::time(&config, 19, Work::Decode, rounds, DeviceChoice::Cpu).unwrap();
        let dense = evaluator::time(
            &crate::support::config(recall(), ""),
            19,
            Work::Decode,
            rounds,
            DeviceChoice::Cpu,
        );
        assert!(
            decode.formula_flops_per_token < 0.7 * dense.unwrap().formula_flops_per_token,
            "{fixed}"
        );
    }
}
