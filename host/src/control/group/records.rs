//! What stands in the topic of a group's plugins: keys, and values as JSON behind a format version.
//!
//! Invariant: a key is written with one meaning only. Whatever two instances may write at the same time has two keys, so that
//! compaction never takes the one that counts for the one that doesn't.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use loginscope_wasm::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::memory::Memory;

/// The version of the values' format. A later one is refused, not guessed at.
///
/// In version 1, a list of plugins had what was configured where it was proposed in place of what the group has seen.
const FORMAT: u32 = 2;

/// A record's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A committed generation, if it was the first of its number. `generation/NUMBER/WRITE`
    Generation {
        /// Its number.
        number: u64,
        /// Tells apart who wants to commit this number.
        write: String,
    },
    /// A proposal, and then that it was dropped. `proposal/ID`
    Proposal(String),
    /// What an instance says to a proposal. `vote/PROPOSAL/INSTANCE`
    Vote {
        /// The proposal.
        proposal: String,
        /// The instance.
        instance: String,
    },
    /// An instance that runs; nothing where it has left. `instance/ID`
    Instance(String),
    /// What an instance of this place was last configured with. `place/DIGEST`
    Place(Digest),
    /// A piece of a component; the value is its bytes. `component/DIGEST/UPLOAD/PIECE/PIECES`
    Piece(Piece),
}

/// Which piece of a component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// The component.
    pub digest: Digest,
    /// Tells apart who writes it: one may delete what nobody needs any more while another one writes it anew.
    pub upload: String,
    /// Which piece, from 0.
    pub piece: u32,
    /// How many there are.
    pub pieces: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation { number, write } => write!(formatter, "generation/{number}/{write}"),
            Self::Proposal(id) => write!(formatter, "proposal/{id}"),
            Self::Vote { proposal, instance } => write!(formatter, "vote/{proposal}/{instance}"),
            Self::Instance(id) => write!(formatter, "instance/{id}"),
            Self::Place(place) => write!(formatter, "place/{place}"),
            Self::Piece(Piece { digest, upload, piece, pieces }) => {
                write!(formatter, "component/{digest}/{upload}/{piece}/{pieces}")
            }
        }
    }
}

/// A text that is no key of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoKey;

impl FromStr for Key {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        fn number<T: FromStr>(text: &str) -> Result<T, NoKey> {
            text.parse().map_err(|_| NoKey)
        }
        let parts: Vec<&str> = text.split('/').collect();
        Ok(match parts.as_slice() {
            ["generation", of, write] => Self::Generation { number: number(of)?, write: (*write).to_owned() },
            ["proposal", id] => Self::Proposal((*id).to_owned()),
            ["vote", proposal, instance] => {
                Self::Vote { proposal: (*proposal).to_owned(), instance: (*instance).to_owned() }
            }
            ["instance", id] => Self::Instance((*id).to_owned()),
            ["place", place] => Self::Place(number(place)?),
            ["component", digest, upload, piece, pieces] => Self::Piece(Piece {
                digest: number(digest)?,
                upload: (*upload).to_owned(),
                piece: number(piece)?,
                pieces: number(pieces)?,
            }),
            _ => return Err(NoKey),
        })
    }
}

/// Where a plugin of a generation came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The host carries it inside.
    Inside,
    /// A file that an instance was started with, or that was changed while it ran.
    File(String),
    /// Somebody handed it over.
    Upload,
}

/// A plugin of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginEntry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its bytes.
    #[serde(with = "as_text")]
    pub digest: Digest,
    /// Its settings, a JSON object.
    pub settings: Json,
    /// Where it came from.
    pub origin: Origin,
    /// Its aggregates that a partition computes from its history where it lacks them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backfilled: Vec<String>,
}

impl PluginEntry {
    /// Name and version together, `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether it does the same as the other one, wherever either came from.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.name, self.digest, &self.settings, &self.backfilled)
            == (&other.name, other.digest, &other.settings, &other.backfilled)
    }
}

/// What the paths of an instance hold and what its configuration sets: the value of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// The plugins in order: those of the paths, or those inside where there are none.
    pub plugins: Vec<ConfiguredPlugin>,
    /// The settings of plugins, by name, each a JSON object.
    pub settings: BTreeMap<String, Json>,
}

impl Configured {
    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Option<&ConfiguredPlugin> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }

    /// The settings of a plugin, a JSON object.
    pub fn settings_of(&self, name: &str) -> Json {
        self.settings.get(name).cloned().unwrap_or_else(|| Json::Object(serde_json::Map::new()))
    }
}

/// A plugin that an instance is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredPlugin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its bytes.
    #[serde(with = "as_text")]
    pub digest: Digest,
    /// Its file; none: it is one of those inside.
    pub path: Option<String>,
}

/// The plugins of a generation, and how they came to be those.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredList")]
pub struct PluginList {
    /// The plugins, in order.
    pub plugins: Vec<PluginEntry>,
    /// What the group has seen from paths and configurations by then.
    pub memory: Memory,
    /// Who wanted it.
    pub by: String,
    /// What led to it, in a few words.
    pub what: String,
}

impl PluginList {
    /// Whether the other one has plugins that do the same, in the same order.
    pub fn is_same(&self, other: &Self) -> bool {
        self.plugins.len() == other.plugins.len()
            && self.plugins.iter().zip(&other.plugins).all(|(one, other)| one.is_same(other))
    }
}

/// A list as this or an earlier version wrote it.
#[derive(Deserialize)]
struct StoredList {
    plugins: Vec<PluginEntry>,
    #[serde(flatten)]
    seen: Seen,
    by: String,
    what: String,
}

/// What a list says of paths and configurations.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Seen {
    Memory(Memory),
    Configured(Configured),
}

impl From<StoredList> for PluginList {
    fn from(StoredList { plugins, seen, by, what }: StoredList) -> Self {
        let memory = match seen {
            Seen::Memory(memory) => memory,
            Seen::Configured(configured) => Memory::of(&configured),
        };
        Self { plugins, memory, by, what }
    }
}

/// The value of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Its plugins.
    pub list: PluginList,
    /// The proposal that all instances agreed to; none where nobody was asked.
    pub proposal: Option<String>,
}

/// The value of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalRecord {
    /// The number of the generation that it would follow; 0: it would be the first.
    pub base: u64,
    /// Who proposes it: an instance's id.
    pub proposer: String,
    /// What is proposed, or that it is no more.
    pub state: ProposalState,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// It is to be voted on.
    Open(PluginList),
    /// It was dropped, for this reason.
    Dropped(String),
}

/// What an instance says to a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// It is there, and looks at it.
    Present,
    /// It has loaded and verified the plugins.
    Ready,
    /// It can't use them, for this reason.
    Refused(String),
}

/// The value of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// What people know it by.
    pub name: String,
}

/// A value with the version of its format.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    content: T,
}

/// A value that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// A later version of this program wrote it.
    #[error("its format is {0}, and this version knows {FORMAT}: update this instance")]
    Format(u32),
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// A value as it is written.
pub fn to_bytes<T: Serialize>(content: &T) -> Result<Vec<u8>, BadValue> {
    serde_json::to_vec(&Versioned { format: FORMAT, content }).map_err(|error| BadValue::Damaged(error.to_string()))
}

/// A value as it was written.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadValue> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |error: serde_json::Error| BadValue::Damaged(error.to_string());
    match serde_json::from_slice(bytes).map_err(damaged)? {
        Format { format: 1..=FORMAT } => {}
        Format { format } => return Err(BadValue::Format(format)),
    }
    serde_json::from_slice(bytes).map(|versioned: Versioned<T>| versioned.content).map_err(damaged)
}

/// Whatever is shown as a text and read from one.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>
    where
        T::Err: Display,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let id = || "1a2b".to_owned();
        let piece = Piece { digest: Digest::of(b"abc"), upload: id(), piece: 3, pieces: 12 };
        let keys = [
            Key::Generation { number: 7, write: id() },
            Key::Proposal(id()),
            Key::Vote { proposal: id(), instance: "3c".to_owned() },
            Key::Instance(id()),
            Key::Place(Digest::of(b"a host")),
            Key::Piece(piece),
        ];
        for key in keys {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for wrong in ["", "generation/x/y", "vote/a", "component/abc/u/0/1", "later/thing"] {
            assert_eq!(wrong.parse::<Key>(), Err(NoKey), "{wrong}");
        }
    }

    #[test]
    fn values_are_read_as_they_are_written_and_another_format_is_refused() {
        let entry = PluginEntry {
            name: "a".to_owned(),
            version: "0.1.0".to_owned(),
            digest: Digest::of(b"abc"),
            settings: serde_json::json!({"minutes": 5, "share": 0.25, "big": u64::MAX}),
            origin: Origin::File("a.wasm".to_owned()),
            backfilled: vec!["logins".to_owned()],
        };
        let what = "rolled back: it trapped".to_owned();
        let list = PluginList { plugins: vec![entry], memory: Memory::default(), by: "me".to_owned(), what };
        let record = ProposalRecord { base: 3, proposer: "x".to_owned(), state: ProposalState::Open(list) };
        let bytes = to_bytes(&record).unwrap();
        assert_eq!(from_bytes(&bytes), Ok(record));
        // What was written before there were backfills has none.
        let earlier = String::from_utf8(bytes.clone()).unwrap().replace(",\"backfilled\":[\"logins\"]", "");
        let ProposalState::Open(list) = from_bytes::<ProposalRecord>(earlier.as_bytes()).unwrap().state else {
            panic!()
        };
        assert!(list.plugins[0].backfilled.is_empty() && !earlier.contains("backfilled"));
        let later = String::from_utf8(bytes).unwrap().replace("\"format\":2", "\"format\":3");
        let refused = from_bytes::<ProposalRecord>(later.as_bytes()).unwrap_err();
        assert_eq!(refused.to_string(), "its format is 3, and this version knows 2: update this instance");
        assert!(matches!(from_bytes::<Presence>(b"{"), Err(BadValue::Damaged(_))));
    }

    #[test]
    fn a_list_of_version_1_is_read_as_that_of_a_group_which_has_seen_what_was_configured_there() {
        let digest = Digest::of(b"abc");
        let entry = r#"{"name":"a","version":"0.1.0","digest":"DIGEST","settings":{"x":1},"origin":{"file":"a.wasm"}}"#;
        let configured = r#"{"plugins":[{"name":"a","version":"0.1.0","digest":"DIGEST","path":"a.wasm"}],"settings":{"a":{"x":1}}}"#;
        let list = format!(r#"{{"plugins":[{entry}],"configured":{configured},"by":"ann","what":"deployment"}}"#);
        let list = list.replace("DIGEST", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let generation = format!(r#"{{"format":1,"content":{{"list":{list},"proposal":"1a2b"}}}}"#);
        let proposal = format!(r#"{{"format":1,"content":{{"base":0,"proposer":"3c","state":{{"open":{list}}}}}}}"#);
        let (name, version, path) = ("a".to_owned(), "0.1.0".to_owned(), "a.wasm".to_owned());
        let settings = serde_json::json!({"x": 1});
        let configured = Configured {
            plugins: vec![ConfiguredPlugin {
                name: name.clone(),
                version: version.clone(),
                digest,
                path: Some(path.clone()),
            }],
            settings: BTreeMap::from([(name.clone(), settings.clone())]),
        };
        let expected = PluginList {
            plugins: vec![PluginEntry {
                name,
                version,
                digest,
                settings,
                origin: Origin::File(path),
                backfilled: Vec::new(),
            }],
            memory: Memory::of(&configured),
            by: "ann".to_owned(),
            what: "deployment".to_owned(),
        };
        let read: GenerationRecord = from_bytes(generation.as_bytes()).unwrap();
        assert_eq!(read, GenerationRecord { list: expected.clone(), proposal: Some("1a2b".to_owned()) });
        let read: ProposalRecord = from_bytes(proposal.as_bytes()).unwrap();
        assert_eq!(read.state, ProposalState::Open(expected));
        let without = generation.replace("configured", "else");
        assert!(matches!(from_bytes::<GenerationRecord>(without.as_bytes()), Err(BadValue::Damaged(_))));
        assert_eq!(from_bytes::<Vote>(br#"{"format":1,"content":"ready"}"#), Ok(Vote::Ready));
    }

    /// Otherwise what has such settings in its configuration would find them changed at each start.
    #[test]
    fn numbers_are_read_to_the_last_bit_as_they_are_written() {
        for number in (2..1000).map(|number| f64::from(number).sqrt()).chain([f64::MIN_POSITIVE, f64::MAX]) {
            let settings = BTreeMap::from([("a".to_owned(), serde_json::json!({"share": number}))]);
            let configured = Configured { plugins: Vec::new(), settings };
            assert_eq!(from_bytes(&to_bytes(&configured).unwrap()), Ok(configured));
        }
    }
}
