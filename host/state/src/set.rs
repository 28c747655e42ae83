//! Exact sets of encoded values, made for millions of sets with a few members each, and for a few with millions.
//!
//! Up to 21 bytes (four IPv4 addresses, or one id) stand in the set itself, more of them in one allocation that is
//! searched from its begin, and many in hash tables: one of 4 bytes an entry for IPv4 addresses, one of 17 for ids
//! and IPv6 addresses, one for everything else.

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use crate::segments::Vacant;
use crate::sharded::{PARTS, Sharded, hash};
use crate::value::{IPV4, encoded_length, split_first};

/// How many bytes stand in the set itself.
const INLINE: usize = 21;
/// Beyond so many bytes or members, a set is hashed.
const LINEAR_BYTES: usize = 256;
const LINEAR_MEMBERS: u16 = 24;
/// In how many parts the members can be visited.
pub(crate) const SET_PARTS: usize = 3 * PARTS;

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
}

impl Default for Set {
    fn default() -> Self {
        Self::Inline { used: 0, members: 0, bytes: [0; INLINE] }
    }
}

/// The members of a large set, by their size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashed {
    members: u64,
    addresses: Sharded<[u8; 4]>,
    wide: Sharded<[u8; 17]>,
    others: Sharded<Box<[u8]>>,
}

/// A member of a [`Hashed`] set by the table it stands in.
enum BySize<'a> {
    Address([u8; 4]),
    Wide([u8; 17]),
    Other(&'a [u8]),
}

impl<'a> BySize<'a> {
    fn of(member: &'a [u8]) -> Self {
        if let [IPV4, address @ ..] = member
            && let Ok(address) = address.try_into()
        {
            return Self::Address(address);
        }
        member.try_into().map_or(Self::Other(member), Self::Wide)
    }
}

impl Hashed {
    /// An empty set with room for as many members as a set is likely to get that is just being hashed. Growing from
    /// few to many costs more than the room.
    fn with_room(member_length: usize) -> Self {
        let mut hashed = Self::default();
        match member_length {
            5 => hashed.addresses = Sharded::with_capacity(4 * usize::from(LINEAR_MEMBERS)),
            17 => hashed.wide = Sharded::with_capacity(4 * usize::from(LINEAR_MEMBERS)),
            _ => {}
        }
        hashed
    }

    fn contains(&self, member: &[u8]) -> bool {
        match BySize::of(member) {
            BySize::Address(address) => self.addresses.find(hash(&address), |found| *found == address).is_some(),
            BySize::Wide(wide) => self.wide.find(hash(&wide), |found| *found == wide).is_some(),
            BySize::Other(other) => self.others.find(hash(other), |found| **found == *other).is_some(),
        }
    }

    fn insert(&mut self, member: &[u8]) -> bool {
        let inserted = match BySize::of(member) {
            BySize::Address(own) => {
                self.addresses.insert_if_absent(hash(&own), |found| *found == own, || own, |entry| hash(entry))
            }
            BySize::Wide(own) => {
                self.wide.insert_if_absent(hash(&own), |found| *found == own, || own, |entry| hash(entry))
            }
            BySize::Other(own) => {
                self.others.insert_if_absent(hash(own), |found| **found == *own, || own.into(), |entry| hash(entry))
            }
        };
        self.members += u64::from(inserted);
        inserted
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let removed = match BySize::of(member) {
            BySize::Address(address) => self.addresses.remove(hash(&address), |found| *found == address).is_some(),
            BySize::Wide(wide) => self.wide.remove(hash(&wide), |found| *found == wide).is_some(),
            BySize::Other(other) => self.others.remove(hash(other), |found| **found == *other).is_some(),
        };
        self.members -= u64::from(removed);
        removed
    }

    fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        for [a, b, c, d] in self.addresses.iter() {
            visit(&[IPV4, *a, *b, *c, *d]);
        }
        self.wide.iter().for_each(|member| visit(member));
        self.others.iter().for_each(|member| visit(member));
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
            Self::Hashed(hashed) => hashed.members,
        }
    }

    /// A byte of a set, wherever its members are.
    #[inline]
    pub(crate) fn touch(&self) -> u8 {
        match self {
            Self::Inline { used, .. } => *used,
            Self::Linear { bytes, .. } => bytes.first().copied().unwrap_or_default(),
            Self::Hashed(hashed) => hashed.members as u8,
        }
    }

    /// The members of a set that isn't hashed, one after the other.
    fn listed(&self) -> Option<&[u8]> {
        match self {
            Self::Inline { used, bytes, .. } => bytes.get(..usize::from(*used)),
            Self::Linear { used, bytes, .. } => bytes.get(..usize::from(*used)),
            Self::Hashed(_) => None,
        }
    }

    pub(crate) fn contains(&self, member: &[u8]) -> bool {
        match self {
            Self::Hashed(hashed) => hashed.contains(member),
            _ => self.listed().is_some_and(|listed| position(listed, member).is_some()),
        }
    }

    /// Adds a member; `false` where it was already there.
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
            Self::Hashed(hashed) => return hashed.insert(member),
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

    /// Takes a member out; `false` where it wasn't there. The set doesn't shrink.
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

    /// Visits every member, in no order that may show.
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
            Self::Hashed(hashed) => 5 * hashed.addresses.len() + 17 * hashed.wide.len() + 32 * hashed.others.len(),
        }
    }

    /// Visits the members in one of [`SET_PARTS`] parts, all of a set that isn't hashed in the first one. A member that
    /// stays in the set is in a part that is yet to come, or was in one when that was visited.
    pub(crate) fn for_each_in(&self, part: usize, mut visit: impl FnMut(&[u8])) {
        match self {
            Self::Hashed(hashed) => match (part / PARTS, part % PARTS) {
                (0, part) => hashed.addresses.iter_part(part).for_each(|[a, b, c, d]| visit(&[IPV4, *a, *b, *c, *d])),
                (1, part) => hashed.wide.iter_part(part).for_each(|member| visit(member)),
                (_, part) => hashed.others.iter_part(part).for_each(|member| visit(member)),
            },
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
        match self.listed() {
            Some(listed) if self.len() <= 1 => serializer.serialize_bytes(listed),
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
                prop_assert_eq!(set.contains(&member), model.contains(&member));
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
