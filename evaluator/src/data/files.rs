//! Text files of a folder, and their split into a training and a held-out part.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::DataError;

/// A file below a folder.
#[derive(Debug)]
pub(super) struct Entry {
    /// Path below the folder, with `/` between its parts.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Why files were not read, with their number.
#[derive(Debug, Default)]
pub(super) struct Skipped(BTreeMap<&'static str, usize>);

impl Skipped {
    pub(super) fn count(&mut self, why: &'static str) {
        *self.0.entry(why).or_default() += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `3 hidden, 1 not UTF-8`, or that nothing was skipped.
    pub(super) fn describe(&self) -> String {
        if self.is_empty() {
            return "nothing was skipped".to_owned();
        }
        let parts: Vec<_> = self.0.iter().map(|(why, n)| format!("{n} {why}")).collect();
        format!("skipped: {}", parts.join(", "))
    }
}

/// Every plain file below a folder that `takes` accepts by name, in the order of the names.
///
/// Symbolic links are not followed: they could lead out of the folders that may be read.
pub(super) fn list(
    root: &Path,
    takes: impl Fn(&str) -> bool,
    skipped: &mut Skipped,
) -> Result<Vec<Entry>, DataError> {
    let mut found = vec![];
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let io = |source| DataError::Io {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(io)?;
            if name.starts_with('.') {
                skipped.count("hidden");
                continue;
            }
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else if !kind.is_file() {
                skipped.count("links or devices");
            } else if takes(&name) {
                found.push(Entry {
                    name,
                    path: entry.path(),
                    bytes: entry.metadata().map_err(io)?.len(),
                });
            } else {
                skipped.count("of another kind");
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A whole file as text, if it has at most `limit` bytes.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = vec![];
    let file = fs::File::open(path).map_err(io)?;
    // one byte more than allowed tells a file that grew, or whose length is not known beforehand
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(DataError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    String::from_utf8(bytes).map_err(|e| DataError::NotUtf8 {
        path: path.to_owned(),
        offset: e.utf8_error().valid_up_to(),
    })
}

/// The first characters for training and the last share of them held out.
pub fn split_text(text: &str, fraction: f64) -> (String, String) {
    let characters = text.chars().count();
    let kept = (characters as f64 * (1.0 - fraction)) as usize;
    let cut = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    let (train, valid) = text.split_at(cut);
    (train.to_owned(), valid.to_owned())
}

/// Whole files for training and whole files held out, each part in the given order.
///
/// Files are held out in the order of the hash of their text while they fit into the share, so that the choice does
/// not depend on names or places; if none fits, the smallest is. A text that stands in several files is used once,
/// lest it be on both sides. A single file is split by its characters.
pub(super) fn split_files(mut texts: Vec<String>, fraction: f64, skipped: &mut Skipped) -> (String, String) {
    let mut seen = HashSet::new();
    let mut hashes = vec![];
    texts.retain(|text| {
        let hash: [u8; 32] = Sha256::digest(text).into();
        let new = seen.insert(hash);
        if new {
            hashes.push(hash);
        } else {
            skipped.count("repeated");
        }
        new
    });
    if let [text] = texts.as_slice() {
        return split_text(text, fraction);
    }
    let total: usize = texts.iter().map(String::len).sum();
    let share = (total as f64 * fraction) as usize;
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|i| hashes[*i]);
    let mut held_out = HashSet::new();
    let mut held_bytes = 0;
    for i in order {
        if held_bytes + texts[i].len() <= share {
            held_bytes += texts[i].len();
            held_out.insert(i);
        }
    }
    if held_out.is_empty() {
        held_out.extend((0..texts.len()).min_by_key(|i| (texts[*i].len(), hashes[*i])));
    }
    let (mut train, mut valid) = (String::new(), String::new());
    for (i, text) in texts.iter().enumerate() {
        let part = if held_out.contains(&i) {
            &mut valid
        } else {
            &mut train
        };
        part.push_str(text);
        if !text.ends_with('\n') {
            part.push('\n');
        }
    }
    (train, valid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_cut_at_a_character(text in "[\\s\\S]{0,50}", fraction in 0.0..0.5f64) {
            let (train, valid) = split_text(&text, fraction);
            prop_assert_eq!(format!("{train}{valid}"), text.clone());
            let kept = (text.chars().count() as f64 * (1.0 - fraction)) as usize;
            prop_assert_eq!(train.chars().count(), kept);
        }

        #[test]
        fn no_file_is_on_both_sides(
            lines in proptest::collection::vec("[a-z]{1,9}", 2..40), fraction in 0.01..0.5f64,
        ) {
            let distinct: HashSet<String> = lines.iter().map(|l| format!("{l}\n")).collect();
            prop_assume!(distinct.len() > 1);
            let texts: Vec<String> = lines.iter().map(|l| format!("{l}\n")).collect();
            let mut skipped = Skipped::default();
            let (train, valid) = split_files(texts, fraction, &mut skipped);
            let parts = |s: &str| s.lines().map(|l| format!("{l}\n")).collect::<Vec<_>>();
            let (train, valid) = (parts(&train), parts(&valid));
            prop_assert!(!train.is_empty() && !valid.is_empty());
            prop_assert_eq!(train.len() + valid.len(), distinct.len());
            let together: HashSet<String> = train.into_iter().chain(valid).collect();
            prop_assert_eq!(together, distinct);
        }
    }

    #[test]
    fn the_held_out_share_is_met_by_many_files_and_does_not_depend_on_their_order() {
        let texts: Vec<String> = (0..500)
            .map(|i| format!("file {i}\n").repeat(1 + i % 7))
            .collect();
        let total: usize = texts.iter().map(String::len).sum();
        let (_, valid) = split_files(texts.clone(), 0.1, &mut Skipped::default());
        assert!(
            (valid.len() as f64 / total as f64 - 0.1).abs() < 0.01,
            "{}",
            valid.len()
        );
        let reversed = texts.into_iter().rev().collect();
        let (_, again) = split_files(reversed, 0.1, &mut Skipped::default());
        let lines = |s: &str| s.lines().map(str::to_owned).collect::<HashSet<_>>();
        assert_eq!(lines(&valid), lines(&again));
    }

    #[test]
    fn the_position_of_a_wrong_byte_and_the_limit_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latin1.txt");
        fs::write(&path, b"caf\xe9").unwrap();
        let message = read_text(&path, 100).unwrap_err().to_string();
        assert!(
            message.contains("latin1.txt") && message.contains("at byte 3"),
            "{message}"
        );
        assert!(matches!(read_text(&path, 3), Err(DataError::TooLarge { .. })));
        fs::write(&path, "abc").unwrap();
        assert_eq!(read_text(&path, 3).unwrap(), "abc");
        assert!(matches!(
            read_text(&folder.path().join("gone"), 3),
            Err(DataError::Io { .. })
        ));
    }

    #[test]
    fn a_folder_is_listed_by_name_and_what_is_skipped_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/deep")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        for name in [
            "c.txt",
            "b/deep/z.txt",
            "b/a.txt",
            ".git/x.txt",
            "b/.hidden",
            "image.png",
        ] {
            fs::write(root.join(name), name).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
        let mut skipped = Skipped::default();
        let found = list(root, |name| name.ends_with(".txt"), &mut skipped).unwrap();
        let names: Vec<_> = found.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["b/a.txt", "b/deep/z.txt", "c.txt"]);
        #[cfg(unix)]
        assert_eq!(
            skipped.describe(),
            "skipped: 2 hidden, 1 links or devices, 1 of another kind"
        );
    }
}
