//! The verdicts on a batch.
//!
//! The whole batch goes to each validator in one call; those it rejects don't go to the next one. When a call fails, the
//! batch is halved until a login fails alone on a fresh instance: that one is rejected, or goes on unjudged, or waits with all behind it,
//! as the policy says. All others, or all before it, have been judged.

use std::time::Instant;

use loginscope_login::{Logins, Rejection};
use loginscope_wasm::Instance;

use super::breaker::{Asked, Breaker};
use super::chain::ChainValidator;
use super::policy::OnFailure;

/// A validator that is to be asked, and how.
pub(crate) struct Asking<'a> {
    pub(crate) validator: &'a ChainValidator,
    pub(crate) instance: &'a mut Instance,
    pub(crate) breaker: &'a mut Breaker,
    pub(crate) on_failure: OnFailure,
    pub(crate) now: Instant,
}

/// What one validator made of a batch.
#[derive(Default)]
pub(crate) struct Verdicts {
    /// The logins that it rejected or failed on, and why.
    pub(crate) rejected: Vec<(u32, Rejection)>,
    /// The logins that it didn't judge.
    pub(crate) bypassed: Vec<u32>,
    /// The login that waits for it, and why: it has judged those before, and none behind.
    pub(crate) stopped: Option<(u32, String)>,
    /// The reason of each call that failed.
    pub(crate) failures: Vec<String>,
}

/// Has a validator judge these rows of a batch.
pub(crate) fn validate(asking: Asking<'_>, logins: &Logins, scratch: &mut Logins, rows: &[u32]) -> Verdicts {
    let mut judge = Judge { asking, logins, scratch, verdicts: Verdicts::default() };
    judge.judge(rows);
    judge.verdicts
}

struct Judge<'a> {
    asking: Asking<'a>,
    logins: &'a Logins,
    scratch: &'a mut Logins,
    verdicts: Verdicts,
}

impl Judge<'_> {
    fn judge(&mut self, rows: &[u32]) {
        let asked = self.asking.breaker.asked(self.asking.now);
        match rows {
            [] => {}
            _ if self.verdicts.stopped.is_some() => {}
            _ if asked == Asked::Nothing => self.verdicts.bypassed.extend_from_slice(rows),
            [first, rest @ ..] if asked == Asked::Once && !rest.is_empty() => {
                self.judge(&[*first]);
                self.judge(rest);
            }
            _ => self.call(rows),
        }
    }

    fn call(&mut self, rows: &[u32]) {
        let was_fresh = self.asking.instance.is_fresh();
        let whole = rows.len() == self.logins.rows();
        if !whole {
            self.scratch.select_from(self.logins, rows);
        }
        let batch = if whole { self.logins } else { &*self.scratch };
        match self.asking.instance.validate(batch, &self.asking.validator.reads) {
            Ok(verdicts) => {
                self.asking.breaker.passed(rows.len());
                let rejected = verdicts.into_iter();
                let rejected = rejected.filter_map(|(row, rejection)| Some((*rows.get(row as usize)?, rejection)));
                self.verdicts.rejected.extend(rejected);
            }
            Err(failure) => {
                let reason = failure.to_string();
                self.verdicts.failures.push(reason.clone());
                match rows {
                    [row] if was_fresh => self.at_fault(*row, reason),
                    // Alone on an instance that has served others, a login isn't at fault yet: the same again, fresh.
                    [_] => self.judge(rows),
                    _ => {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        self.judge(first);
                        self.judge(second);
                    }
                }
            }
        }
    }

    fn at_fault(&mut self, row: u32, reason: String) {
        match self.asking.on_failure {
            OnFailure::Reject => self.verdicts.rejected.push((row, Rejection::new("plugin_failed", &reason))),
            OnFailure::Bypass => {
                self.asking.breaker.failed(self.asking.now);
                self.verdicts.bypassed.push(row);
            }
            OnFailure::Stop => self.verdicts.stopped = Some((row, reason)),
        }
    }
}
