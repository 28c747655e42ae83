//! Logins counted by name, and by hour and name: the host's entries, as a summary writes them. Names are borrowed.

use loginscope_plugin::time::Rfc3339;
use loginscope_plugin::{Entries, Entry};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The logins of one name, in one hour where they are counted by hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedCount<'a> {
    /// The begin of the hour in epoch seconds; 0 where hours aren't told apart.
    pub hour: i64,
    /// The name.
    pub name: &'a str,
    /// How many logins.
    pub logins: u64,
}

impl<'a> NamedCount<'a> {
    fn of(entry: Entry<'a>) -> Self {
        Self {
            hour: entry.bucket().unwrap_or_default(),
            name: entry.key_text(0).unwrap_or_default(),
            logins: entry.number(0) as u64,
        }
    }
}

/// The counts of an aggregate with one dimension: sorted by hour, then name, as its entries are.
pub fn counts(entries: &Entries) -> Vec<NamedCount<'_>> {
    entries.iter().map(NamedCount::of).collect()
}

/// Counts of one hour, or of no hour. Written as an object with a member for each name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByName<'a>(pub &'a [NamedCount<'a>]);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|count| (count.name, count.logins)))
    }
}

/// Counts by hour, of which the latest so many hours are told. Written as an object with a member for each hour, which
/// has one for each name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatestHours<'a> {
    /// The counts, sorted by hour.
    pub counts: &'a [NamedCount<'a>],
    /// How many hours at most.
    pub hours: usize,
}

impl<'a> LatestHours<'a> {
    fn iter(self) -> impl Iterator<Item = (i64, ByName<'a>)> {
        let hours = || self.counts.chunk_by(|one, next| one.hour == next.hour);
        let earlier = hours().count().saturating_sub(self.hours);
        hours().skip(earlier).filter_map(|counts| Some((counts.first()?.hour, ByName(counts))))
    }
}

impl Serialize for LatestHours<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut hours = serializer.serialize_map(None)?;
        for (hour, counts) in self.iter() {
            if let Some(time) = Rfc3339::from_epoch_seconds(hour) {
                hours.serialize_entry(time.as_str(), &counts)?;
            }
        }
        hours.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loginscope_plugin::serde_json;
    use loginscope_plugin::testing::{bucket_entry, entries, entry};

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn names_are_members_in_the_order_of_their_bytes() {
        let entries = entries([entry(["Zx"], [2]), entry(["ios"], [7]), entry(["é\""], [1])]);
        assert_eq!(json(&ByName(&counts(&entries))), r#"{"Zx":2,"ios":7,"é\"":1}"#);
        assert_eq!(json(&ByName::default()), "{}");
    }

    #[test]
    fn hours_are_members_and_have_members() {
        let entries = entries([
            bucket_entry(-3600, ["ios"], [1]),
            bucket_entry(0, ["android"], [2]),
            bucket_entry(0, ["ios"], [3]),
        ]);
        let counts = counts(&entries);
        let expected = r#"{"1969-12-31T23:00:00Z":{"ios":1},"1970-01-01T00:00:00Z":{"android":2,"ios":3}}"#;
        assert_eq!(json(&LatestHours { counts: &counts, hours: 2 }), expected);
    }

    #[test]
    fn only_the_latest_hours_are_told() {
        let entries = entries((0..30).map(|hour| bucket_entry(hour * 3600, ["ios"], [hour])));
        let counts = counts(&entries);
        let hours: Vec<_> = LatestHours { counts: &counts, hours: 24 }.iter().collect();
        assert_eq!(hours.len(), 24);
        assert_eq!((hours[0].0, hours[23].0), (6 * 3600, 29 * 3600));
        assert_eq!(LatestHours { counts: &counts[..3], hours: 24 }.iter().count(), 3);
    }
}
