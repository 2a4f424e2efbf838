//! What the methods say of themselves, and the parameters of the family.

use spaces::{Domain, ParameterInfo, Value};

use super::{About, BITS, awq, cache, gptq, int8_outlier, integer_only, layers, nf4, qat, rtn, smooth};
use crate::parameter::{Declared, choice, int};

/// What the methods say of themselves.
pub(in crate::techniques) fn about() -> Vec<About> {
    let mut all = methods();
    all.extend([qat::ABOUT, cache::ABOUT]);
    all
}

fn methods() -> Vec<About> {
    vec![
        rtn::ABOUT,
        gptq::ABOUT,
        awq::ABOUT,
        nf4::ABOUT,
        smooth::ABOUT,
        int8_outlier::ABOUT,
        integer_only::ABOUT,
    ]
}

/// The parameters of the family.
pub(in crate::techniques) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = methods().iter().map(|a| a.name).collect();
    let bits = [32, 8, 4].map(Value::Int);
    // the others go with activation_bits = 8 alone
    let of_weights = names[..4].iter().map(|name| Value::from(*name)).collect();
    let few = Domain::int(2, 32, true, 1).expect("not empty");
    let mut all = vec![
        choice("bits", "bits of a weight in memory and on disk", &BITS)
            .unit("bits")
            .search(Domain::categorical(bits.to_vec()).expect("not empty")),
        choice("quant_method", "how the codes of weights are chosen", &names)
            .when("bits < 32")
            .search(Domain::categorical(of_weights).expect("they differ")),
        choice(
            "quant_group",
            "weights of a row that share a scale and a zero",
            &[64, 32, 128].map(i64::from),
        )
        .unit("weights")
        .when("bits < 32 and quant_method != 'integer_only'"),
        choice(
            "activation_bits",
            "bits of what packed matrices are given; 8 multiplies whole numbers with codes of 8 or 4 bits (2206.01861)",
            &[32, 8].map(i64::from),
        )
        .unit("bits")
        .when("bits in [8, 4]"),
        int(
            "calibration_batches",
            "batches of training data that weights' inputs are judged on",
            1,
            1024,
            8,
        )
        .unit("batches")
        .when("bits < 32 and quant_method in ['gptq', 'awq', 'smooth', 'int8_outlier', 'integer_only']")
        .search(few),
        smooth::parameter(),
        int8_outlier::parameter(),
        qat::parameter(),
        cache::parameter(),
    ];
    all.extend(layers::parameters());
    all
}
