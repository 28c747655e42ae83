//! The shape of a summary: the members of the insight's data, in their order.

use loginscope_plugin::Entry;
use serde::Serialize;

use crate::counts::{ByName, LatestHours};
use crate::development::Development;

/// The data of a `summary`.
#[derive(Clone, Debug, Serialize)]
pub struct Overview<'a> {
    /// What the window says.
    pub in_window: InWindow<'a>,
    /// What all logins since the beginning say.
    pub totals: Overall<'a>,
    /// What is known of users.
    pub users: Users<'a>,
    /// What changed against the window before; empty for the first.
    pub developments: Vec<Development<'a>>,
}

/// What a window says.
#[derive(Clone, Debug, Serialize)]
pub struct InWindow<'a> {
    /// Its logins by device type.
    pub logins_by_device_type: ByName<'a>,
    /// How many different users there are.
    pub unique_users: u64,
    /// How many different addresses there are.
    pub unique_ips: u64,
    /// Logins over the time from the earliest to the latest, to 4 decimals.
    pub logins_per_minute: f64,
}

/// What all logins since the beginning say.
#[derive(Clone, Debug, Serialize)]
pub struct Overall<'a> {
    /// How many there are.
    pub logins: u64,
    /// How many different users there are.
    pub users: u64,
    /// The logins by device type.
    pub logins_by_device_type: ByName<'a>,
    /// The logins by device type for each of the latest hours that have logins.
    pub logins_by_device_type_per_hour: LatestHours<'a>,
}

/// What is known of users.
#[derive(Clone, Debug, Serialize)]
pub struct Users<'a> {
    /// Those with the most different addresses, in that order.
    pub most_unique_ips: Vec<MostUniqueIps<'a>>,
    /// The different addresses of a user, averaged over all users, to 4 decimals.
    pub average_unique_ips: f64,
}

/// A user with many addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MostUniqueIps<'a> {
    /// The user.
    pub user_id: &'a str,
    /// How many different addresses it logged in from.
    pub unique_ips: u64,
    /// How many addresses it logged in from, one a login.
    pub total_ips: u64,
}

impl<'a> MostUniqueIps<'a> {
    /// A user of the ranking by different addresses, then logins.
    pub fn of(entry: Entry<'a>) -> Self {
        Self {
            user_id: entry.key_text(0).unwrap_or_default(),
            unique_ips: entry.number(0) as u64,
            total_ips: entry.number(1) as u64,
        }
    }
}
