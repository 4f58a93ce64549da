//! Starts and stops.

use std::sync::Arc;

use super::client::{TestClient, error, get, put, receipt};
use super::{Site, eventually, http, memory, soon};
use crate::api::{ApiError, Reply};
use crate::node::startup::Stored;
use crate::server::ServerError;
use crate::storage::MemoryEngine;

fn stored(engine: &Arc<MemoryEngine>) -> Stored {
    Stored::load(&**engine).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_is_on_the_record_and_the_next_run_trusts_it() {
    let (site, engine) = (Site::new(), memory());
    for run in 1..=3 {
        let server = site.start("n1", &engine, &[]).await;
        assert!(site.file("n1/pid").exists());
        eventually("the node is ready", || server.not_ready().is_none()).await;
        let client = TestClient::connect(&site, &server).await;
        receipt(client.ask(put(&format!("key {run}"), "value")).await);
        assert_eq!(stored(&engine).clean, None);
        server.stop(true).await.unwrap();
        let stored = stored(&engine);
        let last = stored.run.unwrap();
        assert_eq!((last.generation.0, last.trusted_since.0, stored.clean), (run, 1, Some(last.generation)));
        assert!(!site.file("n1/pid").exists());
    }
    let server = site.start("n1", &engine, &[]).await;
    eventually("the node is ready", || server.not_ready().is_none()).await;
    let response = TestClient::connect(&site, &server).await.ask(get("key 1")).await;
    assert_eq!(response.values, ["value"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fails_leaves_no_clean_record() {
    let (site, engine) = (Site::new(), memory());
    let server = site.start("n1", &engine, &[]).await;
    server.stop(false).await.unwrap();
    assert_eq!(stored(&engine).clean, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fixed_at_birth_cannot_be_configured_otherwise() {
    let (site, engine) = (Site::new(), memory());
    let server = site.start("n1", &engine, &[]).await;
    eventually("the node is ready", || server.not_ready().is_none()).await;
    server.stop(true).await.unwrap();
    for (key, value, text) in [
        ("cluster.partitions", 64.into(), "cluster.partitions = 64, but this cluster was born with 256"),
        ("cluster.buckets.default.n", 2.into(), "cluster.buckets.default.n = 2, but this cluster was born with 3"),
        ("cluster.buckets.new.n", 2.into(), "cluster.buckets.new.n = 2, but this cluster was born with no such bucket"),
    ] {
        let err = site.try_start("n1", &engine, &[(key, value)]).await.err().unwrap();
        assert!(matches!(err, ServerError::FixedAtBirth { .. }) && err.to_string().starts_with(text), "{err}");
    }
    site.start("n1", &engine, &[("cluster.partitions", 256.into())]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_nodes_certificate_or_directory_is_refused() {
    let (site, engine) = (Site::new(), memory());
    site.start("n1", &engine, &[]).await.stop(true).await.unwrap();
    let err = site.try_start("n2", &engine, &[]).await.err().unwrap();
    assert!(matches!(err, ServerError::Start(_)), "{err}");
    let key = ["tls.cert_file", "tls.key_file"];
    let file = |end: &str| site.file(&format!("n2.node.{end}")).to_str().unwrap().into();
    let err = site.try_start("n1", &engine, &[(key[0], file("pem")), (key[1], file("key"))]).await.err().unwrap();
    assert_eq!(err.to_string(), "tls.cert_file: the certificate is for n2.node.test, this node is n1.node.test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_birth_nothing_is_served_and_the_reason_is_given() {
    let site = Site::new();
    let birth = [("cluster.seeds", vec!["127.0.0.1:9"].into()), ("cluster.bootstrap_expect", 3.into())];
    let server = site.start("n1", &memory(), &birth).await;
    let client = TestClient::connect(&site, &server).await;
    let err = error(client.ask(get("key")).await);
    let ApiError::NotReady { reason } = err else { panic!("{err}") };
    assert!(reason.contains("joining"), "{reason}");
    let (code, reason) = http(&server, "/readyz").await;
    assert_eq!(code, "HTTP/1.1 503 Service Unavailable");
    assert!(reason.contains("2 of 3 founders"), "{reason}");
    soon(server.stop(true)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_under_way_are_answered_before_the_stop() {
    let site = Site::new();
    let server = site.single(&[]).await;
    let client = TestClient::connect(&site, &server).await;
    let requests: Vec<_> = (0..500).map(|key| put(&format!("key {key}"), "value")).collect();
    let (switch, answered) = (server.switch.clone(), tokio::sync::Notify::new());
    let stop = async {
        answered.notified().await;
        server.stop(true).await
    };
    let ask = client.ask_until_closed(&requests, || answered.notify_one());
    let (responses, stopped) = soon(async { tokio::join!(ask, stop) }).await;
    stopped.unwrap();
    // A request that came too late for the shards may be refused, or meet the end of the lane; one that was taken is answered.
    let written = responses.iter().filter(|response| matches!(response.result, Ok(Reply::Put(_)))).count();
    let counters = switch.shards.all().iter().map(|shard| shard.counters());
    let acknowledged: u64 = counters.map(|counters| counters.puts_acknowledged).sum();
    assert!(written > 0 && written as u64 == acknowledged, "{written} of {acknowledged} are answered");
    for response in responses {
        match response.result {
            Ok(Reply::Put(_)) | Err(ApiError::NotReady { .. } | ApiError::Overloaded) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_born_has_no_requests_to_wait_for() {
    let site = Site::new();
    let birth = [("cluster.seeds", vec!["127.0.0.1:9"].into()), ("cluster.bootstrap_expect", 3.into())];
    let more = [&birth[..], &[("net.request_timeout", "60s".into())]].concat();
    let server = site.start("n1", &memory(), &more).await;
    soon(server.stop(true)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_nodes_certificate_is_not_taken_up_by_a_reload() {
    let site = Site::new();
    let server = site.single(&[]).await;
    server.reload_tls().unwrap();
    site.config("n2", &[]);
    for end in ["pem", "key"] {
        std::fs::rename(site.file(&format!("n2.node.{end}")), site.file(&format!("n1.node.{end}"))).unwrap();
    }
    let err = server.reload_tls().unwrap_err();
    assert_eq!(err.to_string(), "tls.cert_file: the certificate is for n2.node.test, this node is n1.node.test");
}
