//! What a worker has made of a batch, as the columns that it had, for whoever tries other plugins on them: they take no more than
//! what those plugins would have been asked, with the same past, and can be held against what the serving ones said.
//!
//! Keeping it costs a worker copies of the columns that are wanted, and is nothing at all while nobody wants any.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use loginscope_login::{Column, Logins, Slot};
use loginscope_wasm::{AggregateReader, Insight, Instance, Listing, Measured, Period, Summary, Window};

use super::batch::{Message, Output, Pipeline};
use super::chain::Chain;
use super::recent::RecentBatch;

/// What of the batches is wanted.
pub struct Wanted {
    /// Of batches that this chain judges.
    pub chain: Arc<Chain>,
    /// Of the decoded logins, these columns.
    pub slots: Vec<Slot>,
    /// The time that these plugins take, by their place in the chain.
    pub measured: Vec<usize>,
    /// What the enrichers were told and said.
    pub segments: bool,
    /// What these insight generators were told and said.
    pub windows: Vec<WantedWindows>,
    /// The messages, as there are fields to be read from them that the chain doesn't read.
    pub messages: bool,
}

/// What of an insight generator's windows is wanted.
pub struct WantedWindows {
    /// The plugin, by its place in the chain.
    pub plugin: usize,
    /// Its aggregates.
    aggregates: Vec<String>,
    /// What is to be known of them; all that can be, as long as nobody has said.
    questions: Mutex<Option<Vec<Question>>>,
}

/// What a generator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Of this aggregate.
    pub aggregate: String,
    /// Over these logins.
    pub period: Period,
    /// Its entries, or else its summary.
    pub entries: bool,
}

/// What it is told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// All keys taken together, or why that can't be told.
    Summary(Result<Summary, String>),
    /// The entries, or why they can't be told.
    Entries(Result<Listing, String>),
}

/// A window that a generator has looked at.
pub struct JudgedWindow {
    /// The generator, by its place in the chain.
    pub plugin: usize,
    /// The window.
    pub window: Window,
    /// What it could know.
    pub answers: Vec<(Question, Answer)>,
    /// What it has found; where it failed, an insight that says so.
    pub insights: Vec<Insight>,
}

/// A batch that was judged.
pub struct JudgedBatch {
    /// The partition.
    pub partition: i32,
    /// How many of its messages were judged; they are the first ones.
    pub messages: usize,
    /// The messages, if they are wanted.
    pub recent: Option<RecentBatch>,
    /// The decoded logins: the columns that are wanted.
    pub logins: Logins,
    /// The message of each of them, by its place in the batch.
    pub row_messages: Vec<usize>,
    /// What was rejected and went on without plugins, and what failed. Nothing of what was accepted.
    pub output: Output,
    /// How the valid logins went through the enrichers.
    pub segments: Vec<JudgedSegment>,
    /// The windows that it has completed, for each of the insight generators that are wanted.
    pub windows: Vec<JudgedWindow>,
    /// What the plugins took for it whose time is wanted.
    pub measured: Vec<(usize, Measured)>,
}

/// Some logins that went through the enrichers together.
#[derive(Default)]
pub struct JudgedSegment {
    /// Their rows in the batch, ascending.
    pub rows: Vec<u32>,
    /// The plugins that they went without, by their place in the chain.
    pub without: Vec<usize>,
    /// What each enricher was told of their past, in the chain's order.
    pub histories: Vec<Vec<Column>>,
    /// What each enricher has set, in the chain's order.
    pub enrichments: Vec<Vec<Column>>,
    /// The insights about them: the enricher's place, the place among these logins, and what was found.
    pub insights: Vec<(usize, u32, Insight)>,
    /// The plugin that rejected the only one of them, or failed on it. Those behind it weren't asked.
    pub rejected_by: Option<usize>,
}

impl JudgedSegment {
    /// Some of its logins.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        let cut = |columns: &Vec<Vec<Column>>| -> Vec<Vec<Column>> {
            columns.iter().map(|columns| columns.iter().map(|column| cut(column, &range)).collect()).collect()
        };
        let insights = self.insights.iter().filter(|(_, row, _)| range.contains(&(*row as usize)));
        Self {
            rows: self.rows.get(range.clone()).unwrap_or_default().to_vec(),
            without: self.without.clone(),
            histories: cut(&self.histories),
            enrichments: cut(&self.enrichments),
            insights: insights.map(|(place, row, found)| (*place, row - range.start as u32, found.clone())).collect(),
            rejected_by: self.rejected_by,
        }
    }
}

/// Some rows of a column.
pub(crate) fn cut(column: &Column, rows: &Range<usize>) -> Column {
    let mut part = Column::empty(column.field_type());
    part.select_from(column, rows.clone());
    part
}

/// What is kept of the batch at hand.
pub(super) struct Recording {
    wanted: Arc<Wanted>,
    segments: Vec<JudgedSegment>,
    windows: Vec<JudgedWindow>,
    /// What the plugins had taken before it whose time is wanted.
    before: Vec<Measured>,
}

impl Recording {
    /// Some logins have gone through the enrichers, or the first of them came to one that rejected it.
    pub(super) fn segment(&mut self, judged: impl FnOnce() -> JudgedSegment) {
        if self.wanted.segments {
            self.segments.push(judged());
        }
    }

    /// Whether something is to be known of a generator's windows.
    pub(super) fn wants_windows_of(&self, plugin: usize) -> bool {
        self.wanted.windows.iter().any(|wanted| wanted.plugin == plugin)
    }

    /// What is to be known of a generator's window: what it was told itself, and what else its reader can tell.
    pub(super) fn answers(
        &self,
        plugin: usize,
        reader: &impl AggregateReader,
        told: &[(Question, Answer)],
    ) -> Vec<(Question, Answer)> {
        let wanted = self.wanted.windows.iter().find(|wanted| wanted.plugin == plugin);
        let questions = wanted.map(WantedWindows::questions).unwrap_or_default();
        let answer = |question: Question| {
            let known = told.iter().find(|(known, _)| *known == question).map(|(_, answer)| answer.clone());
            let Question { aggregate, period, entries } = &question;
            let answer = known.unwrap_or_else(|| match entries {
                true => Answer::Entries(reader.entries(aggregate, *period)),
                false => Answer::Summary(reader.summarize(aggregate, *period)),
            });
            (question, answer)
        };
        questions.into_iter().map(answer).collect()
    }

    /// A generator has looked at a window.
    pub(super) fn looked(&mut self, window: JudgedWindow) {
        if self.wants_windows_of(window.plugin) {
            self.windows.push(window);
        }
    }

    /// A window isn't complete after all.
    pub(super) fn forget_window(&mut self, number: Option<u64>) {
        self.windows.retain(|window| Some(window.window.number) != number);
    }
}

impl WantedWindows {
    /// All that a plugin can know of these aggregates.
    pub fn new(plugin: usize, aggregates: Vec<String>) -> Self {
        Self { plugin, aggregates, questions: Mutex::default() }
    }

    /// This is enough to know, from now on.
    pub fn ask(&self, questions: Vec<Question>) {
        *self.questions.lock().unwrap_or_else(PoisonError::into_inner) = Some(questions);
    }

    fn questions(&self) -> Vec<Question> {
        let said = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone().unwrap_or_else(|| {
            let kinds = [
                (Period::Current, false),
                (Period::Current, true),
                (Period::Previous, false),
                (Period::Previous, true),
            ];
            let of = |aggregate: &String| {
                let aggregate = aggregate.clone();
                kinds.map(|(period, entries)| Question { aggregate: aggregate.clone(), period, entries })
            };
            self.aggregates.iter().flat_map(of).collect()
        })
    }
}

impl Pipeline {
    /// Keeps what is wanted of the next batch, if something is.
    pub fn record(&mut self, wanted: Option<&Arc<Wanted>>) {
        self.recording = wanted.map(|wanted| {
            for plugin in &wanted.measured {
                if let Some(instance) = self.instances.get_mut(*plugin) {
                    instance.measure(true);
                }
            }
            let before = self.taken(wanted).collect();
            Recording { wanted: Arc::clone(wanted), segments: Vec::new(), windows: Vec::new(), before }
        });
    }

    /// What was kept of the last batch, of which these are the messages and this is what they came to.
    pub fn take_judged(&mut self, partition: i32, messages: &[Message<'_>], output: &Output) -> Option<JudgedBatch> {
        let Recording { wanted, segments, windows, before } = self.recording.take()?;
        let judged = output.stopped.as_ref().map_or(messages.len(), |stopped| stopped.message);
        let took = |(before, now): (&Measured, Measured)| Measured {
            logins: now.logins.since(&before.logins),
            windows: now.windows.since(&before.windows),
        };
        let measured = before.iter().zip(self.taken(&wanted)).map(took);
        Some(JudgedBatch {
            partition,
            messages: judged,
            recent: wanted.messages.then(|| RecentBatch::of(partition, messages)),
            logins: self.logins().copy_of(&wanted.slots),
            row_messages: self.row_messages.clone(),
            output: Output {
                rejected: output.rejected.clone(),
                bypassed: output.bypassed.clone(),
                failures: output.failures.clone(),
                stopped: output.stopped.clone(),
                ..Output::default()
            },
            windows,
            segments,
            measured: wanted.measured.iter().copied().zip(measured).collect(),
        })
    }

    /// What the plugins have taken so far whose time is wanted.
    fn taken(&self, wanted: &Wanted) -> impl Iterator<Item = Measured> {
        let of = |plugin: &usize| self.instances.get(*plugin).map(Instance::measured).unwrap_or_default();
        wanted.measured.iter().map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_told_is_wanted_until_somebody_says_what_is() {
        let wanted = WantedWindows::new(0, vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(wanted.questions().len(), 8);
        let asked = Question { aggregate: "b".to_owned(), period: Period::Current, entries: true };
        wanted.ask(vec![asked.clone()]);
        assert_eq!(wanted.questions(), [asked]);
    }

    #[test]
    fn a_part_of_a_segment_has_what_belongs_to_its_logins() {
        let column = |values: [i64; 3]| {
            let mut column = Column::empty(loginscope_login::FieldType::Integer);
            for value in values {
                column.push(loginscope_login::Value::Integer(value));
            }
            column
        };
        let insight = |data: &str| Insight {
            kind: "k".to_owned(),
            severity: loginscope_wasm::Severity::Low,
            data: data.to_owned(),
        };
        let segment = JudgedSegment {
            rows: vec![2, 5, 6],
            histories: vec![vec![column([1, 2, 3])]],
            enrichments: vec![Vec::new(), vec![column([4, 5, 6])]],
            insights: vec![(1, 0, insight("{}")), (1, 2, insight("[]"))],
            ..JudgedSegment::default()
        };
        let part = segment.part(1..3);
        assert_eq!(part.rows, [5, 6]);
        assert_eq!(part.histories[0][0].value(1), loginscope_login::Value::Integer(3));
        assert_eq!(part.enrichments[1][0].value(0), loginscope_login::Value::Integer(5));
        assert_eq!(part.insights, [(1, 1, insight("[]"))]);
    }
}
