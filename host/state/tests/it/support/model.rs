//! The model: it keeps every accepted login and the catalog's history, and works out every answer from all of them.
//! It shares nothing with the crate but the declarations and the order of scalars.

use std::collections::HashMap;

use super::Login;
use loginscope_state::{
    Condition, Definition, Entry, HistoryRequest, LookUp, Measure, Period, Retention, Scalar, Span, WindowFacts,
};

/// What the model knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// A key with more different values than these is estimated. The estimate is taken to be right.
    pub(crate) exact_distinct: u64,
    pub(crate) logins: Vec<Login>,
    /// How many accepted logins there were when each aggregate, by plugin and name, and each dictionary, by field and
    /// limit, began.
    since: HashMap<(String, String), usize>,
    names_since: HashMap<(String, u32), usize>,
    pub(crate) plugins: Vec<(String, Vec<Definition>)>,
    /// Where the windows begin; the last one is the current one's.
    pub(crate) windows: Vec<usize>,
    pub(crate) rejected: Vec<u64>,
}

type Key = (Option<i64>, Vec<Scalar>);

impl Model {
    pub(crate) fn new(plugins: &[(String, Vec<Definition>)]) -> Self {
        let mut model = Self { exact_distinct: u64::MAX, windows: vec![0], rejected: vec![0], ..Self::default() };
        model.adopt(plugins);
        model
    }

    pub(crate) fn with_exact_distinct(self, exact_distinct: u64) -> Self {
        Self { exact_distinct, ..self }
    }

    pub(crate) fn adopt(&mut self, plugins: &[(String, Vec<Definition>)]) {
        let now = self.logins.len();
        let (mut since, mut names_since) = (HashMap::new(), HashMap::new());
        for (plugin, definitions) in plugins {
            for definition in definitions {
                let key = (plugin.clone(), definition.name.clone());
                since.insert(key.clone(), self.since.get(&key).copied().unwrap_or(now));
                for dimension in &definition.by {
                    if let Some(limit) = dimension.limit {
                        let key = (dimension.field.clone(), limit);
                        names_since.insert(key.clone(), self.names_since.get(&key).copied().unwrap_or(now));
                    }
                }
            }
        }
        (self.since, self.names_since) = (since, names_since);
        self.plugins = plugins.to_vec();
    }

    /// Goes back to how it was, except for the catalog.
    pub(crate) fn roll_back_to(&mut self, before: &Self) {
        let now = before.logins.len();
        self.since.values_mut().chain(self.names_since.values_mut()).for_each(|since| *since = (*since).min(now));
        self.logins.truncate(now);
        self.windows.clone_from(&before.windows);
        self.rejected.clone_from(&before.rejected);
    }

    pub(crate) fn definition(&self, plugin: &str, name: &str) -> &Definition {
        let (_, definitions) = self.plugins.iter().find(|(known, _)| known == plugin).unwrap();
        definitions.iter().find(|definition| definition.name == name).unwrap()
    }

    pub(crate) fn facts(&self, window: usize) -> WindowFacts {
        let end = self.windows.get(window + 1).copied().unwrap_or(self.logins.len());
        let logins = &self.logins[self.windows[window]..end];
        WindowFacts {
            logins: logins.len() as u32,
            rejected: self.rejected[window],
            first_offset: logins.first().map_or(0, |login| login.offset),
            last_offset: logins.last().map_or(0, |login| login.offset),
            earliest_login_time: logins.iter().filter_map(Login::timestamp).min(),
            latest_login_time: logins.iter().filter_map(Login::timestamp).max(),
        }
    }

    fn names(&self, field: &str, limit: u32, until: usize) -> Vec<Scalar> {
        let since = self.names_since[&(field.to_owned(), limit)];
        let mut names = Vec::new();
        for value in self.logins[since.min(until)..until].iter().filter_map(|login| login.shown(field)) {
            if names.len() < limit as usize && !names.contains(&value) {
                names.push(value);
            }
        }
        names
    }

    /// The key of a login among the first so many; `None` where it lacks a field. The second says whether the key can
    /// be there at all.
    fn key(&self, definition: &Definition, login: &Login, until: usize) -> Option<(Vec<Scalar>, bool)> {
        let mut can_be_there = true;
        let mut key = Vec::new();
        for dimension in &definition.by {
            let value = login.shown(&dimension.field)?;
            key.push(match dimension.limit {
                None => value,
                Some(limit) => {
                    let names = self.names(&dimension.field, limit, until);
                    if names.contains(&value) {
                        value
                    } else if names.len() < limit as usize {
                        can_be_there = false;
                        value
                    } else {
                        Scalar::Text("other".into())
                    }
                }
            });
        }
        Some((key, can_be_there))
    }

    fn passes(condition: &Condition, login: &Login) -> bool {
        let written = login.shown(&condition.field).map(|value| match value {
            Scalar::Text(text) => text,
            Scalar::Integer(integer) => integer.to_string(),
            Scalar::Number(number) => number.to_string(),
            Scalar::Boolean(boolean) => boolean.to_string(),
        });
        written.is_some_and(|written| condition.any_of.contains(&written)) != condition.negated
    }

    fn bucket(definition: &Definition, time: i64) -> Option<i64> {
        let seconds = definition.buckets?.seconds as i64;
        Some(time.div_euclid(seconds) * seconds)
    }

    /// The logins that an aggregate counts under each key, from some login on and before another one.
    fn counted(
        &self,
        plugin: &str,
        definition: &Definition,
        from: usize,
        until: usize,
        watermark: Option<i64>,
    ) -> Vec<(Key, Vec<&Login>)> {
        let since = self.since[&(plugin.to_owned(), definition.name.clone())];
        let mut keys: Vec<(Key, Vec<&Login>)> = Vec::new();
        for login in self.logins[..until].iter().skip(from.max(since)) {
            let measured = match &definition.measure {
                Measure::Distinct(fields) | Measure::Latest(fields) => fields.as_slice(),
                _ => &[],
            };
            let complete = measured.iter().all(|field| login.shown(field).is_some());
            let Some((key, _)) = self.key(definition, login, until) else { continue };
            if !complete || !definition.filter.iter().all(|condition| Self::passes(condition, login)) {
                continue;
            }
            let bucket = login.timestamp().and_then(|time| Self::bucket(definition, time));
            if definition.buckets.is_some() && bucket.is_none() {
                continue;
            }
            match keys.iter_mut().find(|(known, _)| *known == (bucket, key.clone())) {
                Some((_, logins)) => logins.push(login),
                None => keys.push(((bucket, key), vec![login])),
            }
        }
        if let Some(buckets) = definition.buckets {
            let mut all: Vec<i64> = keys.iter().filter_map(|((bucket, _), _)| *bucket).collect();
            all.sort_unstable();
            all.dedup();
            match buckets.keep {
                Retention::Latest(kept) => drop(all.drain(..all.len().saturating_sub(kept as usize))),
                Retention::Seconds(kept) => all.retain(|bucket| {
                    watermark.is_none_or(|watermark| bucket + buckets.seconds as i64 > watermark - kept as i64)
                }),
            }
            keys.retain(|((bucket, _), _)| bucket.is_some_and(|bucket| all.contains(&bucket)));
        }
        keys.sort_by(|((left_bucket, left), _), ((right_bucket, right), _)| {
            left_bucket.cmp(right_bucket).then_with(|| compare(left, right))
        });
        keys
    }

    fn values(definition: &Definition, logins: &[&Login]) -> Vec<Scalar> {
        match &definition.measure {
            Measure::Count => vec![Scalar::Integer(logins.len() as i64)],
            Measure::Distinct(fields) => vec![Scalar::Integer(different(fields, logins) as i64)],
            Measure::Latest(fields) => {
                let login = logins.iter().max_by_key(|login| login.offset).unwrap();
                fields.iter().map(|field| login.shown(field).unwrap()).collect()
            }
            Measure::Top(_) => unreachable!(),
        }
    }

    fn watermark(&self, until: usize) -> Option<i64> {
        self.logins[..until].iter().filter_map(Login::timestamp).max()
    }

    /// The entries of an aggregate; of a period that doesn't exist, none.
    pub(crate) fn entries(&self, plugin: &str, name: &str, period: Period) -> Vec<Entry> {
        let definition = self.definition(plugin, name);
        let current = self.windows.len() - 1;
        let (from, until) = match (definition.span, period) {
            (Span::Total, _) => (0, self.logins.len()),
            (Span::Window, Period::Current) => (self.windows[current], self.logins.len()),
            (Span::Window, Period::Previous) if current == 0 => return Vec::new(),
            (Span::Window, Period::Previous) => (self.windows[current - 1], self.windows[current]),
        };
        let Measure::Top(ranking) = &definition.measure else {
            let counted = self.counted(plugin, definition, from, until, self.watermark(until));
            let entries = counted.into_iter().map(|((bucket, key), logins)| Entry {
                bucket,
                key,
                values: Self::values(definition, &logins),
            });
            return entries.collect();
        };
        let mut ranked: Vec<Entry> = Vec::new();
        for (place, by) in ranking.rank_by.iter().enumerate() {
            for entry in self.entries(plugin, by, period) {
                let values = vec![Scalar::Integer(0); ranking.rank_by.len()];
                let at = ranked.iter().position(|known| known.key == entry.key).unwrap_or_else(|| {
                    ranked.push(Entry { values, ..entry.clone() });
                    ranked.len() - 1
                });
                ranked[at].values[place] = entry.values[0].clone();
            }
        }
        ranked.sort_by(|left, right| compare(&right.values, &left.values).then_with(|| compare(&left.key, &right.key)));
        ranked.truncate(ranking.size as usize);
        ranked
    }

    /// What is known of a login's past when the model holds exactly the logins before it.
    pub(crate) fn history(&self, plugin: &str, request: &HistoryRequest, login: &Login) -> Option<Scalar> {
        let definition = self.definition(plugin, &request.aggregate);
        let until = self.logins.len();
        let (key, can_be_there) = self.key(definition, login, until)?;
        let own_bucket = match definition.buckets {
            Some(_) => Some(Self::bucket(definition, login.timestamp()?)?),
            None => None,
        };
        let watermark = self.watermark(until).max(login.timestamp());
        let mut found = self.counted(plugin, definition, 0, until, watermark);
        found.retain(|((bucket, known), _)| {
            let seconds = definition.buckets.map_or(1, |buckets| buckets.seconds as i64);
            let in_reach = |bucket: i64| {
                let reach = request.over.map_or(i64::MAX, |over| (over as i64 + seconds - 1) / seconds);
                let back = (own_bucket.unwrap() - bucket) / seconds;
                (0..reach).contains(&back)
            };
            can_be_there && *known == key && bucket.is_none_or(in_reach)
        });
        if let (LookUp::Contains, Measure::Distinct(fields)) = (&request.look_up, &definition.measure) {
            return self.contains(fields, login, found.into_iter().map(|(_, logins)| logins));
        }
        let logins: Vec<&Login> = found.into_iter().flat_map(|(_, logins)| logins).collect();
        match (&request.look_up, &definition.measure) {
            (LookUp::Value, Measure::Count) => Some(Scalar::Integer(logins.len() as i64)),
            (LookUp::Value, Measure::Distinct(fields)) => Some(Scalar::Integer(different(fields, &logins) as i64)),
            (LookUp::Latest(field), Measure::Latest(_)) => logins.iter().max_by_key(|login| login.offset)?.shown(field),
            _ => unreachable!(),
        }
    }
}

impl Model {
    /// Whether one of these sets has the login's own values. An estimated one can only tell for certain that it hasn't.
    fn contains<'a>(
        &self,
        fields: &[String],
        login: &Login,
        sets: impl Iterator<Item = Vec<&'a Login>>,
    ) -> Option<Scalar> {
        let values = |login: &Login| fields.iter().map(|field| login.shown(field)).collect::<Vec<Option<Scalar>>>();
        let own = values(login);
        if own.contains(&None) {
            return None;
        }
        let with_it: Vec<_> = sets.filter(|set| set.iter().any(|login| values(login) == own)).collect();
        let is_exact = |set: &Vec<&Login>| different(fields, set) as u64 <= self.exact_distinct;
        let is_known = with_it.is_empty() || with_it.iter().any(is_exact);
        is_known.then_some(Scalar::Boolean(!with_it.is_empty()))
    }

    /// Whether some of these values of an aggregate are estimates.
    pub(crate) fn is_estimated(&self, definition: &Definition, entries: &[Entry]) -> bool {
        let is_more =
            |entry: &Entry| matches!(entry.values[0], Scalar::Integer(value) if value as u64 > self.exact_distinct);
        matches!(definition.measure, Measure::Distinct(_)) && entries.iter().any(is_more)
    }
}

fn different(fields: &[String], logins: &[&Login]) -> usize {
    let mut all: Vec<Vec<Option<Scalar>>> = Vec::new();
    for login in logins {
        let values = fields.iter().map(|field| login.shown(field)).collect();
        if !all.contains(&values) {
            all.push(values);
        }
    }
    all.len()
}

fn compare(left: &[Scalar], right: &[Scalar]) -> std::cmp::Ordering {
    left.iter()
        .zip(right)
        .map(|(left, right)| left.compare(right))
        .find(|order| order.is_ne())
        .unwrap_or(std::cmp::Ordering::Equal)
}
