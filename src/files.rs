//! Files that a user names: study files, and which data studies may read.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use evaluator::data::DataAccess;
use spaces::{
    Value,
    study::{BaseSpec, DataSpec},
};

use crate::errors::BadInput;

/// Reads a text file that the user named.
pub(crate) fn read_text(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).map_err(|e| {
        BadInput::error(match e.kind() {
            std::io::ErrorKind::NotFound => format!("'{}' is not there; check the path", file.display()),
            _ => format!("'{}' cannot be read: {e}", file.display()),
        })
    })
}

/// Makes the paths of a study or configuration, those of its base and teacher included, absolute: in a file they are relative to its folder.
pub(crate) fn make_absolute(
    data: &mut DataSpec,
    models: [Option<&mut BaseSpec>; 2],
    file: &Path,
) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let absolute = |path: &str| folder.join(path).display().to_string();
    if let Some(Value::Text(path)) = data.options.get_mut("path") {
        *path = absolute(path);
    }
    if let Some(Value::Text(tokenizer)) = data.options.get_mut("tokenizer")
        && let Some(path) = tokenizer.strip_prefix("file:")
    {
        *tokenizer = format!("file:{}", absolute(path));
    }
    for model in models.into_iter().flatten() {
        model.path = absolute(&model.path);
    }
    Ok(())
}

/// What studies may read: the operator's folders, and what `search` was told to search on.
#[derive(Clone, Debug)]
pub(crate) struct ReadableData {
    folders: Option<Vec<PathBuf>>,
    granted: PathBuf,
}

impl ReadableData {
    /// The given folders, or `data` below the data folder; `/` stands for everything.
    pub(crate) fn new(given: Vec<PathBuf>, data_dir: &Path) -> ReadableData {
        let folders = match given.as_slice() {
            [] => Some(vec![data_dir.join("data")]),
            some if some.iter().any(|f| f == Path::new("/")) => None,
            _ => Some(given),
        };
        ReadableData {
            folders,
            granted: data_dir.join("readable-data"),
        }
    }

    /// The folders and files as they are now; `None` for everything.
    pub(crate) fn paths(&self) -> Option<Vec<PathBuf>> {
        let mut paths = self.folders.clone()?;
        let granted = fs::read_to_string(&self.granted).unwrap_or_default();
        paths.extend(granted.lines().filter(|l| !l.is_empty()).map(PathBuf::from));
        Some(paths)
    }

    /// Access to these paths.
    pub(crate) fn access(&self) -> DataAccess {
        self.paths().map_or_else(DataAccess::anywhere, DataAccess::only)
    }

    /// Lets studies read what this study names: whoever runs a command on the machine decides what is read there.
    pub(crate) fn grant(&self, data: &DataSpec, models: [Option<&BaseSpec>; 2]) -> anyhow::Result<()> {
        let Some(known) = self.paths() else { return Ok(()) };
        let tokenizer = data.tokenizer().and_then(|t| t.strip_prefix("file:"));
        let models = models.map(|model| model.map(|m| m.path.as_str()));
        let new: Vec<&str> = [data.path(), tokenizer]
            .into_iter()
            .chain(models)
            .flatten()
            .filter(|p| !known.iter().any(|k| k == Path::new(p)))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        if let Some(missing) = new.iter().find(|p| !Path::new(p).exists()) {
            return Err(BadInput::error(format!(
                "'{missing}' is not there; check the path"
            )));
        }
        let failed = || {
            format!(
                "'{}' cannot be written; free space or choose another --data-dir",
                self.granted.display()
            )
        };
        let folder = self.granted.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).with_context(failed)?;
        let mut text = fs::read_to_string(&self.granted).unwrap_or_default();
        for path in new {
            text += path;
            text.push('\n');
        }
        // whole or not at all: half a path would open another file
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
        file.write_all(text.as_bytes()).with_context(failed)?;
        file.persist(&self.granted).with_context(failed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(path: &Path) -> DataSpec {
        let options = [("path".to_owned(), Value::Text(path.display().to_string()))].into();
        DataSpec {
            corpus: "text".into(),
            options,
        }
    }

    #[test]
    fn only_folders_and_granted_files_are_readable() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("home/data/a.txt"), dir.path().join("b.txt"));
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::write(&inside, "a").unwrap();
        fs::write(&outside, "b").unwrap();
        let readable = ReadableData::new(vec![], &dir.path().join("home"));
        let allowed = |path: &Path| readable.access().resolve(&path.display().to_string()).is_ok();
        assert!(allowed(&inside) && !allowed(&outside));
        readable.grant(&data(&outside), [None, None]).unwrap();
        readable.grant(&data(&outside), [None, None]).unwrap();
        assert!(allowed(&outside));
        assert_eq!(
            fs::read_to_string(dir.path().join("home/readable-data"))
                .unwrap()
                .lines()
                .count(),
            1
        );
        assert!(ReadableData::new(vec!["/".into()], dir.path()).paths().is_none());
    }

    #[test]
    fn paths_of_a_file_are_relative_to_its_folder() {
        let mut spec = data(Path::new("texts/a.txt"));
        spec.options.insert("tokenizer".into(), "file:t.json".into());
        let mut base = BaseSpec {
            path: "/models/x".into(),
        };
        let mut teacher = BaseSpec { path: "big".into() };
        let models = [Some(&mut base), Some(&mut teacher)];
        make_absolute(&mut spec, models, Path::new("/studies/s.toml")).unwrap();
        assert_eq!(spec.path(), Some("/studies/texts/a.txt"));
        assert_eq!(spec.tokenizer(), Some("file:/studies/t.json"));
        assert_eq!(
            (base.path.as_str(), teacher.path.as_str()),
            ("/models/x", "/studies/big")
        );
    }
}
