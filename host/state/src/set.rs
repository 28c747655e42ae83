//! Sets of encoded values, made for millions of sets with a few members each, and for a few with millions.
//!
//! Up to 21 bytes (four IPv4 addresses, or one id) stand in the set itself, more of them in one allocation that is
//! searched from its begin, and many in hash tables (`hashed`). A set that is too large to be kept has an estimate in
//! place of its members (`estimated`); when it is too large is not decided here.

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use crate::estimated::Estimated;
use crate::hashed::{Hashed, PARTS_BY_SIZE};
use crate::segments::Vacant;
use crate::sketch::{Raised, Register, Sketch};
use crate::value::{IPV4, encoded_length, split_first};
use crate::wire::Input;

/// How many bytes stand in the set itself.
const INLINE: usize = 21;
/// Beyond so many bytes or members, a set is hashed.
const LINEAR_BYTES: usize = 256;
const LINEAR_MEMBERS: u16 = 24;
/// For more members than these, a sketch is kept up rather than made anew each time.
const MEMBERS_WITHOUT_SKETCH: u64 = 256;
/// In how many parts the members can be visited.
pub(crate) const SET_PARTS: usize = PARTS_BY_SIZE;
/// What the bytes of a set begin with that has an estimate in place of its members. No encoded value begins with it.
const ESTIMATED: u8 = 0x7f;
/// No set has had more members than these; what says so is damaged.
const MOST_MEMBERS: u64 = 1 << 48;

/// A set of encoded values. (A combination of values is one value.)
#[derive(Clone, Debug)]
pub(crate) enum Set {
    Inline {
        used: u8,
        members: u8,
        bytes: [u8; INLINE],
    },
    Linear {
        used: u16,
        members: u16,
        /// The members, one after the other, and room for some more.
        bytes: Box<[u8]>,
    },
    Hashed(Box<Hashed>),
    Estimated(Box<Estimated>),
}

impl Default for Set {
    fn default() -> Self {
        Self::Inline { used: 0, members: 0, bytes: [0; INLINE] }
    }
}

/// Where a member stands among others. No encoding is the beginning of another, so that comparing beginnings is enough.
fn position(bytes: &[u8], member: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Most sets hold nothing but IPv4 addresses, and these are compared as numbers.
    if let [IPV4, a, b, c, d] = member {
        let wanted = u32::from_le_bytes([*a, *b, *c, *d]);
        while let Some([IPV4, a, b, c, d]) = bytes.get(at..at + 5) {
            if u32::from_le_bytes([*a, *b, *c, *d]) == wanted {
                return Some(at);
            }
            at += 5;
        }
    }
    let mut rest = bytes.get(at..)?;
    while !rest.starts_with(member) {
        rest = rest.get(encoded_length(rest)?..)?;
    }
    Some(bytes.len() - rest.len())
}

impl Set {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Inline { members, .. } => u64::from(*members),
            Self::Linear { members, .. } => u64::from(*members),
            Self::Hashed(hashed) => hashed.len(),
            Self::Estimated(estimated) => estimated.count(),
        }
    }

    /// What it has in place of its members, if it is too large to keep them.
    pub(crate) fn estimated(&self) -> Option<&Estimated> {
        match self {
            Self::Estimated(estimated) => Some(estimated),
            _ => None,
        }
    }

    /// Gives its members up for an estimate of how many there are. Returns the set as it was.
    pub(crate) fn estimate(&mut self) -> Self {
        let estimated = Self::Estimated(Box::new(Estimated::of(self)));
        std::mem::replace(self, estimated)
    }

    /// Takes the latest change of its sketch back that hasn't been taken back yet.
    pub(crate) fn take_back(&mut self, raised: Raised) {
        match self {
            Self::Estimated(estimated) => estimated.take_back(raised),
            Self::Hashed(hashed) => hashed.take_back(raised),
            Self::Inline { .. } | Self::Linear { .. } => {}
        }
    }

    /// Adds what an estimate says about the same set, in whole or in part. That takes the place of its members.
    pub(crate) fn learn(&mut self, at_least: u64, registers: &[Register]) {
        if self.estimated().is_none() {
            self.estimate();
        }
        if let Self::Estimated(estimated) = self {
            estimated.learn(at_least, registers);
        }
    }

    /// Adds all members of another set. Where one of the two is estimated, so is what they make.
    pub(crate) fn absorb(&mut self, other: &Self) {
        if other.estimated().is_some() && self.estimated().is_none() {
            self.estimate();
        }
        match self {
            Self::Estimated(estimated) => estimated.absorb(other),
            _ => other.for_each(|member| {
                self.insert(member);
            }),
        }
    }

    /// The sketch of its members, if it is at hand.
    pub(crate) fn sketch(&self) -> Option<&Sketch> {
        match self {
            Self::Hashed(hashed) => hashed.sketch(),
            Self::Estimated(estimated) => Some(estimated.sketch()),
            Self::Inline { .. } | Self::Linear { .. } => None,
        }
    }

    /// Lets the sketch of its members be at hand from now on, if there are enough of them.
    pub(crate) fn begin_sketch(&mut self) {
        if let Self::Hashed(hashed) = self
            && hashed.len() > MEMBERS_WITHOUT_SKETCH
        {
            hashed.begin_sketch();
        }
    }

    /// A byte of a set, wherever its members are.
    #[inline]
    pub(crate) fn touch(&self) -> u8 {
        match self {
            Self::Inline { used, .. } => *used,
            Self::Linear { bytes, .. } => bytes.first().copied().unwrap_or_default(),
            Self::Hashed(hashed) => hashed.len() as u8,
            Self::Estimated(estimated) => estimated.count() as u8,
        }
    }

    /// The members of a set that is neither hashed nor estimated, one after the other.
    fn listed(&self) -> Option<&[u8]> {
        match self {
            Self::Inline { used, bytes, .. } => bytes.get(..usize::from(*used)),
            Self::Linear { used, bytes, .. } => bytes.get(..usize::from(*used)),
            Self::Hashed(_) | Self::Estimated(_) => None,
        }
    }

    /// Whether a member is there; nothing where that isn't known, as the set is estimated.
    pub(crate) fn contains(&self, member: &[u8]) -> Option<bool> {
        match self {
            Self::Hashed(hashed) => Some(hashed.contains(member)),
            Self::Estimated(estimated) => estimated.lacks(member).then_some(false),
            _ => self.listed().map(|listed| position(listed, member).is_some()),
        }
    }

    /// Adds a member; `false` where that changes nothing: it was already there, or in an estimated set may have been.
    pub(crate) fn insert(&mut self, member: &[u8]) -> bool {
        match self {
            Self::Inline { used, members, bytes } => {
                let start = usize::from(*used);
                if bytes.get(..start).is_some_and(|listed| position(listed, member).is_some()) {
                    return false;
                }
                if append(bytes, start, member) {
                    *used += member.len() as u8;
                    *members += 1;
                    return true;
                }
            }
            Self::Linear { used, members, bytes } => {
                let start = usize::from(*used);
                if bytes.get(..start).is_some_and(|listed| position(listed, member).is_some()) {
                    return false;
                }
                if *members < LINEAR_MEMBERS && append(bytes, start, member) {
                    *used += member.len() as u16;
                    *members += 1;
                    return true;
                }
            }
            Self::Hashed(hashed) => return hashed.insert(member).0,
            Self::Estimated(estimated) => return estimated.insert(member).is_some(),
        }
        self.make_room(member.len());
        self.insert(member)
    }

    /// Turns a set that isn't hashed into the next larger kind, where a member of this length fits.
    fn make_room(&mut self, member_length: usize) {
        let Some(listed) = self.listed() else { return };
        let needed = listed.len() + member_length;
        let members = self.len() as u16;
        if needed > LINEAR_BYTES || members >= LINEAR_MEMBERS {
            let mut hashed = Hashed::with_room(member_length);
            self.for_each(|member| {
                hashed.insert(member);
            });
            *self = Self::Hashed(Box::new(hashed));
        } else {
            let mut bytes = vec![0; (needed + needed / 4).next_multiple_of(16)].into_boxed_slice();
            append(&mut bytes, 0, listed);
            *self = Self::Linear { used: listed.len() as u16, members, bytes };
        }
    }

    /// Takes a member out; `false` where it wasn't there, or the set is estimated. The set doesn't shrink.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        let at = self.listed().and_then(|listed| position(listed, member));
        match (self, at) {
            (Self::Hashed(hashed), _) => return hashed.remove(member),
            (Self::Inline { used, members, bytes }, Some(at)) => {
                bytes.copy_within(at + member.len()..usize::from(*used), at);
                *used -= member.len() as u8;
                *members -= 1;
            }
            (Self::Linear { used, members, bytes }, Some(at)) => {
                bytes.copy_within(at + member.len()..usize::from(*used), at);
                *used -= member.len() as u16;
                *members -= 1;
            }
            _ => return false,
        }
        true
    }

    /// Visits every member, in no order that may show; of an estimated set none.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        let Some(mut rest) = self.listed() else {
            if let Self::Hashed(hashed) = self {
                hashed.for_each(visit);
            }
            return;
        };
        while let Some((member, behind)) = split_first(rest) {
            visit(member);
            rest = behind;
        }
    }

    /// About how many bytes its members take.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Inline { used, .. } => usize::from(*used),
            Self::Linear { used, .. } => usize::from(*used),
            Self::Hashed(hashed) => hashed.size(),
            Self::Estimated(estimated) => estimated.size(),
        }
    }

    /// Visits the members in one of [`SET_PARTS`] parts, all of a set that isn't hashed in the first one. A member that
    /// stays in the set is in a part that is yet to come, or was in one when that was visited.
    pub(crate) fn for_each_in(&self, part: usize, visit: impl FnMut(&[u8])) {
        match self {
            Self::Hashed(hashed) => hashed.for_each_in(part, visit),
            _ if part == 0 => self.for_each(visit),
            _ => {}
        }
    }

    /// The members, sorted.
    fn sorted(&self) -> Vec<u8> {
        let mut members = Vec::with_capacity(self.len() as usize);
        self.for_each(|member| members.push(member.to_vec()));
        members.sort_unstable();
        members.concat()
    }
}

/// Writes a member behind others; `false` where there is no room.
fn append(bytes: &mut [u8], used: usize, member: &[u8]) -> bool {
    match bytes.get_mut(used..used + member.len()) {
        Some(room) => {
            // An IPv4 address: a few moves instead of a call.
            match (<&mut [u8; 5]>::try_from(&mut *room), <&[u8; 5]>::try_from(member)) {
                (Ok(room), Ok(member)) => *room = *member,
                _ => room.copy_from_slice(member),
            }
            true
        }
        None => false,
    }
}

impl Vacant for Set {
    fn is_vacant(&self) -> bool {
        self.len() == 0
    }
}

/// The members are written sorted, so that equal sets are equal bytes.
impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.listed(), self) {
            (Some(listed), _) if self.len() <= 1 => serializer.serialize_bytes(listed),
            (_, Self::Estimated(estimated)) => {
                let mut bytes = vec![ESTIMATED];
                estimated.put(&mut bytes);
                serializer.serialize_bytes(&bytes)
            }
            _ => serializer.serialize_bytes(&self.sorted()),
        }
    }
}

impl<'de> Deserialize<'de> for Set {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl Visitor<'_> for Members {
            type Value = Set;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the members of a set")
            }

            fn visit_bytes<E: serde::de::Error>(self, mut bytes: &[u8]) -> Result<Set, E> {
                let mut set = Set::default();
                if let [ESTIMATED, bytes @ ..] = bytes {
                    let mut input = Input(bytes);
                    let (at_least, registers) = Estimated::read(&mut input).map_err(E::custom)?;
                    if !input.is_empty() || at_least > MOST_MEMBERS {
                        return Err(E::custom("the estimate of a set is malformed"));
                    }
                    set.learn(at_least, &registers);
                    return Ok(set);
                }
                while let Some((member, rest)) = split_first(bytes) {
                    set.insert(member);
                    bytes = rest;
                }
                if bytes.is_empty() { Ok(set) } else { Err(E::custom("the members of a set are malformed")) }
            }
        }

        deserializer.deserialize_bytes(Members).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::encode;
    use loginscope_login::{Slot, Value};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_takes_24_bytes() {
        assert_eq!(size_of::<Set>(), 24);
    }

    #[test]
    fn an_estimate_of_an_absurd_size_or_with_something_behind_it_is_refused() {
        let is_read = |at_least: u64, behind: &[u8]| {
            let mut bytes = vec![ESTIMATED];
            crate::wire::put(&mut bytes, at_least);
            // No register has risen.
            bytes.push(0);
            bytes.extend_from_slice(behind);
            postcard::from_bytes::<Set>(&[&[bytes.len() as u8][..], &bytes[..]].concat()).is_ok()
        };
        assert!(is_read(5, &[]) && is_read(MOST_MEMBERS, &[]));
        assert!(!is_read(MOST_MEMBERS + 1, &[]) && !is_read(u64::MAX, &[]));
        assert!(!is_read(5, &[0]));
    }

    fn member(number: u16, kind: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let text = match kind % 4 {
            0 => format!("10.0.{}.{}", number >> 8, number & 0xff),
            1 => format!("2001:db8::{number:x}"),
            2 => format!("424cdd21-063a-43a7-b91b-7ca1a833{number:04x}"),
            _ => "x".repeat(usize::from(number % 400)),
        };
        let slot = if kind % 4 < 2 { Slot::IP } else { Slot::USER_ID };
        encode(slot, Value::Text(&text), &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_set_has_what_was_put_in_and_not_taken_out(
            steps in prop::collection::vec((any::<bool>(), 0..80_u16, 0..4_u8, 0..20_u8), 0..400)
        ) {
            let (mut set, mut model) = (Set::default(), BTreeSet::new());
            for (same_kind, number, kind, remove) in steps {
                let member = member(number, if same_kind { 0 } else { kind });
                if remove == 0 {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                } else {
                    prop_assert_eq!(set.insert(&member), model.insert(member.clone()));
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert_eq!(set.contains(&member), Some(model.contains(&member)));
            }
            let mut members = BTreeSet::new();
            set.for_each(|member| assert!(members.insert(member.to_vec())));
            prop_assert_eq!(&members, &model);
            let mut parts = Vec::new();
            (0..SET_PARTS).for_each(|part| set.for_each_in(part, |member| parts.push(member.to_vec())));
            parts.sort_unstable();
            prop_assert_eq!(parts, model.into_iter().collect::<Vec<_>>());
            let bytes = postcard::to_stdvec(&set).unwrap();
            let read: Set = postcard::from_bytes(&bytes).unwrap();
            prop_assert_eq!(read.len(), set.len());
            prop_assert_eq!(postcard::to_stdvec(&read).unwrap(), bytes);
        }
    }
}
