//! What a changelog's messages promise: a commit counts as a whole or not at all, and only that of who has the partition.

use std::sync::Arc;

use crate::support::{Login, batch, count, schema};
use loginscope_state::{
    Catalog, CommitHead, Follower, Partition, Period, Reader, RestoreError, Restored, SnapshotCursor, Term, Writer,
};

const FIRST: Writer = Writer { id: 1, max_bytes: 90 };
const SECOND: Writer = Writer { id: 2, max_bytes: 90 };

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::new(&[("watcher".to_owned(), vec![count("logins", &[])])], schema()).unwrap())
}

fn in_term(next_offset: i64, generation: u32) -> CommitHead {
    CommitHead { next_offset, group_offset: next_offset, term: Term { era: 0, generation } }
}

/// The records of commits of one login each, the first of which has a whole snapshot.
fn commits(count: i64) -> Vec<Vec<Vec<u8>>> {
    let mut partition = Partition::new(catalog(), 100);
    let commit = |offset| {
        partition.begin_interval();
        partition.observe(&batch(&[Login::new(offset)]));
        let mut records = vec![partition.delta().unwrap()];
        if offset == 0 {
            records.push(partition.slice(&SnapshotCursor::default(), 10_000).unwrap().record);
        }
        partition.end_interval().unwrap();
        records
    };
    (0..count).map(commit).collect()
}

fn read(messages: &[Vec<u8>]) -> Result<Option<Restored>, RestoreError> {
    let mut follower = Follower::default();
    for (offset, message) in (0..).zip(messages) {
        follower.read(offset, message)?;
    }
    follower.finish(catalog())
}

/// From where to go on, and how many logins were counted.
fn outcome(messages: &[Vec<u8>]) -> (i64, u64) {
    let restored = read(messages).unwrap().unwrap();
    let logins = Reader::new(&restored.partition, "watcher", []).summarize("logins", Period::Current).unwrap();
    (restored.head.next_offset, logins.sum)
}

#[test]
fn an_empty_changelog_tells_of_no_partition() {
    assert!(read(&[]).unwrap().is_none());
    assert!(read(&[FIRST.claim(Term::default())]).unwrap().is_none());
}

#[test]
fn a_commit_counts_when_its_last_part_is_there() {
    let commits = commits(2);
    let mut messages = FIRST.commit(&in_term(1, 1), &commits[0]);
    assert!(messages.len() > 2);
    assert!(messages.iter().all(|message| message.len() <= 90));
    assert!(read(&messages[..messages.len() - 1]).unwrap().is_none());
    assert_eq!(outcome(&messages), (1, 1));
    let second = FIRST.commit(&in_term(2, 1), &commits[1]);
    messages.extend_from_slice(&second[..second.len() - 1]);
    assert_eq!(outcome(&messages), (1, 1), "what is left of a commit counts for nothing");
    messages.extend(second);
    assert_eq!(outcome(&messages), (2, 2), "and may be written again");
}

#[test]
fn a_part_that_is_missing_is_noticed() {
    let mut messages = FIRST.commit(&in_term(1, 1), &commits(1)[0]);
    messages.remove(1);
    assert!(matches!(read(&messages), Err(RestoreError::Damaged(_))));
}

#[test]
fn a_log_may_begin_within_a_commit_that_is_not_needed() {
    let commits = commits(1);
    let mut messages = FIRST.commit(&in_term(0, 1), &commits[0]).split_off(1);
    let left = messages.len() as i64;
    messages.extend(FIRST.commit(&in_term(1, 1), &commits[0]));
    let restored = read(&messages).unwrap().unwrap();
    assert_eq!((restored.head, restored.snapshot_offset), (in_term(1, 1), left));
}

#[test]
fn commits_of_an_earlier_term_count_for_nothing_behind_a_later_one() {
    let commits = commits(2);
    let mut messages = FIRST.commit(&in_term(1, 1), &commits[0]);
    let zombie = FIRST.commit(&in_term(9, 1), &commits[1]);
    // It was writing when the partition went to another one.
    let (before, after) = zombie.split_at(1);
    messages.extend_from_slice(before);
    messages.push(SECOND.claim(Term { era: 0, generation: 2 }));
    messages.extend_from_slice(after);
    let mut later = SECOND.commit(&in_term(2, 2), &commits[1]);
    messages.push(later.remove(0));
    messages.extend(zombie);
    messages.extend(later);
    assert_eq!(outcome(&messages), (2, 2));
    let new_era = CommitHead { term: Term { era: 1, generation: 1 }, ..in_term(1, 0) };
    messages.extend(FIRST.commit(&new_era, &[]));
    assert_eq!(outcome(&messages).0, 1, "a group that was made anew counts from 1 again");
}

#[test]
fn within_a_term_only_who_claimed_it_last_counts() {
    let commits = commits(2);
    let term = Term { era: 0, generation: 1 };
    let mut messages = vec![FIRST.claim(term)];
    messages.extend(FIRST.commit(&in_term(1, 1), &commits[0]));
    messages.push(SECOND.claim(term));
    messages.extend(FIRST.commit(&in_term(9, 1), &commits[1]));
    assert_eq!(outcome(&messages), (1, 1));
    messages.extend(SECOND.commit(&in_term(2, 1), &commits[1]));
    assert_eq!(outcome(&messages), (2, 2));
}

#[test]
fn what_a_restore_read_is_known() {
    let commits = commits(3);
    let mut messages = FIRST.commit(&in_term(1, 1), &commits[0]);
    let size = |records: &[Vec<u8>]| records.iter().map(|record| record.len() as u64).sum::<u64>();
    for next in [2, 3] {
        messages.extend(FIRST.commit(&in_term(next, 1), &commits[next as usize - 1]));
    }
    let restored = read(&messages).unwrap().unwrap();
    assert_eq!(restored.snapshot_offset, 0);
    assert_eq!(restored.snapshot_bytes, commits[0][1].len() as u64);
    assert_eq!(restored.tail_bytes, size(&commits[1]) + size(&commits[2]));
}
