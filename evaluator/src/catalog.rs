//! What this build offers, as data: derived from the techniques, corpora and meters themselves.

use std::collections::BTreeMap;

use spaces::{
    Catalog, Preset, TechniqueInfo, Value,
    study::{ParameterSpec, RangeSpec},
};

use crate::{data, meters, plan, techniques};

/// Everything a study can name but the search methods.
pub fn catalog() -> Catalog {
    let mut parameters = plan::parameters();
    parameters.extend(techniques::parameters());
    let techniques: Vec<TechniqueInfo> = techniques::techniques();
    Catalog {
        parameters,
        techniques,
        corpora: data::catalog(),
        presets: presets(),
        metrics: meters::metrics().into_iter().map(String::from).collect(),
        methods: vec![],
        rules: vec![],
    }
}

/// Named spaces. Each opens families of techniques; ranges that are not said here are those the technique declares.
fn presets() -> Vec<Preset> {
    let open = |names: &[&str]| -> Vec<(String, ParameterSpec)> {
        let catalog: Vec<_> = plan::parameters()
            .into_iter()
            .chain(techniques::parameters())
            .collect();
        names
            .iter()
            .filter_map(|name| catalog.iter().find(|p| p.name == **name))
            .map(|p| (p.name.clone(), as_spec(&p.search)))
            .collect()
    };
    let fixed = |list: &[(&str, Value)]| -> BTreeMap<String, Value> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    };
    let architecture = [
        "attention",
        "window",
        "layers",
        "width",
        "ffn_ratio",
        "experts",
        "top_k",
    ];
    let compression = ["prune_ratio", "bits"];
    vec![
        Preset {
            name: "tiny-decoder".into(),
            doc: "a decoder of 2 to 6 layers, trained from scratch in seconds to minutes on a processor, then compressed".into(),
            fixed: fixed(&[
                ("kind", "decoder".into()),
                ("context", Value::Int(128)),
                ("heads", Value::Int(4)),
                ("batch", Value::Int(16)),
            ]),
            space: [open(&architecture), open(&["learning_rate"]), open(&compression)].concat(),
        },
        Preset {
            name: "tiny-encoder".into(),
            doc: "a classifier of texts with answers, such as listops, trained from scratch in seconds to minutes on a processor".into(),
            fixed: fixed(&[
                ("kind", "encoder".into()),
                ("context", Value::Int(64)),
                ("heads", Value::Int(4)),
                ("batch", Value::Int(16)),
            ]),
            space: [
                vec![("attention".to_owned(), both_ways())],
                open(&["window", "layers", "width", "ffn_ratio", "pooling", "learning_rate"]),
                open(&compression),
            ]
            .concat(),
        },
        Preset {
            name: "compress".into(),
            doc: "one trained model (from [base] or from scratch), pruned and packed in many ways".into(),
            fixed: fixed(&[]),
            space: open(&["prune_ratio", "head_prune_ratio", "layer_prune_ratio", "width_prune_ratio", "prune_criterion", "recovery", "sparsity", "sparsity_method", "sparsity_pattern", "bits", "quant_group", "quant_method"]),
        },
        Preset {
            name: "fine-tune".into(),
            doc: "a base checkpoint adapted to other data, by all weights, a part of them or something beside them, then compressed".into(),
            fixed: fixed(&[]),
            space: open(&[
                "fine_tune",
                "lora_rank",
                "lora_alpha",
                "lora_targets",
                "base_bits",
                "adapter_kind",
                "adapter_size",
                "mask",
                "mask_fraction",
                "learning_rate",
                "prune_ratio",
                "bits",
            ]),
        },
    ]
}

/// The attentions that see both ways whatever their other settings.
fn both_ways() -> ParameterSpec {
    let all = techniques::attention::both_ways().into_iter();
    ParameterSpec::List(all.filter(|said| !said.contains(' ')).map(Value::from).collect())
}

fn as_spec(domain: &spaces::Domain) -> ParameterSpec {
    match domain {
        spaces::Domain::Categorical { choices } => ParameterSpec::List(choices.clone()),
        spaces::Domain::Int { low, high, log, step } => ParameterSpec::Table(RangeSpec {
            int: Some([*low, *high]),
            log: *log,
            step: (*step != 1).then_some(*step as f64),
            ..RangeSpec::default()
        }),
        spaces::Domain::Float { low, high, log, step } => ParameterSpec::Table(RangeSpec {
            float: Some([*low, *high]),
            log: *log,
            step: *step,
            ..RangeSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::Symbols, plan::Plan};

    #[test]
    fn presets_name_parameters_and_keep_their_kind() {
        let catalog = catalog();
        for preset in &catalog.presets {
            let searched = preset.space.iter().map(|(name, _)| name);
            for name in preset.fixed.keys().chain(searched) {
                assert!(
                    catalog.parameters.iter().any(|p| p.name == *name),
                    "{}: {name}",
                    preset.name
                );
            }
        }
        let kind = |preset: &str| catalog.preset(preset).map(|p| p.fixed["kind"].to_string());
        assert_eq!(kind("tiny-decoder").as_deref(), Some("decoder"));
        assert_eq!(kind("tiny-encoder").as_deref(), Some("encoder"));
    }

    #[test]
    fn every_attention_of_the_encoder_preset_can_be_built() {
        let ParameterSpec::List(attentions) = both_ways() else {
            panic!("a list of names");
        };
        assert!(attentions.len() >= 4);
        for attention in attentions {
            let text =
                format!("[data]\ncorpus = 'listops'\n[fixed]\nkind = 'encoder'\nattention = '{attention}'");
            let config = spaces::study::config_from_toml(&text, &catalog()).unwrap();
            let listops = Symbols {
                classes: Some(10),
                ..Symbols::from(17)
            };
            Plan::read(&config, listops, None).unwrap();
        }
    }
}
