//! The control port: health and metrics for machines, and under `/v1` the plugins that serve, for those who know the token.
//!
//! Invariants: nothing is changed without the token; whoever is slow, or sends much, is cut off.

pub mod plugins;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::deploy::Deployer;
use crate::config::token::Token;
use crate::telemetry::Telemetry;

/// How long a client may take for the head of a request, and between two pieces of its body.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// How many connections are served at a time; others wait to be accepted.
const MOST_CONNECTIONS: usize = 64;

/// Whether this process takes logins: its workers run, and are not draining.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether the process is ready.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Installs the recorder of all metrics. To be called once, before anything is counted.
pub fn install_metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder().context("cannot install the metrics recorder")?;
    Telemetry::describe();
    Ok(handle)
}

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// Whether the process is ready.
    pub readiness: Readiness,
    /// The metrics.
    pub metrics: PrometheusHandle,
    /// Changes the plugins.
    pub deployer: Arc<Deployer>,
    /// What changes take; none: there are no changes.
    pub token: Option<Token>,
}

/// Serves the control port until the process ends. Returns the address that is listened at.
pub async fn serve(address: SocketAddr, served: Served) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen at {address} for the control port; another address is set by --listen")
    })?;
    let bound = listener.local_addr().context("cannot tell the address listened at")?;
    tokio::spawn(accept(listener, routes(served)));
    Ok(bound)
}

fn routes(served: Served) -> Router {
    let health = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(served.clone());
    health.merge(plugins::routes(served)).layer(RequestBodyTimeoutLayer::new(CLIENT_PATIENCE))
}

async fn accept(listener: TcpListener, routes: Router) {
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, routes.clone(), permit));
            }
            // The process has no file descriptors left, say: that may pass.
            Err(error) => {
                tracing::warn!("the control port can't accept a connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, routes: Router, _permit: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CLIENT_PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A client that goes away is nobody's failure.
    connection.await.ok();
}

async fn ready(State(served): State<Served>) -> impl IntoResponse {
    if served.readiness.get() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn render(State(served): State<Served>) -> impl IntoResponse {
    served.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.metrics.render())
}
