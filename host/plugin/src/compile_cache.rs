//! Compiled plugins on disk, so that one that was compiled before is loaded in milliseconds.
//!
//! What comes out of here is run as machine code with all the rights of this process, so all that matters is who can have written it.
//! Invariant: an [`Artifact`] is what this user's own processes compiled from the very bytes, for the very engine, that its key is made of.
//!
//! - **Others can't write here.** The folder belongs to this user and nobody else may write into it, or it is refused; a symbolic link
//!   is refused as well. It is opened once, and looked at through what was opened, so it can't be exchanged afterwards. The same goes
//!   for each file. A key (a MAC) would add nothing: whoever can write here as this user can read that key, or replace the program.
//! - **What is damaged is found out.** A file begins with the SHA-256 of its key and all that follows: one that was torn by a power
//!   cut, cut off by a full disk or renamed is removed, and the plugin is compiled. Files are written under another name and then renamed.
//! - **What is outdated is never found.** The key covers the version of wasmtime, its settings, the target and the processor's features.
//! - **It doesn't grow without end.** The files that were used least recently go.
//!
//! Nothing here is needed: whatever goes wrong, the plugin is compiled.

use std::ffi::CStr;
use std::fs::{DirBuilder, File, Metadata};
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, open, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, Hexadecimal};

/// The most files that are kept.
const MAX_FILES: usize = 100;

/// The most bytes that all files together may have.
const MAX_BYTES: u64 = 1 << 30;

/// The largest file that is read or written, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The end of the names of files.
const SUFFIX: &str = ".compiled";

/// The end of the names of files that are being written.
const UNFINISHED: &str = ".unfinished";

/// A file that has been written for so long never will be.
const ABANDONED: Duration = Duration::from_hours(1);

/// The permission of the group or of others to write.
const OTHERS_WRITE: u32 = 0o022;

/// The length of the SHA-256 at the beginning of a file.
const CHECK_BYTES: usize = 32;

/// A folder can't be used as the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It is not there and can't be made, or can't be opened.
    #[error("the compile cache {} can't be used: {error}", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Somebody else may have written what is in it.
    #[error("the compile cache {} isn't used, for {reason}: what is in it would be run as a part of this program", folder.display())]
    Untrusted {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What a compiled plugin is found by: the bytes that it was compiled from, and what for.
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of a plugin with this digest for an engine with this compatibility hash.
    pub(crate) fn new(plugin: Digest, compatibility: impl Hash) -> Self {
        let mut hasher = Sha256Hasher(Sha256::new());
        plugin.hash(&mut hasher);
        compatibility.hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }

    fn file_name(&self) -> String {
        format!("{}{SUFFIX}", Hexadecimal(&self.0))
    }

    /// What a file of this key with this content begins with.
    fn check(&self, artifact: &[u8]) -> [u8; CHECK_BYTES] {
        Sha256::new().chain_update(self.0).chain_update(artifact).finalize().into()
    }
}

/// What is hashed, with SHA-256.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

/// Compiled by this user's own processes from what its key says. Only [`CompileCache::get`] makes one.
pub(crate) struct Artifact(Vec<u8>);

impl Artifact {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.get(CHECK_BYTES..).unwrap_or_default()
    }
}

/// A folder with compiled plugins that only this user can write to.
#[derive(Debug)]
pub struct CompileCache {
    folder: OwnedFd,
    path: PathBuf,
}

impl CompileCache {
    /// Opens the cache in this folder, which is made where it isn't there.
    ///
    /// # Errors
    /// It can't be used, or others can write to it.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        // Without a slash at its end, behind which a symbolic link would be followed.
        let path: PathBuf = path.components().collect();
        let unusable = |error: io::Error| CacheError::Unusable { folder: path.clone(), error };
        let untrusted = |reason| CacheError::Untrusted { folder: path.clone(), reason };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(unusable)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match open(&path, flags, Mode::empty()) {
            Ok(folder) => File::from(folder),
            // Which of them it is depends on the system.
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(untrusted("it is a symbolic link")),
            Err(error) => return Err(unusable(error.into())),
        };
        let metadata = folder.metadata().map_err(unusable)?;
        distrust(&metadata).map_or(Ok(()), |reason| Err(untrusted(reason)))?;
        Ok(Self { folder: folder.into(), path })
    }

    /// What was put under this key.
    pub(crate) fn get(&self, key: &Key) -> Option<Artifact> {
        let name = key.file_name();
        match self.read(&name, key) {
            Ok(artifact) => artifact,
            Err(reason) => {
                tracing::warn!(
                    "{} isn't used and is removed, for {reason}; the plugin is compiled",
                    self.path.join(&name).display()
                );
                unlinkat(&self.folder, &name, AtFlags::empty()).ok();
                None
            }
        }
    }

    /// Keeps a compiled plugin, if that is possible.
    pub(crate) fn put(&self, key: &Key, artifact: &[u8]) {
        if artifact.len() as u64 > MAX_FILE_BYTES - CHECK_BYTES as u64 {
            return;
        }
        let kept = self.write(key, artifact).and_then(|()| self.prune(MAX_FILES, MAX_BYTES));
        if let Err(error) = kept {
            tracing::warn!("the compile cache {} can't be written: {error}", self.path.display());
        }
    }

    /// What is in a file, if it is there. What is wrong with it is said as a part of a sentence.
    fn read(&self, name: &str, key: &Key) -> Result<Option<Artifact>, String> {
        // Without NONBLOCK, a pipe under that name would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(format!("it can't be opened ({error})")),
        };
        let metadata = file.metadata().map_err(|error| format!("it can't be looked at ({error})"))?;
        if let Some(reason) = distrust(&metadata) {
            return Err(reason.to_owned());
        }
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err("it is no file of this cache".to_owned());
        }
        let mut content = Vec::with_capacity(metadata.len() as usize);
        (&mut file)
            .take(MAX_FILE_BYTES)
            .read_to_end(&mut content)
            .map_err(|error| format!("it can't be read ({error})"))?;
        let (check, artifact) = content.split_first_chunk::<CHECK_BYTES>().ok_or("it is cut off")?;
        if *check != key.check(artifact) {
            return Err("it is damaged".to_owned());
        }
        // What is used stays.
        file.set_modified(SystemTime::now()).ok();
        Ok(Some(Artifact(content)))
    }

    fn write(&self, key: &Key, artifact: &[u8]) -> io::Result<()> {
        let name = key.file_name();
        let unfinished = format!("{name}.{:016x}{UNFINISHED}", RandomState::new().build_hasher().finish());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.folder, &unfinished, flags, Mode::RUSR | Mode::WUSR)?);
        let written = file
            .write_all(&key.check(artifact))
            .and_then(|()| file.write_all(artifact))
            .and_then(|()| Ok(renameat(&self.folder, &unfinished, &self.folder, &name)?));
        if written.is_err() {
            unlinkat(&self.folder, &unfinished, AtFlags::empty()).ok();
        }
        written
    }

    /// Removes the files that were used least recently, until there are no more than these.
    fn prune(&self, max_files: usize, max_bytes: u64) -> io::Result<()> {
        let mut files = self.files()?;
        files.sort_by_key(|file| std::cmp::Reverse(file.used));
        let mut bytes = 0;
        for (place, file) in files.iter().enumerate() {
            bytes += file.bytes;
            if place >= max_files || bytes > max_bytes {
                unlinkat(&self.folder, &file.name, AtFlags::empty()).ok();
            }
        }
        Ok(())
    }

    /// The files of this cache; those that were left unfinished are removed. Whatever else lies there is nothing of ours.
    fn files(&self) -> io::Result<Vec<Kept>> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let ends_with = |suffix: &str| name.to_bytes().ends_with(suffix.as_bytes());
            if !ends_with(SUFFIX) && !ends_with(UNFINISHED) {
                continue;
            }
            // Another process may have removed it meanwhile.
            let Some(file) = self.kept(name) else { continue };
            if ends_with(SUFFIX) {
                files.push(file);
            } else if file.used.elapsed().is_ok_and(|age| age > ABANDONED) {
                unlinkat(&self.folder, &file.name, AtFlags::empty()).ok();
            }
        }
        Ok(files)
    }

    fn kept(&self, name: &CStr) -> Option<Kept> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let metadata = File::from(openat(&self.folder, name, flags, Mode::empty()).ok()?).metadata().ok()?;
        Some(Kept { name: name.to_str().ok()?.to_owned(), used: metadata.modified().ok()?, bytes: metadata.len() })
    }
}

/// A file of the cache.
struct Kept {
    name: String,
    used: SystemTime,
    bytes: u64,
}

/// Why others may have written what this is about, if they may.
fn distrust(metadata: &Metadata) -> Option<&'static str> {
    if metadata.uid() != geteuid().as_raw() {
        Some("it belongs to another user")
    } else if metadata.mode() & OTHERS_WRITE != 0 {
        Some("others than its owner may write to it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A cache in a folder of its own.
    fn cache() -> (tempfile::TempDir, CompileCache) {
        let parent = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(&parent.path().join("deep/in/it")).unwrap();
        (parent, cache)
    }

    fn key(plugin: &str) -> Key {
        Key::new(Digest::of(plugin.as_bytes()), "this engine")
    }

    fn get(cache: &CompileCache, plugin: &str) -> Option<Vec<u8>> {
        cache.get(&key(plugin)).map(|artifact| artifact.bytes().to_vec())
    }

    fn file(cache: &CompileCache, plugin: &str) -> PathBuf {
        cache.path.join(key(plugin).file_name())
    }

    #[test]
    fn what_was_put_comes_back_also_to_another_process() {
        let (_parent, cache) = cache();
        assert_eq!(get(&cache, "a"), None);
        cache.put(&key("a"), b"compiled a");
        cache.put(&key("b"), b"");
        let again = CompileCache::open(&cache.path).unwrap();
        assert_eq!(get(&again, "a").as_deref(), Some(&b"compiled a"[..]));
        assert_eq!(get(&again, "b").as_deref(), Some(&b""[..]));
        let folder = fs::metadata(&cache.path).unwrap();
        assert_eq!(folder.mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(file(&cache, "a")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&cache.path).unwrap().count(), 2, "nothing unfinished is left");
    }

    #[test]
    fn another_engine_finds_nothing() {
        let (_parent, cache) = cache();
        cache.put(&key("a"), b"compiled a");
        assert!(cache.get(&Key::new(Digest::of(b"a"), "another engine")).is_none());
    }

    #[test]
    fn whatever_is_torn_flipped_cut_off_or_renamed_is_removed_and_never_comes_back() {
        let (_parent, cache) = cache();
        cache.put(&key("a"), b"compiled a");
        let whole = fs::read(file(&cache, "a")).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
        damaged.extend((0..whole.len()).map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            flipped
        }));
        damaged.extend([[&whole[..], b"x"].concat(), vec![0; whole.len()]]);
        for content in damaged {
            fs::write(file(&cache, "a"), &content).unwrap();
            assert_eq!(get(&cache, "a"), None, "{content:?}");
            assert!(!file(&cache, "a").exists());
        }
        // What was compiled from another plugin is right in itself, but not under this name.
        fs::write(file(&cache, "b"), &whole).unwrap();
        assert_eq!(get(&cache, "b"), None);
        cache.put(&key("b"), b"compiled b");
        assert_eq!(get(&cache, "b").as_deref(), Some(&b"compiled b"[..]));
    }

    #[test]
    fn a_folder_that_others_can_write_to_or_that_is_a_link_is_refused() {
        let (parent, cache) = cache();
        let refused = |path: &Path| match CompileCache::open(path) {
            Err(CacheError::Untrusted { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        for mode in [0o770, 0o707, 0o777, 0o1777, 0o720] {
            fs::set_permissions(&cache.path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(refused(&cache.path), "others than its owner may write to it", "{mode:o}");
        }
        fs::set_permissions(&cache.path, Permissions::from_mode(0o755)).unwrap();
        assert!(CompileCache::open(&cache.path).is_ok(), "they may read it");
        let link = parent.path().join("link");
        symlink(&cache.path, &link).unwrap();
        assert_eq!(refused(&link), "it is a symbolic link");
        assert_eq!(refused(&link.join("")), "it is a symbolic link");
    }

    #[test]
    fn a_folder_or_file_of_another_user_is_refused() {
        let (_parent, cache) = cache();
        cache.put(&key("a"), b"compiled a");
        // Only root can give something away.
        if !geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(file(&cache, "a"), Some(1), None).unwrap();
        assert_eq!(get(&cache, "a"), None);
        std::os::unix::fs::chown(&cache.path, Some(1), None).unwrap();
        let error = CompileCache::open(&cache.path).unwrap_err();
        assert!(error.to_string().contains("isn't used, for it belongs to another user"), "{error}");
    }

    #[test]
    fn a_file_that_others_could_write_to_is_not_used() {
        let (_parent, cache) = cache();
        cache.put(&key("a"), b"compiled a");
        fs::set_permissions(file(&cache, "a"), Permissions::from_mode(0o666)).unwrap();
        assert_eq!(get(&cache, "a"), None);
        let elsewhere = cache.path.with_file_name("elsewhere");
        fs::write(&elsewhere, "anything").unwrap();
        symlink(&elsewhere, file(&cache, "a")).unwrap();
        assert_eq!(get(&cache, "a"), None);
        assert!(elsewhere.exists() && !file(&cache, "a").exists(), "the link goes, and not what it leads to");
    }

    #[test]
    fn a_folder_that_is_exchanged_after_it_was_opened_is_not_looked_into() {
        let (parent, cache) = cache();
        let forged = CompileCache::open(&parent.path().join("forged")).unwrap();
        forged.put(&key("a"), b"forged");
        fs::rename(&cache.path, cache.path.with_file_name("away")).unwrap();
        fs::rename(&forged.path, &cache.path).unwrap();
        assert_eq!(get(&cache, "a"), None);
    }

    #[test]
    fn the_files_that_were_used_least_recently_go() {
        let (_parent, cache) = cache();
        let plugins = ["a", "b", "c", "d"];
        for (age, plugin) in plugins.iter().rev().enumerate() {
            cache.put(&key(plugin), &[0; 68]);
            let used = SystemTime::now() - Duration::from_secs(60 * (age as u64 + 1));
            File::options().write(true).open(file(&cache, plugin)).unwrap().set_modified(used).unwrap();
        }
        let there = || plugins.map(|plugin| file(&cache, plugin).exists());
        cache.prune(4, 400).unwrap();
        assert_eq!(there(), [true; 4]);
        assert!(get(&cache, "a").is_some(), "it is used, and so it is the newest");
        cache.prune(3, 400).unwrap();
        assert_eq!(there(), [true, false, true, true]);
        cache.prune(3, 299).unwrap();
        assert_eq!(there(), [true, false, false, true]);
        cache.prune(0, 0).unwrap();
        assert_eq!(there(), [false; 4]);
    }

    #[test]
    fn what_is_left_unfinished_goes_some_time_and_what_is_not_ours_stays() {
        let (_parent, cache) = cache();
        let abandoned = cache.path.join(format!("x{UNFINISHED}"));
        let being_written = cache.path.join(format!("y{UNFINISHED}"));
        let notes = cache.path.join("notes.txt");
        for path in [&abandoned, &being_written, &notes] {
            fs::write(path, "x").unwrap();
        }
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        for path in [&abandoned, &notes] {
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        cache.prune(0, 0).unwrap();
        assert_eq!([&abandoned, &being_written, &notes].map(|path| path.exists()), [false, true, true]);
    }

    #[test]
    fn a_place_where_no_folder_can_be_is_unusable() {
        let (parent, _cache) = cache();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("within")] {
            assert!(matches!(CompileCache::open(&path), Err(CacheError::Unusable { .. })), "{}", path.display());
        }
    }
}
