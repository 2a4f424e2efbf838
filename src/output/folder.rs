//! Folders that appear whole or not at all.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::TempDir;

/// A folder that is filled beside its place and then moved there. Dropped before, it leaves nothing.
pub(crate) struct StagedFolder {
    part: TempDir,
    place: PathBuf,
}

impl StagedFolder {
    /// Begins an empty folder.
    ///
    /// # Errors
    /// Where the place's parent cannot be made or written.
    pub(crate) fn beside(place: &Path) -> anyhow::Result<StagedFolder> {
        let place = std::path::absolute(place)?;
        let parent = place.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).with_context(|| unwritable(&place))?;
        let part = tempfile::Builder::new()
            .prefix(".parsimony-")
            .tempdir_in(parent)
            .with_context(|| unwritable(&place))?;
        Ok(StagedFolder { part, place })
    }

    /// Where it is filled.
    pub(crate) fn path(&self) -> &Path {
        self.part.path()
    }

    /// Moves it to its place, where an empty folder may be.
    ///
    /// # Errors
    /// Where something is there.
    pub(crate) fn appear(self) -> anyhow::Result<()> {
        let unwritable = || unwritable(&self.place);
        // temporary folders are closed to others; a model is not
        fs::set_permissions(self.part.path(), fs::Permissions::from_mode(0o755)).with_context(unwritable)?;
        if self.place.exists() {
            fs::remove_dir(&self.place).with_context(unwritable)?;
        }
        fs::rename(self.part.path(), &self.place).with_context(unwritable)?;
        // moved away: nothing is left to remove
        let _ = self.part.keep();
        Ok(())
    }
}

/// Writes a file that appears whole or not at all.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn write_file(place: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let place = std::path::absolute(place)?;
    let unwritable = || unwritable(&place);
    let parent = place.parent().unwrap_or(Path::new("/"));
    let mut part = tempfile::NamedTempFile::new_in(parent).with_context(unwritable)?;
    part.write_all(bytes).with_context(unwritable)?;
    // temporary files are closed to others; what is asked for is not
    fs::set_permissions(part.path(), fs::Permissions::from_mode(0o644)).with_context(unwritable)?;
    part.persist(&place).with_context(unwritable)?;
    Ok(())
}

/// What is said where a file or folder cannot be written.
pub(crate) fn unwritable(path: &Path) -> String {
    format!(
        "'{}' cannot be written; free space or choose another --out",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a/b");
        let staged = StagedFolder::beside(&place).unwrap();
        fs::write(staged.path().join("x"), "x").unwrap();
        drop(staged);
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 0);
        let staged = StagedFolder::beside(&place).unwrap();
        fs::write(staged.path().join("x"), "x").unwrap();
        fs::create_dir(&place).unwrap();
        staged.appear().unwrap();
        assert_eq!(fs::read_to_string(place.join("x")).unwrap(), "x");
        assert!(StagedFolder::beside(&place).unwrap().appear().is_err());
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}
