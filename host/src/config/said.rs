//! What was said about a key, where, and what it can mean. Every error names where it was said, what, and what is allowed.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::ConfigError;

/// The longest value that an error repeats, in characters.
const SHOWN_CHARACTERS: usize = 100;

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By a flag.
    Flag(&'static str),
    /// In an environment variable.
    Variable(String),
    /// In the configuration file.
    File {
        /// The file's name.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// Nowhere: it is the default of this key.
    Default(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(formatter, "--{flag}"),
            Self::Variable(name) => write!(formatter, "{name}"),
            Self::File { file, line, key } => write!(formatter, "{} line {line}: {key}", file.display()),
            Self::Default(key) => write!(formatter, "{key}"),
        }
    }
}

/// What was said, in the words of its source.
#[derive(Clone, Debug, PartialEq)]
pub enum Words {
    /// By a flag, a variable or a default: texts.
    Texts(Vec<OsString>),
    /// In the file.
    Toml(toml::Value),
}

/// What was said, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// What.
    pub words: Words,
    /// Where.
    pub origin: Origin,
}

impl Said {
    /// The error that this can't be used.
    pub fn refuse(&self, allowed: &str) -> ConfigError {
        ConfigError(format!("{}: {} can't be used; allowed is {allowed}", self.origin, self.shown()))
    }

    /// The error that something is wrong with this, where the value speaks for itself.
    pub fn wrong(&self, what: impl fmt::Display) -> ConfigError {
        ConfigError(format!("{}: {what}", self.origin))
    }

    fn shown(&self) -> String {
        let text = match &self.words {
            Words::Texts(texts) => format!("{:?}", texts.join(OsStr::new(",")).to_string_lossy()),
            Words::Toml(toml::Value::Array(_)) => "a list".to_owned(),
            Words::Toml(toml::Value::Table(_)) => "a section".to_owned(),
            Words::Toml(toml::Value::String(text)) => format!("{text:?}"),
            Words::Toml(value) => value.to_string(),
        };
        if text.chars().count() <= SHOWN_CHARACTERS {
            return text;
        }
        text.chars().take(SHOWN_CHARACTERS).chain(['…']).collect()
    }

    /// The text as the system gave it; empty where it is none.
    pub(super) fn os_text(&self) -> &OsStr {
        match &self.words {
            Words::Texts(texts) => texts.last().map(OsString::as_os_str).unwrap_or_default(),
            Words::Toml(value) => OsStr::new(value.as_str().unwrap_or_default()),
        }
    }

    /// Each of several texts by itself.
    pub(super) fn each(&self) -> Vec<Self> {
        let alone = |words| Self { words, origin: self.origin.clone() };
        match &self.words {
            Words::Texts(texts) => texts.iter().map(|text| alone(Words::Texts(vec![text.clone()]))).collect(),
            Words::Toml(_) => vec![self.clone()],
        }
    }

    /// The value in the file, where it comes from there.
    pub(super) fn toml(&self) -> Option<&toml::Value> {
        match &self.words {
            Words::Texts(_) => None,
            Words::Toml(value) => Some(value),
        }
    }

    /// A text that isn't empty.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self, allowed: &str) -> Result<&str, ConfigError> {
        let text = match &self.words {
            Words::Texts(_) => self.os_text().to_str(),
            Words::Toml(value) => value.as_str(),
        };
        text.filter(|text| !text.is_empty()).ok_or_else(|| self.refuse(allowed))
    }

    /// A text that `parse` takes.
    ///
    /// # Errors
    /// It is none.
    pub fn parsed<T>(&self, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, ConfigError> {
        parse(self.text(allowed)?).ok_or_else(|| self.refuse(allowed))
    }

    /// A whole number in this range.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let number = match &self.words {
            Words::Texts(_) => self.os_text().to_str().and_then(|text| text.parse().ok()),
            Words::Toml(value) => value.as_integer().and_then(|number| number.try_into().ok()),
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.refuse(&format!("a whole number from {} to {}", range.start(), range.end())))
    }

    /// A number, whole or not, in this range.
    ///
    /// # Errors
    /// It is none.
    pub fn fraction(&self, range: RangeInclusive<f64>) -> Result<f64, ConfigError> {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        let number = match &self.words {
            Words::Texts(_) => self.os_text().to_str().and_then(|text| text.parse().ok()),
            Words::Toml(toml::Value::Integer(number)) => Some(*number as f64),
            Words::Toml(value) => value.as_float(),
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| self.refuse(&allowed))
    }

    /// True or false.
    ///
    /// # Errors
    /// It is neither.
    pub fn truth(&self) -> Result<bool, ConfigError> {
        let (truth, allowed) = match &self.words {
            Words::Texts(_) => (truth(self.os_text()), "true, false, 1 or 0"),
            Words::Toml(value) => (value.as_bool(), "true or false"),
        };
        truth.ok_or_else(|| self.refuse(allowed))
    }

    /// A length of time in this range.
    ///
    /// # Errors
    /// It is none.
    pub fn duration(&self, range: RangeInclusive<Duration>, example: &str) -> Result<Duration, ConfigError> {
        let show = humantime::format_duration;
        let allowed = format!("a time from {} to {}, such as {example}", show(*range.start()), show(*range.end()));
        self.parsed(&allowed, |text| humantime::parse_duration(text).ok().filter(|time| range.contains(time)))
    }

    /// A number of bytes in this range, as `1048576`, `512MiB` or `4GB`.
    ///
    /// # Errors
    /// It is none.
    pub fn bytes(&self, range: RangeInclusive<u64>, example: &str) -> Result<u64, ConfigError> {
        if let Words::Toml(toml::Value::Integer(_)) = &self.words {
            return self.number(range);
        }
        let allowed = format!("a number of bytes, at least {}, such as {example}", ByteSize(*range.start()));
        let bytes = |text: &str| text.parse().ok().map(|ByteSize(bytes)| bytes).filter(|bytes| range.contains(bytes));
        self.parsed(&allowed, bytes)
    }

    /// The path of a file. One in the configuration file is meant from where that is.
    ///
    /// # Errors
    /// It is none.
    pub fn path(&self) -> Result<PathBuf, ConfigError> {
        self.paths()?.pop().ok_or_else(|| self.refuse("the path of a file"))
    }

    /// The paths of files.
    ///
    /// # Errors
    /// One of them is none.
    pub fn paths(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let paths: Option<Vec<PathBuf>> = match &self.words {
            Words::Texts(texts) => Some(texts.iter().map(PathBuf::from).collect()),
            Words::Toml(toml::Value::String(path)) => Some(vec![self.located(path)]),
            Words::Toml(toml::Value::Array(list)) => list
                .iter()
                .map(|item| item.as_str().filter(|path| !path.is_empty()).map(|path| self.located(path)))
                .collect(),
            Words::Toml(_) => None,
        };
        paths
            .filter(|paths| paths.iter().all(|path| !path.as_os_str().is_empty()))
            .ok_or_else(|| self.refuse("the path of a file, or a list of them"))
    }

    fn located(&self, path: &str) -> PathBuf {
        match &self.origin {
            Origin::File { file, .. } => file.with_file_name("").join(path),
            _ => PathBuf::from(path),
        }
    }
}

fn truth(text: &OsStr) -> Option<bool> {
    match text.to_str()?.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
