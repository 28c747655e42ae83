//! A changed plugin file becomes a new chain, compiled and checked off the hot path, and given to [`swap`](super::swap).

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};

use super::swap::Swapper;
use crate::pipeline::plugins::PluginSet;

/// A file is looked at when it has been left alone for so long: editors and compilers write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// Watches the files of the plugins. The thread ends when the watcher that is returned is dropped.
pub fn watch(plugins: PluginSet, swapper: Swapper) -> Result<impl Watcher> {
    let (events, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            events.send(()).ok();
        }
    })
    .context("cannot watch files")?;
    let mut reloader = Reloader::new(plugins, swapper);
    for folder in reloader.folders() {
        // The folder, not the file: a file that is replaced by renaming would be lost from sight.
        watcher
            .watch(&folder, RecursiveMode::NonRecursive)
            .with_context(|| format!("cannot watch the folder {}", folder.display()))?;
    }
    std::thread::Builder::new()
        .name("watch-plugins".to_owned())
        .spawn(move || reloader.follow(&changes))
        .context("cannot start the thread that watches plugins")?;
    Ok(watcher)
}

/// Loads changed files anew.
struct Reloader {
    plugins: PluginSet,
    swapper: Swapper,
    /// What each file held when it was last looked at.
    contents: Vec<Option<Vec<u8>>>,
}

impl Reloader {
    fn new(plugins: PluginSet, swapper: Swapper) -> Self {
        let contents = plugins.sources().iter().map(|source| std::fs::read(source.path()?).ok()).collect();
        Self { plugins, swapper, contents }
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self
            .plugins
            .sources()
            .iter()
            .filter_map(|source| source.path()?.parent())
            .map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    fn follow(&mut self, changes: &Receiver<()>) {
        while changes.recv().is_ok() {
            loop {
                match changes.recv_timeout(QUIET) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.reload_changed();
        }
    }

    fn reload_changed(&mut self) {
        for index in 0..self.contents.len() {
            let Some(path) = self.plugins.sources().get(index).and_then(|source| source.path().map(Path::to_owned))
            else {
                continue;
            };
            // A file that isn't there is about to be replaced; there will be another event.
            let Ok(content) = std::fs::read(&path) else { continue };
            let Some(known) = self.contents.get_mut(index) else { continue };
            if content.is_empty() || known.as_ref() == Some(&content) {
                continue;
            }
            *known = Some(content);
            self.swap(index, &path);
        }
    }

    fn swap(&mut self, index: usize, path: &Path) {
        let swapped = self.swapper.swap(|plugins| self.plugins.reload(plugins, index));
        if let Err(error) = swapped {
            self.swapper.telemetry.swap_refused(&path.display().to_string(), &format!("{error:#}"));
            // Written once more, it is tried once more.
            if let Some(known) = self.contents.get_mut(index) {
                *known = None;
            }
        }
    }
}
