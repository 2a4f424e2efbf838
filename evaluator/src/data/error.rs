//! What can be wrong with training data, with the value and the remedy.

use std::path::PathBuf;

/// Why a corpus cannot be loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A corpus that is not in the registry; the sentence suggests the nearest.
    #[error("{0}")]
    UnknownCorpus(String),
    /// An option whose value does not fit, or that contradicts another.
    #[error("data.{name}: {message}")]
    Option {
        /// The option.
        name: String,
        /// The value and the remedy.
        message: String,
    },
    /// A corpus that reads files, without `path`.
    #[error("corpus '{0}' needs path = \"FILE OR FOLDER\"")]
    NoPath(&'static str),
    /// A path that leads nowhere.
    #[error("there is no file or folder '{}'; correct data.path", .0.display())]
    NotFound(PathBuf),
    /// A path that lies outside, or leads nowhere: which of the two is not told to strangers.
    #[error(
        "'{}' is not a file or folder inside of the folders allowed for data ({allowed}); \
         move it there or allow its folder where the worker starts",
        path.display()
    )]
    NotAllowed {
        /// The path as the user wrote it.
        path: PathBuf,
        /// The allowed folders.
        allowed: String,
    },
    /// A device, a socket, a pipe.
    #[error("'{}' is neither a file nor a folder; name a text file", .0.display())]
    NotAFile(PathBuf),
    /// Bytes that are not UTF-8.
    #[error(
        "'{}' is not UTF-8 at byte {offset}; \
         convert it (for example with iconv -t utf-8) or name another file",
        path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first wrong byte.
        offset: usize,
    },
    /// No characters.
    #[error("'{}' is empty; name a file with text", .0.display())]
    Empty(PathBuf),
    /// A folder in which no file passes the filters.
    #[error("no text file of kind '{kind}' is in '{}' ({skipped}); \
         set data.files = \"all\" or name another folder", path.display())]
    NoFiles {
        /// The folder.
        path: PathBuf,
        /// The value of `files`.
        kind: String,
        /// What was skipped and why.
        skipped: String,
    },
    /// More text than the limit.
    #[error("'{}' holds more than {limit} bytes of text; \
         name a part of it or raise data.max_bytes", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// The value of `max_bytes`.
        limit: u64,
    },
    /// The operating system refused.
    #[error("cannot read '{}': {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// A row of a table of examples that cannot be read.
    #[error("'{}' line {line}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// From 1, the header included.
        line: usize,
        /// What is wrong and what is expected.
        message: String,
    },
    /// A window longer than the data.
    #[error("{0}")]
    Context(String),
    /// A tokenizer that is unknown, unreadable or does not know a character.
    #[error("{0}")]
    Tokenizer(String),
    /// Sources that are not on this machine.
    #[error(
        "the sources of {name} {version} are not in '{}'; \
         run `cargo fetch` in the checkout, or use corpus = \"text\" with a path of your own",
        registry.display()
    )]
    NoSources {
        /// The crate.
        name: &'static str,
        /// Its version.
        version: &'static str,
        /// Where it was looked for.
        registry: PathBuf,
    },
    /// A generator that found fewer distinct examples than it was asked for.
    #[error(
        "only {found} of {wanted} distinct examples exist under these settings; \
         lower train_examples or valid_examples, or {remedy}"
    )]
    TooFew {
        /// Examples found.
        found: usize,
        /// Examples asked for.
        wanted: usize,
        /// Which other option to move.
        remedy: &'static str,
    },
}
