//! The keys of `[data]`: declared once by each corpus, read with their defaults.

use spaces::{Condition, CorpusInfo, DataSpec, Domain, ParameterInfo, Value};

use super::{DataAccess, DataError, TokenizerSpec};

/// What a study says under `[data]`, and a corpus' own declaration for what it does not say.
pub(super) struct Options<'a> {
    info: CorpusInfo,
    spec: &'a DataSpec,
}

impl<'a> Options<'a> {
    /// The options of a corpus as a study sets them.
    ///
    /// # Errors
    /// [`DataError::Option`] for a value that the declaration does not allow.
    pub(super) fn new(info: CorpusInfo, spec: &'a DataSpec) -> Result<Self, DataError> {
        for option in &info.options {
            if let Some(value) = spec.options.get(&option.name) {
                option
                    .fit(value)
                    .map_err(|message| wrong(&option.name, message))?;
            }
        }
        Ok(Options { info, spec })
    }

    fn value(&self, name: &str) -> Value {
        let declared = self.info.options.iter().find(|o| o.name == name);
        let declared = declared.expect("a corpus reads only options that it declares");
        let said = self
            .spec
            .options
            .get(name)
            .and_then(|value| declared.fit(value).ok());
        said.unwrap_or_else(|| declared.default.clone())
    }

    pub(super) fn usize(&self, name: &str) -> usize {
        let value = self.value(name).as_i64().and_then(|i| usize::try_from(i).ok());
        value.expect("declared as a whole number of at least 0")
    }

    pub(super) fn f64(&self, name: &str) -> f64 {
        self.value(name).as_f64().expect("declared as a number")
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.value(name).to_string()
    }

    /// The file or folder that the study names, as it was written and as it really is.
    pub(super) fn path(
        &self,
        corpus: &'static str,
        access: &DataAccess,
    ) -> Result<std::path::PathBuf, DataError> {
        access.resolve(self.spec.path().ok_or(DataError::NoPath(corpus))?)
    }

    /// The tokenizer that the study names; characters if it names none.
    pub(super) fn tokenizer(&self) -> Result<TokenizerSpec, DataError> {
        self.spec
            .tokenizer()
            .map_or(Ok(TokenizerSpec::Char), TokenizerSpec::parse)
    }
}

/// An option that is wrong beside the others.
pub(super) fn wrong(name: &str, message: String) -> DataError {
    DataError::Option {
        name: name.to_owned(),
        message,
    }
}

/// Declares a whole number.
pub(super) fn whole(name: &str, doc: &str, unit: &str, range: [i64; 2], default: i64) -> ParameterInfo {
    let domain = Domain::int(range[0], range[1], false, 1).expect("declared in order");
    declare(name, doc, unit, domain, Value::Int(default))
}

/// Declares a real number.
pub(super) fn real(name: &str, doc: &str, range: [f64; 2], default: f64) -> ParameterInfo {
    let domain = Domain::float(range[0], range[1], false, None).expect("declared in order");
    declare(name, doc, "", domain, Value::Float(default))
}

/// Declares a choice; the first is the default.
pub(super) fn choice<V: Into<Value>>(
    name: &str,
    doc: &str,
    choices: impl IntoIterator<Item = V>,
) -> ParameterInfo {
    let choices: Vec<Value> = choices.into_iter().map(Into::into).collect();
    let default = choices[0].clone();
    let domain = Domain::categorical(choices).expect("declared without repetition");
    declare(name, doc, "", domain, default)
}

/// Declares the seed of a generator.
pub(super) fn seed() -> ParameterInfo {
    whole(
        "seed",
        "seed of the generated data; the same seed gives the same data",
        "",
        [0, i64::from(i32::MAX)],
        0,
    )
}

/// Declares the share of a text that is held out.
pub(super) fn validation_fraction() -> ParameterInfo {
    real(
        "validation_fraction",
        "share of the text that is held out for validation",
        [0.001, 0.5],
        0.1,
    )
}

fn declare(name: &str, doc: &str, unit: &str, domain: Domain, default: Value) -> ParameterInfo {
    ParameterInfo {
        name: name.to_owned(),
        doc: doc.to_owned(),
        unit: unit.to_owned(),
        group: "data".to_owned(),
        allowed: domain.clone(),
        search: domain,
        default,
        condition: Condition::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> CorpusInfo {
        CorpusInfo {
            name: "example".into(),
            doc: String::new(),
            needs_path: true,
            takes_tokenizer: true,
            options: vec![
                whole("size", "", "B", [10, 1_000_000], 20),
                choice("kind", "", ["all", "prose"]),
                real("share", "", [0.0, 1.0], 0.25),
            ],
        }
    }

    fn spec(options: &[(&str, Value)]) -> DataSpec {
        DataSpec {
            corpus: "example".into(),
            options: options
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.clone()))
                .collect(),
        }
    }

    #[test]
    fn what_is_not_said_takes_its_default_and_quantities_are_converted() {
        let spec_ = spec(&[("size", "2 kB".into())]);
        let options = Options::new(info(), &spec_).unwrap();
        assert_eq!(options.usize("size"), 2000);
        assert_eq!(options.text("kind"), "all");
        assert_eq!(options.f64("share"), 0.25);
        assert_eq!(options.tokenizer().unwrap(), TokenizerSpec::Char);
        let message = options
            .path("example", &DataAccess::anywhere())
            .unwrap_err()
            .to_string();
        assert!(message.contains("'example' needs path"), "{message}");
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        for (name, value) in [
            ("size", Value::Int(5)),
            ("kind", "pros".into()),
            ("share", true.into()),
        ] {
            let spec = spec(&[(name, value)]);
            let message = Options::new(info(), &spec).err().unwrap().to_string();
            assert!(message.starts_with(&format!("data.{name}: ")), "{message}");
        }
    }
}
