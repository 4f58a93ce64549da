//! Scans: every key once, merged from R replicas, page by page.

use std::collections::BTreeMap;

use bytes::Bytes;
use dynkv::api::{self, ApiError, Deadline, Reply, Request};
use dynkv::quorum::Level;
use dynkv::sim::World;
use dynkv::types::{Bucket, PartitionId};

use crate::ask::{Asking, Expect, PATIENCE, With, delete, get, put};
use crate::plan::Plan;

fn scan(partition: u16, after: Option<Bytes>, prefix: &str, limit: u32, r: u8) -> api::Scan {
    api::Scan {
        bucket: Bucket::default(),
        partition: PartitionId(partition),
        after,
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        limit,
        keys_only: false,
        r: Some(Level::Number(r)),
        deadline: Deadline::after(PATIENCE, 0),
    }
}

/// The first page of a partition, from all its replicas.
pub fn page_of(partition: u16) -> Request {
    Request::Scan(scan(partition, None, "", 100, 3))
}

/// All that a scan of all partitions shows, by key, with its values.
fn scan_all(world: &mut World, node: usize, prefix: &str, limit: u32, r: u8) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for partition in 0..16 {
        let mut after = None;
        loop {
            let response = world.ask(node, Request::Scan(scan(partition, after.clone(), prefix, limit, r)));
            let Ok(Reply::Scan(page)) = response.result else { panic!("{response:?}") };
            assert!(page.items.len() <= limit as usize);
            let mut values = response.values.iter().map(|value| String::from_utf8(value.to_vec()).unwrap());
            for item in page.items {
                let shown = item.siblings.iter().filter(|sibling| sibling.len.is_some()).count();
                let name = String::from_utf8(item.key.as_bytes().to_vec()).unwrap();
                let twice = all.insert(name, values.by_ref().take(shown).collect());
                assert_eq!(twice, None, "a key is shown twice");
            }
            assert!(page.next.is_none() || page.next > after, "a scan goes on");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    all
}

#[test]
fn a_paged_scan_shows_every_key_once_and_no_deleted_one() {
    let mut world = Plan::new(5).born();
    let mut expected = BTreeMap::new();
    for id in 0..60u128 {
        let name = format!("{}-{id}", if id % 3 == 0 { "a" } else { "b" });
        let node = (id % 5) as usize;
        world.ask(node, put(&name, &format!("v{id}"), id + 1).w(3)).receipt();
        expected.insert(name.clone(), vec![format!("v{id}")]);
        if id % 4 == 0 {
            let found = world.ask(node, get(&name, 2)).found();
            world.ask(node, delete(&name, 1000 + id).w(3).after(found.context())).receipt();
            expected.remove(&name);
        }
    }
    world.ask(0, put("latest", "elsewhere", 5000).bucket("latest").w(3)).receipt();
    for limit in [1, 3, 1000] {
        assert_eq!(scan_all(&mut world, 0, "", limit, 2), expected);
    }
    expected.retain(|name, _| name.starts_with("a-"));
    assert_eq!(scan_all(&mut world, 3, "a-", 2, 3), expected);
}

/// Replicas hold different keys; each read at R shows what any of its R hold.
#[test]
fn a_scan_merges_what_the_replicas_hold() {
    let mut world = Plan::new(3).born();
    let mut expected = BTreeMap::new();
    for id in 0..30u128 {
        let away = (id % 3) as usize;
        let at = (away + 1) % 3;
        let name = format!("k{id}");
        world.isolate(away);
        world.ask(at, put(&name, "v", id + 1).w(2)).receipt();
        expected.insert(name, vec!["v".to_owned()]);
        world.mend();
        world.settle();
    }
    for (node, limit) in [(0, 2), (1, 7), (2, 1000)] {
        assert_eq!(scan_all(&mut world, node, "", limit, 2), expected);
    }
    world.kill(1);
    world.kill(2);
    let error = world.ask(0, Request::Scan(scan(0, None, "", 10, 2))).refused();
    assert!(matches!(error, ApiError::ReadTimeout { r: 2, .. }), "{error}");
}

#[test]
fn a_cursor_never_leads_out_of_its_partition() {
    let mut world = Plan::new(3).born();
    (0..40).for_each(|id| drop(world.ask(0, put(&format!("k{id}"), "v", id + 1).w(3)).receipt()));
    let one = world.ask(0, Request::Scan(scan(1, None, "", 1, 2)));
    let Ok(Reply::Scan(page)) = one.result else { panic!("{one:?}") };
    let cursor = page.next.expect("partition 1 holds more than one of 40 keys");
    for (partition, after) in [(3, cursor.clone()), (0, cursor), (3, Bytes::new())] {
        let error = world.ask(0, Request::Scan(scan(partition, Some(after), "", 10, 2))).refused();
        assert!(matches!(error, ApiError::BadRequest { .. }), "{error}");
    }
    for bad in [scan(16, None, "", 10, 2), scan(0, None, "", 0, 2), scan(0, None, "", 10, 4)] {
        assert!(matches!(world.ask(0, Request::Scan(bad)).refused(), ApiError::BadRequest { .. }));
    }
}

/// Neither the replicas' pages nor the answer outgrow what a frame's header may hold.
#[test]
fn pages_of_long_keys_fit_into_frames() {
    let mut plan = Plan::new(3);
    plan.partitions = 1;
    let mut world = plan.born();
    let names: Vec<String> = (0..150).map(|id| format!("{id}-{}", "k".repeat(1500))).collect();
    for (name, id) in names.iter().zip(1..) {
        world.ask(0, put(name, "v", id).w(3)).receipt();
    }
    let mut after = None;
    let mut seen = 0;
    loop {
        let response = world.ask(1, Request::Scan(scan(0, after, "", 1000, 2)));
        let Ok(Reply::Scan(page)) = response.result else { panic!("{response:?}") };
        seen += page.items.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, names.len());
}
