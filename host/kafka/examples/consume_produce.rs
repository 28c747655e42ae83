//! The plain loop: reads a topic in a group and writes the same bytes to another, at least once, as fast as the clients can.
//!
//! `consume_produce fill BROKERS TOPIC COUNT` writes COUNT messages of 179 bytes, keyed by 200,000 users.
//! `consume_produce run BROKERS FROM TO COUNT WORKERS` moves COUNT of them and says how fast that was and what it cost.
//! Arguments of the form `name=value` are librdkafka properties.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loginscope_kafka::{ClientSettings, Consumer, ConsumerOptions, Epoch, Polled, Producer, ProducerOptions, Record};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BATCH: usize = 2000;
const COMMIT_EVERY: Duration = Duration::from_millis(100);

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (properties, words): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|a| a.contains('='));
    let settings = |brokers: &str| {
        let pairs = properties.iter().filter_map(|property| property.split_once('='));
        pairs.fold(ClientSettings::new(brokers), |settings, (name, value)| settings.with(name, value))
    };
    match words.as_slice() {
        ["fill", brokers, topic, count] => fill(&settings(brokers), topic, count.parse()?),
        ["run", brokers, from, to, count, workers] => {
            run(&settings(brokers), from, to, count.parse()?, workers.parse()?)
        }
        _ => Err("usage: consume_produce fill BROKERS TOPIC COUNT | run BROKERS FROM TO COUNT WORKERS".into()),
    }
}

fn never() -> bool {
    false
}

fn fill(settings: &ClientSettings, topic: &str, count: u64) -> Outcome<()> {
    let mut producer = Producer::new(settings, ProducerOptions::default())?;
    for number in 0..count {
        let user = format!("424cdd21-063a-43a7-b91b-{:012}", number.wrapping_mul(2_654_435_761) % 200_000);
        let mut value = format!(
            r#"{{"user_id":"{user}","app_version":"2.3.0","device_type":"android","ip":"199.172.{}.{}","locale":"RU","device_id":"593-47-5928","timestamp":"{}"}}"#,
            number % 199,
            number % 251,
            1_694_479_551 + number / 1000,
        );
        // Blanks to 179 bytes.
        value.extend(std::iter::repeat_n(' ', 179_usize.saturating_sub(value.len())));
        let record = Record { topic, key: Some(user.as_bytes()), payload: Some(value.as_bytes()), ..Record::default() };
        producer.send(&record, &never)?;
    }
    producer.flush(Duration::from_mins(1))?;
    Ok(())
}

fn run(settings: &ClientSettings, from: &str, to: &str, count: u64, workers: usize) -> Outcome<()> {
    let group = format!("plain-loop-{}", std::process::id());
    let moved = AtomicU64::new(0);
    let begun = Instant::now();
    let cpu = cpu_time();
    std::thread::scope(|scope| -> Outcome<()> {
        let work = || scope.spawn(|| move_messages(settings, from, to, &group, count, &moved));
        let workers: Vec<_> = (0..workers).map(|_| work()).collect();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")??;
        }
        Ok(())
    })?;
    let (elapsed, cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu));
    let moved = moved.into_inner();
    println!(
        "{moved} messages in {:.2} s: {:.0}/s, {:.3} µs of CPU each",
        elapsed.as_secs_f64(),
        moved as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / moved as f64,
    );
    Ok(())
}

/// One worker: it commits what was acknowledged, while later messages are on their way.
fn move_messages(
    settings: &ClientSettings,
    from: &str,
    to: &str,
    group: &str,
    count: u64,
    moved: &AtomicU64,
) -> Outcome<()> {
    let mut consumer = Consumer::join(settings, ConsumerOptions::new(from, group))?;
    let mut producer = Producer::new(settings, ProducerOptions::default())?;
    let mut unacknowledged: Vec<(Epoch, i32, i64)> = Vec::new();
    let mut last_commit = Instant::now();
    while moved.load(Ordering::Relaxed) < count {
        match consumer.poll(BATCH, Duration::from_millis(20))? {
            Polled::Batch(batch) => {
                for message in batch.iter() {
                    let record =
                        Record { topic: to, key: message.key(), payload: message.payload(), ..Record::default() };
                    producer.send(&record, &never)?;
                }
                unacknowledged.push((producer.close_epoch(), batch.partition(), batch.next_offset()));
                moved.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            Polled::Revoked(_) => commit(&mut consumer, &mut unacknowledged, producer.flush(Duration::from_secs(30))?)?,
            Polled::Lost(_) => unacknowledged.clear(),
            Polled::Assigned(_) | Polled::Nothing => {}
        }
        let acknowledged = producer.acknowledged()?;
        if last_commit.elapsed() >= COMMIT_EVERY {
            commit(&mut consumer, &mut unacknowledged, acknowledged)?;
            last_commit = Instant::now();
        }
    }
    let acknowledged = producer.flush(Duration::from_mins(1))?;
    commit(&mut consumer, &mut unacknowledged, acknowledged)?;
    Ok(())
}

fn commit(consumer: &mut Consumer, unacknowledged: &mut Vec<(Epoch, i32, i64)>, upto: Epoch) -> Outcome<()> {
    let done = unacknowledged.partition_point(|(epoch, ..)| *epoch <= upto);
    let offsets: std::collections::BTreeMap<i32, i64> =
        unacknowledged.drain(..done).map(|(_, partition, offset)| (partition, offset)).collect();
    // Unwatched: what one doesn't commit, a later one does.
    drop(consumer.commit_async(&offsets.into_iter().collect::<Vec<_>>())?);
    Ok(())
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
