//! How near a plugin came to its limits.
//!
//! What is told here is looked at with every call, so it costs next to nothing: an answer's size is added up from the lengths of its lists,
//! memory is known from when it grew. A CPU clock takes a third of a microsecond to read, twice a call, so it is read for one
//! call in [`SAMPLED`]; calls that take longer than a tick of the engine's clock have their time taken anyway, and so are all known.

use std::time::Duration;

use crate::bindings::exports::loginscope::plugin::enricher::Enrichment;
use crate::bindings::loginscope::plugin::types::{ColumnsResult, Insight, LoginInsight, Rejection};

/// Of so many short calls, the time of one is taken.
const SAMPLED: u32 = 16;

/// The most that an instance's calls have used, each beside what it may use, since the instance was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// The size of an answer, in bytes.
    pub answer_bytes: usize,
    /// CPU time of the call that came nearest to what it may take.
    pub call_cpu: Duration,
    /// What that call may take.
    pub call_cpu_limit: Duration,
    /// How many calls there were: whose turn it is to have its time taken.
    calls: u32,
}

impl Usage {
    /// Whether the next call's time is taken.
    pub(crate) fn next_is_sampled(&mut self) -> bool {
        let is_sampled = self.calls.is_multiple_of(SAMPLED);
        self.calls = self.calls.wrapping_add(1);
        is_sampled
    }

    /// A call took so much CPU time of what it may take.
    pub(crate) fn took(&mut self, cpu: Duration, limit: Duration) {
        let share = |cpu: Duration, limit: Duration| cpu.as_secs_f64() / limit.as_secs_f64().max(f64::MIN_POSITIVE);
        if share(cpu, limit) >= share(self.call_cpu, self.call_cpu_limit) {
            (self.call_cpu, self.call_cpu_limit) = (cpu, limit);
        }
    }

    /// A call has left so much memory in use.
    pub(crate) fn has_memory(&mut self, bytes: usize) {
        self.memory_bytes = self.memory_bytes.max(bytes);
    }

    /// A call has answered so much.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.answer_bytes = self.answer_bytes.max(bytes);
    }
}

/// The size of an answer as wasmtime counts it against the limit: the elements of its lists as they lie in the host's memory, and the
/// bytes of its texts.
pub(crate) trait AnswerSize {
    fn answer_bytes(&self) -> usize;
}

/// The size of a list, without what its elements point to.
fn list<T>(elements: &[T]) -> usize {
    size_of_val(elements)
}

impl AnswerSize for Vec<Rejection> {
    fn answer_bytes(&self) -> usize {
        list(self) + self.iter().map(|it| it.code.len() + it.reason.len()).sum::<usize>()
    }
}

impl AnswerSize for Vec<Insight> {
    fn answer_bytes(&self) -> usize {
        list(self) + self.iter().map(texts).sum::<usize>()
    }
}

impl AnswerSize for Enrichment {
    fn answer_bytes(&self) -> usize {
        let Self { fields: ColumnsResult { texts, ends, integers, numbers, bits }, insights, rejections } = self;
        let fields = texts.len() + list(ends) + list(integers) + list(numbers) + list(bits);
        fields + login_insights(insights) + rejections.answer_bytes()
    }
}

fn login_insights(insights: &[LoginInsight]) -> usize {
    list(insights) + insights.iter().map(|it| texts(&it.insight)).sum::<usize>()
}

fn texts(insight: &Insight) -> usize {
    insight.kind.len() + insight.data.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_came_nearest_to_its_limit_is_told_and_not_the_longest() {
        let mut usage = Usage::default();
        let milliseconds = Duration::from_millis;
        usage.took(milliseconds(10), milliseconds(50));
        usage.took(milliseconds(40), milliseconds(400));
        assert_eq!((usage.call_cpu, usage.call_cpu_limit), (milliseconds(10), milliseconds(50)));
        usage.took(milliseconds(30), milliseconds(100));
        assert_eq!((usage.call_cpu, usage.call_cpu_limit), (milliseconds(30), milliseconds(100)));
    }

    #[test]
    fn the_first_call_and_then_one_in_sixteen_has_its_time_taken() {
        let mut usage = Usage::default();
        let sampled: Vec<usize> = (0..33).filter(|_| usage.next_is_sampled()).collect();
        assert_eq!(sampled, [0, 16, 32]);
    }
}
