//! One file a command.

pub mod pipe;
pub mod run;
