//! Settings: flags, then `PARSIMONY_*` variables, then `parsimony.toml`, then defaults.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};
use toml_edit::{Document, Item, Value};

use crate::cli::Verb;

/// Finds language models that keep within your means: searches architectures, training and compression, measures
/// every candidate for real, and shows the trade-offs.
#[derive(Debug, Parser)]
#[command(
    name = "parsimony",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Verb,
}

/// Settings of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Folder of the private database, models and logs
    #[arg(long, global = true, env = "PARSIMONY_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A Postgres server to use instead of the private one
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) database_url: Option<String>,
    /// What is logged to stderr: error, warn, info, debug, or a filter such as web=debug
    #[arg(
        long,
        global = true,
        env = "PARSIMONY_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
    /// Settings file; ./parsimony.toml where there is one
    #[arg(long, global = true, env = "PARSIMONY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Global {
    /// The data folder: the given one, or the platform's.
    pub(crate) fn data_dir(&self) -> PathBuf {
        match &self.data_dir {
            Some(dir) => std::path::absolute(dir).unwrap_or_else(|_| dir.clone()),
            // root's own folder is closed to the account that runs the database
            None if is_root() => PathBuf::from("/var/lib/parsimony"),
            None => directories::ProjectDirs::from("", "", "parsimony").map_or_else(
                || PathBuf::from("parsimony-data"),
                |dirs| dirs.data_dir().to_owned(),
            ),
        }
    }
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Reads the command line, with the settings file's values as defaults.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let command = match with_file(Cli::command()) {
        Ok(command) => command,
        Err(message) => return Err(crate::errors::report(&crate::errors::BadInput::error(message))),
    };
    let parsed = command
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        // help and version go to stdout with code 0, mistakes to stderr with code 2
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Finds `--config FILE` before the command line is parsed, because the file sets its defaults.
fn file_of_arguments() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        if text == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(file) = text.strip_prefix("--config=") {
            return Some(file.into());
        }
    }
    std::env::var_os("PARSIMONY_CONFIG").map(PathBuf::from)
}

fn with_file(command: Command) -> Result<Command, String> {
    let given = file_of_arguments();
    let file = given.clone().unwrap_or_else(|| PathBuf::from("parsimony.toml"));
    if given.is_none() && !file.exists() {
        return Ok(command);
    }
    let text = fs::read_to_string(&file)
        .map_err(|e| format!("settings file '{}' cannot be read: {e}", file.display()))?;
    let document: Document<String> = text.parse().map_err(|e: toml_edit::TomlError| {
        let line = e.span().map_or(1, |s| text[..s.start].lines().count().max(1));
        format!("{}:{line}: {}", file.display(), e.message().replace('\n', ", "))
    })?;
    document
        .iter()
        .try_fold(command, |command, (key, item)| apply(command, key, item, &file))
}

/// Makes one key the default of the argument of that name; a table holds the arguments of that command.
fn apply(command: Command, key: &str, item: &Item, file: &Path) -> Result<Command, String> {
    if let Some(table) = item.as_table_like() {
        let names: Vec<String> = command
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .collect();
        if !names.iter().any(|n| n == key) {
            return Err(format!(
                "{}: {}",
                file.display(),
                spaces::suggest("table", key, names.iter().map(String::as_str))
            ));
        }
        let mut inner = command
            .find_subcommand(key)
            .cloned()
            .unwrap_or_else(|| Command::new("none"));
        for (name, item) in table.iter() {
            inner = default_of(inner, name, item, file)?;
        }
        return Ok(command.mut_subcommand(key, |_| inner));
    }
    default_of(command, key, item, file)
}

fn default_of(command: Command, key: &str, item: &Item, file: &Path) -> Result<Command, String> {
    let id = key.replace('-', "_");
    let known: BTreeSet<String> = command
        .get_opts()
        .map(|a| a.get_id().to_string())
        .filter(|n| n != "config")
        .collect();
    if !known.contains(&id) {
        let names = known.iter().map(|n| n.replace('_', "-")).collect::<Vec<_>>();
        return Err(format!(
            "{}: {}",
            file.display(),
            spaces::suggest("setting", key, names.iter().map(String::as_str))
        ));
    }
    let value = match item.as_value() {
        Some(Value::String(s)) => s.value().clone(),
        Some(Value::Integer(i)) => i.value().to_string(),
        Some(Value::Float(f)) => f.value().to_string(),
        Some(Value::Boolean(b)) => b.value().to_string(),
        _ => return Err(format!("{}: '{key}' must be a single value", file.display())),
    };
    Ok(command.mut_arg(id, |argument| argument.default_value(value)))
}
