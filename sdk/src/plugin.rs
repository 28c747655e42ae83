//! What a plugin is: the traits that authors implement.

use crate::{Declare, Fields, History, Insight, Login, Rejection, Settings, Totals, Window};

/// A plugin: made of its settings, once for every fresh instance.
///
/// The host makes and drops instances as it likes, and runs several at once. So a plugin keeps what it has made of its
/// settings and the keys it was given by [`Declare`], and nothing else.
pub trait Plugin: Sized + 'static {
    /// What users can set: a struct with `Deserialize`, most often with `#[serde(default)]`, or
    /// [`NoSettings`](crate::NoSettings). A setting that it doesn't know is refused when the plugin is loaded.
    type Settings: Settings;

    /// The plugin's name: 1 to 64 lower-case letters, digits and hyphens, beginning with a letter. By default the name of
    /// its crate.
    const NAME: Option<&'static str> = None;

    /// The plugin's version, by semantic versioning. By default the version of its crate.
    const VERSION: Option<&'static str> = None;

    /// Makes the plugin, and declares what it needs.
    ///
    /// # Errors
    /// A sentence for the user whose settings can't be used. The plugin isn't loaded then.
    fn new(settings: Self::Settings, declare: &mut Declare) -> Result<Self, String>;
}

/// A plugin that judges logins.
pub trait Validator: Plugin {
    /// Judges a login. The same login gets the same verdict on any instance.
    ///
    /// # Errors
    /// Why the login is not accepted.
    fn validate(&self, login: &Login) -> Result<(), Rejection>;
}

/// A plugin that adds to a login what is known about it.
pub trait Enricher: Plugin {
    /// Sets fields of a login; can also reject it, or tell an insight about it. The same login with the same history
    /// gets the same on any instance.
    fn enrich(&self, login: &Login, history: &History, fields: &mut Fields);
}

/// A plugin that tells what many logins mean.
pub trait InsightGenerator: Plugin {
    /// Makes the insights of a window that has just become complete. The same window and totals get the same on any
    /// instance.
    fn generate(&self, window: &Window, totals: &Totals) -> Vec<Insight>;
}
