//! One file a command.

pub mod check;
pub mod demo;
pub mod generate;
pub mod pipe;
pub mod plugin;
mod progress;
pub mod run;
pub mod signals;
pub mod state;
pub mod tail;
