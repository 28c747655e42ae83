//! The hash tables of a large set: one of 4 bytes an entry for IPv4 addresses, one of 17 for ids and IPv6 addresses, one for
//! everything else.

use crate::sharded::{PARTS, Sharded, hash};
use crate::sketch::{PRECISION, Raised, Sketch};
use crate::value::IPV4;

/// For how many members of the size of the one that comes next there is room at first.
const MEMBERS_AT_FIRST: usize = 96;
/// In how many parts the members can be visited.
pub(crate) const PARTS_BY_SIZE: usize = 3 * PARTS;

/// The members of a large set, by their size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashed {
    members: u64,
    addresses: Sharded<[u8; 4]>,
    wide: Sharded<[u8; 17]>,
    others: Sharded<Box<[u8]>>,
    /// Their sketch, where it has been asked for.
    companion: Option<Box<Companion>>,
}

/// The sketch of a set's members, which follows as members come and are taken back.
#[derive(Clone, Debug)]
struct Companion {
    sketch: Sketch,
    /// How many members there were when it was made. Which registers one of these raised isn't known.
    members: u64,
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
    pub(crate) fn with_room(member_length: usize) -> Self {
        let mut hashed = Self::default();
        match member_length {
            5 => hashed.addresses = Sharded::with_capacity(MEMBERS_AT_FIRST),
            17 => hashed.wide = Sharded::with_capacity(MEMBERS_AT_FIRST),
            _ => {}
        }
        hashed
    }

    pub(crate) fn contains(&self, member: &[u8]) -> bool {
        match BySize::of(member) {
            BySize::Address(address) => self.addresses.find(hash(&address), |found| *found == address).is_some(),
            BySize::Wide(wide) => self.wide.find(hash(&wide), |found| *found == wide).is_some(),
            BySize::Other(other) => self.others.find(hash(other), |found| **found == *other).is_some(),
        }
    }

    /// Adds a member; `false` where it was already there. Says if that raised a register of the sketch, which has to be
    /// taken back whenever the member is taken out.
    pub(crate) fn insert(&mut self, member: &[u8]) -> (bool, Option<Raised>) {
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
        let companion = self.companion.as_mut().filter(|_| inserted);
        (inserted, companion.and_then(|companion| companion.sketch.insert(member)))
    }

    /// Takes the latest change of the sketch back that hasn't been taken back yet.
    pub(crate) fn take_back(&mut self, raised: Raised) {
        if let Some(companion) = &mut self.companion {
            companion.sketch.take_back(raised);
        }
    }

    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        let removed = match BySize::of(member) {
            BySize::Address(address) => self.addresses.remove(hash(&address), |found| *found == address).is_some(),
            BySize::Wide(wide) => self.wide.remove(hash(&wide), |found| *found == wide).is_some(),
            BySize::Other(other) => self.others.remove(hash(other), |found| **found == *other).is_some(),
        };
        self.members -= u64::from(removed);
        if self.companion.as_ref().is_some_and(|companion| companion.members > self.members) {
            self.companion = None;
        }
        removed
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        for [a, b, c, d] in self.addresses.iter() {
            visit(&[IPV4, *a, *b, *c, *d]);
        }
        self.wide.iter().for_each(|member| visit(member));
        self.others.iter().for_each(|member| visit(member));
    }

    pub(crate) fn len(&self) -> u64 {
        self.members
    }

    /// About how many bytes its members take.
    pub(crate) fn size(&self) -> usize {
        5 * self.addresses.len() + 17 * self.wide.len() + 32 * self.others.len()
    }

    /// Visits the members in one of [`PARTS_BY_SIZE`] parts.
    pub(crate) fn for_each_in(&self, part: usize, mut visit: impl FnMut(&[u8])) {
        match (part / PARTS, part % PARTS) {
            (0, part) => self.addresses.iter_part(part).for_each(|[a, b, c, d]| visit(&[IPV4, *a, *b, *c, *d])),
            (1, part) => self.wide.iter_part(part).for_each(|member| visit(member)),
            (_, part) => self.others.iter_part(part).for_each(|member| visit(member)),
        }
    }

    /// The sketch of its members, if it has one.
    pub(crate) fn sketch(&self) -> Option<&Sketch> {
        self.companion.as_ref().map(|companion| &companion.sketch)
    }

    /// Makes its sketch, if it has none.
    pub(crate) fn begin_sketch(&mut self) {
        if self.companion.is_none() {
            let mut sketch = Sketch::new(PRECISION);
            self.for_each(|member| {
                sketch.insert(member);
            });
            self.companion = Some(Box::new(Companion { sketch, members: self.members }));
        }
    }
}
