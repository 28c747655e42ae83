//! What an aggregate said just before each login, the earlier logins of the same batch included.
//!
//! A single login is only looked up. In a batch of several, every aggregate that is asked counts each login right
//! after the look-up for it, *ahead* of the batch being accepted. It is remembered what was counted and answered, so
//! that another plugin's look-ups find the same answers, and [`Partition::observe`] doesn't count it again. If the
//! batch isn't accepted as it is, all that is taken back: by the rollback of the attempt, or at the latest when the
//! partition is asked or told about other logins.
//!
//! A bucket that is kept by seconds is seen if it would be at the time of the login that asks: its own login time
//! counts for how far time has come. So an answer depends on the logins before it and on itself, on nothing else.

use std::collections::HashMap;

use loginscope_login::{Column, Logins, Slot};

use crate::aggregate::{Retention, TimeBuckets};
use crate::batch::Prepared;
use crate::buckets::Storage;
use crate::layout::Place;
use crate::partition::Partition;
use crate::pass::Pass;
use crate::plan::{HistoryPlan, PlannedRequest};
use crate::question::{Ask, Question};

/// A question as what makes it the same as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    table: usize,
    member: usize,
    ask: Ask,
    over: Option<u64>,
}

/// What is known about the batch at hand, and what was counted ahead of it.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// Which batch it is.
    offsets: Vec<i64>,
    /// Where its changes begin in the journal.
    pub(crate) position: usize,
    pub(crate) prepared: Prepared,
    /// The tables' members that have counted it.
    pub(crate) counted: Vec<(usize, usize)>,
    /// The ids of its keys, by table.
    pub(crate) ids: HashMap<usize, Vec<u32>>,
    answers: Vec<(Asked, Column)>,
}

impl Partition {
    /// What each login's past is, one column a look-up, in the plan's order: the values as just before the login,
    /// with the earlier ones of the same batch counted as accepted. Missing where the login lacks a field of the key
    /// (with buckets, that is its time too), for [`LookUp::Contains`](crate::LookUp::Contains) also where it lacks one
    /// of the values, and everywhere if the aggregate isn't kept.
    ///
    /// If there are several logins, the next thing is to [`observe`](Self::observe) the same ones, their fields at
    /// the plan's slots as they are now; or to roll back; or to ask for the history of other ones, which takes back
    /// what was counted ahead for these.
    pub fn history(&mut self, plan: &HistoryPlan, logins: &Logins) -> Vec<Column> {
        let asked: Vec<Option<Asked>> =
            plan.requests.iter().map(|request| self.resolve(&plan.plugin, request)).collect();
        let mut ahead = self.ahead_of(logins);
        let mut new: Vec<Asked> = Vec::new();
        for one in asked.iter().flatten() {
            if !new.contains(one) && ahead.answer(one).is_none() {
                new.push(*one);
            }
        }
        if new.iter().any(|new| ahead.counted.iter().any(|counted| self.shows(*counted, new))) {
            // A new question on what these logins have already changed: all is asked again from the start.
            new.extend(ahead.answers.iter().map(|(asked, _)| asked));
            self.undo_to(ahead.position);
            ahead.begin(logins, self.progress.watermark);
        }
        let counts = logins.rows() > 1;
        if counts {
            self.journal.set_active(true);
        }
        self.ask(&mut ahead, logins, &new, counts);
        let columns = plan.requests.iter().zip(&asked).map(|(request, asked)| {
            let answer = asked.as_ref().and_then(|asked| ahead.answer(asked));
            answer.cloned().unwrap_or_else(|| missing(request, logins.rows()))
        });
        let columns = columns.collect();
        if counts {
            self.ahead = Some(ahead);
        } else {
            self.spare = ahead.prepared;
        }
        columns
    }

    /// Whether a question's answers depend on whether a table's member has counted the logins already: it is asked
    /// about that member; or the member's logins may have ended buckets of the table that both share.
    fn shows(&self, (table, member): (usize, usize), asked: &Asked) -> bool {
        let buckets = self.layout.table(table).and_then(|layout| layout.buckets);
        let ends_buckets = matches!(buckets, Some(TimeBuckets { keep: Retention::Latest(_), .. }));
        table == asked.table && (member == asked.member || ends_buckets)
    }

    fn resolve(&self, plugin: &str, request: &PlannedRequest) -> Option<Asked> {
        let (index, _) = self.catalog.find(plugin, &request.aggregate)?;
        match self.layout.places.get(index)? {
            Place::Member { table, member } => {
                Some(Asked { table: *table, member: *member, ask: request.ask, over: request.over })
            }
            Place::Top { .. } | Place::Absent => None,
        }
    }

    /// What is known about this batch. What was counted ahead of another one is taken back.
    pub(crate) fn ahead_of(&mut self, logins: &Logins) -> Box<Ahead> {
        if let Some(ahead) = self.ahead.take() {
            if ahead.offsets == logins.offsets {
                return ahead;
            }
            self.ahead = Some(ahead);
            self.take_back_ahead();
        }
        let mut ahead = Ahead {
            offsets: logins.offsets.clone(),
            position: self.journal.len(),
            prepared: std::mem::take(&mut self.spare),
            counted: Vec::new(),
            ids: HashMap::new(),
            answers: Vec::new(),
        };
        ahead.begin(logins, self.progress.watermark);
        Box::new(ahead)
    }

    /// Asks table by table, and counts the logins in the members that are asked, if they are to be counted ahead.
    fn ask(&mut self, ahead: &mut Ahead, logins: &Logins, asked: &[Asked], counts: bool) {
        let mut tables: Vec<usize> = asked.iter().map(|asked| asked.table).collect();
        tables.sort_unstable();
        tables.dedup();
        for table in tables {
            let of_table: Vec<Asked> = asked.iter().filter(|asked| asked.table == table).copied().collect();
            self.prepare(&mut ahead.prepared, logins, &of_table, counts);
            self.ask_table(ahead, logins, &of_table, counts);
        }
    }

    /// Works out what a table's questions need to know about the batch.
    fn prepare(&mut self, prepared: &mut Prepared, logins: &Logins, asked: &[Asked], counts: bool) {
        let Some(layout) = asked.first().and_then(|first| self.layout.table(first.table)) else { return };
        let members = asked.iter().filter_map(|asked| layout.members.get(asked.member)?.as_ref());
        let mut slots: Vec<Slot> = members.flat_map(|member| member.kept.fields()).copied().collect();
        slots.extend(layout.key.iter().map(|field| field.slot));
        for slot in slots {
            prepared.encode(logins, slot);
        }
        let dictionaries: Vec<usize> = layout.key.iter().filter_map(|field| field.dictionary).collect();
        for dictionary in dictionaries {
            if counts {
                self.give_names(prepared, logins, dictionary);
            } else {
                self.peek_names(prepared, logins, dictionary);
            }
        }
    }

    fn ask_table(&mut self, ahead: &mut Ahead, logins: &Logins, asked: &[Asked], counts: bool) {
        let Some(number) = asked.first().map(|first| first.table) else { return };
        let Some((layout, Some(state))) = self.layout.table(number).zip(self.tables.get_mut(number)) else { return };
        let mut counted: Vec<usize> = asked.iter().map(|asked| asked.member).collect();
        counted.sort_unstable();
        counted.dedup();
        if !counts {
            counted.clear();
        }
        let question = |asked: &Asked| {
            let mut answers = Column::empty(asked.ask.field_type());
            if let Column::Integer(answers) = &mut answers {
                answers.values.reserve_exact(logins.rows());
            }
            Question { member: asked.member, ask: asked.ask, over: asked.over, answers }
        };
        let mut questions: Vec<Question> = asked.iter().map(question).collect();
        let (most_members, journal) = (self.catalog.exact_distinct, &mut self.journal);
        let mut pass = Pass { number: number as u32, layout, most_members, logins, prepared: &ahead.prepared, journal };
        match (&mut state.current, layout.buckets) {
            (Storage::Plain(table), _) => {
                pass.plain(table, &counted, &mut questions, ahead.ids.entry(number).or_default());
            }
            (Storage::Buckets(tables), Some(buckets)) => pass.bucketed(tables, buckets, &counted, &mut questions),
            (Storage::Buckets(_), None) => {}
        }
        ahead.counted.extend(counted.into_iter().map(|member| (number, member)));
        ahead.answers.extend(asked.iter().copied().zip(questions.into_iter().map(|question| question.answers)));
    }
}

impl Ahead {
    fn begin(&mut self, logins: &Logins, watermark: i64) {
        self.prepared.begin(logins, watermark);
        self.counted.clear();
        self.ids.clear();
        self.answers.clear();
    }

    fn answer(&self, asked: &Asked) -> Option<&Column> {
        self.answers.iter().find(|(known, _)| known == asked).map(|(_, answers)| answers)
    }
}

fn missing(request: &PlannedRequest, rows: usize) -> Column {
    let mut column = Column::empty(request.ask.field_type());
    (0..rows).for_each(|_| column.push(loginscope_login::Value::Missing));
    column
}
