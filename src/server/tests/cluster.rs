//! What three nodes do together.

use super::client::{TestClient, get, put, receipt};
use super::{Site, both_miss_the_third, eventually, http};
use crate::api::{Phase, Reply, Request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_born_and_what_is_put_at_one_is_read_at_another() {
    let site = Site::new();
    let servers = site.three().await;
    let writer = TestClient::connect(&site, &servers[0]).await;
    let requests: Vec<_> = (0..100).map(|key| put(&format!("key {key}"), &format!("value {key}"))).collect();
    for response in writer.ask_all(&requests).await {
        let receipt = receipt(response);
        assert_eq!((receipt.n, receipt.w), (3, 2));
        assert!(receipt.acks.len() >= 2, "{receipt:?}");
    }
    let reader = TestClient::connect(&site, &servers[2]).await;
    let gets: Vec<_> = (0..100).map(|key| get(&format!("key {key}"))).collect();
    for (key, response) in reader.ask_all(&gets).await.into_iter().enumerate() {
        assert!(
            matches!(&response.result, Ok(Reply::Get(reply)) if reply.siblings.len() == 1),
            "{:?}",
            response.result
        );
        assert_eq!(response.values, [format!("value {key}")]);
    }
    for server in servers {
        server.stop(true).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_the_ring_its_status_and_its_numbers() {
    let site = Site::new();
    let servers = site.three().await;
    let client = TestClient::connect(&site, &servers[1]).await;
    receipt(client.ask(put("key", "value")).await);
    let responses = TestClient::connect(&site, &servers[1]).await.ask_all(&[Request::Ring, Request::Status]).await;
    let Ok(Reply::Ring(ring)) = &responses[0].result else { panic!("{:?}", responses[0]) };
    let layout = crate::ring::Layout::decode(&responses[0].values[0]).unwrap();
    assert_eq!((ring.version, ring.cluster), (layout.version(), layout.cluster_id()));
    let Ok(Reply::Status(status)) = &responses[1].result else { panic!("{:?}", responses[1]) };
    assert_eq!((status.phase, status.name.as_str(), status.members.len()), (Phase::Serving, "n2", 3));
    assert!(status.members.iter().all(|member| member.up), "{status:?}");

    assert_eq!(http(&servers[1], "/livez").await.0, "HTTP/1.1 200 OK");
    assert_eq!(http(&servers[1], "/readyz").await, ("HTTP/1.1 200 OK".into(), "ready\n".into()));
    let (_, health) = http(&servers[1], "/healthz?verbose").await;
    assert!(health.contains("[+] members: 3 of 3 up"), "{health}");
    let (_, json) = http(&servers[1], "/status").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["schema"], &json["name"], &json["phase"]), (&1.into(), &"n2".into(), &"serving".into()));
    assert_eq!((&json["node"], &json["cluster"]), (&status.node.to_string().into(), &ring.cluster.to_string().into()));
    let (_, metrics) = http(&servers[1], "/metrics").await;
    for line in
        ["dynkv_members_up 3", "dynkv_ready 1", "dynkv_request_seconds_bucket{", "dynkv_puts_acknowledged_total{"]
    {
        assert!(metrics.lines().any(|known| known.starts_with(line)), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_is_missed_and_the_others_go_on() {
    let site = Site::new();
    let [n1, n2, n3] = site.three().await;
    n3.stop(true).await.unwrap();
    both_miss_the_third(&n1, &n2).await;
    let client = TestClient::connect(&site, &n2).await;
    assert_eq!(receipt(client.ask(put("key", "value")).await).acks.len(), 2);
    assert_eq!(n2.not_ready(), None, "two of three are a quorum");
    n1.stop(true).await.unwrap();
    eventually("the last one notices", || n2.not_ready().is_some()).await;
    let (code, reason) = http(&n2, "/readyz").await;
    assert_eq!(code, "HTTP/1.1 503 Service Unavailable");
    assert!(reason.contains("256 of 256 local ranges have no quorum"), "{reason}");
}
