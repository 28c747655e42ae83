//! How much of each partition waits in this process to be taken.
//!
//! Every partition has a queue of its own, which librdkafka fills up to these limits whether or not anybody takes its messages.

/// With no more partitions than this, each has queues of full size.
const PARTITIONS_WITH_FULL_QUEUES: u32 = 4;

/// What may wait of one partition, and the least of it where there are many: so memory is bounded, however many there are. Small
/// queues cost nothing.
const QUEUES: [(&str, u32, u32); 3] = [
    ("queued.min.messages", 20_000, 1_000),
    ("queued.max.messages.kbytes", 16_384, 1_024),
    ("fetch.message.max.bytes", 1 << 20, 128 << 10),
];

/// The sizes of a partition's queues, where there are so many partitions.
pub(crate) fn queue_sizes(partitions: u32) -> [(&'static str, String); 3] {
    let share = partitions.max(PARTITIONS_WITH_FULL_QUEUES) / PARTITIONS_WITH_FULL_QUEUES;
    QUEUES.map(|(property, whole, least)| (property, (whole / share).max(least).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_many_partitions_each_has_small_queues_and_all_together_no_more_than_a_few_have() {
        let sizes = |partitions| queue_sizes(partitions).map(|(_, size)| size.parse::<u32>().unwrap());
        assert_eq!(sizes(0), [20_000, 16_384, 1 << 20]);
        assert_eq!(sizes(4), sizes(1));
        assert_eq!(sizes(16), [5_000, 4_096, 1 << 18]);
        assert_eq!(sizes(100_000), [1_000, 1_024, 128 << 10]);
    }
}
