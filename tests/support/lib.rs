//! What tests across crates share.

use std::path::{Path, PathBuf};

pub mod browser;
mod driver;
pub mod program;

/// The root of the repository that is under test.
///
/// Asked for at run time: clones at different places may share what is compiled, and with it paths that were true there.
pub fn repository() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package under test is");
    let is_root = |folder: &&Path| folder.join("Cargo.lock").exists();
    let root = Path::new(&package).ancestors().find(is_root);
    root.expect("the lock file stands in the root").to_owned()
}
