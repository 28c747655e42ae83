//! What an enricher says about a login: fields, a rejection, insights.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use serde::Serialize;

use crate::contract::{self, Enrichment, FieldType, LoginInsight};
use crate::time::Recent;
use crate::written::{self, Written};
use crate::{FieldValue, Insight, Json, OutputField, Rejection, Settable};

/// Takes what an enricher has to say about the login at hand.
#[derive(Debug)]
pub struct Fields {
    /// One column for each field that was declared. Each ends at the last row that has a value, `row` at most.
    columns: Vec<Written>,
    row: usize,
    /// The time that was set last: most logins of a batch are of the same.
    recent: Recent,
    insights: Vec<LoginInsight>,
    rejections: Vec<contract::Rejection>,
}

impl Fields {
    /// Fields of these types.
    pub(crate) fn of_types(types: impl Iterator<Item = FieldType>) -> Self {
        let columns = types.map(Written::empty).collect();
        Self { columns, row: 0, recent: Recent::default(), insights: Vec::new(), rejections: Vec::new() }
    }

    /// Makes room for so many logins.
    pub(crate) fn make_room(&mut self, logins: usize) {
        for column in &mut self.columns {
            column.make_room(logins);
        }
    }

    /// Goes on to the next login. What wasn't set is missing.
    pub(crate) fn finish_login(&mut self) {
        self.row += 1;
    }

    /// All that was said about the logins so far. The next login is the first of another batch.
    pub(crate) fn take_enrichment(&mut self) -> Enrichment {
        let enrichment = Enrichment {
            fields: written::pack(&mut self.columns, self.row),
            insights: std::mem::take(&mut self.insights),
            rejections: std::mem::take(&mut self.rejections),
        };
        for column in &mut self.columns {
            column.clear();
        }
        self.row = 0;
        enrichment
    }

    /// Sets a field of the login, by the key that [`Declare::sets`](crate::Declare::sets) gave. Setting it again replaces
    /// the value. A field that isn't set stays as it is in the login; so does one set to a number that is not finite.
    #[inline(always)]
    pub fn set<T: Settable + ?Sized>(&mut self, field: OutputField<T>, value: T::Value<'_>) {
        if let Some(column) = self.columns.get_mut(field.index()) {
            T::put(column, self.row, value);
        }
    }

    /// Sets a field to a time, as RFC 3339 has it: as [`Rfc3339`](crate::time::Rfc3339) writes it, but for many logins much
    /// faster. A field that is set to a time outside the years 0 to 9999 stays as it is in the login.
    #[inline]
    pub fn set_time(&mut self, field: OutputField<str>, epoch_seconds: i64) {
        let Some(column) = self.columns.get_mut(field.index()) else { return };
        match self.recent.time(epoch_seconds) {
            Some(time) => column.put_text(self.row, time),
            None => column.end_at(self.row),
        }
    }

    /// Sets a field to the beginning of the hour of a time, as [`set_time`](Self::set_time) does.
    #[inline]
    pub fn set_full_hour(&mut self, field: OutputField<str>, epoch_seconds: i64) {
        let Some(column) = self.columns.get_mut(field.index()) else { return };
        match self.recent.hour(epoch_seconds) {
            Some(hour) => column.put_text(self.row, hour),
            None => column.end_at(self.row),
        }
    }

    /// Sets a field to anything that can be written as JSON. `null` leaves the field as it is.
    ///
    /// # Panics
    /// Where the value can't be written as JSON, such as a map whose keys aren't texts.
    pub fn set_json(&mut self, field: OutputField<Json>, value: &impl Serialize) {
        #[expect(clippy::expect_used, reason = "a value that can never be written is a fault of the plugin's own")]
        let text = serde_json::to_string(value).expect("the value of a field can't be written as JSON");
        let Some(column) = self.columns.get_mut(field.index()) else { return };
        if text == "null" {
            column.end_at(self.row);
        } else {
            column.put_json(self.row, &text);
        }
    }

    /// Keeps the login from going on. Only the first rejection of a login counts, and its fields and insights don't.
    pub fn reject(&mut self, rejection: Rejection) {
        if self.rejection_here().is_none() {
            self.rejections.push(rejection.of_row(self.row));
        }
    }

    /// Tells an insight about the login. It goes out at once, if the login is accepted.
    pub fn insight(&mut self, insight: Insight) {
        self.insights.push(LoginInsight { row: self.row as u32, insight });
    }

    /// What a field of the login has been set to.
    pub fn get<T: FieldValue + ?Sized>(&self, field: OutputField<T>) -> Option<T::Value<'_>> {
        T::written(self.columns.get(field.index())?, self.row)
    }

    /// Why the login has been rejected: code and reason.
    pub fn rejection(&self) -> Option<Rejection> {
        self.rejection_here().map(|rejection| Rejection::new(rejection.code.clone(), &rejection.reason))
    }

    /// The insights about the login so far.
    pub fn insights(&self) -> impl Iterator<Item = &Insight> {
        self.insights.iter().filter(|insight| insight.row as usize == self.row).map(|insight| &insight.insight)
    }

    fn rejection_here(&self) -> Option<&contract::Rejection> {
        self.rejections.last().filter(|rejection| rejection.row as usize == self.row)
    }
}
