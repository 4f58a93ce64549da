//! What an operator sees of hints, and orders about them; what a node says that it would do.

use super::client::{TestClient, put, receipt};
use super::{Site, both_miss_the_third, eventually, http, soon};
use crate::api::{ApiError, Explain, HintOrder, Reply, Request};
use crate::quorum::Level;
use crate::types::{Bucket, Key, NodeId};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_are_shown_and_dropped_on_order() {
    let site = Site::new();
    let [n1, n2, n3] = site.three().await;
    let away = n3.status().node;
    n3.stop(true).await.unwrap();
    both_miss_the_third(&n1, &n2).await;
    let client = TestClient::connect(&site, &n2).await;
    receipt(client.ask(put("key", "value")).await);
    eventually("a hint is counted", || n2.status().hints.iter().any(|kept| kept.target == away && kept.hints == 1))
        .await;
    let kept = n2.status().hints[0];
    assert_eq!((kept.counted, kept.drains_in()), (0, None));
    let (_, json) = http(&n2, "/status").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let backlog = &json["hint_backlog"][0];
    assert_eq!((&json["hints"], &backlog["hints"], &backlog["name"]), (&1.into(), &1.into(), &"n3".into()));
    assert_eq!(backlog["target"], away.to_string());

    let client = TestClient::connect(&site, &n2).await;
    let unknown = client.ask(Request::Hints(HintOrder::Drop { target: NodeId(7) })).await.result;
    let Err(ApiError::BadRequest { reason }) = &unknown else { panic!("{unknown:?}") };
    assert!(["n1", "n2", "n3"].iter().all(|name| reason.contains(name)), "{reason}");
    for order in [HintOrder::Flush { target: None }, HintOrder::Drop { target: away }] {
        let client = TestClient::connect(&site, &n2).await;
        let answer = soon(client.ask(Request::Hints(order))).await.result;
        assert!(matches!(&answer, Ok(Reply::Hints(ordered)) if ordered.hints == 1), "{answer:?}");
    }
    eventually("it is gone", || n2.status().hints.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_explains_what_it_would_do() {
    let site = Site::new();
    let [n1, n2, n3] = site.three().await;
    n3.stop(true).await.unwrap();
    both_miss_the_third(&n1, &n2).await;
    let client = TestClient::connect(&site, &n2).await;
    let (bucket, key) = (Bucket::new(Bucket::DEFAULT).unwrap(), Key::new(b"key".to_vec()).unwrap());
    let w = Some(Level::All);
    let asked = Explain { bucket, key, r: None, pr: None, w, pw: None, dw: None, strict: false };
    let answer = client.ask(Request::Explain(asked)).await.result;
    let Ok(Reply::Explain(reply)) = &answer else { panic!("{answer:?}") };
    assert_eq!((reply.node, reply.coordinator, reply.candidates.len()), (n2.status().node, n2.status().node, 3));
    assert_eq!((reply.read.succeeds, reply.read.margin, reply.read.asked[0].1), (true, 0, n2.status().node));
    assert_eq!(reply.write.reason, "unavailable: 3 replicas are needed, 2 can be reached");
}
