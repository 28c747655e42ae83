//! Sketches as partitions send them to each other with their totals, and how many different members sets have together
//! that are in several partitions.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::set::Set;
use crate::sketch::{LEAST_PRECISION, PRECISION, Register, Sketch, fold, place};

/// For all sketches of a partition's totals there are about so many bytes: the precision is what fits. That is the full
/// one for up to eight large sets, and 3 % of standard error for a hundred.
const ROOM: usize = 128 * 1024;
/// How many bytes a register takes where few have values.
const BYTES_OF_FEW: usize = 4;

/// A sketch, in few bytes where few of its registers have values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packed {
    precision: u8,
    registers: Registers,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Registers {
    /// Those that have values, ascending.
    Few(Vec<Register>),
    /// The ranks of all.
    All(Vec<u8>),
}

/// The precision at which there is room for the sketches of sets with so many members each; `None` where there are too
/// many of them.
pub(crate) fn precision_for(sets: &[u64]) -> Option<u8> {
    let size = |members: &u64, precision: u8| {
        usize::try_from(*members).unwrap_or(usize::MAX).saturating_mul(BYTES_OF_FEW).min(1 << precision)
    };
    let fits = |precision: &u8| sets.iter().map(|members| size(members, *precision)).sum::<usize>() <= ROOM;
    (LEAST_PRECISION..=PRECISION).rev().find(fits)
}

impl Packed {
    /// The sketch of a set's members.
    pub(crate) fn of(set: &Set, precision: u8) -> Self {
        let registers = match set.sketch() {
            Some(sketch) if BYTES_OF_FEW * sketch.raised_count() > 1 << precision => {
                let mut union = Union::new(precision);
                union.add_sketch(sketch);
                return Self { precision, registers: Registers::All(union.ranks) };
            }
            Some(sketch) => {
                ascending(sketch.raised().map(|register| fold(register, sketch.precision(), precision)).collect())
            }
            None => {
                let mut registers = Vec::new();
                set.for_each(|member| registers.push(place(member, precision)));
                ascending(registers)
            }
        };
        if BYTES_OF_FEW * registers.len() > 1 << precision {
            let mut union = Union::new(precision);
            for register in registers {
                union.raise(register);
            }
            return Self { precision, registers: Registers::All(union.ranks) };
        }
        Self { precision, registers: Registers::Few(registers) }
    }

    /// Its precision; one that it can't have is taken for the nearest one that it can.
    fn precision(&self) -> u8 {
        self.precision.clamp(LEAST_PRECISION, PRECISION)
    }
}

/// The registers in their order, of each the highest rank.
fn ascending(mut registers: Vec<Register>) -> Vec<Register> {
    registers.sort_unstable_by_key(|(register, rank)| (*register, Reverse(*rank)));
    registers.dedup_by_key(|(register, _)| *register);
    registers
}

/// What is known of a set in one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share<'a> {
    /// The set itself.
    Own(&'a Set),
    /// What another partition has sent: how many members it has, and their sketch.
    Sent(u64, Option<&'a Packed>),
}

/// How many different members these sets have together. Those that came without a sketch are taken to have none in common
/// with the others. So that an estimate is never absurd, it is at least as large as the largest of the sets, and at most as
/// all of them.
pub(crate) fn different_members(shares: &[Share<'_>]) -> u64 {
    let precision = shares.iter().filter_map(|share| match share {
        Share::Sent(_, packed) => packed.map(Packed::precision),
        Share::Own(_) => None,
    });
    let mut union = Union::new(precision.min().unwrap_or(PRECISION));
    let (mut largest, mut sum, mut apart) = (0, 0_u64, 0_u64);
    for share in shares {
        let members = match share {
            Share::Own(set) => {
                union.add_set(set);
                set.len()
            }
            Share::Sent(members, Some(packed)) => {
                union.add_packed(packed);
                *members
            }
            Share::Sent(members, None) => {
                apart = apart.saturating_add(*members);
                continue;
            }
        };
        (largest, sum) = (largest.max(members), sum.saturating_add(members));
    }
    let estimate = Sketch::of_ranks(union.precision, union.ranks).estimate();
    estimate.clamp(largest, sum).saturating_add(apart)
}

/// The registers of several sketches together, at one precision.
struct Union {
    precision: u8,
    ranks: Vec<u8>,
}

impl Union {
    fn new(precision: u8) -> Self {
        Self { precision, ranks: vec![0; 1 << precision] }
    }

    fn raise(&mut self, (register, rank): Register) {
        if let Some(there) = self.ranks.get_mut(usize::from(register)) {
            *there = (*there).max(rank);
        }
    }

    fn add_all(&mut self, ranks: &[u8], precision: u8) {
        if precision == self.precision {
            for (there, rank) in self.ranks.iter_mut().zip(ranks) {
                *there = (*there).max(*rank);
            }
            return;
        }
        // What another process has sent may have more ranks than it says.
        let ranks = ranks.iter().take(1 << precision);
        for (register, rank) in (0..).zip(ranks).filter(|(_, rank)| **rank > 0) {
            self.raise(fold((register, *rank), precision, self.precision));
        }
    }

    fn add_sketch(&mut self, sketch: &Sketch) {
        self.add_all(sketch.ranks(), sketch.precision());
    }

    fn add_set(&mut self, set: &Set) {
        match set.sketch() {
            Some(sketch) => self.add_sketch(sketch),
            None => set.for_each(|member| self.raise(place(member, self.precision))),
        }
    }

    fn add_packed(&mut self, packed: &Packed) {
        let precision = packed.precision();
        match &packed.registers {
            Registers::Few(few) => {
                for register in few {
                    self.raise(fold(*register, precision, self.precision));
                }
            }
            Registers::All(all) => self.add_all(all, precision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::encode;
    use loginscope_login::{Slot, Value};

    #[test]
    fn a_sketch_takes_no_more_than_there_is_room_for() {
        let mut set = Set::default();
        for number in 0..200 {
            let mut member = Vec::new();
            encode(Slot::IP, Value::Text(&format!("10.0.0.{number}")), &mut member);
            set.insert(&member);
        }
        assert!(matches!(Packed::of(&set, LEAST_PRECISION).registers, Registers::All(_)));
        assert!(matches!(Packed::of(&set, PRECISION).registers, Registers::Few(_)));
    }

    #[test]
    fn ranks_without_a_register_count_for_nothing() {
        let forged = Packed { precision: PRECISION, registers: Registers::All(vec![1; 1 << 17]) };
        let small = Packed { precision: LEAST_PRECISION, registers: Registers::Few(Vec::new()) };
        let different = different_members(&[Share::Sent(1, Some(&forged)), Share::Sent(1, Some(&small))]);
        assert!((1..=2).contains(&different));
    }
}
