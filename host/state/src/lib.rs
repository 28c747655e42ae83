//! What the host keeps of each partition: aggregates, windows, history.
