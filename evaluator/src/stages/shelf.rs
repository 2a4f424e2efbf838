//! The folder of results: found, made once at a time, and the oldest dropped when there are too many.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use burn::tensor::backend::Backend;
use spaces::protocol::Progress;

use super::StageResult;
use crate::{EvaluationError, Events, model::Model};

/// Time between two looks at whether another process has made what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A folder of results.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// The folder; made when it is needed.
    pub dir: PathBuf,
    /// Bytes it may take; the results that were longest not used go first.
    pub limit_bytes: u64,
}

/// The right to make a result; others wait until it is dropped.
pub(crate) struct Claim {
    key: String,
    lock: PathBuf,
    _held: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // one that stays is locked by nobody
        let _ = fs::remove_file(&self.lock);
    }
}

/// What is known of a result.
#[expect(clippy::large_enum_variant, reason = "a trial has two of them")]
pub(crate) enum Found<B: Backend> {
    /// It is there.
    Made(Model<B>, StageResult),
    /// It is to be made by whoever asked.
    Mine(Claim),
}

impl Shelf {
    fn file(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.safetensors"))
    }

    /// The result of that name, from this folder or from whom `events` knows; waits while another process makes it.
    /// `empty` gives a model of the shape of such a result.
    ///
    /// # Errors
    /// [`EvaluationError::Cancelled`], and [`EvaluationError::Disk`] where the folder cannot be used.
    pub(crate) fn find<B: Backend>(
        &self,
        key: &str,
        empty: impl Fn(&StageResult) -> Model<B>,
        events: &mut dyn Events,
    ) -> Result<Found<B>, EvaluationError> {
        let failed = |source| EvaluationError::Disk {
            path: self.dir.display().to_string(),
            source,
        };
        let (file, lock) = (self.file(key), self.dir.join(format!("{key}.lock")));
        let read = || {
            let (model, result) = StageResult::read(&file, &empty)?;
            // used now, so not the next to go; that the time cannot be set costs a result at most
            let _ = File::options()
                .append(true)
                .open(&file)
                .and_then(|f| f.set_modified(SystemTime::now()));
            Some(Found::Made(model, result))
        };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let held = File::create(&lock).map_err(failed)?;
        loop {
            match held.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            if events.cancelled() {
                return Err(EvaluationError::Cancelled);
            }
            events.progress(Progress {
                phase: "wait for the same stage of another trial".into(),
                ..Progress::default()
            });
            thread::sleep(LOOK_EVERY);
        }
        if !file.exists() {
            events.stage_wanted(key, &file);
        }
        let claim = Claim {
            key: key.to_owned(),
            lock,
            _held: held,
        };
        Ok(read().unwrap_or(Found::Mine(claim)))
    }

    /// Keeps a result. That it cannot be kept, on a full disk, is no failure: it is made again when it is needed again.
    pub(crate) fn keep<B: Backend>(
        &self,
        claim: Claim,
        model: &mut Model<B>,
        result: &StageResult,
        events: &mut dyn Events,
    ) {
        let (file, part) = (
            self.file(&claim.key),
            self.dir.join(format!("{}.part", claim.key)),
        );
        let written = result.write(model, &part).and_then(|()| fs::rename(&part, &file));
        if written.is_err() {
            let _ = fs::remove_file(&part);
            return;
        }
        self.make_room(&file);
        if file.exists() {
            events.stage_made(&claim.key, &file);
        }
    }

    /// Drops results until the rest fits, the longest unused first and `newest` last.
    fn make_room(&self, newest: &Path) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut results: Vec<(bool, SystemTime, u64, PathBuf)> = entries
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "safetensors"))
            .filter_map(|entry| {
                let (about, path) = (entry.metadata().ok()?, entry.path());
                Some((path == newest, about.modified().ok()?, about.len(), path))
            })
            .collect();
        results.sort();
        let mut bytes: u64 = results.iter().map(|r| r.2).sum();
        for (_, _, size, path) in results {
            if bytes <= self.limit_bytes {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                bytes -= size;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_go_first_and_the_newest_last() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf {
            dir: dir.path().to_owned(),
            limit_bytes: 25,
        };
        let write = |key: &str, age_s: u64| {
            fs::write(shelf.file(key), [0; 10]).unwrap();
            let file = File::options().append(true).open(shelf.file(key)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age_s))
                .unwrap();
        };
        for (key, age_s) in [("old", 300), ("used", 100), ("mid", 200), ("new", 400)] {
            write(key, age_s);
        }
        shelf.make_room(&shelf.file("new"));
        let left = |key: &str| shelf.file(key).exists();
        assert_eq!(
            ["old", "mid", "used", "new"].map(left),
            [false, false, true, true]
        );
    }
}
