//! `loginscope state`: what a group keeps in Kafka, looked into and put right.
//!
//! - [`look`]: seen as it is, whether the group runs or not.
//! - [`rebuild`]: counted anew from the logins themselves (`fold`), each at home where its user's logins go now (`homes`).
//! - `forget`: a person taken out of it.
//!
//! The last two need the group to themselves: `sole` is its only member while they work. They read the state as it is (`stored`) and put
//! another one in its place, all of it in one transaction with the group's offsets (`rewrite`). So whatever happens meanwhile, the state
//! is the former one or the new one; and whoever joins the group makes the brokers refuse the transaction.

mod fold;
mod forget;
mod homes;
pub mod look;
pub mod rebuild;
mod rewrite;
mod sole;
mod stored;

use std::time::Duration;

use anyhow::Result;

use crate::cli::Exit;
use crate::config::Config;

/// How long brokers may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// A look.
    Look(look::Look),
    /// All is counted anew.
    Rebuild(rebuild::Rebuild),
    /// This user is forgotten.
    Forget(String),
}

/// Does it.
pub fn run(config: &Config, task: &Task) -> Result<Exit> {
    match task {
        Task::Look(look) => look::run(config, look),
        Task::Rebuild(rebuild) => rebuild::run(config, *rebuild),
        Task::Forget(user) => forget::run(config, user),
    }
}
