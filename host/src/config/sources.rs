//! Where values come from: flags, the environment and the file, in that order, then the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::ArgMatches;

use super::ConfigError;
use super::file::ConfigFile;
use super::key::{Key, Shape};
use super::keys;
use super::said::{Origin, Said, Words};

/// The variables of an environment, without empty ones, which count as unset. It may hold secrets, so it can't be shown.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// This process's.
    pub fn of_this_process() -> Self {
        Self::of(std::env::vars_os())
    }

    /// One with these variables.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self(named.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The absolute path that a variable gives.
    pub(super) fn absolute_path(&self, name: &str) -> Option<&Path> {
        self.0.get(name).map(Path::new).filter(|path| path.is_absolute())
    }

    /// The variables whose names begin like this.
    pub(super) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &OsString)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value)).filter(move |(name, _)| name.starts_with(prefix))
    }
}

/// All that was said, wherever it was said.
pub struct Sources<'m> {
    flags: &'m ArgMatches,
    environment: Environment,
    file: Option<ConfigFile>,
}

impl<'m> Sources<'m> {
    /// The sources of a command with these flags. Reads the configuration file, where one is named.
    ///
    /// # Errors
    /// Where the file can't be read, or has a key that there isn't.
    pub fn new(flags: &'m ArgMatches, environment: Environment) -> Result<Self, ConfigError> {
        let mut sources = Self { flags, environment, file: None };
        if let Some(named) = sources.get(&keys::CONFIG) {
            sources.file = Some(ConfigFile::read(Path::new(named.os_text()), &named.origin)?);
        }
        Ok(sources)
    }

    /// What was said about a key, or else its default.
    pub fn get(&self, key: &Key) -> Option<Said> {
        self.flag(key)
            .or_else(|| self.variable(key, &key.variable()))
            .or_else(|| self.variable(key, key.original_variable?))
            .or_else(|| self.file()?.said(&key.in_file()?))
            .or_else(|| {
                let origin = Origin::Default(key.in_file().unwrap_or_else(|| format!("--{}", key.flag)));
                Some(Said { words: Words::Texts(vec![key.default?.into()]), origin })
            })
    }

    /// The value of a key, if there is one.
    ///
    /// # Errors
    /// What `read` finds wrong.
    pub fn optional<T>(
        &self,
        key: &Key,
        read: impl FnOnce(&Said) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key).map(|said| read(&said)).transpose()
    }

    /// The value of a key that must have one.
    ///
    /// # Errors
    /// What `read` finds wrong, or that nothing was said.
    pub fn value<T>(&self, key: &Key, read: impl FnOnce(&Said) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
        self.optional(key, read)?.ok_or_else(|| nothing_given(key))
    }

    /// The value of a key that was given as a flag.
    pub fn flag(&self, key: &Key) -> Option<Said> {
        // Not every command has every flag.
        let values = self.flags.try_get_raw(key.flag).ok().flatten()?;
        let texts = values.map(ToOwned::to_owned).collect();
        Some(Said { words: Words::Texts(texts), origin: Origin::Flag(key.flag) })
    }

    /// The environment.
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The file.
    pub(super) fn file(&self) -> Option<&ConfigFile> {
        self.file.as_ref()
    }

    /// The value of a key in an environment variable.
    fn variable(&self, key: &Key, name: &str) -> Option<Said> {
        let value = self.environment.0.get(name)?;
        let texts = match value.to_str() {
            Some(text) if key.shape == Shape::Several => text.split(',').map(OsString::from).collect(),
            _ => vec![value.clone()],
        };
        Some(Said { words: Words::Texts(texts), origin: Origin::Variable(name.to_owned()) })
    }
}

/// The error that a key has no value.
pub(super) fn nothing_given(key: &Key) -> ConfigError {
    let in_file = key.in_file().map(|name| format!(", or {name} in the configuration file")).unwrap_or_default();
    let name = key.in_file().unwrap_or_else(|| key.flag.to_owned());
    let (flag, value, variable) = (key.flag, key.value, key.variable());
    ConfigError(format!("{name}: nothing is given; allowed is --{flag} {value}, {variable}{in_file}"))
}
