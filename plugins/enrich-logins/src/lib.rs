//! Cleans logins, and adds what is known about them: when and from where, and how often this user was seen before.
//!
//! [`device`] and [`address`] hold the logic, in plain functions of plain values; here it meets the login. Nothing is taken
//! for granted that a validator would have checked: what can't be told of a login isn't set.

pub mod address;
pub mod device;
#[cfg(test)]
mod tests;

use loginscope_plugin::prelude::*;

/// The plugin. It has no settings: the fields are part of the data contract.
#[derive(Debug)]
pub struct EnrichLogins {
    device_type: OutputField<str>,
    login_time: OutputField<str>,
    login_hour: OutputField<str>,
    ip_version: OutputField<i64>,
    ip_scope: OutputField<str>,
    user_logins: OutputField<i64>,
    user_unique_ips: OutputField<i64>,
    /// How many logins of the user came before this one.
    earlier_logins: Past<i64>,
    /// From how many addresses they came.
    earlier_ips: Past<i64>,
    /// Whether one of them was this login's.
    ip_is_known: Past<bool>,
}

impl Plugin for EnrichLogins {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, declare: &mut Declare) -> Result<Self, String> {
        declare.reads_only([TableField::Timestamp, TableField::Ip, TableField::DeviceType]);
        let logins = declare.total("user_logins", Aggregate::count().by("user_id"));
        let ips = declare.total("user_ips", Aggregate::distinct(["ip"]).by("user_id"));
        Ok(Self {
            // In the order in which they are added to the login.
            device_type: declare.sets("device_type"),
            login_time: declare.sets("login_time"),
            login_hour: declare.sets("login_hour"),
            ip_version: declare.sets("ip_version"),
            ip_scope: declare.sets("ip_scope"),
            user_logins: declare.sets("user_logins"),
            user_unique_ips: declare.sets("user_unique_ips"),
            earlier_logins: declare.history(logins.value()),
            earlier_ips: declare.history(ips.value()),
            ip_is_known: declare.history(ips.contains()),
        })
    }
}

impl Enricher for EnrichLogins {
    fn enrich(&self, login: &Login, history: &History, fields: &mut Fields) {
        fields.set(self.device_type, &device::clean_type(login.device_type(), &mut device::Room::default()));

        if let Some(seconds) = login.timestamp() {
            fields.set_time(self.login_time, seconds);
            fields.set_full_hour(self.login_hour, seconds);
        }
        if let Some(earlier) = history.get(self.earlier_logins) {
            fields.set(self.user_logins, earlier + 1);
        }

        let Some(ip) = login.ip().and_then(address::parse) else { return };
        fields.set(self.ip_version, address::version(ip));
        fields.set(self.ip_scope, address::scope(ip));
        if let Some(earlier) = history.get(self.earlier_ips) {
            // Where there are more addresses than the host keeps, it may not know.
            let is_new = history.get(self.ip_is_known) == Some(false);
            fields.set(self.user_unique_ips, earlier + i64::from(is_new));
        }
    }
}

loginscope_plugin::export_enricher!(EnrichLogins);
