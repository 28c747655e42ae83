//! Tells what a window of logins means: one `summary` of the window, of all logins so far, of the users with the most
//! addresses, and of what has changed against the window before.
//!
//! [`summary`] is the shape of what is told, [`development`] the comparison of two windows, in plain functions of plain
//! values; here they are filled from the host's aggregates.

pub mod counts;
pub mod development;
pub mod ratio;
pub mod summary;
#[cfg(test)]
mod tests;

use loginscope_plugin::prelude::*;

use crate::counts::{ByName, LatestHours, NamedCount, counts};
use crate::development::{WindowCounts, developments};
use crate::ratio::rounded;
use crate::summary::{InWindow, MostUniqueIps, Overall, Overview, Users};

/// How many device types of a partition keep their names.
const DEVICE_TYPES: u32 = 100;

/// How many of the latest hours are told.
const HOURS: u32 = 24;

/// How many of the users with the most addresses are told.
const TOP_USERS: u32 = 10;

/// The plugin. It has no settings: what it tells is part of the data contract.
#[derive(Debug)]
pub struct SummarizeLogins {
    window_device_types: Windowed<Count>,
    window_users: Windowed<Distinct>,
    window_ips: Windowed<Distinct>,
    logins: Total<Count>,
    user_logins: Total<Count>,
    user_ips: Total<Distinct>,
    top_users: Total<Top>,
    device_types: Total<Count>,
    hourly_device_types: Total<Count>,
}

impl Plugin for SummarizeLogins {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, declare: &mut Declare) -> Result<Self, String> {
        let by_device_type = || Aggregate::count().by_first(DEVICE_TYPES, "device_type");
        let by_hour = by_device_type().buckets(3600, Keep::Latest(HOURS));
        let user_logins = declare.total("user_logins", Aggregate::count().by("user_id"));
        let user_ips = declare.total("user_ips", Aggregate::distinct(["ip"]).by("user_id"));
        Ok(Self {
            window_device_types: declare.window("window_device_types", by_device_type()),
            window_users: declare.window("window_users", Aggregate::distinct(["user_id"])),
            window_ips: declare.window("window_ips", Aggregate::distinct(["ip"])),
            logins: declare.total("logins", Aggregate::count()),
            user_logins,
            user_ips,
            top_users: declare.total("top_users", Aggregate::top(TOP_USERS, [user_ips.rank(), user_logins.rank()])),
            device_types: declare.total("device_types", by_device_type()),
            hourly_device_types: declare.total("hourly_device_types", by_hour),
        })
    }
}

impl InsightGenerator for SummarizeLogins {
    fn generate(&self, window: &Window, totals: &Totals) -> Vec<Insight> {
        let now = window.entries(self.window_device_types);
        let before = window.previous().map(|previous| previous.entries(self.window_device_types));
        let ever = totals.entries(self.device_types);
        let hourly = totals.entries(self.hourly_device_types);
        let top_users = totals.entries(self.top_users);

        let (now, ever, hourly) = (counts(&now), counts(&ever), counts(&hourly));
        let before = before.as_ref().map(counts).unwrap_or_default();
        let current = WindowCounts {
            device_types: &now,
            unique_users: window.summary(self.window_users).sum,
            ..WindowCounts::of(window.facts())
        };
        let previous = window.previous().map(|previous| WindowCounts {
            device_types: &before,
            unique_users: previous.summary(self.window_users).sum,
            ..WindowCounts::of(previous.facts())
        });
        let overview = Overview {
            in_window: InWindow {
                logins_by_device_type: ByName(current.device_types),
                unique_users: current.unique_users,
                unique_ips: window.summary(self.window_ips).sum,
                logins_per_minute: current.logins_per_minute(),
            },
            totals: self.overall(totals, &ever, &hourly),
            users: self.users(totals, &top_users),
            developments: previous.map(|previous| developments(&current, &previous)).unwrap_or_default(),
        };
        vec![Insight::new("summary", Severity::Info, &overview)]
    }
}

impl SummarizeLogins {
    fn overall<'a>(
        &self,
        totals: &Totals,
        device_types: &'a [NamedCount<'a>],
        hourly: &'a [NamedCount<'a>],
    ) -> Overall<'a> {
        Overall {
            logins: totals.summary(self.logins).sum,
            users: totals.summary(self.user_logins).keys,
            logins_by_device_type: ByName(device_types),
            logins_by_device_type_per_hour: LatestHours { counts: hourly, hours: HOURS as usize },
        }
    }

    fn users<'a>(&self, totals: &Totals, top_users: &'a Entries) -> Users<'a> {
        let ips = totals.summary(self.user_ips);
        Users {
            most_unique_ips: top_users.iter().map(MostUniqueIps::of).collect(),
            average_unique_ips: rounded(ips.sum, ips.keys),
        }
    }
}

loginscope_plugin::export_insight_generator!(SummarizeLogins);
