//! Kafka: consumers, producers, topics and an embedded broker.
