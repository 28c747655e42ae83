//! Files that are watched: those of plugins, and the configuration for the settings of plugins. What changes is given to
//! [`deploy`](super::deploy).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};

use super::deploy::Deployer;
use super::swap::{End, Refusal, Swapped};
use crate::config;
use crate::pipeline::plugins::{PluginSource, plain};
use crate::pipeline::serving::history::Cause;

/// A file is looked at when it has been left alone for so long: editors and compilers write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// Watches the files of the plugins, and the configuration file if there is one. The thread ends when the watcher that is returned is
/// dropped.
pub fn watch(deployer: &Arc<Deployer>, config: Option<&Path>) -> Result<impl Watcher + use<>> {
    let (events, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            events.send(()).ok();
        }
    })
    .context("cannot watch files")?;
    let mut follower = Follower::new(Arc::clone(deployer), config);
    for folder in follower.folders() {
        // The folder, not the file: a file that is replaced by renaming would be lost from sight.
        watcher
            .watch(&folder, RecursiveMode::NonRecursive)
            .with_context(|| format!("cannot watch the folder {}", folder.display()))?;
    }
    std::thread::Builder::new()
        .name("watch-plugins".to_owned())
        .spawn(move || follower.follow(&changes))
        .context("cannot start the thread that watches plugins")?;
    Ok(watcher)
}

/// Takes over what changes.
struct Follower {
    deployer: Arc<Deployer>,
    files: Vec<WatchedFile>,
}

/// A file that is watched.
struct WatchedFile {
    path: PathBuf,
    /// What it held when it was last looked at.
    content: Option<Vec<u8>>,
    /// When it was written that was refused last, if that was the last one: written once more, it is tried once more.
    refused: Option<SystemTime>,
    holds: Holds,
}

/// What is in a file.
enum Holds {
    /// A plugin: its name, when it last served.
    Plugin(Option<String>),
    /// The configuration.
    Configuration,
}

impl Follower {
    fn new(deployer: Arc<Deployer>, config: Option<&Path>) -> Self {
        let serving = deployer.swapper.serving.load();
        let plugin = |source: &PluginSource| {
            let path = source.path()?;
            let shown = path.display().to_string();
            let plugin = serving.chain.plugins.iter().find(|plugin| plugin.component().source() == shown);
            Some(WatchedFile::new(path, Holds::Plugin(plugin.map(|plugin| plugin.name().to_owned()))))
        };
        let plugins = deployer.plugins.sources().iter().filter_map(plugin);
        let files = plugins.chain(config.map(|path| WatchedFile::new(path, Holds::Configuration))).collect();
        drop(serving);
        Self { deployer, files }
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let folders = self.files.iter().filter_map(|file| file.path.parent());
        let named = |folder: &Path| folder.as_os_str().is_empty();
        folders.map(|folder| if named(folder) { PathBuf::from(".") } else { folder.to_owned() }).collect()
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
            for file in &mut self.files {
                file.look(&self.deployer);
            }
        }
    }
}

impl WatchedFile {
    fn new(path: &Path, holds: Holds) -> Self {
        Self { path: path.to_owned(), content: std::fs::read(path).ok(), refused: None, holds }
    }

    fn look(&mut self, deployer: &Deployer) {
        // A file that isn't there is about to be replaced; there will be another event.
        let Ok(content) = std::fs::read(&self.path) else { return };
        let written = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
        let is_tried_again = self.refused.is_some() && self.refused != written;
        if content.is_empty() || self.content.as_ref() == Some(&content) && !is_tried_again {
            return;
        }
        (self.content, self.refused) = (Some(content), None);
        match self.take_over(deployer) {
            Ok(Swapped { end: End::Unchanged, .. }) => {
                tracing::info!(path = %self.path.display(), "the file has changed, and nothing of the plugins by that");
            }
            Ok(_) => {}
            Err(_) => self.refused = written,
        }
    }

    fn take_over(&mut self, deployer: &Deployer) -> Result<Swapped, Refusal> {
        match &mut self.holds {
            Holds::Plugin(name) => {
                let swapped = deployer.file_changed(&self.path, name.as_deref())?;
                let shown = self.path.display().to_string();
                let serving = deployer.swapper.serving.load();
                let plugin = serving.chain.plugins.iter().find(|plugin| plugin.component().source() == shown);
                *name = plugin.map(|plugin| plugin.name().to_owned()).or_else(|| name.take());
                Ok(swapped)
            }
            Holds::Configuration => match config::settings_of_plugins(&self.path) {
                Ok(settings) => deployer.settings_changed(plain(&settings), &self.path),
                Err(error) => {
                    let cause = Cause {
                        what: format!("{} has changed", self.path.display()),
                        by: "the watched file".to_owned(),
                    };
                    Err(deployer.swapper.refuse(cause, error.to_string()))
                }
            },
        }
    }
}
