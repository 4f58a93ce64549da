//! What is acknowledged is there after a crash: of all nodes at once, at any moment, in the middle of a drain.

use std::time::Duration;

use dynkv::sim::{Step, World};
use rand::RngExt;

use crate::ask::{Asking, Expect, With, get, put};
use crate::plan::Plan;

/// Writes a few keys at random nodes, with all that is asked for in `dw`; returns those that were acknowledged.
fn write_some(world: &mut World, dw: u8, keys: u64) -> Vec<(String, String)> {
    let ids: Vec<(u64, String, String)> = (0..keys)
        .map(|id| {
            let node = world.rng.random_range(0..3);
            let (name, value) = (format!("k{id}"), format!("v{id}"));
            let put = put(&name, &value, u128::from(id) + 1).w(2).dw(dw);
            let pause = world.rng.random_range(0..200);
            world.run_for(Duration::from_micros(pause));
            (world.begin(node, put), name, value)
        })
        .collect();
    let pause = world.rng.random_range(0..2500);
    world.run_for(Duration::from_micros(pause));
    let acked = |id: &u64| world.answer(*id).is_some_and(|response| response.result.is_ok());
    ids.iter().filter(|(id, ..)| acked(id)).map(|(_, name, value)| (name.clone(), value.clone())).collect()
}

fn check_all(world: &mut World, acked: &[(String, String)], seed: u64) {
    (0..3).for_each(|node| world.start(node));
    world.settle();
    for (name, value) in acked {
        assert_eq!(
            &world.ask(0, get(name, 3)).found().values,
            std::slice::from_ref(value),
            "seed {seed}: {name} is lost"
        );
    }
}

#[test]
fn what_is_durably_acknowledged_survives_the_loss_of_all_power() {
    let mut acknowledged = 0;
    for seed in 1..=60 {
        let mut world = Plan::new(3).seed(seed).syncs(seed % 3 * 500).born();
        let acked = write_some(&mut world, 2, 8);
        acknowledged += acked.len();
        (0..3).for_each(|node| world.power_loss(node));
        check_all(&mut world, &acked, seed);
    }
    assert!(acknowledged > 100, "{acknowledged} writes say little");
}

#[test]
fn what_is_acknowledged_unsynced_survives_a_kill_of_all() {
    let mut acknowledged = 0;
    for seed in 1..=40 {
        let mut world = Plan::new(3).seed(seed).born();
        let acked = write_some(&mut world, 0, 8);
        acknowledged += acked.len();
        (0..3).for_each(|node| world.kill(node));
        check_all(&mut world, &acked, seed);
    }
    assert!(acknowledged > 100, "{acknowledged} writes say little");
}

/// The process dies at each step of a drain, and the power goes with it.
#[test]
fn a_death_in_the_middle_of_a_drain_loses_nothing_acknowledged() {
    for seed in 1..=60 {
        let mut world = Plan::new(3).seed(seed).syncs(seed / 9 % 3 * 500).born();
        let victim = (seed % 3) as usize;
        let step = [Step::Written, Step::Released, Step::Synced][(seed / 3 % 3) as usize];
        world.nodes[victim].die_after = Some(step);
        world.nodes[victim].dies_by_power = true;
        let acked = write_some(&mut world, 2, 8);
        (0..3).for_each(|node| world.power_loss(node));
        check_all(&mut world, &acked, seed);
    }
}

/// Unsynced acknowledgements do not survive a power loss: the harness can lose writes.
#[test]
fn the_disk_model_does_lose_what_is_not_synced() {
    let mut lost = 0;
    for seed in 1..=20 {
        let mut world = Plan::new(3).seed(seed).born();
        let acked = write_some(&mut world, 0, 8);
        (0..3).for_each(|node| world.power_loss(node));
        (0..3).for_each(|node| world.start(node));
        world.settle();
        for (name, _) in &acked {
            lost += usize::from(world.ask(0, get(name, 3)).found().values.is_empty());
        }
    }
    assert!(lost > 0, "a power loss that takes nothing proves nothing");
}
