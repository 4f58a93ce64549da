//! Puts, gets and deletes, and what is refused.

use dynkv::api::ApiError;

use crate::ask::{Asking, Expect, With, delete, get, get_of, put};
use crate::plan::Plan;

#[test]
fn what_is_put_is_got_at_every_node() {
    let mut world = Plan::new(5).born();
    for node in 0..5 {
        let name = format!("key-{node}");
        let receipt = world.ask(node, put(&name, "value", node as u128 + 1).w(3)).receipt();
        assert_eq!((receipt.acks.len(), receipt.n, receipt.w), (3, 3, 3));
        assert!(receipt.acks.iter().all(|ack| ack.synced));
        for reader in 0..5 {
            assert_eq!(world.ask(reader, get(&name, 2)).found().values, ["value"]);
        }
    }
    assert!(world.ask(0, get("never written", 2)).found().reply.siblings.is_empty());
}

#[test]
fn a_receipt_tells_the_synced_from_the_buffered() {
    let mut world = Plan::new(3).born();
    let buffered = world.ask(0, put("k", "v", 1).w(3).dw(0)).receipt();
    assert!(buffered.acks.iter().all(|ack| !ack.synced));
    // One copy on disk is the coordinator's own.
    let one = world.ask(0, put("k", "w", 2).w(3).dw(1)).receipt();
    let synced: Vec<_> = one.acks.iter().filter(|ack| ack.synced).map(|ack| ack.node).collect();
    assert_eq!(synced, [world.nodes[0].id()]);
}

#[test]
fn two_blind_puts_are_siblings_and_one_context_resolves_them() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "a", 1).w(3)).receipt();
    world.ask(1, put("k", "b", 2).w(3)).receipt();
    let both = world.ask(2, get("k", 2)).found();
    let mut values = both.values.clone();
    values.sort();
    assert_eq!(values, ["a", "b"]);
    let receipt = world.ask(2, put("k", "both", 3).w(3).after(both.context())).receipt();
    assert_eq!(world.ask(0, get("k", 2)).found().values, ["both"]);
    world.ask(0, put("k", "next", 4).w(3).after(&receipt.context)).receipt();
    assert_eq!(world.ask(1, get("k", 2)).found().values, ["next"]);
}

/// Trap 11: what a put hands back covers no sibling that its writer was not shown.
#[test]
fn the_context_of_a_put_covers_nothing_unseen() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "unseen", 1).w(3)).receipt();
    let blind = world.ask(0, put("k", "mine", 2).w(3)).receipt();
    world.ask(0, put("k", "mine again", 3).w(3).after(&blind.context)).receipt();
    let mut values = world.ask(1, get("k", 3)).found().values;
    values.sort();
    assert_eq!(values, ["mine again", "unseen"]);
}

#[test]
fn a_delete_with_context_leaves_a_tombstone_and_no_value() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "a", 1).w(3)).receipt();
    let found = world.ask(0, get("k", 2)).found();
    world.ask(1, delete("k", 2).w(3).after(found.context())).receipt();
    let after = world.ask(2, get("k", 2)).found();
    assert_eq!((after.values.len(), after.reply.siblings.len()), (0, 1));
    assert_eq!(after.reply.siblings[0].len, None);
}

#[test]
fn contexts_of_other_keys_and_clusters_are_refused() {
    let mut world = Plan::new(3).born();
    let here = world.ask(0, put("k", "a", 1)).receipt().context;
    let mut plan = Plan::new(1);
    plan.shard.secret = [8; 32];
    let foreign = plan.born().ask(0, put("k", "a", 1)).receipt().context;
    let mut corrupt = here.to_vec();
    corrupt[5] ^= 1;
    for bad in [foreign, corrupt.into(), here.slice(..here.len() - 1), bytes::Bytes::new()] {
        let error = world.ask(0, put("k", "b", 2).after(&bad)).refused();
        assert!(matches!(error, ApiError::BadContext { .. }), "{error}");
    }
    let error = world.ask(0, put("other", "b", 2).after(&here)).refused();
    assert!(matches!(error, ApiError::BadContext { .. }), "{error}");
    assert_eq!(world.ask(0, get("k", 3)).found().values, ["a"]);
}

#[test]
fn nonsense_is_refused_and_nothing_is_done() {
    let mut world = Plan::new(3).born();
    let refusals = [
        world.ask(0, put("k", "a", 1).w(4)).refused(),
        world.ask(0, put("k", "a", 1).pw(4)).refused(),
        world.ask(0, put("k", "a", 1).dw(4)).refused(),
        world.ask(0, get("k", 4)).refused(),
    ];
    for error in refusals {
        assert!(matches!(&error, ApiError::BadRequest { reason } if reason.contains("= 4 is out of range")), "{error}");
    }
    let error = world.ask(0, put("k", "a", 1).bucket("nowhere")).refused();
    assert_eq!(error, ApiError::UnknownBucket { bucket: "nowhere".into(), known: "default, latest".into() });
    let error = world.ask(0, put("k", &"x".repeat(4097), 1)).refused();
    assert_eq!(error, ApiError::ValueTooLarge { len: 4097, max: 4096 });
    assert!(world.ask(0, get("k", 3)).found().reply.siblings.is_empty());
}

#[test]
fn a_last_write_wins_bucket_shows_one_value() {
    let mut world = Plan::new(3).born();
    world.nodes[1].clocks.wall_ahead_ms = 60_000;
    world.ask(1, put("k", "ahead", 1).bucket("latest").w(3)).receipt();
    world.ask(0, put("k", "later", 2).bucket("latest").w(3)).receipt();
    let found = world.ask(2, get_of("latest", "k", 3)).found();
    assert_eq!(found.values, ["later"], "a slow clock does not lose to what it supersedes");
}

#[test]
fn too_many_siblings_are_refused_until_they_are_resolved() {
    let mut plan = Plan::new(3);
    plan.shard.max_siblings = 3;
    let mut world = plan.born();
    for id in 1..=3 {
        world.ask(0, put("k", "blind", id).w(3)).receipt();
    }
    let error = world.ask(0, put("k", "blind", 4).w(3)).refused();
    assert_eq!(error, ApiError::TooManySiblings { count: 4, max: 3 });
    let found = world.ask(0, get("k", 3)).found();
    world.ask(0, put("k", "one", 5).w(3).after(found.context())).receipt();
    assert_eq!(world.ask(0, get("k", 3)).found().values, ["one"]);
}
