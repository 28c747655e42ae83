//! Something that a plugin found out.

use serde::Serialize;

use crate::Severity;
pub use crate::contract::Insight;

impl Insight {
    /// An insight. Its kind is `lower_snake_case`: 1 to 64 lower-case letters, digits and underscores, beginning with a
    /// letter. Its data is anything that is written as a JSON object: a struct with `Serialize`, or `json!({ … })`.
    ///
    /// # Panics
    /// Where the data can't be written as JSON, or is not an object.
    pub fn new(kind: impl Into<String>, severity: Severity, data: &impl Serialize) -> Self {
        #[expect(clippy::expect_used, reason = "data that can never be written is a fault of the plugin's own")]
        let data = serde_json::to_string(data).expect("the data of an insight can't be written as JSON");
        assert!(data.starts_with('{'), "the data of an insight is a JSON object, not {data}");
        Self { kind: kind.into(), severity, data }
    }
}
