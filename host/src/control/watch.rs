//! A changed plugin file becomes a new chain, compiled and checked off the hot path.
//!
//! The new chain is handed to the workers only when everything about it is right; each takes it over between two batches.
//! Anything wrong leaves the old one serving.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher};

use crate::pipeline::Chain;
use crate::pipeline::plugins::PluginSet;
use crate::telemetry::Telemetry;

/// A file is looked at when it has been left alone for so long: editors and compilers write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// The chain that serves, with its generation.
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// The chain.
    pub chain: Arc<Chain>,
}

/// The chain that serves, shared by all workers; each looks between two batches whether there is a newer one.
pub type Serving = Arc<ArcSwap<Generation>>;

/// The first generation.
pub fn serving(chain: Chain) -> Serving {
    Arc::new(ArcSwap::from_pointee(Generation { number: 1, chain: Arc::new(chain) }))
}

/// Watches the files of the plugins. The thread ends when the watcher that is returned is dropped.
pub fn watch(plugins: Arc<PluginSet>, serving: Serving, telemetry: Arc<Telemetry>) -> Result<impl Watcher> {
    let (events, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            events.send(()).ok();
        }
    })
    .context("cannot watch files")?;
    let mut reloader = Reloader::new(plugins, serving, telemetry);
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
    plugins: Arc<PluginSet>,
    serving: Serving,
    telemetry: Arc<Telemetry>,
    /// What each file held when it was last looked at.
    contents: Vec<Option<Vec<u8>>>,
}

impl Reloader {
    fn new(plugins: Arc<PluginSet>, serving: Serving, telemetry: Arc<Telemetry>) -> Self {
        let contents = plugins.sources().iter().map(|source| std::fs::read(source.path()?).ok()).collect();
        Self { plugins, serving, telemetry, contents }
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

    fn swap(&self, index: usize, path: &Path) {
        let current = self.serving.load();
        match self.plugins.reload(&current.chain, index) {
            Ok(chain) => {
                let number = current.number + 1;
                let labels: Vec<&str> = chain.plugins.iter().map(loginscope_wasm::Plugin::label).collect();
                let labels = labels.join(", ");
                self.serving.store(Arc::new(Generation { number, chain: Arc::new(chain) }));
                self.telemetry.swapped(number, &labels);
            }
            Err(error) => self.telemetry.swap_refused(&path.display().to_string(), &format!("{error:#}")),
        }
    }
}
