//! Whole models that teach and are taught.

use burn::{
    backend::{Autodiff, Flex},
    module::AutodiffModule,
    tensor::{Tensor, TensorData, Tolerance},
};

use super::*;
use crate::{
    data::Symbols,
    model::Trainable,
    ops::{Band, spread},
    plan::Plan,
    training::{IntoF32, Rule},
};

type A = Autodiff<Flex>;

const METHODS: [Method; 5] = [
    Method::Logits,
    Method::ReverseKl,
    Method::Hidden,
    Method::Relation,
    Method::Attention,
];

fn model(fixed: &str, seed: u64) -> (Model<A>, ModelPlan) {
    let width = if fixed.contains("width") {
        ""
    } else {
        "width = 32\nheads = 4"
    };
    let text = format!("[data]\ncorpus = 'markov'\n[fixed]\ncontext = 12\nlayers = 2\n{width}\n{fixed}\n");
    let config = spaces::study::config_from_toml(&text, &crate::catalog()).unwrap();
    let data = Symbols {
        classes: fixed.contains("'encoder'").then_some(3),
        ..19.into()
    };
    let plan = Plan::read(&config, data, None).unwrap().model;
    (Model::new(&plan, seed, &Default::default()), plan)
}

fn plan(method: Method) -> DistillationPlan {
    DistillationPlan {
        method,
        temperature: 2.0,
        weight: 1.0,
        own_text: 0.0,
    }
}

fn tokens<B: Backend>() -> Tensor<B, 2, Int> {
    let ids: Vec<i32> = (0..24).map(|i| (i * 7 + i * i) % 19).collect();
    Tensor::from_data(TensorData::new(ids, [2, 12]), &Default::default())
}

/// The loss of a student that is taught by nothing else.
fn taught(teacher: &Teacher<Flex>, student: &mut Model<A>) -> f32 {
    teacher.attach(student, 1);
    let told = teacher.tell(tokens::<Flex>().into());
    let logits = student.forward(tokens::<A>()).logits;
    let targets = Tensor::zeros([24], &Default::default());
    let nothing = Tensor::zeros([1], &Default::default());
    let loss = teacher.loss(nothing, logits.reshape([24, 19]), &told, targets);
    let inside = teacher.loss_inside(student, &told);
    inside
        .map_or(loss.clone(), |inside| loss + inside)
        .into_scalar_f32()
}

#[test]
fn who_is_the_teacher_has_nothing_to_learn() {
    for fixed in [
        "",
        "attention = 'linear'\nkv_heads = 2",
        "attention = 'rwkv'",
        "attention = 'sliding_window'\nwindow = 5\nkv_heads = 2",
        "experts = 2",
    ] {
        for method in METHODS {
            let (mut student, of_it) = model(fixed, 3);
            if method == Method::Attention && !has_rows(&of_it) {
                continue;
            }
            let teacher = Teacher::new(student.valid(), plan(method), &of_it, None);
            let loss = taught(&teacher, &mut student);
            assert!(loss.abs() < 1e-5, "{method:?} of {fixed}: {loss}");
            assert!(student.translations.is_empty());
            let (mut other, _) = model(fixed, 4);
            let loss = taught(&teacher, &mut other);
            assert!(loss > 1e-6, "{method:?} of {fixed}: {loss}");
        }
    }
}

fn has_rows(plan: &ModelPlan) -> bool {
    plan.layers[1].attention.core.band(Band::causal(12)).is_some()
}

#[test]
fn what_a_step_takes_more_is_its_formula() {
    let (whole, of_whole) = model("attention = 'tiled'\nkv_heads = 2", 3);
    for method in METHODS {
        let (mut student, of_it) = model("width = 24\nheads = 3\nkv_heads = 1", 4);
        let teacher = Teacher::new(whole.valid(), plan(method), &of_it, None);
        teacher.attach(&mut student, 1);
        let ((), macs) = counter::count_macs(|| {
            let told = teacher.tell(tokens::<Flex>().into());
            let logits = student.forward(tokens::<A>()).logits.reshape([24, 19]);
            let targets = Tensor::zeros([24], &Default::default());
            let loss = teacher.loss(logits.clone().mean(), logits, &told, targets);
            let inside = teacher.loss_inside(&student, &told);
            inside.map_or(loss.clone(), |inside| loss + inside).backward();
        });
        let alone = of_it.training_pass(2, 12, Trainable::All).total();
        let more = plan(method).macs(&of_it, &of_whole, 1, [2, 12]);
        assert_eq!(macs, alone + more, "{method:?}");
    }
}

/// A block gives what follows from its rows, by which the values are added up.
#[test]
fn rows_are_those_of_the_pass_that_is_done() {
    for fixed in [
        "kv_heads = 2",
        "attention = 'tiled'\nkv_heads = 1",
        "attention = 'sliding_window'\nwindow = 5",
        "kind = 'encoder'",
        "kind = 'encoder'\nattention = 'sliding_window'\nwindow = 4\nkv_heads = 2",
    ] {
        let mut model = model(fixed, 3).0.valid();
        Method::Attention.watch(&mut model);
        // fresh weights look at all tokens nearly alike
        let own = &mut model.blocks.last_mut().unwrap().attention;
        for matrix in [
            &mut own.query,
            own.key.as_mut().unwrap(),
            &mut own.value,
            &mut own.output,
        ] {
            *matrix = Matrix::dense(matrix.as_dense().unwrap() * 20.0);
        }
        let forward = || {
            model.forward(Inputs {
                lengths: fixed.contains("'encoder'").then(|| Lengths::new(vec![8, 5])),
                ..tokens::<Flex>().narrow(1, 0, 8).into()
            })
        };
        forward();
        let last = model.blocks.last().unwrap();
        let around = streams::taken(last);
        let (x, lengths) = (around.before, around.lengths);
        let n = x.dims()[1];
        let v = spread(last.values(x.clone()), n, 4);
        forward();
        let rows = attention::rows(&model).0.exp();
        let taken = rows.matmul(v).swap_dims(1, 2).reshape([2, n, 32]);
        let x = x + last.attention.output.apply(taken);
        let found = x.clone() + last.fed(x, None, lengths.as_ref()).0;
        let there = lengths.map_or(Tensor::ones([2, n], &Default::default()), |lengths| {
            lengths.present(n, &Default::default())
        });
        let there = there.unsqueeze_dim::<3>(2);
        let (found, expected) = (found * there.clone(), around.after * there);
        let close = Tolerance::rel_abs(1e-3, 1e-4);
        found
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), close);
    }
}

#[test]
fn what_a_softmax_is_learnt_from_has_one_over_the_same_tokens() {
    let check = |student: &str, teacher: &str| {
        let (student, teacher) = (model(student, 1).1, model(teacher, 1).1);
        plan(Method::Attention).check(&Lesson {
            student: &student,
            teacher: Some(&teacher),
            rule: Rule::AdamW,
            trainable: Some(Trainable::All),
            head_first: false,
            recovers: false,
        })
    };
    let window = |window: usize| format!("attention = 'sliding_window'\nwindow = {window}");
    assert_eq!(check("kv_heads = 2", "attention = 'tiled'"), Ok(()));
    assert_eq!(check(&window(5), &window(5)), Ok(()));
    // the last layer alone counts
    assert_eq!(
        check("attention_layer_1 = 'linear'", "attention_layer_1 = 'rwkv'"),
        Ok(())
    );
    for (student, teacher, wrong) in [
        ("attention_layer_2 = 'linear'", "", "'linear'"),
        ("", "attention = 'rwkv'", "'rwkv'"),
        ("attention = 'lsh'\nlsh_chunk = 4", "", "'lsh'"),
        ("", "attention = 'aft'", "'aft'"),
        ("attention = 'kde'\nkde_leaf = 2\nkde_samples = 3", "", "'kde'"),
        (&window(5), &window(4), "a window of 4 and"),
        (
            "",
            &window(4),
            "a window of 4 and that of what learns from it all of a row",
        ),
    ] {
        let message = check(student, teacher).unwrap_err();
        assert!(
            message.contains(wrong) && message.contains("distill = 'relation'"),
            "{message}"
        );
    }
}

#[test]
fn what_was_beside_a_student_is_taken_away() {
    let (whole, _) = model("", 3);
    let (mut student, plan_of_it) = model("width = 16\nheads = 2", 4);
    let teacher = Teacher::new(whole.valid(), plan(Method::Hidden), &plan_of_it, None);
    teacher.attach(&mut student, 1);
    let shapes: Vec<[usize; 2]> = student.translations.iter().map(Matrix::dims).collect();
    assert_eq!(shapes, [[32, 16]; 2]);
    detach(&mut student);
    let mut weights = 0;
    crate::model::each_tensor(&mut student, &mut |_, tensor| weights += tensor.elements() as u64);
    assert_eq!(weights, plan_of_it.parameters());
    assert!(student.blocks.iter().all(|block| block.watched.is_none()));
}

#[test]
fn layers_learn_from_those_that_are_as_far_on() {
    assert_eq!(as_far_on(2, 6), [2, 5]);
    assert_eq!(as_far_on(3, 4), [1, 2, 3]);
    assert_eq!(as_far_on(4, 2), [0, 0, 1, 1]);
    assert_eq!(as_far_on(0, 3), [0; 0]);
}

#[test]
fn a_student_writes_on_after_the_data_and_the_work_is_its_formula() {
    for fixed in [
        "kv_heads = 2",
        "attention = 'tiled'",
        "attention = 'sliding_window'\nwindow = 5",
        "attention = 'linear'\nkv_heads = 2",
        "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
        "attention = 'kde'\nkde_leaf = 2\nkde_samples = 3",
        "attention = 'aft'\naft_variant = 'conv'\naft_window = 5",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "experts = 4\ntop_k = 2",
    ] {
        let (student, of_it) = model(fixed, 3);
        let student = student.valid();
        let lesson = DistillationPlan {
            own_text: 1.0,
            ..plan(Method::ReverseKl)
        };
        let teacher = Teacher::new(student.clone(), lesson, &of_it, None);
        // an even row, an odd one and one of a token
        for n in [12, 11, 2, 1] {
            let batch = Batch {
                batch: 3,
                context: n,
                inputs: (0..3 * n as u32).map(|i| (i * 5 + i * i) % 19).collect(),
                lengths: vec![n; 3],
                written: vec![],
                targets: vec![1; 3 * n],
            };
            let write = |seed: u64, step: u64| teacher.own_text(&student, batch.clone(), seed, step);
            let (own, macs) = counter::count_macs(|| write(1, 0));
            let alone = lesson.step_macs(&of_it, &of_it, 3, n);
            assert_eq!(
                macs,
                lesson.macs(&of_it, &of_it, 1, [3, n]) - alone,
                "{fixed} {n}"
            );
            let prompt = n.div_ceil(2);
            for (row, of_data) in own.inputs.chunks(n).zip(batch.inputs.chunks(n)) {
                assert_eq!(row[..prompt], of_data[..prompt], "{fixed} {n}");
                assert!(row.iter().all(|token| *token < 19));
            }
            for row in own.targets.chunks(n) {
                assert!(row[..prompt - 1].iter().all(|target| *target == -1));
                assert!(row[prompt - 1..].iter().all(|target| *target == 0));
            }
            assert_eq!(write(1, 0).inputs, own.inputs, "{fixed}: the same chance");
            if n == 12 {
                assert_ne!(own.inputs, batch.inputs, "{fixed}");
                assert_ne!(write(1, 1).inputs, own.inputs, "{fixed}: another step");
                assert_ne!(write(2, 0).inputs, own.inputs, "{fixed}: another seed");
            }
        }
    }
}

#[test]
fn of_own_texts_the_loss_is_the_teachers_alone() {
    let (whole, of_it) = model("", 3);
    let (student, _) = model("", 4);
    let lesson = DistillationPlan {
        weight: 0.25,
        own_text: 0.5,
        ..plan(Method::ReverseKl)
    };
    let teacher = Teacher::new(whole.valid(), lesson, &of_it, None);
    assert_eq!(
        [0, 1, 2, 3].map(|step| teacher.asks_for_own_text(step)),
        [true, false, true, false]
    );
    let told = teacher.tell(tokens::<Flex>().into());
    let logits = student.forward(tokens::<A>()).logits.reshape([24, 19]);
    let targets = Tensor::zeros([24], &Default::default());
    let alone = teacher
        .loss_of_outputs(logits.clone(), &told, targets.clone())
        .unwrap();
    let beside = teacher.loss(Tensor::ones([1], &Default::default()), logits, &told, targets);
    let (alone, beside) = (alone.into_scalar_f32(), beside.into_scalar_f32());
    assert!((beside - (0.75 + 0.25 * alone)).abs() < 1e-6, "{beside} {alone}");
}

#[test]
fn who_writes_is_a_decoder_whose_weights_are_those_that_learn() {
    let check = |fixed: &str, trainable: Trainable| {
        let (_, student) = model(fixed, 1);
        let lesson = DistillationPlan {
            own_text: 0.5,
            ..plan(Method::ReverseKl)
        };
        lesson.check(&Lesson {
            student: &student,
            teacher: Some(&student),
            rule: Rule::AdamW,
            trainable: Some(trainable),
            head_first: false,
            recovers: false,
        })
    };
    for trainable in [Trainable::All, Trainable::Vectors, Trainable::Adapters] {
        assert_eq!(check("", trainable), Ok(()));
    }
    let low_rank = Trainable::LowRank {
        rank: 2,
        feed_forward: false,
    };
    for trainable in [low_rank, Trainable::Scales] {
        let message = check("", trainable).unwrap_err();
        assert!(
            message.contains("merged for writing only at the end"),
            "{message}"
        );
    }
    let message = check("kind = 'encoder'", Trainable::All).unwrap_err();
    assert!(
        message.contains("use distill_own_text = 0 or kind = 'decoder'"),
        "{message}"
    );
}
