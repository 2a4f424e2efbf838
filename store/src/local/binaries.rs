//! Finding the server's programs: Debian and others keep them off the `PATH`, several versions side by side.

use std::{
    cmp::Reverse,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::LocalError;
use crate::OLDEST_SERVER;

/// The programs of one PostgreSQL version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgBinaries {
    /// The folder that holds `initdb`, `pg_ctl` and `postgres`.
    pub folder: PathBuf,
    /// The major version.
    pub major: u32,
    /// The version as the server prints it, such as `15.16 (Debian 15.16-0+deb12u1)`.
    pub version: String,
}

/// Where packages put versions side by side: a folder, the start of an entry's name, and the way on to the programs.
const HOMES: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// The programs a new private server would use: those in `PG_BIN` if that is set, or else the newest installed.
///
/// # Errors
/// [`LocalError::NoBinaries`], [`LocalError::WrongPgBin`], [`LocalError::TooOld`].
pub fn find_binaries() -> Result<PgBinaries, LocalError> {
    let newest = installed()?.into_iter().next().ok_or(LocalError::NoBinaries)?;
    if newest.major < OLDEST_SERVER {
        return Err(LocalError::TooOld {
            major: newest.major,
            folder: newest.folder,
        });
    }
    Ok(newest)
}

/// The programs for a cluster of that version.
pub(super) fn of_version(major: u32, folder: &Path) -> Result<PgBinaries, LocalError> {
    let installed = installed()?;
    if installed.is_empty() {
        return Err(LocalError::NoBinaries);
    }
    let versions: Vec<String> = installed.iter().map(|b| b.major.to_string()).collect();
    let fitting = installed.into_iter().find(|b| b.major == major);
    fitting.ok_or_else(|| LocalError::WrongVersion {
        folder: folder.to_owned(),
        needed: major,
        found: versions.join(", "),
    })
}

/// What is installed, the newest first.
fn installed() -> Result<Vec<PgBinaries>, LocalError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    search(std::env::var_os("PG_BIN").map(PathBuf::from), &path)
}

fn search(chosen: Option<PathBuf>, path: &OsStr) -> Result<Vec<PgBinaries>, LocalError> {
    if let Some(folder) = chosen {
        return match inspect(&folder) {
            Some(found) => Ok(vec![found]),
            None => Err(LocalError::WrongPgBin { folder }),
        };
    }
    let folders = HOMES.iter().flat_map(|home| homes(*home)).chain(on_path(path));
    let mut found: Vec<PgBinaries> = folders.filter_map(|folder| inspect(&folder)).collect();
    // stable: of two equal versions, the one in a package's own home comes first
    found.sort_by_key(|binaries| Reverse(binaries.major));
    Ok(found)
}

fn homes((parent, start, way): (&str, &str, &str)) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path().join(way))
        .collect()
}

/// Folders of the `PATH`, followed through links: the programs look for their companions beside their real place.
fn on_path(path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path)
        .filter_map(|folder| {
            folder
                .join("initdb")
                .canonicalize()
                .ok()?
                .parent()
                .map(Path::to_owned)
        })
        .collect()
}

fn inspect(folder: &Path) -> Option<PgBinaries> {
    let whole = ["initdb", "pg_ctl", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file());
    if !whole {
        return None;
    }
    let output = Command::new(folder.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let (major, version) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
    Some(PgBinaries {
        folder: folder.to_owned(),
        major,
        version,
    })
}

/// Reads `postgres (PostgreSQL) 15.16 (Debian ..)`; betas read `17beta1`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.trim().strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((digits.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian = "postgres (PostgreSQL) 15.16 (Debian 15.16-0+deb12u1)\n";
        assert_eq!(
            parse_version(debian),
            Some((15, "15.16 (Debian 15.16-0+deb12u1)".into()))
        );
        assert_eq!(
            parse_version("postgres (PostgreSQL) 18beta1"),
            Some((18, "18beta1".into()))
        );
        assert_eq!(parse_version("psql: error"), None);
    }

    #[test]
    fn what_is_on_the_path_or_chosen_is_found_and_a_wrong_choice_is_said() {
        let newest = find_binaries().unwrap();
        let on_path = search(None, newest.folder.as_os_str()).unwrap();
        assert!(
            on_path.iter().any(|b| b.version == newest.version),
            "{newest:?} is not among {on_path:?}"
        );
        assert!(on_path.is_sorted_by_key(|b| Reverse(b.major)));
        assert_eq!(
            search(Some(newest.folder.clone()), OsStr::new("")).unwrap(),
            [newest]
        );
        let wrong = search(Some("/nonexistent".into()), OsStr::new("")).unwrap_err();
        assert!(wrong.to_string().contains("PG_BIN is '/nonexistent'"), "{wrong}");
        let old = of_version(9, Path::new("/data/postgres")).unwrap_err();
        assert!(old.to_string().contains("PostgreSQL 9"), "{old}");
    }
}
