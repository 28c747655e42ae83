//! Messages to the host's log. In native tests they go to standard error.
//!
//! ```
//! # use loginscope_plugin::log;
//! log::warn("a plain text");
//! log::info(format_args!("{} networks on the list", 3));
//! ```

use std::fmt::Display;

pub use crate::bindings::validator::loginscope::plugin::log::Level;

/// For whoever debugs the plugin.
pub fn debug(message: impl Display) {
    write(Level::Debug, &message);
}

/// What an operator may like to know.
pub fn info(message: impl Display) {
    write(Level::Info, &message);
}

/// What an operator should look into.
pub fn warn(message: impl Display) {
    write(Level::Warn, &message);
}

/// What has gone wrong.
pub fn error(message: impl Display) {
    write(Level::Error, &message);
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: &dyn Display) {
    crate::bindings::validator::loginscope::plugin::log::write(level, &message.to_string());
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: &dyn Display) {
    eprintln!("{level:?}: {message}");
}
