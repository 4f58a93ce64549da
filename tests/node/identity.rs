//! Who may speak as whom: restarts, copies of directories, lost disks, strangers.

use std::time::Duration;

use dynkv::api::RepairOrder;
use dynkv::message::HelloRefusal;
use dynkv::node::Fatal;
use dynkv::node::startup::Stored;
use dynkv::sim::{Disk, Weather, World};
use dynkv::types::Generation;

use crate::ask::{Asking, Expect, With, get, put};
use crate::exchange::{is_rebuilding, order};
use crate::faults::Befall;
use crate::plan::Plan;

fn refusal(world: &World, node: usize) -> Option<HelloRefusal> {
    match &world.nodes[node].fatal {
        Some(Fatal::Refused { reason, .. }) => Some(reason.clone()),
        _ => None,
    }
}

#[test]
fn a_restart_keeps_the_identity_and_raises_the_generation() {
    let mut world = Plan::new(3).born();
    let id = world.nodes[1].id();
    for (generation, fall) in [World::kill, World::power_loss, World::stop].into_iter().enumerate() {
        assert_eq!(world.nodes[1].generation(), Generation(generation as u64 + 1));
        fall(&mut world, 1);
        world.run_for(Duration::from_secs(1));
        world.start(1);
        world.settle();
        assert_eq!(world.nodes[1].id(), id);
    }
    assert_eq!(world.nodes[1].generation(), Generation(4));
    assert!(world.nodes.iter().all(|node| node.fatal.is_none()));
}

/// Trap 7: a restored backup, told by its generation; and it stays refused, however often it is started.
#[test]
fn an_old_copy_is_refused_for_good() {
    let mut world = Plan::new(3).born();
    let backup = world.nodes[1].disk.engine().backup(9);
    for _ in 0..2 {
        world.kill(1);
        world.start(1);
        world.settle();
    }
    world.kill(1);
    world.swap_disk(1, backup);
    for start in 0..6 {
        world.start(1);
        world.run_for(Duration::from_secs(2));
        let node = &world.nodes[1];
        assert!(node.process.is_none(), "start {start} of an old copy was let in");
        if start == 0 {
            // By whichever comes first: a hello refused, or gossip of the later run.
            assert!(node.fatal.is_some());
        } else {
            let said = node.start_error.clone().expect("it is not even started");
            assert!(said.contains("the data directory has been refused"), "{said}");
        }
    }
}

/// The generation is the same, but what gossip said to be on the disk is not there.
#[test]
fn an_old_copy_of_the_same_generation_is_told_by_its_batches() {
    let mut world = Plan::new(3).born();
    let backup = world.nodes[1].disk.engine().backup(9);
    for id in 0..20 {
        world.ask(1, put(&format!("k{id}"), "v", id + 1).w(3)).receipt();
    }
    world.run_for(Duration::from_secs(2));
    world.kill(1);
    world.swap_disk(1, backup);
    world.start(1);
    world.run_for(Duration::from_secs(2));
    assert!(matches!(refusal(&world, 1), Some(HelloRefusal::OldCopy { .. })), "{:?}", world.nodes[1].fatal);
}

/// Two processes on two copies of one directory.
#[test]
fn a_twin_is_refused_for_good() {
    let mut world = Plan::new(3).born();
    world.kill(1);
    let copy = world.nodes[1].disk.engine().backup(9);
    world.start(1);
    world.settle();
    let mut twin = Plan::new(3).node(1);
    twin.disk.swap(copy);
    twin.config.control.address = "10.0.0.9:7400".into();
    world.nodes.push(twin);
    for start in 0..4 {
        world.start(3);
        world.run_for(Duration::from_secs(2));
        assert!(world.nodes[3].process.is_none(), "start {start} of a twin was let in");
        assert!(world.nodes[1].process.is_some(), "the node itself goes on");
    }
}

#[test]
fn a_wiped_node_takes_its_slot_back_and_does_not_count_in_reads() {
    let mut world = Plan::new(3).born();
    let id = world.nodes[1].id();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.wipe(1);
    world.run_for(Duration::from_secs(1));
    world.start(1);
    order(&mut world, &[0, 1, 2], RepairOrder::Pause);
    world.settle();
    assert_eq!(world.nodes[1].id(), id);
    assert!(world.nodes[1].generation() > Generation(1));
    let status = world.nodes[0].process().control.status();
    assert!(status.members.iter().find(|member| member.node == id).unwrap().rebuilding);
    // One of the two others is away: the wiped one's "nothing" must not make the second reply.
    world.kill(2);
    let error = world.ask(0, get("k", 2).clone()).refused();
    assert!(error.to_string().contains("rebuilding"), "{error}");
    assert_eq!(world.ask(0, get("k", 1)).found().values, ["v"]);
    // It takes writes, and what it has is merged.
    world.ask(1, put("new", "v", 2).w(2)).receipt();
    assert_eq!(world.ask(1, get("new", 1)).found().values, ["v"]);
}

/// Its peers have granted different generations to the lost disk; none of that ends the new one's process.
#[test]
fn a_wiped_node_rises_above_what_any_peer_has_granted() {
    for seed in 1..=10 {
        let mut world = Plan::new(5).seed(seed).born();
        // Nodes 2 to 4 meet runs that the others have missed.
        for absent in [0, 3] {
            world.kill(1);
            world.cut(1, absent);
            world.run_for(Duration::from_secs(4));
            world.start(1);
            world.run_for(Duration::from_secs(1));
        }
        world.wipe(1);
        world.mend();
        world.run_for(Duration::from_secs(4));
        world.start(1);
        world.settle();
        assert_eq!(world.nodes[1].fatal, None, "seed {seed}");
        let risen = &world.nodes[1];
        for peer in world.nodes.iter().filter(|peer| peer.config.name != risen.config.name) {
            let granted = Stored::load(&**peer.disk.engine()).unwrap().grants[&risen.id()].generation;
            assert_eq!(granted, risen.generation(), "all have granted the run that it has become");
        }
        world.kill(0);
        world.run_for(Duration::from_secs(1));
        world.start(0);
        world.settle();
        assert!(world.nodes.iter().all(|node| node.fatal.is_none()), "seed {seed}");
    }
}

/// What gossip says of the lost disk is not held against the new one.
#[test]
fn a_new_disk_is_not_measured_by_the_old_ones_batches() {
    let mut world = Plan::new(3).born();
    for id in 0..50 {
        world.ask(0, put(&format!("k{id}"), "v", id + 1).w(3)).receipt();
    }
    world.run_for(Duration::from_secs(1));
    world.wipe(1);
    world.start(1);
    world.settle();
    world.kill(1);
    world.run_for(Duration::from_secs(1));
    world.start(1);
    world.settle();
    assert_eq!(world.nodes[1].fatal, None);
}

/// The disk that was replaced comes back.
#[test]
fn the_lost_disk_is_refused_for_good_once_a_new_one_has_its_place() {
    let mut world = Plan::new(3).born();
    let old = world.nodes[1].disk.engine().backup(9);
    world.wipe(1);
    world.start(1);
    world.settle();
    world.kill(1);
    world.swap_disk(1, old);
    for start in 0..6 {
        world.start(1);
        world.run_for(Duration::from_secs(2));
        assert!(world.nodes[1].process.is_none(), "start {start} of the old disk was let in");
    }
}

/// A replacement that was itself replaced comes back, rebuilt as it was: of two disks the one that took the place of the other
/// stays.
#[test]
fn a_replaced_replacement_is_refused_too() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.wipe(1);
    world.start(1);
    world.settle();
    world.run_for(Duration::from_secs(10));
    assert!(!is_rebuilding(&world, 1), "the second disk is as good as the first");
    let second = world.nodes[1].disk.engine().backup(9);
    world.wipe(1);
    world.start(1);
    world.settle();
    world.run_for(Duration::from_secs(10));
    assert!(!is_rebuilding(&world, 1));
    let third = world.nodes[1].disk.engine().backup(10);
    world.kill(1);
    world.swap_disk(1, second);
    for start in 0..6 {
        world.start(1);
        world.run_for(Duration::from_secs(2));
        assert!(world.nodes[1].process.is_none(), "start {start} of the second disk was let in");
    }
    world.swap_disk(1, third);
    world.start(1);
    world.settle();
    assert_eq!(world.nodes[1].fatal, None);
    assert_eq!(world.ask(1, get("k", 2)).found().values, ["v"]);
}

#[test]
fn another_clusters_node_is_refused() {
    let mut world = Plan::new(3).born();
    let mut other = Plan::new(3).seed(77).born();
    other.kill(1);
    let stranger = other.nodes[1].disk.engine().backup(3);
    world.kill(1);
    world.swap_disk(1, stranger);
    world.start(1);
    world.run_for(Duration::from_secs(2));
    assert!(matches!(refusal(&world, 1), Some(HelloRefusal::OtherCluster { .. })), "{:?}", world.nodes[1].fatal);
    assert!(world.nodes[0].process.is_some() && world.nodes[2].process.is_some(), "a stranger's word ends nobody else");
}

#[test]
fn a_directory_of_another_name_does_not_start() {
    let mut world = Plan::new(3).born();
    world.kill(1);
    world.nodes[1].config.name = "n9".into();
    world.start(1);
    let error = world.nodes[1].start_error.clone().unwrap();
    assert!(error.contains("belongs to node \"n1\"") || error.contains("belongs to node \"n2\""), "{error}");
}

/// A process that hears of a later run of its own directory is the older one, and ends.
#[test]
fn the_older_of_two_processes_ends() {
    let mut world = Plan::new(3).born();
    world.network.weather = Weather { delay: (100, 5_000), ..Weather::default() };
    // The process hangs; the operator starts another on the same disk.
    let hung = world.nodes[1].process.take().unwrap();
    world.end(1);
    let run = world.nodes[1].run;
    world.start(1);
    world.settle();
    let mut old = Plan::new(3).node(1);
    old.config.control.address = "10.0.0.9:7400".into();
    old.run = run + 100;
    old.process = Some(hung);
    world.nodes.push(old);
    world.hear_of_a_later_run(3, 1);
    assert!(matches!(world.nodes[3].fatal, Some(Fatal::Superseded { .. })), "{:?}", world.nodes[3].fatal);
    assert!(world.nodes[1].process.is_some());
}

/// It has written its first run down, and holds nothing yet.
#[test]
fn a_new_disk_whose_process_was_killed_before_it_met_anybody_takes_its_place() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.wipe(1);
    world.isolate(1);
    world.start(1);
    world.run_for(Duration::from_secs(1));
    world.kill(1);
    world.start(1);
    world.mend();
    world.settle();
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.nodes[1].fatal, None);
    assert!(!is_rebuilding(&world, 1));
}
