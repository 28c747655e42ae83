//! Every key there is.

use super::key::Key;

/// The configuration file.
pub const CONFIG: Key = Key::new("config", "FILE", "Configuration file (TOML)").not_in_file();

/// Where Kafka is.
pub const BROKERS: Key = Key::new("brokers", "HOST:PORT", "Bootstrap servers, commas between several")
    .alias("bootstrap-server")
    .original_variable("BOOTSTRAP_SERVERS");

/// The topic of logins.
pub const INPUT_TOPIC: Key = Key::new("input-topic", "TOPIC", "The topic of logins")
    .alias("topic")
    .original_variable("KAFKA_TOPIC")
    .default("user-login");

/// The topic of accepted logins.
pub const PROCESSED_TOPIC: Key =
    Key::new("processed-topic", "TOPIC", "The topic of accepted logins").default("processed-logins");

/// The topic of insights.
pub const INSIGHTS_TOPIC: Key = Key::new("insights-topic", "TOPIC", "The topic of insights").default("login-insights");

/// The topic of rejected messages.
pub const REJECTED_TOPIC: Key =
    Key::new("rejected-topic", "TOPIC", "The topic of rejected messages").default("rejected-logins");

/// Where the state is kept.
pub const STATE_IN: Key =
    Key::new("state-in", "PLACE", "Where the state is kept: changelog, or memory, which every restart forgets")
        .default("changelog");

/// The topic of durable state.
pub const CHANGELOG_TOPIC: Key = Key::new("changelog-topic", "TOPIC", "The internal topic that keeps the state")
    .otherwise("loginscope-GROUP-changelog");

/// The topic of totals.
pub const TOTALS_TOPIC: Key =
    Key::new("totals-topic", "TOPIC", "The internal topic by which instances tell each other their totals")
        .otherwise("loginscope-GROUP-totals");

/// The topic of the group's plugins.
pub const PLUGINS_TOPIC: Key =
    Key::new("plugins-topic", "TOPIC", "The internal topic that keeps the group's plugins, with those before them")
        .otherwise("loginscope-GROUP-plugins");

/// Which plugins serve at the start.
pub const PLUGINS_FROM: Key = Key::new(
    "plugins-from",
    "PLACE",
    "Which plugins serve: topic, those that the group has agreed on and what changed here since; or paths, only what is here",
)
.default("topic");

/// The plugin files.
pub const PLUGIN: Key =
    Key::new("plugin", "FILE", "A plugin: a component or a core module; several run in the order given")
        .several()
        .at("plugins")
        .otherwise("the three inside");

/// Where compiled plugins are kept.
pub const COMPILE_CACHE: Key = Key::new("compile-cache", "DIR", "Where compiled plugins are kept, or \"off\"")
    .otherwise("loginscope in $XDG_CACHE_HOME or else in ~/.cache");

/// How many logins make a window.
pub const INSIGHT_EVERY: Key =
    Key::new("insight-every", "LOGINS", "Accepted logins of a partition in a window").default("100");

/// How many different values are counted exactly.
pub const EXACT_DISTINCT: Key =
    Key::new("exact-distinct", "VALUES", "More different values of a key than these are estimated").default("65536");

/// The largest message.
pub const MAX_MESSAGE_BYTES: Key =
    Key::new("max-message-bytes", "BYTES", "Larger messages are rejected").default("1048576");

/// How timestamps are written in the input.
pub const TIMESTAMP_FORMAT: Key =
    Key::new("timestamp-format", "FORMAT", "Timestamps are epoch_seconds, epoch_milliseconds or rfc3339")
        .at("input.timestamp_format")
        .default("epoch_seconds");

/// Where fields stand that have another name in the input.
pub const FIELD: Key = Key::new("field", "FIELD=PATH", "A field of another name: user_id=details.userId; several")
    .several()
    .at("input.fields");

/// The consumer group.
pub const GROUP: Key = Key::new("group", "NAME", "The consumer group").default("loginscope");

/// The name of this process in its group.
pub const INSTANCE: Key = Key::new(
    "instance",
    "NAME",
    "A name for this process that stays the same over restarts and that no other one has: it keeps its partitions meanwhile",
)
.otherwise("a new one at each start");

/// Where a new group starts.
pub const FROM: Key =
    Key::new("from", "POSITION", "Where a new group starts: earliest, latest, or a time ago such as 2h")
        .default("earliest");

/// Worker threads.
pub const WORKERS: Key = Key::new("workers", "N", "Worker threads").otherwise("the number of cores");

/// How much memory the process may take.
pub const MEMORY_LIMIT: Key = Key::new(
    "memory-limit",
    "BYTES",
    "The most memory that the process takes, such as 4GiB; before more, it ends in order",
)
.otherwise("nine tenths of what the container, or the machine, has");

/// The delivery guarantee.
pub const DELIVERY: Key =
    Key::new("delivery", "GUARANTEE", "How often a message may show in the output").default("exactly_once");

/// Whether plugin files are watched.
pub const WATCH: Key = Key::switch("watch", "Take over changed plugin files without a restart");

/// How much a swap of plugins may change.
pub const MAX_CHANGED_SHARE: Key = Key::new(
    "max-changed-share",
    "SHARE",
    "The share of recent messages that new plugins may judge or enrich otherwise, 0 to 1",
)
.at("swap.max_changed_share")
.default("1");

/// How much slower plugins may become by a swap.
pub const MAX_SLOWDOWN: Key =
    Key::new("max-slowdown", "FACTOR", "How many times as much CPU time a new plugin may take")
        .at("swap.max_slowdown")
        .default("10");

/// On how many more logins plugins may fail after a swap.
pub const MAX_FAILURES: Key =
    Key::new("max-failures", "LOGINS", "On how many more of the recent messages than before a new plugin may fail")
        .at("swap.max_failures")
        .default("0");

/// How long new plugins are on probation.
pub const PROBATION: Key =
    Key::new("probation", "TIME", "How long new plugins are rolled back for failures or slowness over the limits")
        .at("swap.probation")
        .default("1m");

/// Where health and metrics are served.
pub const LISTEN: Key =
    Key::new("listen", "ADDRESS:PORT", "The control port: where health, metrics and plugins are served, or \"off\"")
        .default("127.0.0.1:9464");

/// The secret for changes through the control port.
pub const CONTROL_TOKEN: Key = Key::new(
    "control-token",
    "TOKEN",
    "The secret that changes through the control port take; better given as variable or file than as a flag",
)
.otherwise("none: no changes through it");

/// The file with that secret.
pub const CONTROL_TOKEN_FILE: Key = Key::new("control-token-file", "FILE", "A file that holds the control token");

/// Where a running loginscope listens.
pub const CONTROL: Key = Key::new("control", "URL", "The control port of a running loginscope")
    .not_in_file()
    .otherwise("http:// and where listen says");

/// The settings of a plugin that is deployed.
pub const SETTINGS: Key = Key::new("settings", "FILE", "For deploy: the plugin's settings, JSON or, by its name, TOML")
    .not_in_file()
    .otherwise("those that a plugin of its name has");

/// On how many live logins a plugin is tried first.
pub const SHADOW: Key = Key::new(
    "shadow",
    "LOGINS",
    "For deploy: on how many live logins it is tried first, beside the plugins that serve",
)
.not_in_file()
.default("0");

/// Whether new aggregates are computed from the topic's history.
pub const BACKFILL: Key = Key::switch(
    "backfill",
    "For deploy: compute aggregates that are new from the topic's history, and don't have them begin empty",
)
.not_in_file();

/// Which generation of plugins is gone back to.
pub const TO: Key = Key::new("to", "GENERATION", "For rollback: which generation of plugins is to serve again")
    .not_in_file()
    .otherwise("the one before");

/// Whether missing topics are created.
pub const CREATE_TOPICS: Key = Key::switch("create-topics", "Create topics that are missing").default("true");

/// Whether processed logins tell where they came from.
pub const SOURCE_HEADERS: Key =
    Key::switch("source-headers", "Tell in headers of processed logins where they came from");

/// Whether processed logins tell which plugins they went through.
pub const PLUGINS_HEADER: Key = Key::switch(
    "plugins-header",
    "Tell in a header of processed logins which plugins, of which generation, they went through",
);

/// How often offsets are committed.
pub const COMMIT_INTERVAL: Key =
    Key::new("commit-interval", "TIME", "How often outputs, state and offsets are committed").default("100ms");

/// How long draining may take.
pub const DRAIN_TIMEOUT: Key =
    Key::new("drain-timeout", "TIME", "How long finishing what has begun may take at the end").default("30s");

/// How often the status line is written.
pub const STATUS_INTERVAL: Key =
    Key::new("status-interval", "TIME", "How often the status line is logged").default("10s");

/// Where `pipe` puts insights.
pub const INSIGHTS: Key = Key::new("insights", "FILE", "Where insights go").not_in_file().otherwise("nowhere");

/// Where `pipe` puts rejected lines.
pub const REJECTED: Key = Key::new("rejected", "FILE", "Where rejected lines go")
    .not_in_file()
    .otherwise("they are counted on standard error");

/// Where `pipe` keeps its state.
pub const STATE: Key = Key::new("state", "DIR", "A folder that keeps the state from run to run")
    .not_in_file()
    .otherwise("every run begins anew");

/// What `state rebuild` counts.
pub const FROM_BEGINNING: Key =
    Key::switch("from-beginning", "For rebuild: count all logins again that the topic still has (required)")
        .not_in_file();

/// Where `state rebuild` counts logins from.
pub const SOURCE: Key =
    Key::new("source", "SOURCE", "For rebuild: from which topic, input or processed").not_in_file().default("input");

/// Whether `state rebuild` writes nothing.
pub const DRY_RUN: Key =
    Key::switch("dry-run", "For rebuild: show what would come of it, and write nothing").not_in_file();

/// How many messages `check` judges.
pub const SAMPLE: Key =
    Key::new("sample", "MESSAGES", "How many of the newest messages are judged").not_in_file().default("1000");

/// How many records `tail` shows first.
pub const LINES: Key = Key::new("lines", "RECORDS", "How many of the newest records are shown first")
    .short('n')
    .not_in_file()
    .default("20");

/// Whether `tail` goes on.
pub const FOLLOW: Key = Key::switch("follow", "Go on with what comes, until Ctrl-C").short('f').not_in_file();

/// Whether `tail` shows JSON.
pub const JSON: Key = Key::switch("json", "One JSON object a line").not_in_file();

/// Whether logins go to standard output.
pub const STDOUT: Key = Key::switch("stdout", "Write to standard output, one a line, in place of Kafka").not_in_file();

/// How fast logins are made.
pub const RATE: Key =
    Key::new("rate", "LOGINS", "Logins a second; 0: as many as go").not_in_file().otherwise("as many as go");

/// How many logins are made.
pub const COUNT: Key = Key::new("count", "LOGINS", "End after so many logins").not_in_file().otherwise("without end");

/// How long the demo goes on.
pub const FOR: Key = Key::new("for", "TIME", "End after so long, such as 30s").not_in_file().otherwise("without end");

/// The time of the first login.
pub const START: Key = Key::new("start", "TIME", "The time of the first login: epoch seconds, or \"now\"")
    .not_in_file()
    .otherwise("now; 1694479551 with --stdout");

/// How many users there are.
pub const USERS: Key = Key::new("users", "USERS", "How many different users there are").not_in_file().default("10000");

/// How much busier some users are than others.
pub const ZIPF: Key =
    Key::new("zipf", "EXPONENT", "How much busier some users are than others, by Zipf's law; 0: all the same")
        .not_in_file()
        .default("1");

/// What randomness comes from.
pub const SEED: Key =
    Key::new("seed", "NUMBER", "The same seed makes the same logins, byte for byte").not_in_file().default("0");

/// The share of malformed messages.
pub const MALFORMED: Key =
    Key::new("malformed", "SHARE", "The share of malformed messages, 0 to 1").not_in_file().default("0");

/// The share of logins with an outcome.
pub const OUTCOME: Key = Key::new("outcome", "SHARE", "The share of logins that say whether they succeeded, 0 to 1")
    .not_in_file()
    .default("0");

/// The keys that are about Kafka itself.
pub const KAFKA: [Key; 2] = [BROKERS, CONFIG];

/// The keys that say how logins are read and judged.
pub const PIPELINE: [Key; 7] =
    [PLUGIN, COMPILE_CACHE, INSIGHT_EVERY, EXACT_DISTINCT, MAX_MESSAGE_BYTES, TIMESTAMP_FORMAT, FIELD];

/// The keys that name topics.
pub const TOPICS: [Key; 4] = [INPUT_TOPIC, PROCESSED_TOPIC, INSIGHTS_TOPIC, REJECTED_TOPIC];

/// Everything else about a run.
pub const RUN: [Key; 25] = [
    GROUP,
    INSTANCE,
    STATE_IN,
    CHANGELOG_TOPIC,
    TOTALS_TOPIC,
    PLUGINS_TOPIC,
    PLUGINS_FROM,
    FROM,
    WORKERS,
    MEMORY_LIMIT,
    DELIVERY,
    WATCH,
    MAX_CHANGED_SHARE,
    MAX_SLOWDOWN,
    MAX_FAILURES,
    PROBATION,
    LISTEN,
    CONTROL_TOKEN,
    CONTROL_TOKEN_FILE,
    CREATE_TOPICS,
    SOURCE_HEADERS,
    PLUGINS_HEADER,
    COMMIT_INTERVAL,
    DRAIN_TIMEOUT,
    STATUS_INTERVAL,
];

/// The keys that say what logins the generator makes.
pub const LOGINS: [Key; 5] = [USERS, ZIPF, SEED, MALFORMED, OUTCOME];

/// The keys that may stand in the file.
pub fn in_file() -> impl Iterator<Item = Key> {
    [BROKERS].into_iter().chain(TOPICS).chain(PIPELINE).chain(RUN)
}
