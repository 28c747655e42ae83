//! A plugin with all roles that does what its settings say, good or bad. It is written against the raw contract, because
//! the SDK can't lie.
//!
//! - `settings`: what it can be told to do.
//! - `good`: what it does when it behaves.
//! - `bad`: traps, loops, hoards.
//! - `lies`: answers that the contract doesn't allow.
//! - `packed`: columns one by one.

mod bad;
mod good;
mod lies;
mod packed;
mod settings;

wit_bindgen::generate!({ path: "../../../wit", world: "every-role" });

use exports::loginscope::plugin::enricher::{self, Enrichment};
use exports::loginscope::plugin::{insight_generator, validator};
use loginscope::plugin::log;
use loginscope::plugin::types::{Batch, Declaration, Description, Insight, Rejection, Window};
use settings::{How, Role};

struct Misbehave;

export!(Misbehave);

fn describe() -> Description {
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
    Description { name: "misbehave".to_owned(), version: "0.1.0".to_owned() }
}

/// Takes the settings; misbehaves at once where they say so.
fn configure(settings: &str, role: Role, declaration: fn() -> Declaration) -> Result<Declaration, String> {
    settings::set(settings)?;
    let settings = settings::get();
    if settings.applies_to(role) {
        match settings.how {
            How::LoopInConfigure => bad::run_forever(),
            How::TrapInConfigure => bad::trap(),
            How::LieDeclaration => return Ok(lies::declaration(role)),
            _ => {}
        }
    }
    Ok(declaration())
}

/// The row at which to misbehave in this batch, if any.
fn bad_row(batch: &Batch, role: Role) -> Option<usize> {
    let settings = settings::get();
    if !settings.applies_to(role) || settings::saw(batch.rows.into()) + u64::from(batch.rows) < settings.after {
        return None;
    }
    match &settings.when_user {
        Some(user) => (0..batch.rows as usize).find(|row| good::user_id(batch, *row) == Some(user)),
        None => Some(0),
    }
}

impl validator::Guest for Misbehave {
    fn describe() -> Description {
        describe()
    }

    fn configure(settings: String) -> Result<Declaration, String> {
        configure(&settings, Role::Validator, good::validator_declaration)
    }

    fn validate(batch: Batch) -> Vec<Rejection> {
        let mut rejections = good::validate(&batch);
        if let Some(row) = bad_row(&batch, Role::Validator) {
            bad::misbehave(&settings::get().how);
            lies::validate(&settings::get().how, row, &batch, &mut rejections);
        }
        rejections
    }
}

impl enricher::Guest for Misbehave {
    fn describe() -> Description {
        describe()
    }

    fn configure(settings: String) -> Result<Declaration, String> {
        configure(&settings, Role::Enricher, good::enricher_declaration)
    }

    fn enrich(batch: Batch) -> Enrichment {
        let (bad_row, rows) = (bad_row(&batch, Role::Enricher), batch.rows as usize);
        let mut enrichment = good::enrich(&batch);
        if let Some(row) = bad_row {
            bad::misbehave(&settings::get().how);
            lies::enrich(&settings::get().how, row, rows, &mut enrichment);
        }
        enrichment
    }
}

impl insight_generator::Guest for Misbehave {
    fn describe() -> Description {
        describe()
    }

    fn configure(settings: String) -> Result<Declaration, String> {
        configure(&settings, Role::InsightGenerator, good::generator_declaration)
    }

    fn generate(window: Window) -> Vec<Insight> {
        let mut insights = good::generate(&window);
        let settings = settings::get();
        if settings.applies_to(Role::InsightGenerator) && settings.when_user.is_none() {
            bad::misbehave(&settings.how);
            lies::generate(&settings.how, &mut insights);
        }
        insights
    }
}

impl Default for Declaration {
    fn default() -> Self {
        Self { table: Vec::new(), reads: Vec::new(), aggregates: Vec::new(), history: Vec::new(), sets: Vec::new() }
    }
}
