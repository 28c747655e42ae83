//! Validators that differ, on the logins that came to those in their place.

use std::collections::BTreeMap;
use std::time::Instant;

use loginscope_login::{Logins, Rejection};
use loginscope_wasm::Instance;

use super::super::report::{Report, Tolerance};
use super::{Judging, failures_allowed, is_tried, predecessor, rejected, used};
use crate::pipeline::breaker::Breakers;
use crate::pipeline::chain::ChainValidator;
use crate::pipeline::policy::OnFailure;
use crate::pipeline::validate::{Asking, validate};
use crate::pipeline::{Chain, Stage};

/// The validators that differ.
pub(super) struct Verdicts {
    tried: Vec<Validator>,
    scratch: Logins,
}

struct Validator {
    /// Its place among the new chain's validators.
    place: usize,
    instance: Instance,
    breakers: Breakers,
    /// The plugin of the old chain in its place.
    predecessor: Option<usize>,
    /// The plugins of the old chain that judge before it.
    before: Vec<usize>,
}

/// What a validator says of some logins.
#[derive(Default)]
struct Said {
    rejected: BTreeMap<u32, Rejection>,
    failures: Vec<String>,
    failed: u64,
}

impl Verdicts {
    pub(super) fn new(old: &Chain, new: &Chain) -> Self {
        let mut before = Vec::new();
        let mut tried = Vec::new();
        for (place, validator) in new.validators.iter().enumerate() {
            let Some(plugin) = new.plugins.get(validator.plugin) else { continue };
            let predecessor = predecessor(old, plugin);
            if is_tried(old, plugin) {
                let mut instance = plugin.instance();
                instance.measure(true);
                let (breakers, before) = (Breakers::fixed(), before.clone());
                tried.push(Validator { place, instance, breakers, predecessor, before });
            }
            before.extend(predecessor);
        }
        Self { tried, scratch: Logins::new(&new.schema) }
    }

    /// Finds out what is judged differently.
    pub(super) fn judge(&mut self, new: &Chain, judging: &mut Judging<'_>, report: &mut Report, tolerance: &Tolerance) {
        for tried in &mut self.tried {
            let Some(validator) = new.validators.get(tried.place) else { continue };
            let asked = tried.asked(judging);
            let allowed = failures_allowed(report, tried.instance.plugin(), tolerance);
            let said = tried.ask(validator, judging.logins, &mut self.scratch, &asked, allowed);
            let used = used(&mut report.new, tried.instance.plugin());
            used.logins.add(tried.instance.take_measured().logins);
            said.failures.iter().for_each(|reason| used.failed(reason));
            used.failed_logins += said.failed;
            let is_let_through = |row: &u32| !said.rejected.contains_key(row) && asked.binary_search(row).is_ok();
            for (row, before) in &judging.rejected {
                if before.stage == Stage::Validate && before.plugin == tried.predecessor && is_let_through(row) {
                    judging.changed.insert(*row, None);
                }
            }
            for (row, rejection) in said.rejected {
                if judging.rejected.get(&row).is_none_or(|before| before.rejection.code != rejection.code) {
                    judging.changed.insert(row, Some(rejected(rejection, Stage::Validate, validator.plugin)));
                }
            }
        }
    }
}

impl Validator {
    /// The rows that come to it.
    fn asked(&self, judging: &Judging<'_>) -> Vec<u32> {
        let comes = |row: u32| match (judging.changed.get(&row), judging.rejected.get(&row)) {
            (Some(changed), _) => changed.is_none(),
            (None, None) => true,
            (None, Some(rejected)) => {
                let is_before = |plugin: usize| self.before.contains(&plugin);
                rejected.stage != Stage::Validate || !rejected.plugin.is_some_and(is_before)
            }
        };
        let messages = judging.batch.row_messages.iter();
        let judged = messages.take_while(|message| **message < judging.batch.messages);
        (0..judged.count() as u32).filter(|row| comes(*row)).collect()
    }

    /// Asks it about these rows, until it has failed on more than so many.
    fn ask(
        &mut self,
        validator: &ChainValidator,
        logins: &Logins,
        scratch: &mut Logins,
        rows: &[u32],
        allowed: u64,
    ) -> Said {
        let (mut said, mut rest) = (Said::default(), rows);
        loop {
            let (instance, breaker) = (&mut self.instance, &mut self.breakers.validator);
            let asking = Asking { validator, instance, breaker, on_failure: OnFailure::Stop, now: Instant::now() };
            let verdicts = validate(asking, logins, scratch, rest);
            said.rejected.extend(verdicts.rejected);
            said.failures.extend(verdicts.failures);
            let Some((row, reason)) = verdicts.stopped else { return said };
            said.rejected.insert(row, Rejection::new("plugin_failed", &reason));
            said.failed += 1;
            if said.failed > allowed {
                return said;
            }
            rest = rows.get(rows.partition_point(|asked| *asked <= row)..).unwrap_or_default();
        }
    }
}
