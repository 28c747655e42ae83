//! Insight generators that differ, on the windows that the workers complete: each is told what the workers know, also of other partitions,
//! and held against what the one in its place has found.
//!
//! What it wants to know is learnt from what it asks for: at first the workers tell all that can be told of its aggregates, then only that. A
//! window of which it asks something else is left out, and that is told of the next ones.

use std::cell::RefCell;
use std::sync::Arc;

use loginscope_wasm::{AggregateReader, Failure, Insight, Instance, Listing, Period, Plugin, Role, Summary, Window};

use super::super::outcome::SeenInsight;
use super::super::report::{Report, Tolerance};
use super::{is_tried, predecessor, used};
use crate::pipeline::Chain;
use crate::pipeline::insight::plugin_failed;
use crate::pipeline::judged::{Answer, JudgedBatch, JudgedWindow, Question, Wanted, WantedWindows};

/// From how many windows it is learnt what a generator wants to know.
const LEARNING: u32 = 10;

/// The generators that differ.
pub(super) struct Windows {
    tried: Vec<Generator>,
}

struct Generator {
    instance: Instance,
    /// The plugin of the old chain in its place.
    predecessor: usize,
    /// Its aggregates.
    aggregates: Arc<[String]>,
    /// What it has asked about them so far.
    asked: Vec<Question>,
    /// How many windows it has looked at.
    windows: u32,
}

/// What the workers tell of a window.
struct Told {
    aggregates: Arc<[String]>,
    answers: Vec<(Question, Answer)>,
    asked: RefCell<Vec<Question>>,
}

/// The plugin in the place of a generator, where the workers know all that the generator may want to know.
pub(super) fn told_by_workers(old: &Chain, new: &Chain, plugin: &Plugin) -> Option<usize> {
    plugin.declaration(Role::InsightGenerator)?;
    let place = predecessor(old, plugin)?;
    old.plugins.get(place)?.declaration(Role::InsightGenerator)?;
    let known = old.declared(plugin.name());
    new.declared(plugin.name()).iter().all(|definition| known.contains(definition)).then_some(place)
}

/// The windows that are to be known of to try the generators that differ.
pub(super) fn wanted(old: &Chain, new: &Chain) -> Vec<WantedWindows> {
    let tried = new.plugins.iter().filter(|plugin| is_tried(old, plugin));
    let wanted = tried.filter_map(|plugin| {
        let names = new.declared(plugin.name()).iter().map(|definition| definition.name.clone());
        Some(WantedWindows::new(told_by_workers(old, new, plugin)?, names.collect()))
    });
    wanted.collect()
}

impl Windows {
    pub(super) fn new(old: &Chain, new: &Chain) -> Self {
        let tried = new.plugins.iter().filter(|plugin| is_tried(old, plugin));
        let generators = tried.filter_map(|plugin| {
            let predecessor = told_by_workers(old, new, plugin)?;
            let mut instance = plugin.instance();
            instance.measure(true);
            let aggregates = new.declared(plugin.name()).iter().map(|definition| definition.name.clone()).collect();
            Some(Generator { instance, predecessor, aggregates, asked: Vec::new(), windows: 0 })
        });
        Self { tried: generators.collect() }
    }

    /// Has them look at the windows that a batch has completed, until one fails too often.
    pub(super) fn look(
        &mut self,
        wanted: &Wanted,
        batch: &mut JudgedBatch,
        report: &mut Report,
        tolerance: &Tolerance,
    ) {
        for window in std::mem::take(&mut batch.windows) {
            let tried = self.tried.iter_mut().find(|tried| tried.predecessor == window.plugin);
            if let Some(tried) = tried.filter(|_| report.failure(tolerance).is_none()) {
                let wanted = wanted.windows.iter().find(|wanted| wanted.plugin == window.plugin);
                tried.look(window, wanted, report);
            }
        }
    }
}

impl Generator {
    fn look(&mut self, window: JudgedWindow, wanted: Option<&WantedWindows>, report: &mut Report) {
        let known = self.asked.len();
        let JudgedWindow { window, answers, insights, .. } = window;
        let (said, failures, is_known) = self.generate(&window, answers, report);
        self.windows += 1;
        let is_new = self.windows == LEARNING || self.windows > LEARNING && self.asked.len() > known;
        if let (true, Some(wanted)) = (is_new, wanted) {
            wanted.ask(self.asked.clone());
        }
        if !is_known {
            return;
        }
        let used = used(&mut report.new, self.instance.plugin());
        for failure in &failures {
            used.failed(&failure.to_string());
        }
        used.failed_windows += u64::from(!failures.is_empty());
        let about = |insights: &[Insight]| {
            SeenInsight::by_id(insights.iter().map(|insight| (window.number.cast_signed(), insight)))
        };
        report.insights(&about(&insights), &about(&said));
    }

    /// What it finds, also where it fails, and whether it was told all that it wanted to know. A failure on an instance that has served other
    /// calls is tried again on a fresh one.
    fn generate(
        &mut self,
        window: &Window,
        answers: Vec<(Question, Answer)>,
        report: &mut Report,
    ) -> (Vec<Insight>, Vec<Failure>, bool) {
        let mut failures = Vec::new();
        let mut told = Box::new(Told { aggregates: Arc::clone(&self.aggregates), answers, asked: RefCell::default() });
        loop {
            let was_fresh = self.instance.is_fresh();
            let (said, back) = self.instance.generate(window, told);
            told = back;
            used(&mut report.new, self.instance.plugin()).windows.add(self.instance.take_measured().windows);
            let asked = told.asked.take();
            let is_known = asked.iter().all(|asked| told.answers.iter().any(|(question, _)| question == asked));
            for question in asked {
                if !self.asked.contains(&question) {
                    self.asked.push(question);
                }
            }
            match said {
                Ok(insights) => return (insights, failures, is_known),
                Err(failure) => {
                    let insights = vec![plugin_failed(&failure.to_string())];
                    failures.push(failure);
                    if was_fresh || !is_known {
                        return (insights, failures, is_known);
                    }
                }
            }
        }
    }
}

impl Told {
    fn answer(&self, aggregate: &str, period: Period, entries: bool) -> Result<&Answer, String> {
        // It can ask for anything, but there is nothing to be learnt of it.
        if !self.aggregates.iter().any(|known| known == aggregate) {
            return Err(format!("there is no aggregate `{aggregate}`"));
        }
        let is_it = |question: &Question| {
            question.entries == entries && question.period == period && question.aggregate == aggregate
        };
        if !self.asked.borrow().iter().any(is_it) {
            self.asked.borrow_mut().push(Question { aggregate: aggregate.to_owned(), period, entries });
        }
        let answer = self.answers.iter().find(|(question, _)| is_it(question));
        answer.map(|(_, answer)| answer).ok_or_else(|| format!("`{aggregate}` isn't known yet"))
    }
}

impl AggregateReader for Told {
    fn summarize(&self, aggregate: &str, period: Period) -> Result<Summary, String> {
        match self.answer(aggregate, period, false)? {
            Answer::Summary(summary) => summary.clone(),
            Answer::Entries(_) => Err(format!("`{aggregate}` isn't known yet")),
        }
    }

    fn entries(&self, aggregate: &str, period: Period) -> Result<Listing, String> {
        match self.answer(aggregate, period, true)? {
            Answer::Entries(entries) => entries.clone(),
            Answer::Summary(_) => Err(format!("`{aggregate}` isn't known yet")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_an_aggregate_is_learnt_and_what_is_none_is_not() {
        let question = |entries| Question { aggregate: "a".to_owned(), period: Period::Current, entries };
        let summary = Summary { keys: 1, sum: 2, approximate: false };
        let told = Told {
            aggregates: Arc::from(["a".to_owned()]),
            answers: vec![(question(false), Answer::Summary(Ok(summary)))],
            asked: RefCell::default(),
        };
        assert_eq!(told.summarize("a", Period::Current), Ok(summary));
        assert!(told.entries("a", Period::Current).is_err() && told.entries("b", Period::Current).is_err());
        assert_eq!(told.asked.take(), [question(false), question(true)]);
    }
}
