//! As much of Kafka's protocol as it takes to see that brokers are ready, to create, extend and delete topics, and to give rights.
//!
//! So none of that needs another JVM, nor a client library that takes minutes to compile. All requests are of versions
//! from before the "flexible" encoding: integers are big-endian, a string is a 16-bit length and its bytes, an array is a
//! 32-bit length and its elements.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const METADATA: (i16, i16) = (3, 5);
const CREATE_TOPICS: (i16, i16) = (19, 4);
const CREATE_ACLS: (i16, i16) = (30, 1);
const CREATE_PARTITIONS: (i16, i16) = (37, 1);
const DELETE_TOPICS: (i16, i16) = (20, 3);

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Larger answers are none of ours.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// What a broker knows of the cluster and of one topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) brokers: usize,
    pub(super) has_controller: bool,
    /// How many partitions of the topic have a leader.
    pub(super) led_partitions: usize,
}

/// A right, as [`create_acl`] sends it: numbers of Kafka's protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acl<'a> {
    pub(super) resource_type: i8,
    pub(super) resource: &'a str,
    pub(super) pattern_type: i8,
    pub(super) principal: &'a str,
    pub(super) operation: i8,
}

/// Asks a broker for the cluster, and for a topic if one is named. No topic is created by asking.
pub(super) fn metadata(address: &str, topic: Option<&str>) -> Result<Metadata> {
    let mut request = Writer::default();
    request.array(topic.as_slice(), |request, topic| request.string(topic));
    request.bytes.push(0); // allow_auto_topic_creation
    let mut answer = exchange(address, METADATA, &request)?;
    answer.int32()?; // throttle_time_ms
    let brokers = answer.array(|broker| {
        broker.int32()?; // node_id
        broker.string()?; // host
        broker.int32()?; // port
        broker.string() // rack
    })?;
    answer.string()?; // cluster_id
    let has_controller = answer.int32()? >= 0;
    let topics = answer.array(|topic| {
        topic.int16()?; // error_code
        topic.string()?; // name
        topic.take(1)?; // is_internal
        topic.array(partition_is_led)
    })?;
    let led_partitions = topics.iter().flatten().filter(|led| **led).count();
    Ok(Metadata { brokers: brokers.len(), has_controller, led_partitions })
}

fn partition_is_led(partition: &mut Reader) -> Result<bool> {
    let error = partition.int16()?;
    partition.int32()?; // partition_index
    let leader = partition.int32()?;
    for _ in ["replicas", "in-sync replicas", "offline replicas"] {
        partition.array(Reader::int32)?;
    }
    Ok(error == 0 && leader >= 0)
}

/// Creates a topic with the brokers' default number of copies.
pub(super) fn create_topic(address: &str, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
    let mut request = Writer::default();
    request.array(&[name], |request, name| {
        request.string(name);
        request.int32(partitions);
        request.int16(-1); // replication_factor: the default
        request.int32(0); // assignments: none
        request.array(configs, |request, (key, value)| {
            request.string(key);
            request.string(value);
        });
    });
    request.int32(PATIENCE.as_millis() as i32);
    request.bytes.push(0); // validate_only
    let mut answer = exchange(address, CREATE_TOPICS, &request)?;
    answer.int32()?; // throttle_time_ms
    let outcomes = answer.array(|topic| {
        topic.string()?; // name
        topic.outcome()
    })?;
    outcomes.into_iter().collect::<Result<()>>().with_context(|| format!("topic {name} could not be created"))
}

/// Gives a topic more partitions.
pub(super) fn add_partitions(address: &str, topic: &str, partitions: i32) -> Result<()> {
    let mut request = Writer::default();
    request.array(&[topic], |request, topic| {
        request.string(topic);
        request.int32(partitions);
        request.int32(-1); // assignments: the broker's choice
    });
    request.int32(PATIENCE.as_millis() as i32);
    request.bytes.push(0); // validate_only
    let mut answer = exchange(address, CREATE_PARTITIONS, &request)?;
    answer.int32()?; // throttle_time_ms
    let outcomes = answer.array(|topic| {
        topic.string()?; // name
        topic.outcome()
    })?;
    outcomes.into_iter().collect::<Result<()>>().with_context(|| format!("topic {topic} could not get more partitions"))
}

/// Deletes a topic.
pub(super) fn delete_topic(address: &str, topic: &str) -> Result<()> {
    let mut request = Writer::default();
    request.array(&[topic], |request, topic| request.string(topic));
    request.int32(PATIENCE.as_millis() as i32);
    let mut answer = exchange(address, DELETE_TOPICS, &request)?;
    answer.int32()?; // throttle_time_ms
    let codes = answer.array(|topic| {
        topic.string()?; // name
        topic.int16()
    })?;
    match codes.into_iter().find(|code| *code != 0) {
        None => Ok(()),
        Some(code) => bail!("topic {topic} could not be deleted: Kafka's error {code}"),
    }
}

/// Gives a right.
pub(super) fn create_acl(address: &str, acl: Acl<'_>) -> Result<()> {
    let mut request = Writer::default();
    request.array(&[acl], |request, acl| {
        request.int8(acl.resource_type);
        request.string(acl.resource);
        request.int8(acl.pattern_type);
        request.string(acl.principal);
        request.string("*"); // host
        request.int8(acl.operation);
        request.int8(3); // permission_type: allow
    });
    let mut answer = exchange(address, CREATE_ACLS, &request)?;
    answer.int32()?; // throttle_time_ms
    let outcomes = answer.array(Reader::outcome)?;
    outcomes.into_iter().collect::<Result<()>>().with_context(|| format!("{acl:?} could not be given"))
}

/// Sends one request over a connection of its own and returns the answer's body.
fn exchange(address: &str, (key, version): (i16, i16), body: &Writer) -> Result<Reader> {
    const CORRELATION: i32 = 7;
    let mut request = Writer::default();
    request.int16(key);
    request.int16(version);
    request.int32(CORRELATION);
    request.string("xtask");
    request.bytes.extend(&body.bytes);

    let address = address.parse().with_context(|| format!("{address} is no address"))?;
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(&(request.bytes.len() as i32).to_be_bytes())?;
    connection.write_all(&request.bytes)?;

    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LARGEST_ANSWER {
        bail!("{address} doesn't speak Kafka's protocol");
    }
    let mut bytes = vec![0; length];
    connection.read_exact(&mut bytes)?;
    let mut answer = Reader { bytes, at: 0 };
    if answer.int32()? != CORRELATION {
        bail!("{address} answered another request than ours");
    }
    Ok(answer)
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn int8(&mut self, value: i8) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn int16(&mut self, value: i16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn int32(&mut self, value: i32) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn string(&mut self, value: &str) {
        self.int16(value.len() as i16);
        self.bytes.extend(value.as_bytes());
    }

    fn array<T>(&mut self, values: &[T], write: impl Fn(&mut Self, &T)) {
        self.int32(values.len() as i32);
        for value in values {
            write(self, value);
        }
    }
}

struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at.saturating_add(count);
        let taken = self.bytes.get(self.at..end).context("the broker's answer ends too early")?;
        self.at = end;
        Ok(taken)
    }

    fn int16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn int32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    /// A string, empty where it is null.
    fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let length = usize::try_from(self.int32()?).unwrap_or(0);
        (0..length).map(|_| read(self)).collect()
    }

    /// An error code and a message: what became of one thing of a request.
    fn outcome(&mut self) -> Result<Result<()>> {
        let code = self.int16()?;
        let message = self.string()?;
        Ok(if code == 0 { Ok(()) } else { Err(anyhow::anyhow!("Kafka's error {code}: {message}")) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that takes one request, and answers with `body` after the request's own correlation number.
    fn broker_that_answers(body: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            connection.read_exact(&mut length).unwrap();
            let mut request = vec![0; i32::from_be_bytes(length) as usize];
            connection.read_exact(&mut request).unwrap();
            connection.write_all(&(body.len() as i32 + 4).to_be_bytes()).unwrap();
            connection.write_all(&request[4..8]).unwrap();
            connection.write_all(&body).unwrap();
        });
        address
    }

    fn created(code: i16, message: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.int32(0);
        body.array(&["logins"], |body, name| {
            body.string(name);
            body.int16(code);
            body.string(message);
        });
        body.bytes
    }

    #[test]
    fn an_error_code_is_an_error_with_the_brokers_words() {
        create_topic(&broker_that_answers(created(0, "")), "logins", 1, &[]).unwrap();
        let error = create_topic(&broker_that_answers(created(36, "it exists")), "logins", 1, &[]).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("logins") && said.contains("36: it exists"), "{said}");
    }

    #[test]
    fn a_topic_that_is_not_deleted_is_an_error() {
        let deleted = |code: i16| {
            let mut body = Writer::default();
            body.int32(0);
            body.array(&["logins"], |body, name| {
                body.string(name);
                body.int16(code);
            });
            broker_that_answers(body.bytes)
        };
        delete_topic(&deleted(0), "logins").unwrap();
        let error = delete_topic(&deleted(3), "logins").unwrap_err().to_string();
        assert!(error.contains("logins") && error.contains("error 3"), "{error}");
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let whole = created(0, "");
        for length in 0..whole.len() {
            let body = whole.get(..length).unwrap().to_vec();
            assert!(create_topic(&broker_that_answers(body), "logins", 1, &[]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn only_partitions_with_a_leader_count() {
        let mut body = Writer::default();
        body.int32(0);
        body.array(&[9092], |body, port| {
            body.int32(1);
            body.string("127.0.0.1");
            body.int32(*port);
            body.int16(-1); // no rack
        });
        body.string("cluster");
        body.int32(1);
        body.array(&["logins"], |body, name| {
            body.int16(0);
            body.string(name);
            body.int8(0);
            body.array(&[(0_i16, 1), (0, -1), (5, 1)], |body, (error, leader)| {
                body.int16(*error);
                body.int32(0);
                body.int32(*leader);
                body.array(&[1], |body, id| body.int32(*id));
                body.array(&[1], |body, id| body.int32(*id));
                body.array(&[], |body, id: &i32| body.int32(*id));
            });
        });
        let answer = metadata(&broker_that_answers(body.bytes), Some("logins")).unwrap();
        assert_eq!(answer, Metadata { brokers: 1, has_controller: true, led_partitions: 1 });
    }
}
