//! What is written of a message.

use loginscope_kafka::{Message, Record};

use crate::Arguments;

/// Makes copies of messages, with some more bytes if that is asked for.
pub(crate) struct Copies<'a> {
    to: &'a str,
    extra_bytes: usize,
    /// Room for a message with its extra bytes.
    grown: Vec<u8>,
}

impl<'a> Copies<'a> {
    pub(crate) fn new(arguments: &'a Arguments) -> Self {
        Self { to: &arguments.to, extra_bytes: arguments.extra_bytes as usize, grown: Vec::new() }
    }

    /// The record to send. It is copied out of the consumer's memory once, by the producer.
    pub(crate) fn of<'m>(&'m mut self, message: Message<'m>) -> Record<'m> {
        let payload = match message.payload() {
            Some(payload) if self.extra_bytes > 0 => {
                self.grown.clear();
                self.grown.extend_from_slice(payload);
                self.grown.resize(payload.len() + self.extra_bytes, b' ');
                Some(self.grown.as_slice())
            }
            payload => payload,
        };
        Record { topic: self.to, key: message.key(), payload, ..Record::default() }
    }
}
