//! From a plugin's bytes to machine code: what this process has at hand, what the [cache](crate::compile_cache) has, or else compiled.
//!
//! It doesn't know the contract: whatever the code comes from, it is checked and asked who it is as if it had just been compiled.
//! Compiling takes the calling thread alone (wasmtime is built without its feature `parallel-compilation`), so that a swap takes at
//! most one core from the workers.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use wasmtime::component::Component;

use crate::compile_cache::{Artifact, CompileCache, Key};
use crate::digest::Digest;

/// The most components that are kept at hand.
const MAX_COMPONENTS: usize = 16;

/// The most bytes that the code of all components at hand may have.
const MAX_BYTES: usize = 64 << 20;

/// Compiles components, each once if possible.
#[derive(Debug)]
pub(crate) struct Compiler {
    at_hand: Mutex<AtHand>,
    cache: Option<CompileCache>,
}

impl Compiler {
    /// A compiler that looks into this cache, where there is one.
    pub(crate) fn new(cache: Option<CompileCache>) -> Self {
        Self { at_hand: Mutex::default(), cache }
    }

    /// The code of the plugin with this digest; `compile` makes it where nobody has it.
    pub(crate) fn code<E>(
        &self,
        engine: &wasmtime::Engine,
        plugin: Digest,
        compile: impl FnOnce() -> Result<Component, E>,
    ) -> Result<Component, E> {
        if let Some(known) = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).get(plugin) {
            return Ok(known);
        }
        let code = match &self.cache {
            Some(cache) => through(cache, engine, plugin, compile)?,
            None => compile()?,
        };
        self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).put(plugin, &code);
        Ok(code)
    }
}

/// The code that is in the cache, or afterwards is.
fn through<E>(
    cache: &CompileCache,
    engine: &wasmtime::Engine,
    plugin: Digest,
    compile: impl FnOnce() -> Result<Component, E>,
) -> Result<Component, E> {
    let key = Key::new(plugin, engine.precompile_compatibility_hash());
    if let Some(code) = cache.get(&key).and_then(|artifact| deserialize(engine, &artifact)) {
        return Ok(code);
    }
    let code = compile()?;
    match code.serialize() {
        Ok(artifact) => cache.put(&key, &artifact),
        Err(error) => tracing::debug!("a compiled plugin can't be kept: {error:#}"),
    }
    Ok(code)
}

#[expect(
    unsafe_code,
    reason = "wasmtime runs what it is given here; an artifact is what this user's own wasmtime made"
)]
fn deserialize(engine: &wasmtime::Engine, artifact: &Artifact) -> Option<Component> {
    // SAFETY: the bytes must be what `Component::serialize` gave. An `Artifact` comes from the cache alone, which says at its head why
    // nobody but processes of this user can have written it, and has compared the SHA-256 of all of it. The bytes are this process's
    // own copy, so that nobody changes them under wasmtime's hands.
    let code = unsafe { Component::deserialize(engine, artifact.bytes()) };
    code.map_err(|error| tracing::debug!("a compiled plugin in the cache isn't taken: {error:#}")).ok()
}

/// The components that were used last, the latest at the end: a plugin that takes over again needn't be compiled again.
#[derive(Debug, Default)]
struct AtHand {
    components: VecDeque<(Digest, Component)>,
}

impl AtHand {
    fn get(&mut self, plugin: Digest) -> Option<Component> {
        let place = self.components.iter().position(|(known, _)| *known == plugin)?;
        let (_, component) = self.components.remove(place)?;
        self.components.push_back((plugin, component.clone()));
        Some(component)
    }

    fn put(&mut self, plugin: Digest, component: &Component) {
        self.components.push_back((plugin, component.clone()));
        let bytes = |(_, component): &(Digest, Component)| {
            let range = component.image_range();
            range.end.addr().saturating_sub(range.start.addr())
        };
        let mut all: usize = self.components.iter().map(bytes).sum();
        while self.components.len() > MAX_COMPONENTS || all > MAX_BYTES {
            let Some(oldest) = self.components.pop_front() else { return };
            all -= bytes(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(compiler: &Compiler, engine: &wasmtime::Engine, plugin: &[u8], times: &mut usize) {
        let component = compiler.code(engine, Digest::of(plugin), || {
            *times += 1;
            Component::new(engine, wat::parse_str("(component)").unwrap())
        });
        component.unwrap();
    }

    #[test]
    fn a_plugin_is_compiled_once_in_a_process() {
        let (engine, mut times) = (wasmtime::Engine::default(), 0);
        let compiler = Compiler::new(None);
        for plugin in [b"a", b"b", b"a", b"b"] {
            code(&compiler, &engine, plugin, &mut times);
        }
        assert_eq!(times, 2);
        for other in 0..MAX_COMPONENTS as u8 - 1 {
            code(&compiler, &engine, &[other], &mut times);
            code(&compiler, &engine, b"a", &mut times);
        }
        assert_eq!(times, MAX_COMPONENTS + 1, "what is used stays at hand");
        code(&compiler, &engine, b"b", &mut times);
        assert_eq!(times, MAX_COMPONENTS + 2, "what isn't is forgotten");
    }

    #[test]
    fn what_another_process_compiled_is_not_compiled_again_but_by_another_engine() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Compiler::new(Some(CompileCache::open(folder.path()).unwrap()));
        let (engine, mut times) = (wasmtime::Engine::default(), 0);
        code(&open(), &engine, b"a", &mut times);
        code(&open(), &engine, b"a", &mut times);
        assert_eq!(times, 1);
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        code(&open(), &wasmtime::Engine::new(&config).unwrap(), b"a", &mut times);
        assert_eq!(times, 2);
    }

    #[test]
    fn what_cannot_be_compiled_is_an_error_each_time() {
        let (engine, compiler) = (wasmtime::Engine::default(), Compiler::new(None));
        for _ in 0..2 {
            let answer = compiler.code(&engine, Digest::of(b"a"), || Err("it can't be compiled"));
            assert_eq!(answer.err(), Some("it can't be compiled"));
        }
    }
}
