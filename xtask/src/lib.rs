//! What `cargo xtask …` does, as a library, so that tests can use the same code.
//!
//! - [`project`]: where things are, and how other programs are run
//! - [`plugins`]: plugin sources become components
//! - [`kafka`]: a real Apache Kafka on this machine, for tests and for trying things out
//! - [`mod@bench`]: how much is measured
//!
//! It knows the repository's layout and the tools around it (cargo, rustup, Java, Maven); it must not know anything of
//! logins, and nothing the product does depends on it.

pub mod bench;
pub mod kafka;
pub mod plugins;
pub mod project;
