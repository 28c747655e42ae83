//! Health, readiness and metrics over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::telemetry::Telemetry;

/// Whether the workers of this process run, and are not draining.
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

#[derive(Clone)]
struct Served {
    readiness: Readiness,
    telemetry: Arc<Telemetry>,
    metrics: PrometheusHandle,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the process ends. Returns the address that is listened at.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    telemetry: Arc<Telemetry>,
    metrics: PrometheusHandle,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen at {address} for health and metrics; another address is set by --listen")
    })?;
    let bound = listener.local_addr().context("cannot tell the address listened at")?;
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Served { readiness, telemetry, metrics });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!("health and metrics are no longer served: {error}");
        }
    });
    Ok(bound)
}

/// Whether this process takes logins: its workers run, and none of its partitions stands still.
async fn ready(State(served): State<Served>) -> impl IntoResponse {
    let reason = if served.readiness.get() { served.telemetry.what_is_stopped() } else { Some(String::new()) };
    match reason {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{reason}")),
    }
}

async fn render(State(served): State<Served>) -> impl IntoResponse {
    served.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.metrics.render())
}
