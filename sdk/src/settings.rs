//! A plugin's settings: from the JSON that the user wrote to the plugin's own struct, with errors a user can act on.

use serde::de::value::Error as ProbeError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// What users can set: any struct with `Deserialize`, or [`NoSettings`].
pub trait Settings: Sized {
    /// Reads settings from the text of a JSON object.
    ///
    /// # Errors
    /// A sentence that names the setting that is unknown, wrong or missing.
    fn read(text: &str) -> Result<Self, String>;
}

impl<S: DeserializeOwned> Settings for S {
    fn read(text: &str) -> Result<Self, String> {
        read(text)
    }
}

/// The settings of a plugin that has none. Unlike an empty struct with `Deserialize`, it doesn't bring a JSON parser into
/// the plugin, which is half the size of a small one.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSettings;

impl Settings for NoSettings {
    fn read(text: &str) -> Result<Self, String> {
        let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map(str::trim);
        match inside {
            Some("") => Ok(Self),
            Some(inside) => {
                let name = inside.split('"').nth(1).unwrap_or(inside);
                Err(format!("unknown setting {name}; this plugin has no settings"))
            }
            None => Err("the settings are not a JSON object".to_owned()),
        }
    }
}

fn read<S: DeserializeOwned>(text: &str) -> Result<S, String> {
    if !text.trim_start().starts_with('{') {
        return Err("the settings are not a JSON object".to_owned());
    }
    let mut unknown = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let settings = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    let settings = settings.map_err(|error| sentence(&track.path(), &error))?;
    json.end().map_err(|error| format!("the settings are not one JSON object: {error}"))?;
    match unknown.first() {
        None => Ok(settings),
        Some(name) => Err(format!("unknown setting {name}{}", known_settings::<S>())),
    }
}

fn sentence(path: &serde_path_to_error::Path, error: &serde_json::Error) -> String {
    let message = error.to_string();
    // The user may never have seen this JSON, so a place in it says nothing.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    if path.iter().next().is_none() { message.to_owned() } else { format!("setting {path}: {message}") }
}

/// `; known are …`, where the settings are a struct with fields.
fn known_settings<S: DeserializeOwned>() -> String {
    let mut fields: &'static [&'static str] = &[];
    // The probe always ends in an error: all it wants is to be asked for a struct.
    let _ = S::deserialize(Probe { fields: &mut fields });
    if fields.is_empty() { String::new() } else { format!("; known are {}", fields.join(", ")) }
}

/// A deserializer without data that notes which fields a struct would take from it.
struct Probe<'a> {
    fields: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = ProbeError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, ProbeError> {
        *self.fields = fields;
        Err(ProbeError::custom("only asked"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, ProbeError> {
        Err(ProbeError::custom("only asked"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Thresholds {
        max_age_days: u32,
        networks: Vec<String>,
        limits: Limits,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Limits {
        low: u8,
    }

    fn refusal(text: &str) -> String {
        read::<Thresholds>(text).unwrap_err()
    }

    #[test]
    fn settings_that_are_left_out_have_their_defaults() {
        assert_eq!(read::<Thresholds>("{}"), Ok(Thresholds::default()));
        assert_eq!(read::<Thresholds>(r#" {"limits":{"low":3}} "#).unwrap().limits.low, 3);
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name_without_deny_unknown_fields() {
        assert_eq!(
            refusal(r#"{"max_age_day":3}"#),
            "unknown setting max_age_day; known are max_age_days, networks, limits"
        );
        assert!(refusal(r#"{"limits":{"high":1}}"#).starts_with("unknown setting limits.high"));
    }

    #[test]
    fn a_plugin_without_settings_refuses_every_setting_by_name() {
        assert!(NoSettings::read("{}").is_ok());
        assert!(NoSettings::read(" {\n} ").is_ok());
        let refusal = NoSettings::read(r#"{"x":1}"#).unwrap_err();
        assert_eq!(refusal, "unknown setting x; this plugin has no settings");
        assert!(NoSettings::read("[]").is_err());
        assert!(NoSettings::read("").is_err());
    }

    #[test]
    fn an_ill_typed_setting_is_refused_by_name_with_what_is_expected() {
        assert_eq!(
            refusal(r#"{"max_age_days":"x"}"#),
            r#"setting max_age_days: invalid type: string "x", expected u32"#
        );
        assert_eq!(
            refusal(r#"{"limits":{"low":300}}"#),
            "setting limits.low: invalid value: integer `300`, expected u8"
        );
        assert!(refusal(r#"{"networks":["a",1]}"#).starts_with("setting networks[1]: invalid type"));
    }

    #[test]
    fn a_required_setting_that_is_missing_is_named() {
        #[derive(Debug, Deserialize)]
        struct Required {
            #[expect(dead_code, reason = "only its name matters")]
            database: String,
        }
        assert_eq!(read::<Required>("{}").unwrap_err(), "missing field `database`");
    }

    #[test]
    fn anything_but_one_json_object_is_refused() {
        for text in ["", "[]", "null", "{", "{} {}", "{]", "\"x\""] {
            assert!(read::<Thresholds>(text).is_err(), "{text}");
        }
    }
}
