//! Topics: do they exist, with how many partitions, from which offset to which, what do they take; creating missing ones and further
//! partitions, deleting messages. And whether somebody reads them as a group.
//!
//! Looking at a topic never creates it, also where the brokers create topics by themselves: a consumer asks, without permission
//! to create. The embedded broker answers no admin request, so there only [`Topics::connect`], [`Topics::partitions`] and
//! [`Topics::watermarks`] are of use.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{self, AdminClient, AdminOptions, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Reporter, Signal};
use crate::consumer::ConsumerEvents;
use crate::error::{Error, Meaning, describe, judge};
use crate::native::Client;
use crate::settings::ClientSettings;

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it gets.
    pub partitions: i32,
    /// `max.message.bytes`: what its records may take, keys and headers included. `None`: the brokers' default.
    pub max_message_bytes: Option<u32>,
    /// Further settings of the topic, by name (`cleanup.policy` = `compact`).
    pub settings: Vec<(String, String)>,
}

/// What a topic takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageLimit {
    /// `max.message.bytes` of the topic.
    Known(u32),
    /// It could not be read, for this reason.
    Unknown(String),
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// It is this.
    Known(String),
    /// It could not be read, for this reason.
    Unknown(String),
}

/// A connection for looking at topics and changing them; meant to be short-lived.
pub struct Topics {
    settings: ClientSettings,
    client: Client,
    timeout: Duration,
}

impl Topics {
    /// Connects. `timeout` is how long this and every later call may take.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where no broker answers in time, [`Error::Authentication`], or an error of the properties.
    pub fn connect(settings: &ClientSettings, timeout: Duration) -> Result<Self, Error> {
        // A topic ends where its last message does, not where open transactions begin.
        let required = [("allow.auto.create.topics", "false"), ("isolation.level", "read_uncommitted")];
        let config = settings.configure(&[], &required)?;
        let events = ConsumerEvents::new(settings, Arc::new(Signal::default()));
        let client =
            BaseConsumer::from_config_and_context(&config, events).map_err(|error| settings.refused(&error))?;
        let topics = Self { settings: settings.clone(), client, timeout };
        topics.wait_for_a_broker()?;
        Ok(topics)
    }

    fn wait_for_a_broker(&self) -> Result<(), Error> {
        const SLICE: Duration = Duration::from_millis(200);
        let begun = Instant::now();
        loop {
            let left = self.timeout.saturating_sub(begun.elapsed());
            if self.client.client().fetch_cluster_id(left.min(SLICE)).is_some() {
                return Ok(());
            }
            self.serve_events();
            self.fail_if_hopeless("connect")?;
            if left.is_zero() {
                return Err(self.unreachable());
            }
        }
    }

    /// How many partitions a topic has; `None` where it doesn't exist.
    ///
    /// # Errors
    /// [`Error::TopicName`], [`Error::NotAuthorized`], [`Error::Unreachable`].
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, Error> {
        check_name(topic)?;
        let action = format!("look at the topic {topic:?}");
        let metadata = self
            .client
            .fetch_metadata(Some(topic), self.timeout)
            .map_err(|error| self.refused(&error, &action, "Describe"))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(i32::try_from(found.partitions().len()).ok().filter(|count| *count > 0)),
            Some(code) => match judge(code, "", &action, "Describe") {
                Meaning::UnknownTopic => Ok(None),
                Meaning::Permanent(error) => Err(error),
                // No leader yet: it exists.
                Meaning::Transient => Ok(i32::try_from(found.partitions().len()).ok().filter(|count| *count > 0)),
            },
        }
    }

    /// Creates topics and waits until they can be seen. One that exists already is left as it is.
    ///
    /// # Errors
    /// [`Error::NotAuthorized`], [`Error::TimedOut`], or [`Error::Failed`], each for the first topic that can't be created.
    pub fn create(&self, topics: &[NewTopic]) -> Result<(), Error> {
        let limits: Vec<String> =
            topics.iter().map(|topic| topic.max_message_bytes.map(|b| b.to_string()).unwrap_or_default()).collect();
        let mut requests = Vec::with_capacity(topics.len());
        for (topic, limit) in topics.iter().zip(&limits) {
            check_name(&topic.name)?;
            // -1: the brokers' own replication factor.
            let mut request = admin::NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
            if !limit.is_empty() {
                request = request.set("max.message.bytes", limit);
            }
            for (name, value) in &topic.settings {
                request = request.set(name, value);
            }
            requests.push(request);
        }
        let names = topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>().join(", ");
        let action = format!("create the topics {names}");
        let results = block_on(self.admin()?.create_topics(&requests, &self.admin_options()))
            .map_err(|error| self.refused(&error, &action, "Create"))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(self.refused_code(code, &format!("create the topic {topic:?}"), "Create"));
                }
            }
        }
        topics.iter().try_for_each(|topic| self.wait_until_seen(&topic.name, 1))
    }

    /// Waits until a topic has at least so many partitions.
    fn wait_until_seen(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        let begun = Instant::now();
        while self.partitions(topic)?.is_none_or(|found| found < partitions) {
            if begun.elapsed() >= self.timeout {
                let what = format!("creating {partitions} partitions of the topic {topic:?}");
                return Err(Error::TimedOut { what, waited: self.timeout });
            }
            // Other brokers hear of them a moment later.
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Gives a topic so many partitions, more than it has, and waits until they can be seen.
    ///
    /// # Errors
    /// [`Error::NotAuthorized`], [`Error::TimedOut`], [`Error::UnknownTopic`], or [`Error::Failed`].
    pub fn add_partitions(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        let request = admin::NewPartitions::new(topic, partitions.unsigned_abs() as usize);
        let action = format!("add partitions to the topic {topic:?}");
        let results = block_on(self.admin()?.create_partitions(&[request], &self.admin_options()))
            .map_err(|error| self.refused_in(topic, &error, &action, "Alter"))?;
        for result in results {
            result.map_err(|(_, code)| self.refused_code(code, &action, "Alter"))?;
        }
        self.wait_until_seen(topic, partitions)
    }

    /// How many members a consumer group has, those included that were killed and whose session goes on. Of a group whose
    /// partitions the brokers assign (`group.protocol=consumer`), this isn't told: 0.
    ///
    /// # Errors
    /// [`Error::NotAuthorized`], [`Error::Unreachable`], [`Error::Failed`].
    pub fn group_members(&self, group: &str) -> Result<usize, Error> {
        let action = format!("look at the group {group:?}");
        let list = self
            .client
            .fetch_group_list(Some(group), self.timeout)
            .map_err(|error| self.refused(&error, &action, "Describe"))?;
        Ok(list.groups().iter().filter(|found| found.name() == group).map(|found| found.members().len()).sum())
    }

    /// The offset of a partition's first message and the one after its last, as whoever reads uncommitted messages sees them: what open
    /// transactions have written is before the end. A partition that is new may have no leader for a moment, which is waited for.
    ///
    /// # Errors
    /// [`Error::TopicName`], [`Error::UnknownTopic`], [`Error::NotAuthorized`], [`Error::Unreachable`], [`Error::Failed`].
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
        check_name(topic)?;
        let action = format!("look at partition {partition} of the topic {topic:?}");
        let begun = Instant::now();
        loop {
            let error = match self.client.fetch_watermarks(topic, partition, self.timeout) {
                Ok(watermarks) => return Ok(watermarks),
                Err(error) => error,
            };
            let has_no_leader = matches!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
            );
            if !has_no_leader || begun.elapsed() >= self.timeout {
                return Err(self.refused_in(topic, &error, &action, "Describe"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes what comes before these offsets, each with its partition. An offset from which on there is nothing to delete any more is
    /// left as it is. The brokers refuse it for a topic that is only compacted (`cleanup.policy`).
    ///
    /// # Errors
    /// [`Error::TopicName`], [`Error::UnknownTopic`], [`Error::NotAuthorized`], [`Error::Unreachable`], and [`Error::Failed`], also for
    /// an offset behind the end; each for the first partition for which it can't be done.
    pub fn delete_before(&self, topic: &str, offsets: &[(i32, i64)]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        if self.partitions(topic)?.is_none() {
            return Err(Error::UnknownTopic { topic: topic.to_owned() });
        }
        let action = |partition: i32| format!("delete messages of partition {partition} of the topic {topic:?}");
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(|error| Error::failed(format!("trying to {}", action(*partition)), &error))?;
        }
        let deleted = block_on(self.admin()?.delete_records(&list, &self.admin_options())).map_err(|error| {
            self.refused_in(topic, &error, &format!("delete messages of the topic {topic:?}"), "Delete")
        })?;
        deleted.elements().iter().try_for_each(|element| {
            element.error().map_err(|error| self.refused_in(topic, &error, &action(element.partition()), "Delete"))
        })
    }

    /// What topics take (`max.message.bytes`), in the order asked. A topic's limit may stay unknown, as for
    /// [`setting`](Self::setting).
    ///
    /// # Errors
    /// Errors of the properties.
    pub fn message_limits(&self, topics: &[&str]) -> Result<Vec<MessageLimit>, Error> {
        let limit = |setting| match setting {
            Setting::Known(value) => match value.parse() {
                Ok(bytes) => MessageLimit::Known(bytes),
                Err(_) => MessageLimit::Unknown(format!("{value:?} is no number")),
            },
            Setting::Unknown(reason) => MessageLimit::Unknown(reason),
        };
        Ok(self.settings_of(topics, "max.message.bytes")?.into_iter().map(limit).collect())
    }

    /// A setting of a topic (`cleanup.policy`). Reading that needs a right of its own (`DescribeConfigs`), so it may stay unknown; that
    /// is no error.
    ///
    /// # Errors
    /// Errors of the properties.
    pub fn setting(&self, topic: &str, name: &str) -> Result<Setting, Error> {
        let settings = self.settings_of(&[topic], name)?;
        Ok(settings.into_iter().next().unwrap_or_else(|| Setting::Unknown("no answer".to_owned())))
    }

    /// The same setting of several topics, in the order asked.
    fn settings_of(&self, topics: &[&str], name: &str) -> Result<Vec<Setting>, Error> {
        topics.iter().try_for_each(|topic| check_name(topic))?;
        let resources: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let unknown = |reason: String| Setting::Unknown(self.reporter().hide(&reason).into_owned());
        let results = match block_on(self.admin()?.describe_configs(&resources, &self.admin_options())) {
            Ok(results) => results,
            Err(error) => return Ok(vec![unknown(error.to_string()); topics.len()]),
        };
        let value_of = |resource: &admin::ConfigResource| resource.get(name).and_then(|entry| entry.value.clone());
        // librdkafka answers in the order of the request.
        let mut settings = results.iter().map(|result| match result {
            Ok(resource) => value_of(resource).map_or_else(
                || {
                    unknown(
                        "the broker did not tell: the topic is missing, or the right to describe its settings"
                            .to_owned(),
                    )
                },
                Setting::Known,
            ),
            Err(code) => unknown(describe(*code)),
        });
        Ok(topics.iter().map(|_| settings.next().unwrap_or_else(|| unknown("no answer".to_owned()))).collect())
    }

    fn admin(&self) -> Result<AdminClient<AdminEvents>, Error> {
        let config = self.settings.configure(&[], &[])?;
        let events = AdminEvents(Reporter::new(self.settings.secrets()));
        AdminClient::from_config_and_context(&config, events).map_err(|error| self.settings.refused(&error))
    }

    fn admin_options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.timeout)).operation_timeout(Some(self.timeout))
    }

    fn reporter(&self) -> &Reporter {
        self.client.context().reporter()
    }

    /// Takes librdkafka's log lines and errors in.
    fn serve_events(&self) {
        let mut before = None;
        while before != Some(self.reporter().events()) {
            before = Some(self.reporter().events());
            let _nothing_is_subscribed = self.client.poll(Duration::ZERO);
        }
    }

    fn fail_if_hopeless(&self, action: &str) -> Result<(), Error> {
        match self.reporter().last_error().map(|(code, reason)| judge(code, &reason, action, "Describe")) {
            Some(Meaning::Permanent(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn refused(&self, error: &KafkaError, action: &str, operation: &str) -> Error {
        self.serve_events();
        match error.rdkafka_error_code() {
            Some(code) => self.refused_code(code, action, operation),
            None => {
                Error::Failed { what: action.to_owned(), reason: self.reporter().hide(&error.to_string()).into_owned() }
            }
        }
    }

    /// The same for a call that takes a topic for granted.
    fn refused_in(&self, topic: &str, error: &KafkaError, action: &str, operation: &str) -> Error {
        match error.rdkafka_error_code() {
            // It is the partition that is missing, or the topic, or nobody may look at it.
            Some(
                RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic,
            ) => match self.partitions(topic) {
                Ok(Some(_)) => self.refused(error, action, operation),
                Ok(None) => Error::UnknownTopic { topic: topic.to_owned() },
                Err(error) => error,
            },
            _ => self.refused(error, action, operation),
        }
    }

    fn refused_code(&self, code: RDKafkaErrorCode, action: &str, operation: &str) -> Error {
        match judge(code, "", action, operation) {
            Meaning::Permanent(error) => error,
            Meaning::UnknownTopic | Meaning::Transient => match code {
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut => self.unreachable(),
                code => Error::Failed { what: format!("trying to {action}"), reason: describe(code) },
            },
        }
    }

    fn unreachable(&self) -> Error {
        let reason = self.reporter().last_error().map_or_else(|| "no answer".to_owned(), |(_, reason)| reason);
        Error::Unreachable { brokers: self.settings.brokers.clone(), waited: self.timeout, reason }
    }
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Topics").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Checks a topic's name by Kafka's rules.
///
/// # Errors
/// [`Error::TopicName`].
pub fn check_name(topic: &str) -> Result<(), Error> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = match topic {
        "" => "it is empty",
        "." | ".." => "it is reserved",
        _ if topic.len() > 249 => "it has more than 249 characters",
        _ if !topic.bytes().all(is_legal) => "only letters, digits, dots, underscores and hyphens are allowed",
        _ => return Ok(()),
    };
    Err(Error::TopicName { topic: topic.to_owned(), reason })
}

/// Takes the admin client's log lines.
struct AdminEvents(Reporter);

impl rdkafka::ClientContext for AdminEvents {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

/// Runs a future to its end on this thread; librdkafka's admin calls are the only ones here.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
