//! Rejects logins that are not valid, with the first reason that applies.
//!
//! [`rules`] is the whole judgement, in plain functions of plain values; here it is put to a login.

pub mod rules;
#[cfg(test)]
mod tests;

use loginscope_plugin::prelude::*;

use crate::rules::Timestamp;

/// The plugin. It has no settings: what is valid is part of the data contract.
#[derive(Debug)]
pub struct ValidateLogins;

impl Plugin for ValidateLogins {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _declare: &mut Declare) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Validator for ValidateLogins {
    fn validate(&self, login: &Login) -> Result<(), Rejection> {
        rules::user_id(login.user_id())?;
        rules::timestamp(timestamp(login), login.record_timestamp_ms())?;
        rules::ip(login.ip())?;
        rules::length("device_type", login.device_type())?;
        rules::length("device_id", login.device_id())?;
        rules::length("locale", login.locale())?;
        rules::length("app_version", login.app_version())?;
        rules::outcome(login.outcome())
    }
}

fn timestamp(login: &Login) -> Timestamp<'_> {
    match login.timestamp() {
        Some(seconds) => Timestamp::Seconds(seconds),
        None => login.malformed_timestamp().map_or(Timestamp::Missing, Timestamp::Malformed),
    }
}

loginscope_plugin::export_validator!(ValidateLogins);
