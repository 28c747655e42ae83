//! Numbers and bytes as the records of a changelog have them, and reading them back from bytes that nobody vouches for.
//!
//! Numbers take seven bits a byte, least significant first, and the highest bit says that more follow; signed ones are
//! folded first, so that small ones are short. Nothing is allocated before the bytes that it is to hold are seen.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::persist::{RestoreError, damaged, malformed};

/// Appends a number.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a signed number.
#[inline]
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends bytes behind their length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a value in the form of its own.
pub(crate) fn put_value<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    // Writing to memory can't fail, and all sequences know their lengths.
    let _ = postcard::to_io(value, out);
}

/// What is left of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

fn cut_short() -> RestoreError {
    damaged("a record ends too early")
}

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RestoreError> {
        let (first, rest) = self.0.split_first().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, RestoreError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged("a number is too long"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, RestoreError> {
        let folded = self.number()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    pub(crate) fn small(&mut self) -> Result<u32, RestoreError> {
        u32::try_from(self.number()?).map_err(|_| damaged("a number is too large"))
    }

    /// How many things follow, each of which takes at least one byte.
    pub(crate) fn count(&mut self) -> Result<usize, RestoreError> {
        let count = usize::try_from(self.number()?).map_err(|_| cut_short())?;
        if count <= self.0.len() { Ok(count) } else { Err(cut_short()) }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], RestoreError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RestoreError> {
        let length = self.count()?;
        self.take(length)
    }

    /// A value that [`put_value`] wrote.
    pub(crate) fn value<T: DeserializeOwned>(&mut self) -> Result<T, RestoreError> {
        let (value, rest) = postcard::take_from_bytes(self.0).map_err(malformed)?;
        self.0 = rest;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(number in any::<u64>(), shift in 0..64, signed in any::<i64>()) {
            let (number, signed) = (number >> shift, signed >> shift);
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            put_signed(&mut bytes, signed);
            let mut input = Input(&bytes);
            prop_assert_eq!(input.number().unwrap(), number);
            prop_assert_eq!(input.signed().unwrap(), signed);
            prop_assert!(input.is_empty());
            let mut cut = Input(&bytes[..bytes.len() - 1]);
            prop_assert!(cut.number().and_then(|_| cut.signed()).is_err());
        }
    }
}
