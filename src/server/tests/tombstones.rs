//! What an operator sees of tombstones.

use bytes::Bytes;

use super::client::{TestClient, deadline, put, receipt};
use super::{Site, soon};
use crate::api::{Put, PutHeader, Reply, Request, TombstoneOrder, TombstoneStats};
use crate::quorum::Level;
use crate::types::{Bucket, Key, WriteId};

/// A delete on all nodes.
fn delete(key: &str, context: Bytes) -> Request {
    let header = PutHeader::new(Bucket::default(), Key::new(key.to_owned()).unwrap(), WriteId(rand::random()));
    let (context, w) = (Some(context), Some(Level::All));
    Request::Put(Put { header: PutHeader { context, delete: true, w, deadline: deadline(), ..header }, value: None })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_shards_tell_what_waits_and_the_answer_is_one() {
    let site = Site::new();
    let [n1, n2, _n3] = site.three().await;
    let stats = async |requests: usize| -> Vec<TombstoneStats> {
        let client = TestClient::connect(&site, &n2).await;
        let asked = vec![Request::Tombstones(TombstoneOrder::Stats); requests];
        let told = soon(client.ask_all(&asked)).await.into_iter().map(|response| match response.result {
            Ok(Reply::Tombstones(stats)) => *stats,
            other => panic!("{other:?}"),
        });
        told.collect()
    };
    // nodes find each other in their own time
    let meeting = async {
        while stats(1).await != [TombstoneStats::default()] {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    soon(meeting).await;
    for nth in 0..20 {
        let key = format!("key {nth}");
        let client = TestClient::connect(&site, &n1).await;
        let written = receipt(client.ask(put(&key, "value")).await);
        if nth < 15 {
            let client = TestClient::connect(&site, &n1).await;
            receipt(client.ask(delete(&key, written.context)).await);
        }
    }
    for told in stats(3).await {
        assert_eq!((told.count, told.ages, told.incomplete, told.unreadable), (15, [15, 0, 0, 0, 0], None, 0));
        let shares = told.runners.iter().map(|share| share.count).sum::<u64>();
        assert_eq!((shares, told.waits.iter().map(|wait| wait.count).sum::<u64>()), (15, 15));
        for share in &told.runners {
            let is_asked = share.node == n2.status().node;
            assert_eq!((share.is_asked, share.name == "n2"), (is_asked, is_asked));
        }
        assert!(told.waits.iter().all(|wait| wait.reason.contains(" runs the rounds of ")), "{:?}", told.waits);
    }
}
