//! `/v1`: the plugins that serve, and changes of them.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use loginscope_login::rejection::printable;
use loginscope_wasm::{MAX_BYTES, Plugin, Role};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, TryAcquireError};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Served;
use crate::comparator::report::Report;
use crate::control::deploy::{self, Deployer};
use crate::control::swap::{self, End, Refusal, Swapped};
use crate::pipeline::backfill::board::Backfilled;
use crate::pipeline::serving::Probation;
use crate::pipeline::serving::history::{Event, Outcome, Standing};

/// The largest request: a component of the largest size in base64, and its settings.
const MOST_BYTES: usize = MAX_BYTES / 3 * 4 + (2 << 20);

/// The longest name of whoever asks, in bytes.
const MOST_NAME_BYTES: usize = 100;

/// The most live logins that a plugin can be tried on: both sides keep a state of them.
pub const MOST_SHADOWED: u64 = 1_000_000;

/// How many changes may be under way, or wait for each other, with what they brought.
const MOST_CHANGES: usize = 4;

/// The document about all this.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "loginscope control port",
        description = "The plugins that serve, and changes of them. With a control token, every request takes it as a bearer token; \
                       without one, there are no changes."
    ),
    security(("token" = []))
)]
struct About;

/// What handlers share.
#[derive(Clone)]
struct Changes {
    served: Served,
    at_once: Arc<Semaphore>,
}

/// The routes below `/v1`.
pub(super) fn routes(served: Served) -> Router {
    let changes = Changes { served, at_once: Arc::new(Semaphore::new(MOST_CHANGES)) };
    let (router, document) = documented();
    let document = Arc::new(document);
    let router = router.route("/v1/openapi.json", axum::routing::get(async move || Json(document.as_ref().clone())));
    router.route_layer(middleware::from_fn_with_state(changes.clone(), guard)).with_state(changes)
}

fn documented() -> (Router<Changes>, Document) {
    let (router, mut document) = OpenApiRouter::with_openapi(About::openapi())
        .routes(routes!(list, deploy))
        .routes(routes!(remove))
        .routes(routes!(roll_back))
        .routes(routes!(history))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .split_for_parts();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    (router, document)
}

/// Lets nobody through who doesn't know the token, and no change where there is none.
async fn guard(State(changes): State<Changes>, request: Request, next: Next) -> Response {
    let Some(token) = &changes.served.token else {
        if request.method().is_safe() {
            return next.run(request).await;
        }
        let error = "changes take a token, and none is configured: see control_token_file (or control_token)";
        return Failed::new(StatusCode::FORBIDDEN, error).into_response();
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if given.is_some_and(|(_, guess)| token.is(guess.trim())) {
        return next.run(request).await;
    }
    let error =
        Failed::new(StatusCode::UNAUTHORIZED, "this takes the control token, as \"Authorization: Bearer TOKEN\"");
    ([(header::WWW_AUTHENTICATE, "Bearer")], error).into_response()
}

/// The plugins that serve.
#[derive(Serialize, ToSchema)]
struct Serving {
    /// The number of their generation, from 1.
    generation: u64,
    /// Since when they serve.
    since: DateTime<Utc>,
    /// What led to it.
    what: String,
    /// Who asked for it.
    by: String,
    /// How long they are on probation yet, in seconds; 0: not any more.
    probation_seconds: f64,
    /// The plugins, in the order in which logins go through them.
    plugins: Vec<ServingPlugin>,
}

/// A plugin that serves.
#[derive(Serialize, ToSchema)]
struct ServingPlugin {
    /// Its name.
    name: String,
    /// Its version.
    version: String,
    /// The SHA-256 of its bytes, as "sha256:" and hexadecimal digits.
    digest: String,
    /// What it does: validator, enricher, insight-generator.
    roles: Vec<&'static str>,
    /// The version of the plugin contract that it is built against.
    contract: &'static str,
    /// The file that it was loaded from; "deployed" where it was handed in.
    source: String,
    /// Its settings, where a token guards them.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<serde_json::Value>,
}

impl ServingPlugin {
    fn of(plugin: &Plugin, is_guarded: bool) -> Self {
        let component = plugin.component();
        Self {
            name: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            digest: component.digest().to_string(),
            roles: plugin.roles().iter().copied().map(Role::as_str).collect(),
            contract: component.contract().as_str(),
            source: component.source().to_owned(),
            settings: is_guarded.then(|| serde_json::from_str(plugin.settings()).unwrap_or_default()),
        }
    }
}

/// Which plugins serve.
#[utoipa::path(get, path = "/v1/plugins", responses((status = 200, body = Serving)))]
async fn list(State(changes): State<Changes>) -> Json<Serving> {
    let served = &changes.served;
    let serving = served.deployer.swapper.serving.load();
    let left = serving.probation().map(Probation::left);
    Json(Serving {
        generation: serving.number,
        since: serving.since,
        what: serving.cause.what.clone(),
        by: serving.cause.by.clone(),
        probation_seconds: left.unwrap_or_default().as_secs_f64(),
        plugins: serving.chain.plugins.iter().map(|plugin| ServingPlugin::of(plugin, served.token.is_some())).collect(),
    })
}

/// A component that is to serve.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deployment {
    /// The component, or core module, in base64.
    #[schema(content_encoding = "base64")]
    component: String,
    /// Its settings. Without, those of the plugin that it replaces, or else the configuration's.
    settings: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether it ends when it is known what would change.
    #[serde(default)]
    dry_run: bool,
    /// On how many live logins it is tried first, beside the plugins that serve.
    #[serde(default)]
    shadow: u64,
    /// Whether aggregates that are new are computed from the topic's history, and not begin empty. The answer comes when they are.
    #[serde(default)]
    backfill: bool,
    /// Who asks.
    by: Option<String>,
}

/// Deploys a plugin: in place of the one of its name, or behind all others. It is tried first on recent messages.
#[utoipa::path(
    post,
    path = "/v1/plugins",
    request_body = Deployment,
    responses(
        (status = 200, body = Change),
        (status = 422, description = "It is refused; those before go on serving. Or others took over before all was computed.", body = Failure),
        (status = 503, description = "Too many changes wait already.", body = Failure),
    )
)]
async fn deploy(
    State(changes): State<Changes>,
    deployment: Result<Json<Deployment>, JsonRejection>,
) -> Result<Json<Change>, Failed> {
    let Json(deployment) = deployment.map_err(|rejection| Failed::new(rejection.status(), rejection.body_text()))?;
    if deployment.shadow > MOST_SHADOWED {
        let error = format!("shadow: at most {MOST_SHADOWED} logins can be shadowed");
        return Err(Failed::new(StatusCode::UNPROCESSABLE_ENTITY, error));
    }
    let bytes = STANDARD
        .decode(&deployment.component)
        .map_err(|error| Failed::new(StatusCode::BAD_REQUEST, format!("component is no base64: {error}")))?;
    let settings = deployment.settings.map(|settings| serde_json::Value::Object(settings).to_string());
    let request = swap::Request {
        dry_run: deployment.dry_run,
        shadow: deployment.shadow,
        backfill: deployment.backfill,
        ..swap::Request::new("deployment", who(deployment.by))
    };
    let is_backfilled = request.backfill;
    let swapped =
        changes.clone().change(move |deployer| deployer.deploy(&bytes, settings.as_deref(), &request)).await?;
    if !is_backfilled {
        return Ok(Json(swapped.into()));
    }
    // It may take hours, and is in no other change's way.
    let computed = move |deployer: &Deployer| Ok((deployer.backfill(&swapped)?, swapped));
    let (backfill, swapped) = changes.carry_out(computed).await?;
    Ok(Json(Change { backfill: Some(backfill.into()), ..Change::from(swapped) }))
}

/// Who asks for a removal, and how.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// Whether it ends when it is known what would change.
    #[serde(default)]
    dry_run: bool,
    /// Who asks.
    by: Option<String>,
}

/// Takes a plugin out of service.
#[utoipa::path(
    delete,
    path = "/v1/plugins/{name}",
    params(("name" = String, Path, description = "The plugin's name"), Removal),
    responses(
        (status = 200, body = Change),
        (status = 422, description = "It is refused; it goes on serving.", body = Failure),
    )
)]
async fn remove(
    State(changes): State<Changes>,
    Path(name): Path<String>,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Json<Change>, Failed> {
    let Query(removal) = removal.map_err(|rejection| Failed::new(rejection.status(), rejection.body_text()))?;
    let what = format!("removal of {}", printable(&name, MOST_NAME_BYTES));
    let request = swap::Request { dry_run: removal.dry_run, ..swap::Request::new(what, who(removal.by)) };
    let swapped = changes.change(move |deployer| deployer.remove(&name, &request)).await?;
    Ok(Json(swapped.into()))
}

/// Which plugins are to serve again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RollBack {
    /// The number of their generation. Without, the one before the present one.
    to: Option<u64>,
    /// Who asks.
    by: Option<String>,
}

/// Has the plugins of an earlier generation serve again, at once.
#[utoipa::path(
    post,
    path = "/v1/rollback",
    request_body = RollBack,
    responses(
        (status = 200, body = Change),
        (status = 422, description = "There is no such generation any more.", body = Failure),
    )
)]
async fn roll_back(
    State(changes): State<Changes>,
    body: Result<Json<RollBack>, JsonRejection>,
) -> Result<Json<Change>, Failed> {
    let Json(RollBack { to, by }) = body.map_err(|rejection| Failed::new(rejection.status(), rejection.body_text()))?;
    // It waits for no other change, and isn't refused for them.
    let swapped = changes.carry_out(move |deployer| deployer.swapper.roll_back(to, &who(by))).await?;
    Ok(Json(swapped.into()))
}

/// Something that happened to the plugins that serve, or nearly did.
#[derive(Serialize, ToSchema)]
struct Happened {
    /// When.
    at: DateTime<Utc>,
    /// What was asked for.
    what: String,
    /// Who asked.
    by: String,
    /// The number of the generation that serves, where it came to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// Its plugins as name@version, with commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugins: Option<String>,
    /// Whether it can be gone back to.
    can_return: bool,
    /// Why it was refused, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl From<Event> for Happened {
    fn from(Event { at, cause, outcome }: Event) -> Self {
        let (generation, plugins, can_return, refused) = match outcome {
            Outcome::Served { generation, labels, standing, .. } => {
                (Some(generation), Some(labels), standing != Standing::Failed, None)
            }
            Outcome::Refused(reason) => (None, None, false, Some(reason)),
        };
        Self { at, what: cause.what, by: cause.by, generation, plugins, can_return, refused }
    }
}

/// What has served, and what was refused, the oldest first.
#[utoipa::path(get, path = "/v1/history", responses((status = 200, body = Vec<Happened>)))]
async fn history(State(changes): State<Changes>) -> Json<Vec<Happened>> {
    let swapper = &changes.served.deployer.swapper;
    let happened = |event: Event| {
        let is_at_hand = matches!(&event.outcome, Outcome::Served { plugins, .. } if !plugins.is_empty());
        let mut happened = Happened::from(event);
        happened.can_return &= is_at_hand || happened.generation.is_some_and(|number| swapper.remembers(number));
        happened
    };
    Json(swapper.serving.history.events().into_iter().map(happened).collect())
}

/// What came of a change.
#[derive(Serialize, ToSchema)]
struct Change {
    /// How it ended.
    end: End,
    /// The number of the generation that serves.
    generation: u64,
    /// The plugins as name@version, with commas; those that would serve, for a dry run.
    plugins: String,
    /// What the new plugins change.
    report: Report,
    /// The same for people.
    report_text: String,
    /// What was computed from the topic's history, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    backfill: Option<Backfill>,
}

impl From<Swapped> for Change {
    fn from(Swapped { end, generation, labels, report, .. }: Swapped) -> Self {
        Self { end, generation, plugins: labels, report_text: report.to_string(), report, backfill: None }
    }
}

/// What was computed from the topic's history.
#[derive(Serialize, ToSchema)]
struct Backfill {
    /// The aggregates that are new, as plugin/name.
    aggregates: Vec<String>,
    /// How many offsets would be read; for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    offsets: Option<u64>,
    /// The partitions that the instance asked has, and what was computed for each. Other instances compute for theirs.
    partitions: Vec<BackfilledPartition>,
}

/// What was computed from a partition's history.
#[derive(Serialize, ToSchema)]
struct BackfilledPartition {
    /// The partition.
    partition: i32,
    /// The offset of the earliest message that there was.
    from: i64,
    /// The offset from which on messages are judged live.
    until: i64,
    /// How many messages were counted.
    messages: u64,
    /// How many of them are accepted logins.
    logins: u64,
    /// How often a plugin failed on them.
    failures: u64,
    /// How long it took, most of that while logins went on.
    seconds: f64,
}

impl From<deploy::Backfill> for Backfill {
    fn from(backfill: deploy::Backfill) -> Self {
        let partition = |(partition, it): (i32, Backfilled)| BackfilledPartition {
            partition,
            from: it.from,
            until: it.until,
            messages: it.messages,
            logins: it.logins,
            failures: it.failures,
            seconds: it.took.as_secs_f64(),
        };
        Self {
            aggregates: backfill.aggregates.iter().map(|(plugin, name)| format!("{plugin}/{name}")).collect(),
            offsets: backfill.offsets,
            partitions: backfill.partitions.into_iter().map(partition).collect(),
        }
    }
}

/// Why something can't be done.
#[derive(Serialize, ToSchema)]
struct Failure {
    /// Why, in a sentence.
    error: String,
    /// What would have changed, where it came to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Box<Report>>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    report_text: Option<String>,
}

/// An answer that something can't be done.
struct Failed {
    status: StatusCode,
    failure: Failure,
}

impl Failed {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, failure: Failure { error: error.into(), report: None, report_text: None } }
    }
}

impl From<Refusal> for Failed {
    fn from(Refusal { reason, report }: Refusal) -> Self {
        let report_text = report.as_ref().map(ToString::to_string);
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, failure: Failure { error: reason, report, report_text } }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.status, Json(self.failure)).into_response()
    }
}

impl Changes {
    /// Makes a change in its turn.
    async fn change(
        self,
        change: impl FnOnce(&Deployer) -> Result<Swapped, Refusal> + Send + 'static,
    ) -> Result<Swapped, Failed> {
        let permit = match Arc::clone(&self.at_once).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                let error = format!("{MOST_CHANGES} changes wait already: try again later");
                return Err(Failed::new(StatusCode::SERVICE_UNAVAILABLE, error));
            }
        };
        self.carry_out(move |deployer| {
            let _permit = permit;
            change(deployer)
        })
        .await
    }

    /// Does something that takes its time, on a thread where it holds nobody up.
    async fn carry_out<T: Send + 'static>(
        self,
        change: impl FnOnce(&Deployer) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Failed> {
        let deployer = Arc::clone(&self.served.deployer);
        let changed = tokio::task::spawn_blocking(move || change(&deployer));
        let Ok(changed) = changed.await else {
            return Err(Failed::new(StatusCode::INTERNAL_SERVER_ERROR, "the change was not carried out"));
        };
        Ok(changed?)
    }
}

fn who(by: Option<String>) -> String {
    by.map_or_else(|| "the control port".to_owned(), |by| printable(&by, MOST_NAME_BYTES))
}
