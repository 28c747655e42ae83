//! The control plane: what runs beside the workers, on tokio.
//!
//! - [`group`]: which plugins the group runs, and how its instances agree on others; [`membership`]: this process in it.
//! - [`http`]: health, readiness and metrics for machines.
//! - [`memory`]: how much the process takes, and may take.
//! - [`status`]: a line every few seconds for people.
//! - [`watch`]: files that change, and [`deploy`]: all that can be asked for of the plugins that serve.
//! - [`swap`]: new plugins take over, if what they change is tolerated.
//!
//! Nothing here is on a login's way, and nothing here touches a partition's state.

pub mod deploy;
pub mod group;
pub mod http;
pub mod membership;
pub mod memory;
pub mod status;
pub mod swap;
pub mod watch;
