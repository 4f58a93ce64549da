use super::*;
use crate::sim::schedule::{FaultEvent, Operation};

fn drawn() -> Schedule {
    let spacious = |schedule: &Schedule| schedule.cluster.shards.len() >= 5 && schedule.faults.len() >= 8;
    let mut seeds = (1..).map(|seed| Schedule::draw(seed, Duration::from_secs(60)));
    seeds.find(spacious).unwrap()
}

/// Whether the salts of the operations hold these, in this order.
fn in_order(schedule: &Schedule, salts: &[u32]) -> bool {
    let mut rest = schedule.operations.iter();
    salts.iter().all(|salt| rest.any(|operation| operation.salt == *salt))
}

fn struck(schedule: &Schedule, event: &FaultEvent) -> bool {
    schedule.faults.iter().any(|other| other.fault == event.fault)
}

/// Counts runs, and that what comes back has failed.
#[track_caller]
fn shrunk(schedule: &Schedule, budget: usize, fails: impl Fn(&Schedule) -> bool) -> (Schedule, usize) {
    assert!(fails(schedule));
    let mut runs = 0;
    let small = shrink(schedule, budget, &mut |candidate| {
        runs += 1;
        fails(candidate)
    });
    assert!(fails(&small), "what does not fail came back");
    assert!(runs <= budget, "{runs} runs of {budget}");
    (small, runs)
}

#[test]
fn two_faults_and_three_operations_are_what_is_left() {
    let schedule = drawn();
    let (first, last) = (schedule.faults[2], schedule.faults[7]);
    let picked: Vec<Operation> = [40, 300, 555].map(|index: usize| schedule.operations[index]).to_vec();
    let salts: Vec<u32> = picked.iter().map(|operation| operation.salt).collect();
    let (small, _) = shrunk(&schedule, 10_000, |schedule| {
        struck(schedule, &first) && struck(schedule, &last) && in_order(schedule, &salts)
    });
    let faults: Vec<_> = small.faults.iter().map(|event| event.fault).collect();
    assert_eq!(faults, [first.fault, last.fault]);
    assert_eq!(small.operations.iter().map(|operation| operation.salt).collect::<Vec<_>>(), salts);
    assert_eq!(small.cluster.shards, [1; FEWEST_NODES]);
    assert_eq!(small.cluster.drift_ppm, [0; FEWEST_NODES]);
    assert_eq!((small.cluster.clients, small.cluster.miss_probability), (1, 0.0));
    assert_eq!(small.cluster.buggify, Buggify::default());
    assert_eq!((small.cluster.birth_kills, small.cluster.last_blackout), (0, false));
    assert!(small.operations.iter().all(|operation| operation.client == 0));
    assert!(small.faults.iter().all(|event| event.lasts <= SHORT));
    assert!(small.span <= SHORT * 6, "{:?}", small.span);
}

#[test]
fn four_nodes_and_two_clients_stay_where_they_are_needed() {
    let schedule = drawn();
    let (small, _) = shrunk(&schedule, 10_000, |schedule| {
        let mut clients = schedule.operations.iter().map(|operation| operation.client);
        let first = clients.next();
        schedule.cluster.shards.len() >= 4 && clients.any(|client| Some(client) != first)
    });
    assert_eq!(small.cluster.shards, [1; 4]);
    assert_eq!(small.cluster.drift_ppm.len(), 4);
    assert!(small.faults.is_empty());
    assert_eq!(small.operations.len(), 2);
    assert_eq!(small.cluster.clients, 2);
    assert!(small.operations.iter().all(|operation| operation.client < 2));
}

#[test]
fn time_stays_where_it_is_needed() {
    let schedule = drawn();
    let second = Duration::from_secs(1);
    let (small, _) = shrunk(&schedule, 10_000, |schedule| {
        let waits = schedule.operations.windows(2).any(|pair| pair[1].at >= pair[0].at + second / 25);
        waits && schedule.faults.iter().any(|event| event.lasts >= second / 10 && event.at > second)
    });
    assert_eq!((small.faults.len(), small.operations.len()), (1, 2));
    assert!(small.faults[0].lasts < second / 5);
    assert!(small.operations[1].at - small.operations[0].at < second / 12);
    assert!(small.span < second * 3, "{:?}", small.span);
    let shown = small.faults[0].at.max(small.operations[1].at);
    assert!(small.span > shown, "the run ends behind its last event");
}

#[test]
fn a_budget_is_kept_and_an_exhausted_one_returns_what_failed() {
    let schedule = drawn();
    let salt = schedule.operations[100].salt;
    let fails = |schedule: &Schedule| in_order(schedule, &[salt]);
    assert_eq!(shrunk(&schedule, 0, fails), (schedule.clone(), 0));
    for budget in [1, 7, 30] {
        let (small, runs) = shrunk(&schedule, budget, fails);
        assert_eq!(runs, budget);
        assert!(small.operations.len() <= schedule.operations.len());
    }
}

#[test]
fn what_nothing_makes_smaller_comes_back_as_it_was() {
    let schedule = drawn();
    let (same, _) = shrunk(&schedule, 20_000, |candidate| *candidate == schedule);
    assert_eq!(same, schedule);
}

#[test]
fn events_keep_their_order_when_they_move() {
    let mut schedule = drawn();
    let order = |schedule: &Schedule| {
        let mut events: Vec<(Duration, String)> = Vec::new();
        events.extend(schedule.faults.iter().map(|event| (event.at, format!("{:?}", event.fault))));
        events.extend(schedule.operations.iter().map(|operation| (operation.at, operation.salt.to_string())));
        events.sort_by_key(|(at, _)| *at);
        events.into_iter().map(|(_, what)| what).collect::<Vec<_>>()
    };
    let before = order(&schedule);
    let (events, span) = (times(&schedule).len(), schedule.span);
    move_events(&mut schedule, |_, _| MOMENT);
    assert_eq!(order(&schedule), before);
    assert_eq!(times(&schedule).len(), events);
    assert!(schedule.span < span / 2);
}
