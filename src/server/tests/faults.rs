//! What comes over authenticated connections and should not.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::client::{TestClient, dial, error, get, put, receipt};
use super::{Site, soon};
use crate::api::{ApiError, Reply};
use crate::frame::codec::{OpenClient, OpenShard, Opening, encode_client_request};
use crate::frame::raw::RawFrame;
use crate::message::PROTOCOL;
use crate::net::{CloseReason, LaneClosed, Role};
use crate::server::Server;

async fn is_alive(site: &Site, server: &Server) {
    let client = TestClient::connect(site, server).await;
    receipt(client.ask(put("alive", "yes")).await);
}

/// Each frame closes the lane that it comes on, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_no_requests_close_their_lane_and_the_node_lives() {
    let site = Site::new();
    let server = site.single(&[]).await;
    let mut rng = StdRng::seed_from_u64(11);
    let good = encode_client_request(1, &get("key"));
    for round in 0..200 {
        let mut frame = good.clone();
        match round % 4 {
            0 => frame.header = good.header.slice(..rng.random_range(0..good.header.len())),
            1 => {
                let mut noise = vec![0; rng.random_range(1..200)];
                rng.fill_bytes(&mut noise);
                // no map or array of the right shape starts so
                noise[0] = 0xc1;
                frame.header = noise.into();
            }
            2 => frame.kind = [0x00, 0x01, 0x08, 0x11, 0x26, 0x91, 0xa0, 0xff][round / 4 % 8],
            _ => frame.body = Bytes::from_static(b"a get has no body"),
        }
        let client = TestClient::connect(&site, &server).await;
        client.lane.try_send_one(frame.clone()).unwrap();
        assert_eq!(client.closed().await, LaneClosed::Peer, "{frame:?}");
        assert!(!client.link.is_closed(), "the link's other lanes go on");
        client.link.close(0, "done");
    }
    is_alive(&site, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_frames_never_end_the_node() {
    let site = Site::new();
    let server = site.single(&[]).await;
    let mut rng = StdRng::seed_from_u64(12);
    let good = encode_client_request(1, &put("key", "value"));
    for _ in 0..200 {
        let client = TestClient::connect(&site, &server).await;
        let mut header = good.header.to_vec();
        let at = rng.random_range(0..header.len());
        header[at] = rng.random();
        // a flipped byte may leave a good request: whatever comes of it is no panic
        let _ = client.lane.try_send_one(RawFrame { header: header.into(), ..good.clone() });
        client.link.close(0, "done");
    }
    is_alive(&site, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_beyond_the_limits_close_the_lane() {
    let site = Site::new();
    let server = site.single(&[]).await;
    let good = encode_client_request(1, &get("key"));
    let long_header = RawFrame { header: vec![0; 5 << 20].into(), ..good.clone() };
    let long_frame = RawFrame { body: vec![0; 65 << 20].into(), ..good };
    for frame in [long_header, long_frame] {
        let client = TestClient::connect(&site, &server).await;
        client.lane.try_send_one(frame).unwrap();
        assert!(matches!(client.closed().await, LaneClosed::Aborted { .. }));
    }
    is_alive(&site, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_opens_no_node_lanes_and_a_node_no_shard_lane_before_its_handshake() {
    let site = Site::new();
    let server = site.single(&[]).await;
    site.config("n2", &[]);
    let shard = Opening::Shard(OpenShard { shard: 0 });
    let client = Opening::Client(OpenClient { protocol: PROTOCOL });
    for (certificate, role, opening) in [
        ("app.client", Role::Client, Opening::Control),
        ("app.client", Role::Client, shard),
        ("n2.node", Role::Node, shard),
        ("n2.node", Role::Node, client),
    ] {
        let (endpoint, link) = dial(&site, &server, certificate, role).await;
        let stranger = TestClient::open(endpoint, link, &opening).await;
        soon(stranger.link.closed()).await;
        assert!(matches!(stranger.closed().await, LaneClosed::Link(_)), "{certificate} {opening:?}");
    }
    is_alive(&site, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_no_hello_opens_no_shard_lane() {
    let site = Site::new();
    let server = site.single(&[]).await;
    site.config("n2", &[]);
    let (endpoint, link) = dial(&site, &server, "n2.node", Role::Node).await;
    let control = TestClient::open(endpoint.clone(), link.clone(), &Opening::Control).await;
    assert!(!control.link.is_closed());
    let shard = TestClient::open(endpoint, link, &Opening::Shard(OpenShard { shard: 0 })).await;
    let CloseReason::Peer { reason, .. } = soon(shard.link.closed()).await else { panic!("it was to be closed") };
    assert_eq!(reason, "a shard's lane before the handshake");
    is_alive(&site, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_protocol_is_told_so() {
    let site = Site::new();
    let server = site.single(&[]).await;
    let (endpoint, link) = dial(&site, &server, "app.client", Role::Client).await;
    let client = TestClient::open(endpoint, link, &Opening::Client(OpenClient { protocol: 99 })).await;
    let responses = client.ask_all(&[]).await;
    assert!(responses.is_empty());
    assert_eq!(client.closed().await, LaneClosed::Peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_requests_are_answered_overloaded_at_once() {
    let site = Site::new();
    let server = site.single(&[("net.max_inflight", 4.into())]).await;
    let client = TestClient::connect(&site, &server).await;
    // fewer than a shard takes at the least: only the lane's own limit can refuse them
    let requests: Vec<_> = (0..60).map(|key| put(&format!("key {key}"), "value")).collect();
    let responses = client.ask_all(&requests).await;
    let (served, refused): (Vec<_>, Vec<_>) = responses.into_iter().partition(|response| response.result.is_ok());
    assert!(served.len() >= 4, "{}", served.len());
    assert!(!refused.is_empty());
    refused.into_iter().for_each(|response| assert_eq!(error(response), ApiError::Overloaded));
    // and what was refused has left no trace in the count of what is under way
    let again = TestClient::connect(&site, &server).await.ask(get("key 0")).await;
    assert!(matches!(again.result, Ok(Reply::Get(_))), "{:?}", again.result);
}

/// The answers of one drain are more than a lane's queue holds, although the client takes whatever comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_large_answers_does_not_cost_a_client_its_link() {
    let site = Site::new();
    let server = site.single(&[]).await;
    let large = "x".repeat(1 << 20);
    receipt(TestClient::connect(&site, &server).await.ask(put("large", &large)).await);
    let client = TestClient::connect(&site, &server).await;
    let responses = client.ask_all(&vec![get("large"); 300]).await;
    assert!(!client.link.is_closed());
    let (served, refused): (Vec<_>, Vec<_>) = responses.into_iter().partition(|response| response.result.is_ok());
    assert!(served.len() >= 32, "{}", served.len());
    served.iter().for_each(|response| assert_eq!(response.values[0].len(), large.len()));
    refused.into_iter().for_each(|response| assert_eq!(error(response), ApiError::Overloaded));
}
