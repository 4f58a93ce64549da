//! HTTP for probes, metrics and people: no certificate, hence on the loopback unless somebody says otherwise.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the process serves HTTP at all |
//! | `/readyz` | 200, or 503 with the reason: joining, draining, read-only, or local ranges without a quorum |
//! | `/healthz?verbose` | as `/readyz`, check by check |
//! | `/metrics` | Prometheus text |
//! | `/status` | JSON: [`StatusReply`] and `"schema": 1` |
//!
//! In `/status`, `hints` is their number and `hint_backlog` what waits for whom, both without those that the node still
//! counts after a start (`hints_counted`). `repair` is how far the node has come with comparing its replicas with others', null
//! until it has begun.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use super::board::Board;
use super::metrics::Metrics;
use crate::api::{Phase, StatusReply};

/// What the handlers read.
#[derive(Clone)]
pub struct Http {
    /// Status and readiness.
    pub board: Arc<Board>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl Http {
    /// Takes the address.
    ///
    /// # Errors
    /// [`ServerError::Http`].
    pub async fn bind(addr: SocketAddr) -> Result<TcpListener, ServerError> {
        TcpListener::bind(addr).await.map_err(|source| ServerError::Http { addr, source })
    }

    /// Serves until `stopping` is cancelled.
    ///
    /// # Errors
    /// [`ServerError::Ended`].
    pub async fn run(self, listener: TcpListener, stopping: CancellationToken) -> Result<(), ServerError> {
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/healthz", get(health))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .with_state(self);
        let served = tokio::select! {
            served = async { axum::serve(listener, router).await } => served,
            // a connection that is kept alive would hold up a graceful end for as long as its client likes
            () = stopping.cancelled() => Ok(()),
        };
        served.map_err(|err| ServerError::Ended { part: "HTTP", reason: err.to_string() })
    }
}

async fn ready(State(Http { board, .. }): State<Http>) -> Response {
    match board.not_ready() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn health(State(http): State<Http>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let not_ready = http.board.not_ready();
    let code = if not_ready.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !query.contains_key("verbose") {
        return (code, if not_ready.is_none() { "ok\n" } else { "not ok\n" }).into_response();
    }
    let status = http.board.status();
    let up = status.members.iter().filter(|member| member.up).count();
    let check = |ok: bool, name: &str, detail: String| format!("[{}] {name}: {detail}\n", if ok { '+' } else { '-' });
    let phase = format!("{:?}", status.phase).to_lowercase();
    let mut text = check(status.phase == Phase::Serving, "phase", phase);
    text += &check(
        status.ring_version.is_some(),
        "ring",
        status.ring_version.map_or_else(|| "none".to_owned(), |ring| ring.0.to_string()),
    );
    text += &check(up == status.members.len(), "members", format!("{up} of {} up", status.members.len()));
    text += &check(status.phase != Phase::ReadOnly, "disk", format!("{} bytes free", status.free_bytes));
    text += &check(not_ready.is_none(), "ready", not_ready.unwrap_or_else(|| "yes".to_owned()));
    (code, text).into_response()
}

async fn metrics(State(Http { metrics, .. }): State<Http>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

async fn status(State(Http { board, .. }): State<Http>) -> Json<Value> {
    Json(status_json(&board.status()))
}

/// Identities as people write them: most readers of JSON hold no 64-bit numbers.
fn status_json(status: &StatusReply) -> Value {
    let mut json = serde_json::to_value(status).expect("a status has text keys only");
    json["schema"] = 1.into();
    json["node"] = status.node.to_string().into();
    json["cluster"] = status.cluster.map_or(Value::Null, |cluster| cluster.to_string().into());
    for (json, member) in json["members"].as_array_mut().into_iter().flatten().zip(&status.members) {
        json["node"] = member.node.to_string().into();
        json["disk"] = member.disk.map_or(Value::Null, |disk| disk.to_string().into());
    }
    json["hint_backlog"] = json["hints"].take();
    json["hints"] = status.hints.iter().map(|waiting| waiting.hints).sum::<u64>().into();
    for (json, waiting) in json["hint_backlog"].as_array_mut().into_iter().flatten().zip(&status.hints) {
        json["target"] = waiting.target.to_string().into();
        json["name"] = status.name_of(waiting.target).into();
    }
    let running = status.repair.iter().flat_map(|repair| &repair.running);
    let shown = json.pointer_mut("/repair/running").and_then(Value::as_array_mut);
    for (json, running) in shown.into_iter().flatten().zip(running) {
        json["peer"] = running.peer.to_string().into();
        json["name"] = status.name_of(running.peer).into();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{RepairStatus, RunningRepair};
    use crate::types::{NodeId, PartitionId};

    fn status(repair: Option<RepairStatus>) -> StatusReply {
        StatusReply {
            node: NodeId(1),
            name: "n1".into(),
            cluster: None,
            cluster_name: "dev".into(),
            ring_version: None,
            phase: Phase::Serving,
            waiting_for: String::new(),
            uptime_s: 0,
            keys: 0,
            disk_bytes: 0,
            free_bytes: 0,
            capacity_bytes: 0,
            members: Vec::new(),
            hints: Vec::new(),
            hints_counted: true,
            repair,
        }
    }

    #[test]
    fn peers_of_repairs_are_named_as_people_name_them() {
        assert_eq!(status_json(&status(None))["repair"], Value::Null);
        let running = RunningRepair { partition: PartitionId(7), n: 3, peer: NodeId(2), keys_differing: 4, bytes: 5 };
        let repair = RepairStatus { running: vec![running], due: 9, ..RepairStatus::default() };
        let json = status_json(&status(Some(repair)));
        let peer = NodeId(2).to_string();
        let shown = serde_json::json!([
            {"partition": 7, "n": 3, "peer": peer, "name": peer, "keys_differing": 4, "bytes": 5}
        ]);
        assert_eq!((&json["repair"]["running"], &json["repair"]["due"]), (&shown, &9.into()));
        assert_eq!(json["repair"]["rebuilding"], Value::Null);
    }
}
