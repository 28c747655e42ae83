//! `HyperLogLog`: about how many different values there were, in a size that doesn't grow with them.
//!
//! A value's hash says which *register* it belongs to, by its first `precision` bits, and which rank it has there: the
//! place of the first bit that is set among the rest. A register keeps the highest rank of its values. How many values
//! there must have been follows from how many registers have which rank, by Otmar Ertl's improved estimator ("New
//! cardinality estimation algorithms for `HyperLogLog` sketches", arXiv:1702.01284, algorithm 6), which needs neither tables
//! nor thresholds; its relative standard error is 1.04 / √registers.
//!
//! This isn't done by a crate, as none of those looked at (`hyperloglockless`, `datasketches`, `cardinality-estimator`,
//! `simple_hll`, `hyperloglogplus`) can take an insertion back, and what is aborted here must be as if it had never been; nor
//! write down just the registers that changed. What is hashed how is a part of the changelog's format, so it has to
//! be settled here in any case.
//!
//! Invariants:
//! - The hash is SipHash-1-3 with fixed keys, of the value's encoding: the same in every process, on every machine, in every
//!   version. (So whoever knows it can choose values that distort an estimate.)
//! - The estimate follows from the registers alone, by operations on floating-point numbers that are exact to the bit
//!   everywhere, and no register's rising makes it smaller.

use siphasher::sip::SipHasher13;

use crate::persist::{RestoreError, damaged};
use crate::wire::{Input, put};

/// The precision of sets: 16,384 registers, a standard error of 0.8 %.
pub(crate) const PRECISION: u8 = 14;
/// The least precision: 64 registers, a standard error of 13 %.
pub(crate) const LEAST_PRECISION: u8 = 6;
/// More than the highest rank at the least precision.
const RANKS: usize = 64;

/// Beside a register's rank, where it is written: the register follows the one before it, and no gap is written.
const FOLLOWS: u8 = 0x80;

/// A sketch of a set of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sketch {
    precision: u8,
    /// The highest rank of each register's values; 0 where it has none.
    registers: Box<[u8]>,
    /// How many registers have each rank.
    ranks: [u32; RANKS],
}

/// A register that has risen, and its rank before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    pub(crate) register: u16,
    before: u8,
}

/// A register and its rank.
pub(crate) type Register = (u16, u8);

/// The hash that says a value's register and rank.
fn hash(value: &[u8]) -> u64 {
    SipHasher13::new_with_keys(0, 0).hash(value)
}

/// The register and the rank that a value has.
pub(crate) fn place(value: &[u8], precision: u8) -> Register {
    let hash = hash(value);
    let register = (hash >> (64 - precision)) as u16;
    // With a bit behind the last one, so that there is always one that is set.
    let rest = hash << precision | 1 << (precision - 1);
    (register, rest.leading_zeros() as u8 + 1)
}

/// The register and the rank that a value has at a lower precision.
pub(crate) fn fold((register, rank): Register, from: u8, to: u8) -> Register {
    // So many of the register's last bits belong to the rest there.
    let bits = from.saturating_sub(to);
    let moved = u32::from(register) & ((1 << bits) - 1);
    let rank = if moved == 0 { rank.saturating_add(bits) } else { bits - moved.ilog2() as u8 };
    (register >> bits, rank)
}

impl Sketch {
    /// A sketch of nothing.
    pub(crate) fn new(precision: u8) -> Self {
        Self::of_ranks(precision, vec![0; 1 << precision])
    }

    /// The sketch whose registers have these ranks, 2 to the power of its precision.
    pub(crate) fn of_ranks(precision: u8, registers: Vec<u8>) -> Self {
        let mut ranks = [0; RANKS];
        for rank in &registers {
            if let Some(ranks) = ranks.get_mut(usize::from(*rank)) {
                *ranks += 1;
            }
        }
        Self { precision, registers: registers.into(), ranks }
    }

    pub(crate) fn precision(&self) -> u8 {
        self.precision
    }

    /// Adds a value. Nothing is answered where that changes nothing: it was there already, or seems to have been.
    pub(crate) fn insert(&mut self, value: &[u8]) -> Option<Raised> {
        let (register, rank) = place(value, self.precision);
        self.raise(register, rank)
    }

    /// Whether a value is certainly none of those that were added.
    pub(crate) fn lacks(&self, value: &[u8]) -> bool {
        let (register, rank) = place(value, self.precision);
        self.registers.get(usize::from(register)).is_some_and(|there| *there < rank)
    }

    /// Makes a register's rank this one, if it is lower.
    pub(crate) fn raise(&mut self, register: u16, rank: u8) -> Option<Raised> {
        let before = self.registers.get(usize::from(register)).copied().filter(|before| *before < rank)?;
        self.set(register, rank);
        Some(Raised { register, before })
    }

    /// Takes the latest rise back that hasn't been taken back yet.
    pub(crate) fn take_back(&mut self, raised: Raised) {
        self.set(raised.register, raised.before);
    }

    fn set(&mut self, register: u16, rank: u8) {
        let Some(there) = self.registers.get_mut(usize::from(register)) else { return };
        let before = std::mem::replace(there, rank);
        if let Some(ranks) = self.ranks.get_mut(usize::from(before)) {
            *ranks -= 1;
        }
        if let Some(ranks) = self.ranks.get_mut(usize::from(rank)) {
            *ranks += 1;
        }
    }

    /// Adds all values of another sketch of the same precision.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (register, rank) in other.raised() {
            self.raise(register, rank);
        }
    }

    /// The ranks of all registers.
    pub(crate) fn ranks(&self) -> &[u8] {
        &self.registers
    }

    /// About how many different values were added.
    pub(crate) fn estimate(&self) -> u64 {
        let registers = f64::from(1_u32 << self.precision);
        let highest = usize::from(64 - self.precision);
        let share = |rank: usize| f64::from(self.ranks.get(rank).copied().unwrap_or_default()) / registers;
        let mut sum = tau(1.0 - share(highest + 1));
        for rank in (1..=highest).rev() {
            sum = (sum + share(rank)) * 0.5;
        }
        sum += sigma(share(0));
        // α∞ = 1 / (2 ln 2)
        (registers * 0.721_347_520_444_481_7 / sum).round() as u64
    }

    /// The registers that have values, ascending, and their ranks.
    pub(crate) fn raised(&self) -> impl Iterator<Item = Register> {
        (0..).zip(self.registers.iter().copied()).filter(|(_, rank)| *rank > 0)
    }

    /// How many registers have values.
    pub(crate) fn raised_count(&self) -> usize {
        self.registers.len() - self.ranks.first().copied().unwrap_or_default() as usize
    }

    /// A register and its rank.
    pub(crate) fn register(&self, register: u16) -> Register {
        (register, self.registers.get(usize::from(register)).copied().unwrap_or_default())
    }
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut sum, mut y) = (x, 1.0);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum <= before {
            return sum;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut sum, mut y) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * y;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

/// Writes registers, ascending, behind their number: for each the rank, and the gap to the one before, if there is one.
/// Where all registers have values, that is a byte a register.
pub(crate) fn put_registers(out: &mut Vec<u8>, how_many: usize, registers: impl Iterator<Item = Register>) {
    put(out, how_many as u64);
    let mut next = 0;
    for (register, rank) in registers {
        if register == next {
            out.push(rank | FOLLOWS);
        } else {
            out.push(rank);
            put(out, u64::from(register.wrapping_sub(next)));
        }
        next = register.wrapping_add(1);
    }
}

/// The registers that [`put_registers`] wrote, of a sketch of this precision.
pub(crate) fn read_registers(input: &mut Input<'_>, precision: u8) -> Result<Vec<Register>, RestoreError> {
    let mut registers = Vec::new();
    let mut next = 0_u64;
    for _ in 0..input.count()? {
        let byte = input.byte()?;
        let gap = if byte & FOLLOWS == 0 { input.number()? } else { 0 };
        let (register, rank) = (next.saturating_add(gap), byte & !FOLLOWS);
        if register >= 1 << precision || !(1..=65 - precision).contains(&rank) {
            return Err(damaged("a sketch is malformed"));
        }
        registers.push((register as u16, rank));
        next = register + 1;
    }
    Ok(registers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(seed: u64, number: u64) -> [u8; 16] {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&seed.to_le_bytes());
        value[8..].copy_from_slice(&number.to_le_bytes());
        value
    }

    fn sketch_of(precision: u8, seed: u64, numbers: std::ops::Range<u64>) -> Sketch {
        let mut sketch = Sketch::new(precision);
        for number in numbers {
            sketch.insert(&value(seed, number));
        }
        sketch
    }

    /// How far an estimate is from the truth, in standard errors.
    fn errors(sketch: &Sketch, truth: u64) -> f64 {
        let standard_error = 1.04 / f64::from(1_u32 << sketch.precision()).sqrt();
        (sketch.estimate() as f64 / truth as f64 - 1.0) / standard_error
    }

    #[test]
    fn hashes_are_the_same_everywhere_and_for_ever() {
        // They are in changelogs: SipHash-1-3 with keys of zeros.
        assert_eq!(hash(b""), 0xd1fb_a762_150c_532c);
        assert_eq!(hash(&[2, 10, 0, 0, 1]), 0x9a89_f193_9289_771d);
        assert_eq!(hash(&[0x83, b'a', b'n', b'n']), 0x5fa5_0812_a140_f7d2);
        assert_eq!(hash(&(0..17).collect::<Vec<u8>>()), 0x4883_c49a_2c00_9c1d);
    }

    #[test]
    fn estimates_are_within_three_standard_errors() {
        let (mut all, mut squares) = (0.0, 0.0);
        for seed in 0..20 {
            let mut sketch = Sketch::new(PRECISION);
            let mut added = 0;
            for truth in [100, 1000, 10_000, 65_537, 200_000] {
                for number in added..truth {
                    sketch.insert(&value(seed, number));
                }
                added = truth;
                let errors = errors(&sketch, truth);
                assert!(errors.abs() < 3.0, "{truth} with seed {seed}: {} ({errors})", sketch.estimate());
                (all, squares) = (all + 1.0, squares + errors * errors);
            }
        }
        assert!(squares / all < 1.2, "{} standard errors on average", (squares / all).sqrt());
    }

    #[test]
    fn a_few_values_are_counted_nearly_exactly() {
        assert_eq!(Sketch::new(PRECISION).estimate(), 0);
        for seed in 0..100 {
            let estimate = sketch_of(PRECISION, seed, 0..10).estimate();
            assert!((9..=10).contains(&estimate), "{estimate}");
        }
    }

    #[test]
    fn an_estimate_never_becomes_smaller() {
        let mut sketch = Sketch::new(LEAST_PRECISION);
        let mut before = 0;
        for number in 0..20_000 {
            sketch.insert(&value(1, number));
            assert!(sketch.estimate() >= before);
            before = sketch.estimate();
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_back_was_never_added(kept in 0..300_u64, gone in 0..300_u64, precision in 6..=14_u8) {
            let mut sketch = sketch_of(precision, 0, 0..kept);
            let before = sketch.clone();
            let raised: Vec<Raised> = (0..gone).filter_map(|number| sketch.insert(&value(1, number))).collect();
            prop_assert!((0..gone).all(|number| !sketch.lacks(&value(1, number))));
            for raised in raised.into_iter().rev() {
                sketch.take_back(raised);
            }
            prop_assert_eq!(sketch, before);
        }

        #[test]
        fn sketches_of_two_sets_make_the_sketch_of_their_union(
            one in 0..3000_u64, both in 0..3000_u64, other in 0..3000_u64, precision in 6..=14_u8,
        ) {
            let mut sketch = sketch_of(precision, 7, 0..one + both);
            sketch.absorb(&sketch_of(precision, 7, one..one + both + other));
            prop_assert_eq!(&sketch, &sketch_of(precision, 7, 0..one + both + other));
        }

        #[test]
        fn folded_a_value_has_the_place_that_it_has_at_the_lower_precision(
            value in any::<u64>(), precisions in (6..=14_u8, 6..=14_u8),
        ) {
            let value = value.to_le_bytes();
            let (from, to) = (precisions.0.max(precisions.1), precisions.0.min(precisions.1));
            prop_assert_eq!(fold(place(&value, from), from, to), place(&value, to));
        }

        #[test]
        fn registers_are_read_as_they_were_written(
            values in 0..30_000_u64, precision in 6..=14_u8, cut in any::<prop::sample::Index>(),
        ) {
            let sketch = sketch_of(precision, 3, 0..values);
            let mut bytes = Vec::new();
            put_registers(&mut bytes, sketch.raised_count(), sketch.raised());
            let read = read_registers(&mut Input(&bytes), precision).unwrap();
            prop_assert_eq!(read, sketch.raised().collect::<Vec<_>>());
            prop_assert!(bytes.len() <= 3 + (1 << precision));
            prop_assert!(read_registers(&mut Input(&bytes[..cut.index(bytes.len())]), precision).is_err());
        }
    }
}
