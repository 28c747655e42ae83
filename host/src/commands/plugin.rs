//! `loginscope plugin`: which plugins a running loginscope has, and changes of them, through its control port.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginscope_wasm::MAX_BYTES;
use serde_json::{Map, Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::cli::Exit;
use crate::config::token::Token;

/// How long connecting may take. An answer may take as long as a plugin is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Task {
    /// Which plugins serve.
    List,
    /// What has served, and what was refused.
    History,
    /// A plugin's file is to serve.
    Deploy {
        /// The file.
        file: PathBuf,
        /// The file with its settings; those that there are, if not given.
        settings: Option<PathBuf>,
        /// On how many live logins it is tried first.
        shadow: u64,
        /// Whether new aggregates are computed from the topic's history.
        backfill: bool,
        /// Whether that is all.
        dry_run: bool,
    },
    /// A plugin is to serve no longer.
    Remove {
        /// Its name.
        name: String,
        /// Whether only what would change is asked for.
        dry_run: bool,
    },
    /// What served before is to serve again.
    RollBack {
        /// The number of its generation; the one before, if not given.
        to: Option<u64>,
    },
}

/// Where a running loginscope is asked.
#[derive(Clone, Debug)]
pub struct Control {
    /// The begin of all addresses.
    pub url: String,
    /// What it takes.
    pub token: Option<Token>,
    /// Whether the answer is shown as it comes, as JSON.
    pub json: bool,
}

/// Asks, and shows the answer.
///
/// # Errors
/// There is no answer, or the change is refused.
pub fn run(control: &Control, task: &Task) -> Result<Exit> {
    let answer = match task {
        Task::List => control.get("/v1/plugins")?,
        Task::History => control.get("/v1/history")?,
        Task::Deploy { file, settings, shadow, backfill, dry_run } => {
            let component = read_component(file)?;
            let settings = settings.as_deref().map(read_settings).transpose()?;
            let component = STANDARD.encode(component);
            let deployment = json!({
                "component": component, "settings": settings, "shadow": shadow, "backfill": backfill, "dry_run": dry_run, "by": who()
            });
            control.post("/v1/plugins", &deployment)?
        }
        Task::Remove { name, dry_run } => control.delete(&format!("/v1/plugins/{name}"), *dry_run)?,
        Task::RollBack { to } => control.post("/v1/rollback", &json!({ "to": to, "by": who() }))?,
    };
    if control.json {
        anstream::println!("{answer}");
        return Ok(Exit::Done);
    }
    anstream::print!(
        "{}",
        match task {
            Task::List => shown_plugins(&answer),
            Task::History => shown_history(&answer),
            Task::Deploy { .. } | Task::Remove { .. } | Task::RollBack { .. } => shown_change(&answer),
        }
    );
    Ok(Exit::Done)
}

impl Control {
    fn get(&self, path: &str) -> Result<Value> {
        let request = agent().get(self.address(path));
        self.answer(self.with_token(request).call())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = agent().post(self.address(path));
        self.answer(self.with_token(request).send_json(body))
    }

    fn delete(&self, path: &str, dry_run: bool) -> Result<Value> {
        let request = agent().delete(self.address(path)).query("dry_run", dry_run.to_string()).query("by", who());
        self.answer(self.with_token(request).call())
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    fn with_token<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.reveal())),
            None => request,
        }
    }

    /// The answer, if it isn't that something can't be done.
    fn answer(&self, answered: Result<Response<Body>, ureq::Error>) -> Result<Value> {
        let mut response = answered.with_context(|| format!("cannot reach a running loginscope at {}", self.url))?;
        let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_string();
        let body = body.with_context(|| format!("the answer of {} can't be read", self.url))?;
        let answer: Value = serde_json::from_str(&body).unwrap_or(Value::String(body));
        if response.status().is_success() {
            return Ok(answer);
        }
        if self.json {
            anstream::println!("{answer}");
        } else {
            anstream::print!("{}", text(&answer, "report_text"));
        }
        match text(&answer, "error") {
            "" => bail!("{} answers {}: is it the control port of loginscope?", self.url, response.status()),
            error => bail!("{error}"),
        }
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).timeout_connect(Some(CONNECT_TIMEOUT));
    config.proxy(None).build().new_agent()
}

fn read_component(file: &Path) -> Result<Vec<u8>> {
    let component = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    if component.len() > MAX_BYTES {
        bail!("{} has {} bytes, and a plugin may have {MAX_BYTES}", file.display(), component.len());
    }
    Ok(component)
}

/// The settings in a file: a JSON object, or TOML where its name says so.
fn read_settings(file: &Path) -> Result<Map<String, Value>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return toml::from_str(&text).with_context(|| format!("{shown} is no TOML"));
    }
    serde_json::from_str(&text).with_context(|| format!("{shown} is no JSON object"))
}

/// Who asks: the user, at this machine.
fn who() -> String {
    let user =
        ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| "somebody".to_owned());
    match sysinfo::System::host_name() {
        Ok(host) => format!("{user}@{host}"),
        Err(_) => user,
    }
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, member: &str) -> f64 {
    value.get(member).and_then(Value::as_f64).unwrap_or_default()
}

fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn shown_plugins(answer: &Value) -> String {
    let left = number(answer, "probation_seconds");
    let probation = if left > 0.0 { format!("; on probation for {left:.0} s yet") } else { String::new() };
    let mut shown = format!(
        "generation {} since {} ({} by {}){probation}\n",
        number(answer, "generation"),
        text(answer, "since"),
        text(answer, "what"),
        text(answer, "by")
    );
    for plugin in each(answer.get("plugins")) {
        let roles: Vec<&str> = each(plugin.get("roles")).filter_map(Value::as_str).collect();
        let [name, version, source, digest] =
            ["name", "version", "source", "digest"].map(|member| text(plugin, member));
        let _ = writeln!(shown, "  {name}@{version}  {}  {source}  {digest}", roles.join(", "));
    }
    shown
}

fn shown_history(answer: &Value) -> String {
    let shown = each(Some(answer)).map(|event| {
        let [at, what, by, plugins, refused] =
            ["at", "what", "by", "plugins", "refused"].map(|member| text(event, member));
        let came = match number(event, "generation") {
            0.0 => format!("refused: {refused}"),
            generation => format!("generation {generation}: {plugins}"),
        };
        format!("{at}  {what} by {by}\n  {came}\n")
    });
    shown.collect()
}

fn shown_change(answer: &Value) -> String {
    let (plugins, generation) = (text(answer, "plugins"), number(answer, "generation"));
    let end = match text(answer, "end") {
        "serving" => format!("generation {generation} serves: {plugins}"),
        "unchanged" => format!("nothing to change: generation {generation} serves these very plugins, {plugins}"),
        _ => format!("nothing was changed: generation {generation} goes on serving; it would be {plugins}"),
    };
    let is_compared = answer.get("report").is_some_and(|report| number(report, "messages") > 0.0);
    let report = if is_compared { text(answer, "report_text") } else { "" };
    let backfill = answer.get("backfill").map(shown_backfill).unwrap_or_default();
    format!("{report}{end}\n{backfill}")
}

fn shown_backfill(backfill: &Value) -> String {
    let aggregates: Vec<&str> = each(backfill.get("aggregates")).filter_map(Value::as_str).collect();
    let aggregates = aggregates.join(", ");
    if aggregates.is_empty() {
        return "nothing to backfill: no aggregate over all logins is new\n".to_owned();
    }
    if let Some(offsets) = backfill.get("offsets").and_then(Value::as_u64) {
        return format!("{aggregates} would be computed from the topic's history, {offsets} offsets\n");
    }
    let mut shown = format!("{aggregates} computed from the topic's history, in the partitions of this instance:\n");
    for partition in each(backfill.get("partitions")) {
        let [number, from, until, messages, logins, failures, seconds] =
            ["partition", "from", "until", "messages", "logins", "failures", "seconds"]
                .map(|member| self::number(partition, member));
        let _ = writeln!(
            shown,
            "  partition {number}: offsets {from} to {until}, {messages} messages, {logins} logins, {failures} failures of plugins, {seconds:.1} s"
        );
    }
    shown
}
