//! The techniques, by family: one file each, registered in its family's `mod.rs`.

pub mod attention;
pub mod calibration;
pub mod distillation;
pub mod dynamic;
pub mod feed_forward;
pub mod fine_tuning;
mod inverse_factor;
pub mod pruning;
pub mod quantization;
pub mod reversible;
pub mod sparsity;
mod token_shift;

use spaces::{ParameterInfo, TechniqueInfo};

use crate::{model::kinds, training};

/// What every technique says of itself.
pub(crate) struct About {
    /// The value that chooses it.
    pub(crate) name: &'static str,
    /// One line for people.
    pub(crate) doc: &'static str,
    /// arXiv number or venue.
    pub(crate) paper: &'static str,
}

impl About {
    fn info(&self, family: &str) -> TechniqueInfo {
        TechniqueInfo {
            family: family.into(),
            name: self.name.into(),
            doc: self.doc.into(),
            paper: self.paper.into(),
        }
    }
}

/// Every technique of every family.
pub fn techniques() -> Vec<TechniqueInfo> {
    let families: [(&str, Vec<About>); 15] = [
        ("kind", kinds::about()),
        ("attention", attention::about()),
        ("feed_forward", feed_forward::about()),
        ("router", feed_forward::routers()),
        ("reversible", vec![reversible::ABOUT]),
        ("fine_tune", fine_tuning::about()),
        ("optimizer", training::rules()),
        ("pruning", pruning::about()),
        ("distillation", distillation::about()),
        ("sparsity", sparsity::about()),
        ("quantization", quantization::about()),
        ("contextual_pruning", dynamic::context_keep::about()),
        ("early_exit", dynamic::early_exit::about()),
        ("input_pruning", dynamic::token_keep::about()),
        ("draft", dynamic::draft::about()),
    ];
    families
        .iter()
        .flat_map(|(family, list)| list.iter().map(|about| about.info(family)))
        .collect()
}

/// The parameters of every family, parents first.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let families = [
        ("attention", attention::parameters()),
        ("feed_forward", feed_forward::parameters()),
        ("reversible", reversible::parameters()),
        ("fine_tune", fine_tuning::parameters()),
        ("training", training::parameters()),
        ("pruning", pruning::parameters()),
        ("distillation", distillation::parameters()),
        ("sparsity", sparsity::parameters()),
        ("quantization", quantization::parameters()),
        ("contextual_pruning", dynamic::context_keep::parameters()),
        ("early_exit", dynamic::early_exit::parameters()),
        ("input_pruning", dynamic::token_keep::parameters()),
        ("draft", dynamic::draft::parameters()),
    ];
    families
        .into_iter()
        .flat_map(|(group, list)| {
            list.into_iter().map(move |p| ParameterInfo {
                group: group.into(),
                ..p
            })
        })
        .collect()
}
