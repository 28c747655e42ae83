//! The verdicts on a batch.
//!
//! The whole batch goes to each validator in one call; those it rejects don't go to the next one. When a call fails, the
//! batch is halved until a login fails alone on a fresh instance: that one is rejected, all others have been judged.

use loginscope_login::{Logins, Rejection};
use loginscope_wasm::Instance;

use super::batch::{PluginFailure, Rejected, Stage};
use super::chain::{Chain, ChainValidator};

/// Judges a batch. `rejected[row]` tells which logins are out; verdicts are added to it, and calls that fail to `failures`.
pub(super) fn validate(
    chain: &Chain,
    instances: &mut [Instance],
    logins: &Logins,
    scratch: &mut Logins,
    rejected: &mut [Option<Rejected>],
    failures: &mut Vec<PluginFailure>,
) {
    for validator in &chain.validators {
        let Some(instance) = instances.get_mut(validator.plugin) else { continue };
        let rows: Vec<u32> = open_rows(rejected);
        let mut judge = Judge { validator, instance, logins, scratch, rejected, failures };
        judge.judge(&rows);
    }
}

fn open_rows(rejected: &[Option<Rejected>]) -> Vec<u32> {
    (0u32..).zip(rejected).filter(|(_, verdict)| verdict.is_none()).map(|(row, _)| row).collect()
}

struct Judge<'a> {
    validator: &'a ChainValidator,
    instance: &'a mut Instance,
    logins: &'a Logins,
    scratch: &'a mut Logins,
    rejected: &'a mut [Option<Rejected>],
    failures: &'a mut Vec<PluginFailure>,
}

impl Judge<'_> {
    fn judge(&mut self, rows: &[u32]) {
        if rows.is_empty() {
            return;
        }
        let was_fresh = self.instance.is_fresh();
        let whole = rows.len() == self.logins.rows();
        if !whole {
            self.scratch.select_from(self.logins, rows);
        }
        let batch = if whole { self.logins } else { &*self.scratch };
        match self.instance.validate(batch, &self.validator.reads) {
            Ok(verdicts) => {
                for (row, rejection) in verdicts {
                    self.reject(rows.get(row as usize), rejection);
                }
            }
            Err(failure) if rows.len() == 1 && was_fresh => {
                let reason = failure.to_string();
                self.reject(rows.first(), Rejection::new("plugin_failed", &reason));
                self.failed(reason);
            }
            Err(failure) => {
                self.failed(failure.to_string());
                // Alone on an instance that has served others, a login isn't at fault yet: the same again, fresh.
                let (first, second) = rows.split_at(if rows.len() == 1 { 0 } else { rows.len() / 2 });
                self.judge(first);
                self.judge(second);
            }
        }
    }

    fn failed(&mut self, reason: String) {
        self.failures.push(PluginFailure { plugin: self.validator.plugin, reason, window: None });
    }

    fn reject(&mut self, row: Option<&u32>, rejection: Rejection) {
        if let Some(verdict) = row.and_then(|row| self.rejected.get_mut(*row as usize)) {
            *verdict = Some(Rejected { rejection, stage: Stage::Validate, plugin: Some(self.validator.plugin) });
        }
    }
}
