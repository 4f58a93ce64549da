//! Nodes whose disks sync slowly.

use super::client::{TestClient, get, put, receipt};
use super::hanging::Hanging;
use super::{Site, eventually, soon};
use crate::api::Request;
use crate::quorum::Level;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_serves_while_its_disk_syncs() {
    let (site, disk) = (Site::new(), Hanging::new());
    let server = site.start("n1", &disk, &[("node.shards", 1.into())]).await;
    eventually("the node is ready", || server.not_ready().is_none()).await;
    receipt(TestClient::connect(&site, &server).await.ask(put("before", "v")).await);
    disk.hang_syncs();
    let writer = TestClient::connect(&site, &server).await;
    let meanwhile = async {
        eventually("the put waits for the disk", || disk.is_waited_for()).await;
        for key in ["before", "amid"] {
            let reader = TestClient::connect(&site, &server).await;
            assert_eq!(reader.ask(get(key)).await.values, ["v"]);
        }
        assert!(disk.is_waited_for());
        disk.go_on();
    };
    let (written, ()) = soon(async { tokio::join!(writer.ask(put("amid", "v")), meanwhile) }).await;
    let acks = receipt(written).acks;
    assert!(acks.iter().all(|ack| ack.synced), "{acks:?}");
    soon(server.stop(true)).await.unwrap();
}

fn to_all(key: &str) -> Request {
    let Request::Put(mut write) = put(key, "v") else { unreachable!("it is a put") };
    (write.header.w, write.header.strict) = (Some(Level::All), true);
    Request::Put(write)
}

/// A put of the others' waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_tells_what_its_last_sync_has_put_on_the_disk() {
    let (site, disk) = (Site::new(), Hanging::new());
    let [n1, n2, n3] = site.three_and(&disk).await;
    // The lanes are up once a write reaches all three.
    soon(async { while TestClient::connect(&site, &n1).await.ask(to_all("before")).await.result.is_err() {} }).await;
    let shards = n3.switch.shards.clone();
    let merged = || shards.all().iter().map(|shard| shard.counters().merged).sum::<u64>();
    let before = merged();
    disk.hang_syncs();
    let writer = TestClient::connect(&site, &n1).await;
    let stop = async {
        let has_merged = || merged() > before;
        eventually("the third node's copy waits for its disk", || has_merged() && disk.is_waited_for()).await;
        let go_on = async {
            eventually("it has begun to stop", || shards.all().iter().all(|shard| shard.inbox.is_closed())).await;
            disk.go_on();
        };
        let (stopped, ()) = tokio::join!(n3.stop(true), go_on);
        stopped.unwrap();
    };
    let (written, ()) = soon(async { tokio::join!(writer.ask(to_all("amid")), stop) }).await;
    assert_eq!(receipt(written).acks.len(), 3);
    drop(n2);
}
