//! The same result, whatever the batching.
