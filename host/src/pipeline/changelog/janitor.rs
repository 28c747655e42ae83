//! Looks after the changelog topic: where a partition's changelog ends, and deleting what is no longer needed. On a thread of its
//! own, so that no worker waits for it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use anyhow::{Context as _, Result};
use loginscope_kafka::{ClientSettings, Error, Topics};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Something to be done.
#[derive(Debug)]
pub enum Request {
    /// Say where a partition's changelog ends.
    End {
        /// The partition.
        partition: i32,
        /// The answer goes here; none comes where the broker can't be asked.
        reply: Sender<i64>,
    },
    /// Delete what is before an offset.
    Delete {
        /// The partition.
        partition: i32,
        /// The offset of the first message that is needed.
        before: i64,
    },
}

/// Takes requests about one changelog topic. When the last one of its clones is dropped, its thread ends.
#[derive(Clone, Debug)]
pub struct Janitor {
    requests: Sender<Request>,
}

impl Janitor {
    /// Starts the thread.
    pub fn start(kafka: ClientSettings, topic: String) -> Result<Self> {
        let (janitor, requests) = Self::new();
        std::thread::Builder::new()
            .name("janitor".to_owned())
            .spawn(move || serve(&kafka, &topic, &requests))
            .context("cannot start the thread that looks after the changelog")?;
        Ok(janitor)
    }

    /// One whose requests somebody else serves.
    pub fn new() -> (Self, Receiver<Request>) {
        let (sender, requests) = mpsc::channel();
        (Self { requests: sender }, requests)
    }

    /// Where the changelog of a partition ends. Where nobody can say, the channel is closed without an answer.
    pub fn end_of(&self, partition: i32) -> Receiver<i64> {
        let (reply, end) = mpsc::channel();
        // Nobody serves any more when the application ends.
        self.requests.send(Request::End { partition, reply }).ok();
        end
    }

    /// Deletes what is before this offset.
    pub fn delete_before(&self, partition: i32, offset: i64) {
        if offset > 0 {
            self.requests.send(Request::Delete { partition, before: offset }).ok();
        }
    }
}

fn serve(kafka: &ClientSettings, topic: &str, requests: &Receiver<Request>) {
    let mut connection = None;
    let mut may_not_delete = false;
    for request in requests {
        if connection.is_none() {
            connection = Topics::connect(kafka, TIMEOUT)
                .inspect_err(|error| tracing::debug!(topic, "the changelog can't be looked after now: {error}"))
                .ok();
        }
        let Some(topics) = &connection else { continue };
        match request {
            Request::End { partition, reply } => match topics.watermarks(topic, partition) {
                // Whoever asked may have given the partition up.
                Ok((_, end)) => drop(reply.send(end)),
                Err(error) => tracing::debug!(topic, partition, "the end of the changelog is not known: {error}"),
            },
            Request::Delete { .. } if may_not_delete => {}
            Request::Delete { partition, before } => match topics.delete_before(topic, &[(partition, before)]) {
                Ok(()) => tracing::debug!(topic, partition, before, "what is no longer needed was deleted"),
                Err(error @ Error::NotAuthorized { .. }) => {
                    tracing::warn!(
                        "the changelog grows without end, as what is no longer needed can't be deleted: {error}"
                    );
                    may_not_delete = true;
                }
                // The next snapshot's deletion takes it along.
                Err(error) => {
                    tracing::warn!(topic, partition, "old records of the changelog were not deleted: {error}");
                }
            },
        }
    }
}
