//! How far something is that takes its time: a bar on standard error, where somebody looks.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A progress bar on standard error, where the count is known and somebody looks.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar over so many of these things.
    pub(super) fn shown(count: Option<u64>, what: &str) -> Self {
        Self(count.filter(|_| io::stderr().is_terminal()).map(|count| {
            let bar = ProgressBar::new(count);
            let template = format!("{{bar:30}} {{human_pos}}/{{human_len}} {what}, {{rate}}, {{eta}} left");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                let rate = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                    let _ = write!(text, "{:.0}/s", state.per_sec());
                };
                bar.set_style(style.with_key("rate", rate));
            }
            bar
        }))
    }

    /// So many are done.
    pub(super) fn at(&self, number: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(number);
        }
    }

    /// Whether nobody looks.
    pub(super) fn is_hidden(&self) -> bool {
        self.0.is_none()
    }

    /// All are done.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish();
        }
    }
}
