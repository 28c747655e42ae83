//! The envelope of what is written to a changelog: what it is, in which version's way, and whether it is whole.
//!
//! ```text
//! "LS"  version: 1 byte  kind: 1 byte  checksum: 4 bytes, little-endian  content
//! ```
//!
//! These eight bytes stay as they are in all versions. The checksum is the CRC-32 of version, kind and content. Nothing
//! is compressed: many records of a transaction compress better together, which is the producer's work
//! (`compression.type`).

use crate::persist::{RestoreError, damaged};

const MAGIC: [u8; 2] = *b"LS";
/// How the content is to be read.
pub(crate) const RECORD_VERSION: u8 = 2;
const HEADER: usize = 8;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What changed between two commits.
    Delta,
    /// A slice of a snapshot.
    Slice,
    /// A part of a commit, which holds records in turn.
    Part,
    /// The totals of a partition.
    Totals,
    /// The changelog begins anew.
    Anew,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Delta => 1,
            Self::Slice => 2,
            Self::Part => 3,
            Self::Totals => 4,
            Self::Anew => 5,
        }
    }
}

/// A record without content, to be filled and [`seal`]ed.
pub(crate) fn begin(kind: Kind) -> Vec<u8> {
    let [first, second] = MAGIC;
    vec![first, second, RECORD_VERSION, kind.byte(), 0, 0, 0, 0]
}

/// Writes the checksum of a record that is complete.
pub(crate) fn seal(mut record: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(&record).to_le_bytes();
    if let Some(place) = record.get_mut(4..HEADER) {
        place.copy_from_slice(&checksum);
    }
    record
}

fn checksum(record: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(record.get(2..4).unwrap_or_default());
    checksum.update(record.get(HEADER..).unwrap_or_default());
    checksum.finalize()
}

/// What a record is, and its content.
///
/// # Errors
/// Where it is no record, is damaged, or was written in another version's way.
pub(crate) fn open(record: &[u8]) -> Result<(Kind, &[u8]), RestoreError> {
    let Some(([first, second, version, kind, written @ ..], content)) = record.split_first_chunk::<HEADER>() else {
        return Err(damaged("a record is shorter than its header"));
    };
    if [*first, *second] != MAGIC {
        return Err(damaged("it holds something that is no record of a changelog"));
    }
    if u32::from_le_bytes(*written) != checksum(record) {
        return Err(damaged("a record's checksum is wrong"));
    }
    if *version != RECORD_VERSION {
        return Err(RestoreError::Record { found: *version });
    }
    [Kind::Delta, Kind::Slice, Kind::Part, Kind::Totals, Kind::Anew]
        .into_iter()
        .find(|known| known.byte() == *kind)
        .map(|kind| (kind, content))
        .ok_or_else(|| damaged("a record is of an unknown kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut record = begin(Kind::Slice);
        record.extend_from_slice(b"content");
        seal(record)
    }

    #[test]
    fn a_record_is_opened_as_it_was_sealed() {
        assert_eq!(open(&record()).unwrap(), (Kind::Slice, b"content".as_slice()));
    }

    #[test]
    fn any_changed_bit_and_any_cut_is_noticed() {
        let whole = record();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(&damaged), Err(RestoreError::Damaged(_))));
        }
        for end in 0..whole.len() {
            assert!(matches!(open(&whole[..end]), Err(RestoreError::Damaged(_))));
        }
    }

    #[test]
    fn a_record_of_another_version_is_refused_with_a_sentence_that_says_what_to_do() {
        let mut other = record();
        other[2] = 9;
        let error = open(&seal(other)).unwrap_err();
        assert_eq!(error, RestoreError::Record { found: 9 });
        let sentence = "the changelog was written by another version of this program (its records are of format 9, \
                        and this one reads 2): run that version";
        assert_eq!(error.to_string(), sentence);
    }
}
