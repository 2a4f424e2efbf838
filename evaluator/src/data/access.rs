//! Which files a study may name.
//!
//! A submitted study must never make a worker read what its operator did not offer, so every path goes through here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::DataError;

/// The folders that data may be read from.
#[derive(Clone, Debug)]
pub struct DataAccess {
    allowed: Option<Vec<PathBuf>>,
}

impl DataAccess {
    /// Every file: for the command that a user runs with the user's own rights.
    pub fn anywhere() -> Self {
        DataAccess { allowed: None }
    }

    /// Only what lies in these folders, symbolic links resolved.
    pub fn only(folders: Vec<PathBuf>) -> Self {
        DataAccess {
            allowed: Some(folders),
        }
    }

    /// The real path of an existing file or folder that may be read.
    ///
    /// A relative path is looked for in the allowed folders in their order, or in the working directory if everything
    /// is allowed.
    ///
    /// # Errors
    /// [`DataError::NotAllowed`], [`DataError::NotFound`], [`DataError::NotAFile`].
    pub fn resolve(&self, path: &str) -> Result<PathBuf, DataError> {
        let path = Path::new(path);
        let real = match &self.allowed {
            None => fs::canonicalize(path).map_err(|_| DataError::NotFound(path.to_owned()))?,
            Some(folders) => folders
                .iter()
                .filter_map(|folder| {
                    let folder = fs::canonicalize(folder).ok()?;
                    let real = fs::canonicalize(folder.join(path)).ok()?;
                    real.starts_with(&folder).then_some(real)
                })
                .next()
                .ok_or_else(|| DataError::NotAllowed {
                    path: path.to_owned(),
                    allowed: if folders.is_empty() {
                        "none".to_owned()
                    } else {
                        let names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
                        names.join(", ")
                    },
                })?,
        };
        if real.is_file() || real.is_dir() {
            Ok(real)
        } else {
            Err(DataError::NotAFile(path.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_dots_do_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        let (inside, outside) = (root.path().join("in"), root.path().join("in-secret"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(inside.join("a.txt"), "a").unwrap();
        fs::write(outside.join("b.txt"), "b").unwrap();
        let access = DataAccess::only(vec![root.path().join("gone"), inside.clone()]);
        assert!(access.resolve("a.txt").unwrap().ends_with("in/a.txt"));
        assert!(access.resolve(inside.join("a.txt").to_str().unwrap()).is_ok());
        assert!(access.resolve(inside.to_str().unwrap()).is_ok());
        for path in ["../in-secret/b.txt", "/etc/hostname", "missing.txt"] {
            let message = access.resolve(path).unwrap_err().to_string();
            assert!(
                message.contains(path) && message.contains("allowed for data"),
                "{message}"
            );
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outside.join("b.txt"), inside.join("link.txt")).unwrap();
            assert!(matches!(
                access.resolve("link.txt"),
                Err(DataError::NotAllowed { .. })
            ));
        }
        let free = DataAccess::anywhere();
        assert!(free.resolve(outside.join("b.txt").to_str().unwrap()).is_ok());
        assert!(
            free.resolve("no/such/file")
                .unwrap_err()
                .to_string()
                .contains("'no/such/file'")
        );
        assert!(matches!(free.resolve("/dev/null"), Err(DataError::NotAFile(_))));
        assert!(DataAccess::only(vec![]).resolve("a.txt").is_err());
    }
}
