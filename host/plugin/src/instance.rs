//! One instance of a plugin: what a worker calls.
//!
//! Invariants: what a call returns has been checked against the contract; a sandbox that has served a failed call is
//! never called again; whoever lends an [`AggregateReader`] gets it back, whatever happens.

use std::any::Any;
use std::time::Duration;

use loginscope_login::{Column, Logins, Rejection, Slot};

use crate::aggregates::AggregateReader;
use crate::answer::{Enrichment, Insight, Window};
use crate::contract::Role;
use crate::failure::Failure;
use crate::guests::{Guests, guest};
use crate::lower::Packed;
use crate::plugin::Plugin;
use crate::sandbox::{Sandbox, thread_cpu_time};
use crate::usage::{AnswerSize as _, Usage};
use crate::{lift, lower};

/// One instance of a plugin, for one thread at a time. It is started with the first call, and anew with the first call
/// after a failed one.
pub struct Instance {
    plugin: Plugin,
    running: Option<Running>,
    /// The batch at hand, packed.
    batch: Packed,
    /// What its calls took, where somebody wants to know.
    measured: Option<Measured>,
    /// How near its calls came to their limits.
    usage: Usage,
}

/// What the calls of an instance took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Those with batches of logins.
    pub logins: Meter,
    /// Those with windows.
    pub windows: Meter,
}

/// What calls took, those that failed included; starting an instance isn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// CPU time.
    pub cpu_time: Duration,
    /// How many logins, or windows, were handed over; those that were handed over again count again.
    pub rows: u64,
    /// How many calls that were.
    pub calls: u64,
}

impl Meter {
    /// So much a call takes whatever it is about; a generous guess.
    const CALL: Duration = Duration::from_micros(20);

    /// What was taken since then.
    #[must_use]
    pub fn since(&self, then: &Self) -> Self {
        Self {
            cpu_time: self.cpu_time.saturating_sub(then.cpu_time),
            rows: self.rows.saturating_sub(then.rows),
            calls: self.calls.saturating_sub(then.calls),
        }
    }

    /// CPU time for each login, or window.
    pub fn per_row(&self) -> Duration {
        self.cpu_time / u32::try_from(self.rows).unwrap_or(u32::MAX).max(1)
    }

    /// Whether more CPU time was taken than so much for each row, and what calls take whatever they are about: small batches make
    /// nobody slow.
    pub fn exceeds(&self, most_per_row: Duration) -> bool {
        let times = |time: Duration, count: u64| time.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        self.cpu_time > times(most_per_row, self.rows).saturating_add(times(Self::CALL, self.calls))
    }
}

/// An instance that has been started.
struct Running {
    sandbox: Sandbox,
    guests: Guests,
    /// Whether it has served no call yet.
    fresh: bool,
}

impl Instance {
    pub(crate) fn new(plugin: Plugin) -> Self {
        Self { plugin, running: None, batch: Packed::default(), measured: None, usage: Usage::default() }
    }

    /// The plugin it is an instance of.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// From now on keeps what its calls take, which costs each of them a microsecond, or doesn't any more.
    pub fn measure(&mut self, on: bool) {
        self.measured = on.then(|| self.measured());
    }

    /// What its calls have taken since it is measured.
    pub fn measured(&self) -> Measured {
        self.measured.unwrap_or_default()
    }

    /// The same, of which it forgets: from now on it is counted anew.
    pub fn take_measured(&mut self) -> Measured {
        self.measured.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Starts it, where it isn't running, so that the next call doesn't have to.
    ///
    /// # Errors
    /// The plugin failed; the next call tries again.
    pub fn start(&mut self) -> Result<(), Failure> {
        if self.running.is_none() {
            let (sandbox, guests) = self.plugin.start()?;
            self.running = Some(Running { sandbox, guests, fresh: true });
        }
        Ok(())
    }

    /// How near its calls came to their limits since it was made.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether the next call is the first that the plugin's memory sees. A login is to blame for a failure only if it fails
    /// alone on a fresh instance.
    pub fn is_fresh(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.fresh)
    }

    /// Judges a batch; the rejected logins come back with their rows, ascending. `more` are the slots of the fields that
    /// the validator declared to read, in its order.
    ///
    /// # Errors
    /// The plugin failed; the next call runs on a fresh instance.
    pub fn validate(&mut self, logins: &Logins, more: &[Slot]) -> Result<Vec<(u32, Rejection)>, Failure> {
        let (rows, limits) = (logins.rows(), self.plugin.limits());
        let table = self.plugin.declaration(Role::Validator).map_or(&[][..], |declaration| &declaration.table);
        self.batch.batch(logins, table, more, &[]);
        let malformed_timestamps = lower::malformed_timestamps(logins);
        serve(
            &self.plugin,
            &mut self.running,
            &mut self.usage,
            (self.measured.as_mut().map(|measured| &mut measured.logins), rows),
            |Running { sandbox, guests, .. }, usage| {
                let batch = self.batch.as_batch(rows, &malformed_timestamps);
                let rejections = sandbox.call(limits.batch_cpu(rows), |store, _| {
                    guest(guests.validator.as_ref(), Role::Validator)?.call_validate(store, batch)
                })?;
                usage.answered(rejections.answer_bytes());
                lift::rejections(rejections, rows)
            },
        )
    }

    /// Enriches a batch. `more` are the slots of the fields that the enricher declared to read, `history` the answers to
    /// what it declared to look up, both in its order.
    ///
    /// # Errors
    /// The plugin failed; the next call runs on a fresh instance.
    pub fn enrich(&mut self, logins: &Logins, more: &[Slot], history: &[Column]) -> Result<Enrichment, Failure> {
        let (rows, limits) = (logins.rows(), self.plugin.limits());
        let declaration = self.plugin.declaration(Role::Enricher);
        let (table, sets) = declaration.map_or((&[][..], &[][..]), |it| (&it.table, &it.sets));
        self.batch.batch(logins, table, more, history);
        let malformed_timestamps = lower::malformed_timestamps(logins);
        serve(
            &self.plugin,
            &mut self.running,
            &mut self.usage,
            (self.measured.as_mut().map(|measured| &mut measured.logins), rows),
            |Running { sandbox, guests, .. }, usage| {
                let batch = self.batch.as_batch(rows, &malformed_timestamps);
                let enrichment = sandbox.call(limits.batch_cpu(rows), |store, _| {
                    guest(guests.enricher.as_ref(), Role::Enricher)?.call_enrich(store, batch)
                })?;
                usage.answered(enrichment.answer_bytes());
                Ok(Enrichment {
                    fields: lift::columns(&enrichment.fields, sets, rows)?,
                    insights: lift::login_insights(enrichment.insights, rows, limits)?,
                    rejections: lift::rejections(enrichment.rejections, rows)?,
                })
            },
        )
    }

    /// Makes the insights of a window. The plugin reads aggregates through `reader`, which comes back whether the call
    /// failed or not.
    ///
    /// # Errors
    /// The plugin failed; the next call runs on a fresh instance.
    pub fn generate<R: AggregateReader>(
        &mut self,
        window: &Window,
        reader: Box<R>,
    ) -> (Result<Vec<Insight>, Failure>, Box<R>) {
        let limits = self.plugin.limits();
        // Lent to the store for the call; where the call doesn't come to that, it is still here.
        let mut here: Option<Box<dyn AggregateReader>> = Some(reader);
        let answer = serve(
            &self.plugin,
            &mut self.running,
            &mut self.usage,
            (self.measured.as_mut().map(|measured| &mut measured.windows), 1),
            |Running { sandbox, guests, .. }, usage| {
                let answer = sandbox.call_with_aggregates(limits.generate_cpu, &mut here, |store, _| {
                    guest(guests.insight_generator.as_ref(), Role::InsightGenerator)?
                        .call_generate(store, lower::window(window))
                })?;
                usage.answered(answer.answer_bytes());
                lift::insights(answer, limits)
            },
        );
        (answer, given_back(here))
    }
}

/// Makes one call on the running instance, which is started where there is none, and throws it away where the call fails.
fn serve<T>(
    plugin: &Plugin,
    slot: &mut Option<Running>,
    usage: &mut Usage,
    (meter, rows): (Option<&mut Meter>, usize),
    call: impl FnOnce(&mut Running, &mut Usage) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut running = if let Some(running) = slot.take() {
        running
    } else {
        let (sandbox, guests) = plugin.start()?;
        Running { sandbox, guests, fresh: true }
    };
    running.sandbox.time_calls(usage.next_is_sampled());
    let answer = match meter {
        None => call(&mut running, usage),
        Some(meter) => {
            let began = thread_cpu_time();
            let answer = call(&mut running, usage);
            meter.cpu_time += thread_cpu_time().saturating_sub(began);
            meter.rows += rows as u64;
            meter.calls += 1;
            answer
        }
    };
    usage.has_memory(running.sandbox.memory_bytes());
    if let Some((cpu, limit)) = running.sandbox.cpu_taken() {
        usage.took(cpu, limit);
    }
    let answer = answer?;
    running.fresh = false;
    *slot = Some(running);
    Ok(answer)
}

/// The reader as the type it was lent as.
#[expect(clippy::unnecessary_box_returns, reason = "it was lent in a box")]
fn given_back<R: AggregateReader>(lent: Option<Box<dyn AggregateReader>>) -> Box<R> {
    let lent = lent.map(|reader| -> Box<dyn Any> { reader });
    match lent.map(<Box<dyn Any>>::downcast::<R>) {
        Some(Ok(reader)) => reader,
        Some(Err(_)) | None => unreachable!("the store gives back the very reader it was lent"),
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Instance")
            .field("plugin", &self.plugin)
            .field("fresh", &self.is_fresh())
            .finish_non_exhaustive()
    }
}
