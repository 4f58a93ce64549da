//! Traces by a real clock.

use super::Site;
use super::client::{TestClient, get, put};
use crate::api::{Request, Role, SpanOutcome};

fn traced(mut request: Request) -> Request {
    match &mut request {
        Request::Get(get) => get.trace = true,
        Request::Put(put) => put.header.trace = true,
        _ => unreachable!("only gets and puts are traced"),
    }
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phases_are_dated_in_their_order() {
    let site = Site::new();
    let server = site.single(&[]).await;
    let client = TestClient::connect(&site, &server).await;
    let requests = [put("key", "value"), traced(put("key", "other")), get("key"), traced(get("key"))];
    let traces: Vec<_> = client.ask_all(&requests).await.into_iter().map(|response| response.trace).collect();
    let [None, Some(write), None, Some(read)] = &traces[..] else { panic!("who asks is told: {traces:?}") };
    let phases = [Some(write.queued_us), write.store_us, write.written_us, write.synced_us, Some(write.answered_us)];
    assert!(phases.iter().all(Option::is_some) && phases.is_sorted(), "{write:?}");
    assert!(write.answered_us > write.queued_us, "the clock goes on: {write:?}");
    assert!(read.store_us.is_some() && read.written_us.is_none(), "{read:?}");
    for trace in [write, read] {
        let [own] = &trace.spans[..] else { panic!("there is one node: {trace:?}") };
        assert_eq!((own.role, own.node, &own.outcome), (Role::Own, trace.coordinator, &Some(SpanOutcome::Counted)));
        assert!(own.answered_us.is_some_and(|us| us <= trace.answered_us), "{own:?}");
    }
}
