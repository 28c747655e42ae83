//! The memory of one instance: all linear memories together, all tables together.

use wasmtime::ResourceLimiter;

use crate::limits::Limits;

/// What an instance may still take of memory and tables. A refusal is what a plugin sees as a failed allocation, which it
/// may survive.
#[derive(Debug)]
pub(crate) struct Quota {
    memory: usize,
    memory_left: usize,
    elements_left: usize,
    parts: usize,
    exceeded: bool,
}

impl Quota {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: limits.memory_bytes,
            memory_left: limits.memory_bytes,
            elements_left: limits.table_elements,
            parts: limits.parts,
            exceeded: false,
        }
    }

    /// A new call begins.
    pub(crate) fn begin_call(&mut self) {
        self.exceeded = false;
    }

    /// How much memory the instance has taken, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory - self.memory_left
    }

    /// Whether the instance wanted more than it may have in the call at hand.
    pub(crate) fn was_exceeded(&self) -> bool {
        self.exceeded
    }
}

/// Takes what growing from `current` to `desired` needs. What would go beyond the plugin's own maximum fails as well, but
/// not because of us.
fn take(left: &mut usize, exceeded: &mut bool, current: usize, desired: usize, maximum: Option<usize>) -> bool {
    if maximum.is_some_and(|maximum| desired > maximum) {
        return false;
    }
    let rest = left.checked_sub(desired.saturating_sub(current));
    *exceeded |= rest.is_none();
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

impl ResourceLimiter for Quota {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(take(&mut self.memory_left, &mut self.exceeded, current, desired, maximum))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(take(&mut self.elements_left, &mut self.exceeded, current, desired, maximum))
    }

    fn instances(&self) -> usize {
        self.parts
    }

    fn tables(&self) -> usize {
        self.parts
    }

    fn memories(&self) -> usize {
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_share_one_limit() {
        let mut quota = Quota::new(&Limits { memory_bytes: 100, ..Limits::default() });
        assert!(quota.memory_growing(0, 60, None).unwrap());
        assert!(!quota.memory_growing(0, 40, Some(30)).unwrap());
        assert!(!quota.was_exceeded());
        assert_eq!(quota.memory_bytes(), 60);
        assert!(!quota.memory_growing(0, 60, None).unwrap());
        assert!(quota.was_exceeded());
        quota.begin_call();
        assert!(quota.memory_growing(60, 100, None).unwrap());
        assert!(!quota.was_exceeded());
        assert!(!quota.memory_growing(100, 101, None).unwrap());
        assert!(quota.was_exceeded());
    }
}
