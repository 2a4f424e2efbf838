//! Students that are taught by what their teacher says of texts that they write themselves.

use std::path::Path;

use burn::{
    backend::Flex,
    tensor::{Int, Tensor, TensorData, activation::log_softmax},
};
use evaluator::{
    Folders, bundle,
    data::{DataAccess, Dataset},
    decoding::{Choice, Laws},
    inspect,
    model::Model,
};
use spaces::Config;

use crate::{
    support::config,
    teacher::{MARKOV, STUDENTS, run, taught_by, teacher, value},
};

/// What a step takes is held against the formula, the writing included, wherever an evaluation succeeds.
#[test]
fn students_that_write_themselves_are_counted_and_no_share_is_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _) = teacher(MARKOV, "tokens = 3200\nlayers = 3", &dir.path().join("teacher"));
    let mut runs = 0;
    let mut taught = |fixed: &str| {
        runs += 1;
        let at = dir.path().join(runs.to_string());
        let config = taught_by(MARKOV, &folder, fixed);
        let facts = inspect(
            &config.data,
            Folders::of(None, config.teacher.as_ref()),
            &DataAccess::anywhere(),
            16,
        );
        let known = facts.unwrap().known(&config).unwrap()["training_flops"];
        // counters are those of the process
        let result = run(config, &at, 1);
        assert_eq!(value(&result, "training_flops"), known, "{fixed}");
        (
            known,
            result,
            std::fs::read(at.join("bundle/model.safetensors")).unwrap(),
        )
    };
    for (i, (fixed, method)) in STUDENTS
        .iter()
        .zip(["reverse_kl", "logits", "reverse_kl"])
        .enumerate()
    {
        let lesson = format!("{fixed}\ndistill = '{method}'");
        let (own, result, written) = taught(&format!("{lesson}\ndistill_own_text = 0.3"));
        assert!(result.activity["own_text_tokens"] > 0, "{lesson}");
        if i == 0 {
            let (of_data, _, without) = taught(&lesson);
            let (none, _, of_none) = taught(&format!("{lesson}\ndistill_own_text = 0.0"));
            assert!(own > of_data && written != without, "{lesson}");
            assert_eq!((none, of_none), (of_data, without), "{lesson}");
        }
    }
    for fixed in [
        "optimizer = 'lomo'",
        "optimizer = 'badam'\nbadam_block_steps = 2",
        "layers = 1\nexperts = 4\nrouter = 'noisy_top_k'\ntop_k = 2",
    ] {
        taught(&format!(
            "{fixed}\ndistill = 'reverse_kl'\ndistill_own_text = 0.5"
        ));
    }
    // what is left after pruning is taught by the model before it, and will be stored sparse
    let pruned =
        "prune_ratio = 0.5\nrecovery = 0.5\nsparsity = 0.5\ndistill = 'reverse_kl'\ndistill_own_text = 0.5";
    let result = run(config(MARKOV, pruned), &dir.path().join("pruned"), 1);
    assert!(result.activity["own_text_tokens"] > 0);
}

/// Mean reverse divergence from a teacher at the places of texts that a student writes after prompts of held-out data.
fn apart_on_own_texts(student: &Path, teacher: &Path, data: &Dataset) -> f64 {
    let read = |dir: &Path| bundle::read_model::<Flex>(dir, &Default::default()).unwrap();
    let ((student, served), (teacher, _)) = (read(student), read(teacher));
    let (rows, n, prompt) = (64, 16, 8);
    let batch = data.validation(rows, n, rows * n).next().unwrap();
    let rows = batch.batch;
    let mut texts: Vec<Vec<i32>> = batch
        .inputs
        .chunks(n)
        .map(|row| row[..prompt].iter().map(|token| *token as i32).collect())
        .collect();
    let tensor = |texts: &[Vec<i32>], from: usize| {
        let tokens: Vec<i32> = texts.iter().flat_map(|row| row[from..].to_vec()).collect();
        let length = tokens.len() / texts.len();
        Tensor::<Flex, 2, Int>::from_data(TensorData::new(tokens, [rows, length]), &Default::default())
    };
    let mut memory = student.memory(&served.model, rows, n);
    let mut choice = Choice::new(1.0, 77);
    for at in prompt..n {
        let from = if at == prompt { 0 } else { at - 1 };
        let laws = Laws::read(student.extend(tensor(&texts, from), &mut memory), 1.0);
        for (row, text) in texts.iter_mut().enumerate() {
            text.push(laws.at(row).draw(&mut choice.random) as i32);
        }
    }
    let logs = |model: &Model<Flex>| log_softmax(model.forward(tensor(&texts, 0)).logits, 2);
    let (own, told) = (logs(&student), logs(&teacher));
    let apart = (own.clone().exp() * (own - told)).sum_dim(2);
    let apart = apart.narrow(1, prompt - 1, n - prompt + 1).mean();
    apart.into_data().iter::<f64>().next().unwrap()
}

#[test]
fn a_student_that_is_told_of_its_own_texts_writes_what_its_teacher_would() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _) = teacher(
        MARKOV,
        "tokens = 60_000\nbatch = 16\nlearning_rate = 5e-3",
        &dir.path().join("teacher"),
    );
    let data = Dataset::load(&config(MARKOV, "").data, &DataAccess::anywhere()).unwrap();
    let student = "width = 16\nheads = 2\nlayers = 1\ntokens = 16_000\nbatch = 8\nlearning_rate = 5e-3";
    let mut gains = vec![];
    for seed in 0..3 {
        let apart = |name: &str, config: Config| {
            let at = dir.path().join(format!("{name}-{seed}"));
            run(config, &at, seed);
            apart_on_own_texts(&at.join("bundle"), &folder, &data)
        };
        let lesson = |share: f64| {
            let lesson = "distill = 'reverse_kl'\ndistill_temperature = 1.0\ndistill_weight = 0.9";
            taught_by(
                MARKOV,
                &folder,
                &format!("{student}\n{lesson}\ndistill_own_text = {share:?}"),
            )
        };
        let alone = apart("alone", config(MARKOV, student));
        let (of_data, own) = (apart("data", lesson(0.0)), apart("own", lesson(0.5)));
        println!(
            "seed {seed}: untaught {alone:.4}, taught on data {of_data:.4}, half on own texts {own:.4} nats"
        );
        gains.push(alone - own);
    }
    assert!(gains.iter().all(|gain| *gain > 0.0), "{gains:?}");
}
