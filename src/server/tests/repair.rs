//! Orders about repair, as nodes take them.

use std::sync::Arc;

use super::super::shard::Shard;
use super::client::TestClient;
use super::{Site, eventually, soon};
use crate::api::{ApiError, RepairOrder, RepairOrdered, Reply, Request};
use crate::types::PartitionId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_about_repair_are_taken_if_they_make_sense() {
    let site = Site::new();
    let [_n1, n2, _n3] = site.three().await;
    let order = async |order| {
        let client = TestClient::connect(&site, &n2).await;
        soon(client.ask(Request::Repair(order))).await.result
    };
    let start = |partition| RepairOrder::Start { partition };
    for (given, trees, paused) in [
        (start(None), 256, false),
        (start(Some(PartitionId(255))), 1, false),
        (RepairOrder::Pause, 256, true),
        (RepairOrder::Resume, 256, false),
    ] {
        assert_eq!(order(given).await, Ok(Reply::Repair(RepairOrdered { trees, paused })), "{given:?}");
    }
    let orders = |shard: &Arc<Shard>| shard.counters().repair_orders;
    let all = || n2.switch.shards.all().iter().map(orders).collect::<Vec<_>>();
    eventually("each shard has been told", || all() == [4, 4]).await;
    let beyond = order(start(Some(PartitionId(256)))).await;
    let reason = "the ring has no partition 256: it has 0 to 255".to_owned();
    assert_eq!((beyond, all()), (Err(ApiError::BadRequest { reason }), vec![4, 4]));
}
