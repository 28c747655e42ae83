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
use tokio_io_timeout::TimeoutStream;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::deploy::Deployer;
use crate::config::token::Token;
use crate::telemetry::Telemetry;

/// How long a client may take for the head of a request, between two pieces of its body, and to take a piece of an answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// How many connections are served at a time; others wait to be accepted.
const MOST_CONNECTIONS: usize = 64;

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

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// Whether the process is ready.
    pub readiness: Readiness,
    /// What stands still.
    pub telemetry: Arc<Telemetry>,
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
    tokio::spawn(Server::new(routes(served), CLIENT_PATIENCE).accept(listener));
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

/// Serves connections, so many at a time.
struct Server {
    routes: Router,
    connections: Arc<Semaphore>,
    /// As [`CLIENT_PATIENCE`].
    patience: Duration,
}

impl Server {
    fn new(routes: Router, patience: Duration) -> Self {
        Self { routes, connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)), patience }
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve_connection(stream, self.routes.clone(), self.patience, permit));
                }
                // The process has no file descriptors left, say: that may pass.
                Err(error) => {
                    tracing::warn!("the control port can't accept a connection: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, routes: Router, patience: Duration, _permit: OwnedSemaphorePermit) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(routes));
    // A client that goes away is nobody's failure.
    connection.await.ok();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_no_answer_is_cut_off() {
        let routes = Router::new().route("/large", get(async || vec![b'x'; 64 << 20]));
        let server = Server::new(routes, Duration::from_millis(100));
        let connections = Arc::clone(&server.connections);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.accept(listener));
        let client = TcpStream::connect(address).await.unwrap();
        client.writable().await.unwrap();
        client.try_write(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let cut_off = tokio::time::timeout(Duration::from_mins(1), async {
            // One permit is held by the server itself while it waits for the next client.
            client.readable().await.unwrap();
            while connections.available_permits() < MOST_CONNECTIONS - 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        cut_off.await.expect("the connection of a client that doesn't read is held for good");
    }
}
