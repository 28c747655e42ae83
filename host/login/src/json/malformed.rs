//! Why bytes are not JSON.

/// Where and why a document is not well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The offset of the byte at fault.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) problem: Problem,
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("it is not UTF-8")]
    Encoding,
    #[error("it begins with a byte order mark")]
    ByteOrderMark,
    #[error("it ends too early")]
    End,
    #[error("a value is missing or misspelt")]
    Value,
    #[error("a member's name in double quotes is missing")]
    Name,
    #[error("a colon is missing after a member's name")]
    Colon,
    #[error("a comma or closing brace is missing in an object")]
    ObjectDelimiter,
    #[error("a comma or closing bracket is missing in an array")]
    ArrayDelimiter,
    #[error("a number is not written as JSON has it")]
    Number,
    #[error("a string holds a raw control character")]
    ControlCharacter,
    #[error("a string holds an escape that JSON does not have")]
    Escape,
    #[error("a string holds an unpaired surrogate escape")]
    Surrogate,
    #[error("it is nested deeper than 64 levels")]
    Depth,
    #[error("something follows the document")]
    Trailing,
}

/// The fault that `problem` is missing at a position: where nothing is left, it is that the document ends there.
#[cold]
pub(crate) fn expected<T>(bytes: &[u8], at: usize, problem: Problem) -> Result<T, Malformed> {
    let problem = if at >= bytes.len() { Problem::End } else { problem };
    Err(Malformed { at: at.min(bytes.len()), problem })
}
