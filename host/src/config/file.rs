//! The configuration file: which keys there are and on which lines. What they mean is said elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::said::{Origin, Said, Words};
use super::{ConfigError, keys, policy};

/// What the file says. Values may be secrets, so it can't be shown.
pub(super) struct ConfigFile {
    path: PathBuf,
    /// The values by their full names: `workers`, `input.timestamp_format`, `input.fields.user_id`, `kafka.acks`.
    values: BTreeMap<String, Node>,
    /// The sections under the names of plugins.
    sections: BTreeMap<String, Node>,
}

struct Node {
    value: toml::Value,
    line: usize,
}

impl ConfigFile {
    /// Reads the file that is named there.
    pub(super) fn read(path: &Path, named: &Origin) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("{named}: cannot read {}: {error}", path.display())))?;
        Reader { path, text: &text }.read()
    }

    /// What it says about a key.
    pub(super) fn said(&self, key: &str) -> Option<Said> {
        self.values.get(key).map(|node| self.said_by(key, node))
    }

    /// What it says in a section about keys that may have any name, by that name.
    pub(super) fn within<'f>(&'f self, section: &'f str) -> impl Iterator<Item = (&'f str, Said)> {
        let name_of = move |key: &'f str| key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
        self.values.iter().filter_map(move |(key, node)| Some((name_of(key)?, self.said_by(key, node))))
    }

    /// The sections that are none of the host's own, by name.
    pub(super) fn plugin_sections(&self) -> impl Iterator<Item = (&str, Said)> {
        self.sections.iter().map(|(name, node)| (name.as_str(), self.said_by(&format!("[{name}]"), node)))
    }

    /// What it says in the sections `[policy.NAME]`: name, key, and what is said.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &str, Said)> {
        self.values.iter().filter_map(|(path, node)| {
            let (name, key) = path.strip_prefix("policy.")?.split_once('.')?;
            Some((name, key, self.said_by(path, node)))
        })
    }

    fn said_by(&self, key: &str, node: &Node) -> Said {
        let origin = Origin::File { file: self.path.clone(), line: node.line, key: key.to_owned() };
        Said { words: Words::Toml(node.value.clone()), origin }
    }
}

/// What is at hand while the file is read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

type Entry<'e, 'a> = (&'e Spanned<std::borrow::Cow<'a, str>>, &'e Spanned<DeValue<'a>>);

impl<'a> Reader<'a> {
    fn read(&self) -> Result<ConfigFile, ConfigError> {
        let root = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        let top: Vec<String> =
            keys::in_file().filter_map(|key| key.in_file()).filter(|key| !key.contains('.')).collect();
        let mut file = ConfigFile { path: self.path.to_owned(), values: BTreeMap::new(), sections: BTreeMap::new() };
        for entry in root.get_ref() {
            let (name, value) = (entry.0.get_ref().as_ref(), entry.1);
            match name {
                "input" => self.input(entry, &mut file.values)?,
                "swap" => self.section(entry, "swap", &mut file.values)?,
                "policy" => self.policies(entry, &mut file.values)?,
                "kafka" => self.flatten("kafka", self.table(entry, "kafka")?, &mut file.values)?,
                _ if top.iter().any(|key| key == name) => {
                    file.values.insert(name.to_owned(), self.node(entry)?);
                }
                _ if matches!(value.get_ref(), DeValue::Table(_)) => {
                    file.sections.insert(name.to_owned(), self.node(entry)?);
                }
                _ => {
                    let allowed = format!(
                        "{}, the sections [input], [input.fields], [swap] and [kafka], [policy.NAME] for the plugin NAME, and one for its settings under its name",
                        top.join(", ")
                    );
                    return Err(self.unknown(entry, name, &allowed));
                }
            }
        }
        Ok(file)
    }

    fn input(&self, entry: Entry<'_, 'a>, values: &mut BTreeMap<String, Node>) -> Result<(), ConfigError> {
        for inner in self.table(entry, "input")? {
            match inner.0.get_ref().as_ref() {
                "timestamp_format" => {
                    values.insert("input.timestamp_format".to_owned(), self.node(inner)?);
                }
                "fields" => {
                    for field in self.table(inner, "input.fields")? {
                        values.insert(format!("input.fields.{}", field.0.get_ref()), self.node(field)?);
                    }
                }
                other => return Err(self.unknown(inner, &format!("input.{other}"), "timestamp_format and fields")),
            }
        }
        Ok(())
    }

    /// A section whose keys are all in the table of keys.
    fn section(
        &self,
        entry: Entry<'_, 'a>,
        section: &str,
        values: &mut BTreeMap<String, Node>,
    ) -> Result<(), ConfigError> {
        let known: Vec<String> = keys::in_file().filter_map(|key| key.in_file()).collect();
        let within: Vec<&str> = known.iter().filter_map(|key| key.strip_prefix(section)?.strip_prefix('.')).collect();
        for inner in self.table(entry, section)? {
            let name = inner.0.get_ref().as_ref();
            if !within.contains(&name) {
                return Err(self.unknown(inner, &format!("{section}.{name}"), &within.join(", ")));
            }
            values.insert(format!("{section}.{name}"), self.node(inner)?);
        }
        Ok(())
    }

    fn policies(&self, entry: Entry<'_, 'a>, values: &mut BTreeMap<String, Node>) -> Result<(), ConfigError> {
        for plugin in self.table(entry, "policy")? {
            let section = format!("policy.{}", plugin.0.get_ref());
            for inner in self.table(plugin, &section)? {
                let key = inner.0.get_ref().as_ref();
                if !policy::KEYS.contains(&key) {
                    return Err(self.unknown(inner, &format!("{section}.{key}"), &policy::KEYS.join(", ")));
                }
                values.insert(format!("{section}.{key}"), self.node(inner)?);
            }
        }
        Ok(())
    }

    /// `sasl.password = "…"` without quotes is a table in a table to TOML; it means the same as with them.
    fn flatten(&self, path: &str, table: &DeTable<'a>, values: &mut BTreeMap<String, Node>) -> Result<(), ConfigError> {
        for entry in table {
            let path = format!("{path}.{}", entry.0.get_ref());
            if let DeValue::Table(inner) = entry.1.get_ref() {
                self.flatten(&path, inner, values)?;
            } else if values.insert(path.clone(), self.node(entry)?).is_some() {
                return Err(self.at(entry, &format!("{path}: it is given twice, with quotes and without")));
            }
        }
        Ok(())
    }

    fn table<'e>(&self, entry: Entry<'e, 'a>, name: &str) -> Result<&'e DeTable<'a>, ConfigError> {
        match entry.1.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.at(entry, &format!("{name}: it is a section; allowed is [{name}] with its keys below"))),
        }
    }

    fn node(&self, entry: Entry<'_, 'a>) -> Result<Node, ConfigError> {
        let deserializer = ValueDeserializer::from(entry.1.clone());
        let value = toml::Value::deserialize(deserializer)
            .map_err(|error| self.at(entry, &format!("{}: {}", entry.0.get_ref(), one_line(error.message()))))?;
        Ok(Node { value, line: self.line(entry.0.span().start) })
    }

    fn unknown(&self, entry: Entry<'_, 'a>, name: &str, allowed: &str) -> ConfigError {
        self.at(entry, &format!("{name}: there is no such key; allowed are {allowed}"))
    }

    fn at(&self, entry: Entry<'_, 'a>, what: &str) -> ConfigError {
        ConfigError(format!("{} line {}: {what}", self.path.display(), self.line(entry.0.span().start)))
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map_or_else(String::new, |span| format!(" line {}", self.line(span.start)));
        ConfigError(format!("{}{line}: it is no TOML: {}", self.path.display(), one_line(error.message())))
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or(self.text).matches('\n').count() + 1
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', ", ")
}
