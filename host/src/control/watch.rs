//! Files that are watched: those of plugins, and the configuration for the settings of plugins. What changes is given to
//! [`deploy`](super::deploy).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use loginscope_wasm::{Digest, Plugin};
use notify::{RecursiveMode, Watcher};

use super::deploy::Deployer;
use super::swap::{End, Refusal, Swapped};
use crate::config;
use crate::pipeline::plugins::{PluginSet, PluginSource, plain};
use crate::pipeline::serving::history::Cause;

/// A file is looked at when it has been left alone for so long: editors and compilers write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// What is to be watched: the files that plugins and settings were loaded from, and what they held then.
pub struct Watched {
    deployer: Arc<Deployer>,
    files: Vec<WatchedFile>,
}

/// A file that is watched.
struct WatchedFile {
    path: PathBuf,
    /// What it held when it was last looked at, or loaded. None for a configuration that was only loaded: that shows by its settings.
    seen: Option<Digest>,
    /// When it was written that was refused last, if that was the last one: written once more, it is tried once more.
    refused: Option<SystemTime>,
    holds: Holds,
}

/// What is in a file.
enum Holds {
    /// A plugin: its name, when it was loaded, or last served.
    Plugin(String),
    /// The configuration.
    Configuration,
}

impl Watched {
    /// The files of the plugins, and the configuration file if there is one. What serves must be what was loaded from them still.
    pub fn new(deployer: &Arc<Deployer>, config: Option<&Path>) -> Self {
        let loaded = Arc::clone(&deployer.swapper.serving.load().chain);
        let plugin = |(source, plugin): (&PluginSource, &Plugin)| {
            let seen = Some(plugin.component().digest());
            Some(WatchedFile::new(source.path()?, seen, Holds::Plugin(plugin.name().to_owned())))
        };
        let plugins = deployer.plugins.sources().iter().zip(&loaded.plugins).filter_map(plugin);
        let files = plugins.chain(config.map(|path| WatchedFile::new(path, None, Holds::Configuration))).collect();
        Self { deployer: Arc::clone(deployer), files }
    }

    /// Takes over what has changed since it was loaded, and what changes. The thread ends when the watcher that is returned is dropped.
    ///
    /// # Errors
    /// The files can't be watched.
    pub fn follow(self) -> Result<impl Watcher + use<>> {
        let (events, changes) = mpsc::channel();
        // What was written before there was a watch has no other event.
        events.send(()).ok();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                events.send(()).ok();
            }
        })
        .context("cannot watch files")?;
        for folder in self.folders() {
            // The folder, not the file: a file that is replaced by renaming would be lost from sight.
            watcher
                .watch(&folder, RecursiveMode::NonRecursive)
                .with_context(|| format!("cannot watch the folder {}", folder.display()))?;
        }
        std::thread::Builder::new()
            .name("watch-plugins".to_owned())
            .spawn(move || self.take_over(&changes))
            .context("cannot start the thread that watches plugins")?;
        Ok(watcher)
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let folders = self.files.iter().filter_map(|file| file.path.parent());
        let named = |folder: &Path| folder.as_os_str().is_empty();
        folders.map(|folder| if named(folder) { PathBuf::from(".") } else { folder.to_owned() }).collect()
    }

    fn take_over(mut self, changes: &Receiver<()>) {
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
    fn new(path: &Path, seen: Option<Digest>, holds: Holds) -> Self {
        Self { path: path.to_owned(), seen, refused: None, holds }
    }

    fn look(&mut self, deployer: &Deployer) {
        // A file that isn't there is about to be replaced; there will be another event.
        let Ok(content) = std::fs::read(&self.path) else { return };
        let written = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
        let is_as_loaded = self.seen.is_none() && self.has_settings_of(&deployer.plugins);
        if !self.is_other(&content, written) || is_as_loaded {
            return;
        }
        match self.take_over(deployer) {
            Ok(Swapped { end: End::Unchanged, .. }) => {
                tracing::info!(path = %self.path.display(), "the file has changed, and nothing of the plugins by that");
            }
            Ok(_) => {}
            Err(_) => self.refused = written,
        }
    }

    /// Whether it holds something else than when it was last looked at, or was written once more after it was refused. It counts as
    /// looked at then.
    fn is_other(&mut self, content: &[u8], written: Option<SystemTime>) -> bool {
        let now = Digest::of(content);
        let is_tried_again = self.refused.is_some() && self.refused != written;
        if content.is_empty() || self.seen == Some(now) && !is_tried_again {
            return false;
        }
        (self.seen, self.refused) = (Some(now), None);
        true
    }

    /// Whether it is a configuration with the settings that plugins have.
    fn has_settings_of(&self, plugins: &PluginSet) -> bool {
        let settings = || config::settings_of_plugins(&self.path).map(|settings| plain(&settings));
        matches!(self.holds, Holds::Configuration) && settings().is_ok_and(|settings| settings == plugins.settings())
    }

    fn take_over(&mut self, deployer: &Deployer) -> Result<Swapped, Refusal> {
        match &mut self.holds {
            Holds::Plugin(name) => {
                let swapped = deployer.file_changed(&self.path, Some(name))?;
                let shown = self.path.display().to_string();
                let serving = deployer.swapper.serving.load();
                let plugin = serving.chain.plugins.iter().find(|plugin| plugin.component().source() == shown);
                if let Some(plugin) = plugin {
                    plugin.name().clone_into(name);
                }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use loginscope_login::decode::InputFormat;

    use super::*;
    use crate::comparator::Setting;
    use crate::comparator::report::Tolerance;
    use crate::control::swap::Swapper;
    use crate::pipeline::batch::OutputLimits;
    use crate::pipeline::plugins::DEFAULTS;
    use crate::pipeline::serving::Serving;
    use crate::pipeline::serving::history::Outcome;
    use crate::telemetry::Telemetry;

    fn deployer(path: &Path) -> Arc<Deployer> {
        let source = PluginSource::File(path.to_owned());
        let plugins = PluginSet::new(vec![source], BTreeMap::new(), InputFormat::default()).unwrap();
        let serving = Arc::new(Serving::new(plugins.load().unwrap()));
        let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
        let swapper = Swapper {
            serving,
            telemetry: Arc::new(Telemetry::default()),
            setting: Setting { topic: "user-login".into(), insight_every: 100, limits },
            tolerance: Tolerance::default(),
            probation: Duration::ZERO,
            turn: std::sync::Mutex::default(),
            consent: std::sync::RwLock::default(),
            tried: std::sync::Mutex::default(),
        };
        Arc::new(Deployer { plugins: Arc::new(plugins), swapper })
    }

    fn wait_until(is_so: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_mins(1);
        while !is_so() {
            assert!(std::time::Instant::now() < deadline, "it never came");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_is_written_between_loading_and_watching_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let (file, config) = (folder.path().join("plugin.wasm"), folder.path().join("loginscope.toml"));
        let (_, bytes) = DEFAULTS[0];
        fs::write(&file, bytes).unwrap();
        let deployer = deployer(&file);
        let watched = Watched::new(&deployer, Some(&config));
        // A section of this name is of no effect.
        let new = [bytes, b"\0\x05\x04test"].concat();
        fs::write(&file, &new).unwrap();
        fs::write(&config, "[nobody]\nx = 1\n").unwrap();
        let _watcher = watched.follow().unwrap();
        let serving = &deployer.swapper.serving;
        wait_until(|| serving.load().chain.plugins[0].component().digest() == Digest::of(&new));
        let is_refused =
            |outcome: &Outcome| matches!(outcome, Outcome::Refused(why) if why.contains("no plugin nobody"));
        wait_until(|| serving.history.events().iter().any(|event| is_refused(&event.outcome)));
    }

    #[test]
    fn what_was_loaded_is_no_change_and_what_was_refused_is_tried_again_when_it_is_written_again() {
        let mut file = WatchedFile::new(Path::new("a.wasm"), Some(Digest::of(b"old")), Holds::Plugin("a".to_owned()));
        let at = |seconds: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(!file.is_other(b"old", at(1)));
        assert!(!file.is_other(b"", at(2)), "it is about to be written");
        assert!(file.is_other(b"new", at(3)));
        assert!(!file.is_other(b"new", at(4)));
        file.refused = at(4);
        assert!(!file.is_other(b"new", at(4)));
        assert!(file.is_other(b"new", at(5)));
        assert!(!file.is_other(b"new", at(6)), "once");
    }

    #[test]
    fn a_configuration_with_the_settings_that_were_loaded_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("loginscope.toml");
        let settings = BTreeMap::from([("a".to_owned(), serde_json::json!({ "x": 1 }))]);
        let plugins = PluginSet::new(Vec::new(), settings, InputFormat::default()).unwrap();
        let file = WatchedFile::new(&config, None, Holds::Configuration);
        fs::write(&config, "workers = 3\n[a]\nx = 1\n").unwrap();
        assert!(file.has_settings_of(&plugins));
        for other in ["[a]\nx = 2\n", "", "[a"] {
            fs::write(&config, other).unwrap();
            assert!(!file.has_settings_of(&plugins), "{other}");
        }
    }
}
