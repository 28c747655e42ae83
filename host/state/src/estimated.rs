//! What a set has in place of its members once it is too large to keep them: a sketch, and how many members there were
//! for certain.
//!
//! How many there are is said to be the sketch's estimate, but at least as many as the set had when it gave its members up.
//! So the number never becomes smaller, as rankings need it.

use crate::persist::RestoreError;
use crate::set::Set;
use crate::sketch::{PRECISION, Raised, Register, Sketch, put_registers, read_registers};
use crate::wire::{Input, put};

/// The size of a set that has no members any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Estimated {
    sketch: Sketch,
    at_least: u64,
    /// What is said: it follows from the two.
    count: u64,
}

impl Estimated {
    /// That of a set that has members.
    pub(crate) fn of(set: &Set) -> Self {
        let sketch = set.sketch().cloned().unwrap_or_else(|| {
            let mut sketch = Sketch::new(PRECISION);
            set.for_each(|member| {
                sketch.insert(member);
            });
            sketch
        });
        let count = sketch.estimate().max(set.len());
        Self { sketch, at_least: set.len(), count }
    }

    fn recount(&mut self) {
        self.count = self.sketch.estimate().max(self.at_least);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn sketch(&self) -> &Sketch {
        &self.sketch
    }

    /// Whether a value is certainly none of the members there were.
    pub(crate) fn lacks(&self, member: &[u8]) -> bool {
        self.sketch.lacks(member)
    }

    /// Adds a member. Nothing is answered where that changes nothing.
    pub(crate) fn insert(&mut self, member: &[u8]) -> Option<Raised> {
        let raised = self.sketch.insert(member)?;
        self.recount();
        Some(raised)
    }

    /// Takes the latest change back that hasn't been taken back yet.
    pub(crate) fn take_back(&mut self, raised: Raised) {
        self.sketch.take_back(raised);
        self.recount();
    }

    /// Adds what is known of another set of the same kind.
    pub(crate) fn absorb(&mut self, other: &Set) {
        match other {
            Set::Estimated(other) => self.sketch.absorb(&other.sketch),
            members => members.for_each(|member| {
                self.sketch.insert(member);
            }),
        }
        self.at_least = self.at_least.max(other.len());
        self.recount();
    }

    /// About how many bytes it takes where it is written.
    pub(crate) fn size(&self) -> usize {
        self.sketch.raised_count()
    }

    /// Writes all of it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put(out, self.at_least);
        put_registers(out, self.sketch.raised_count(), self.sketch.raised());
    }

    /// Writes these of its registers, ascending: what has changed, where all else is known.
    pub(crate) fn put_some(&self, out: &mut Vec<u8>, registers: &[u16]) {
        put(out, self.at_least);
        put_registers(out, registers.len(), registers.iter().map(|register| self.sketch.register(*register)));
    }

    /// Adds what another one says about the same set, in whole or in part.
    pub(crate) fn learn(&mut self, at_least: u64, registers: &[Register]) {
        for (register, rank) in registers {
            self.sketch.raise(*register, *rank);
        }
        self.at_least = self.at_least.max(at_least);
        self.recount();
    }

    /// What [`put`](Self::put) or [`put_some`](Self::put_some) wrote, for [`learn`](Self::learn).
    pub(crate) fn read(input: &mut Input<'_>) -> Result<(u64, Vec<Register>), RestoreError> {
        Ok((input.number()?, read_registers(input, PRECISION)?))
    }
}
