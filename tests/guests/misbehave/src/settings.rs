//! What the plugin can be told to do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde::Deserialize;

/// The settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How to misbehave.
    pub how: How,
    /// Misbehave only in a batch that holds a login of this user, and there at that very login. Without it, in every
    /// call.
    pub when_user: Option<String>,
    /// Misbehave only after so many logins or windows of an instance.
    pub after: u64,
    /// Misbehave only in this role.
    pub role: Option<Role>,
    /// Further fields that the enricher reads and gives back as `echo_…`, dots as underscores.
    pub echo: Vec<EchoField>,
    /// The enricher gives back the columns of the login's own table as `table_…`.
    pub echo_table: bool,
    /// The enricher asks how often it has seen the login's user and sets it as `guest_user_logins`.
    pub history: bool,
    /// The insight generator reads this aggregate and tells what it saw.
    pub read_aggregate: Option<String>,
}

/// A field that the enricher gives back.
#[derive(Clone, Debug, Deserialize)]
pub struct EchoField {
    pub name: String,
    pub r#type: EchoType,
}

/// The type of a field that the enricher gives back.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EchoType {
    Text,
    Integer,
    Number,
    Boolean,
    Json,
}

/// A role.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Validator,
    Enricher,
    InsightGenerator,
}

/// How to misbehave. What a role can't do (a validator has no columns to lie in), it doesn't.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Not at all.
    #[default]
    Well,
    /// Trap, without a word.
    Trap,
    /// Panic with the message `this login is too much for me`.
    Panic,
    /// Run forever.
    Loop,
    /// Take memory until there is none.
    Hoard,
    /// Recurse without end.
    Recurse,
    /// Answer right, but keep a MiB more with each call.
    Leak,
    /// Answer right, but write 10,000 messages to the log first.
    Chatter,
    /// Answer right, but take a long time for each call.
    Slow,
    /// Configure: run forever.
    LoopInConfigure,
    /// Configure: trap.
    TrapInConfigure,
    /// Configure: declare what the contract doesn't allow.
    LieDeclaration,
    /// Name a row that isn't there.
    LieRow,
    /// Name rows in descending order.
    LieOrder,
    /// Use a code, or a kind of insight, that is none.
    LieCode,
    /// Give a reason of two lines, or data that is no JSON object.
    LieReason,
    /// Columns: ends that run backwards.
    LieEnds,
    /// Columns: one row too few.
    LieLength,
    /// Columns: an entry that belongs to none.
    LieRest,
    /// Columns: another type than declared.
    LieType,
    /// Columns: one too many.
    LieCount,
    /// Columns: rows missing that aren't there.
    LieMissing,
    /// Columns: a number that is none.
    LieNumber,
    /// A text that is not UTF-8.
    LieUtf8,
    /// A text that lies outside of memory.
    LiePointer,
    /// Ten million insights (a validator: rejections), more than there is memory for.
    ManyInsights,
    /// A hundred thousand insights (a validator: rejections), more than the host takes.
    TooManyInsights,
    /// One insight (a validator: reason) of 8 MiB.
    HugeText,
}

impl Settings {
    /// Whether a role is to misbehave.
    pub fn applies_to(&self, role: Role) -> bool {
        self.role.is_none_or(|only| only == role)
    }
}

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
    static SETTINGS: RefCell<Rc<Settings>> = RefCell::default();
}

/// Takes the settings.
pub fn set(json: &str) -> Result<(), String> {
    let settings = serde_json::from_str(json).map_err(|error| error.to_string())?;
    SETTINGS.set(Rc::new(settings));
    Ok(())
}

/// The settings.
pub fn get() -> Rc<Settings> {
    SETTINGS.with_borrow(Rc::clone)
}

/// Counts what this instance sees. Answers how much it has seen before.
pub fn saw(count: u64) -> u64 {
    SEEN.replace(SEEN.get() + count)
}
