//! Who may do what: Kafka's access control lists, as far as tests need them.

use super::protocol::Acl;

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The topic of that name, or all if it is `*`.
    Topic(&'a str),
    /// All topics whose name begins so.
    TopicPrefix(&'a str),
    /// The consumer group of that name, or all if it is `*`.
    Group(&'a str),
    /// All consumer groups whose name begins so.
    GroupPrefix(&'a str),
    /// The transactional id of that name, or all if it is `*`.
    TransactionalId(&'a str),
    /// All transactional ids that begin so.
    TransactionalIdPrefix(&'a str),
    /// The cluster.
    Cluster,
}

/// What a right allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "these are Kafka's own words")]
pub enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// The right as the protocol has it.
pub(super) fn acl<'a>(principal: &'a str, operation: Operation, resource: Resource<'a>) -> Acl<'a> {
    const LITERAL: i8 = 3;
    const PREFIXED: i8 = 4;
    let (resource_type, resource, pattern_type) = match resource {
        Resource::Topic(name) => (2, name, LITERAL),
        Resource::TopicPrefix(name) => (2, name, PREFIXED),
        Resource::Group(name) => (3, name, LITERAL),
        Resource::GroupPrefix(name) => (3, name, PREFIXED),
        Resource::Cluster => (4, "kafka-cluster", LITERAL),
        Resource::TransactionalId(name) => (5, name, LITERAL),
        Resource::TransactionalIdPrefix(name) => (5, name, PREFIXED),
    };
    Acl { resource_type, resource, pattern_type, principal, operation: operation as i8 }
}
