//! Where log lines go: to standard error, unless a live view has the terminal. Then they are held until it gives it back, as
//! each of them would tear the picture.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;

/// How much of the log is held at most, in bytes: the newest of it.
const MOST_HELD_BYTES: usize = 64 * 1024;

/// The lines that are held; `None` while none are.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts logging, at the level that `RUST_LOG` says, or else `info`.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Colours are for people: not in a file, nor where NO_COLOR asks for none.
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Output).with_target(false);
    log.with_ansi(coloured).init();
}

/// Holds log lines as long as it lives, if they would go to a terminal. Then they are written.
#[must_use = "lines are held as long as it lives"]
pub struct Hold(());

impl Hold {
    /// Holds them from now on.
    pub fn new() -> Self {
        if io::stderr().is_terminal() {
            held().get_or_insert_default();
        }
        Self(())
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(lines) = held().take() {
            // There is nobody to tell that nothing can be told.
            let _ = io::stderr().write_all(&lines);
        }
    }
}

/// Standard error, or what is held.
struct Output;

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match held().as_mut() {
            Some(lines) => {
                append(lines, line);
                Ok(line.len())
            }
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Appends a line, and lets the oldest ones go where it gets too much.
fn append(lines: &mut Vec<u8>, line: &[u8]) {
    lines.extend_from_slice(line);
    if let Some(too_much) = lines.len().checked_sub(MOST_HELD_BYTES).filter(|too_much| *too_much > 0) {
        let end =
            lines.iter().skip(too_much).position(|byte| *byte == b'\n').map_or(lines.len(), |end| too_much + end + 1);
        lines.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_lines_are_held() {
        let mut lines = Vec::new();
        for number in 0..10_000 {
            append(&mut lines, format!("line {number}\n").as_bytes());
        }
        let text = String::from_utf8(lines).unwrap();
        assert!(text.len() <= MOST_HELD_BYTES && text.len() > MOST_HELD_BYTES - 20);
        assert!(text.starts_with("line ") && text.ends_with("line 9999\n"));
        assert_eq!(text.lines().count(), 10_000 - text.lines().next().unwrap()[5..].parse::<usize>().unwrap());
    }
}
