//! Waits until the cluster has healed: all nodes whole, hints delivered, replicas identical.

use std::time::Duration;

use dynkv::api::Holding;
use dynkv::client::{Client, WhereResult};
use dynkv::types::Bucket;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::load::{Record, key_of};
use super::node::Place;
use super::watch;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// Keys that are asked for at one time.
const AT_ONCE: usize = 32;
/// Keys that differ and are named.
const NAMED: usize = 5;

/// How the cluster healed; times from the last fault's end. None: not within the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// When all nodes served, and saw all others.
    pub whole: Option<Duration>,
    /// When all nodes said that they keep no hints.
    pub drained: Option<Duration>,
    /// Hints that were left, as far as nodes say.
    pub hints: u64,
    /// When all replicas of all keys were identical.
    pub identical: Option<Duration>,
    /// How many keys were not.
    pub differing: usize,
    /// Some of them, and what their replicas hold.
    pub examples: Vec<String>,
}

/// Looks again and again until all is well, or `limit` is over; `healed` is when the last fault ended, by the record's clock.
pub async fn settle(
    places: &[Place],
    client: &Client,
    keys: &[String],
    record: &Record,
    healed: Duration,
    limit: Duration,
) -> Settled {
    let mut settled = Settled::default();
    let mut open = keys.to_vec();
    loop {
        let now = || record.elapsed().saturating_sub(healed);
        let statuses = statuses(places).await;
        if statuses.iter().all(|status| status.as_ref().is_some_and(watch::is_whole)) {
            settled.whole.get_or_insert(now());
        }
        let hints: Vec<u64> = statuses.iter().flatten().filter_map(watch::hints_of).collect();
        settled.hints = hints.iter().sum();
        if settled.hints == 0 && hints.len() == places.len() {
            settled.drained.get_or_insert(now());
        }
        (open, settled.examples) = differing(client, open).await;
        settled.differing = open.len();
        if open.is_empty() {
            settled.identical.get_or_insert(now());
        }
        let done = [settled.whole, settled.drained, settled.identical].iter().all(Option::is_some);
        if done || now() >= limit {
            return settled;
        }
        sleep(LOOK).await;
    }
}

async fn statuses(places: &[Place]) -> Vec<Option<serde_json::Value>> {
    let mut statuses = Vec::with_capacity(places.len());
    for place in places {
        statuses.push(watch::status(place).await);
    }
    statuses
}

/// The keys whose replicas are not all identical, and what those of some of them hold. Nobody writes any more: what has
/// become identical stays so.
async fn differing(client: &Client, keys: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut differing, mut examples) = (Vec::new(), Vec::new());
    ask_for(client, keys, |key, holdings| {
        if !are_identical(&holdings) {
            if examples.len() < NAMED {
                examples.push(format!("{key}: {}", describe(&holdings)));
            }
            differing.push(key);
        }
    })
    .await;
    (differing, examples)
}

/// Tells what the replicas of each of these keys hold, one entry a replica, in no order of keys.
pub async fn ask_for(client: &Client, keys: Vec<String>, mut tell: impl FnMut(String, Vec<Holding>)) {
    let mut waiting = keys.into_iter();
    let mut asked = JoinSet::new();
    loop {
        while asked.len() < AT_ONCE
            && let Some(key) = waiting.next()
        {
            let client = client.clone();
            asked.spawn(async move {
                let found = client.where_is(&Bucket::default(), &key_of(&key)).await;
                (key, found)
            });
        }
        let Some(answer) = asked.join_next().await else { break };
        let (key, found) = answer.expect("asking for a key does not panic");
        let holdings = match found {
            Ok(WhereResult { reply, .. }) => reply.slots.into_iter().map(|(_, holding)| holding).collect(),
            Err(error) => vec![Holding::NoAnswer { reason: error.to_string() }],
        };
        tell(key, holdings);
    }
}

/// Whether all replicas hold the same, be it nothing; one that does not answer differs.
pub fn are_identical(holdings: &[Holding]) -> bool {
    let digest = |holding: &Holding| match holding {
        Holding::Nothing => Some(String::new()),
        Holding::Version { digest, .. } => Some(digest.clone()),
        Holding::NoAnswer { .. } => None,
    };
    let first = holdings.first().and_then(digest);
    first.is_some() && holdings.iter().all(|holding| digest(holding) == first)
}

fn describe(holdings: &[Holding]) -> String {
    let one = |holding: &Holding| match holding {
        Holding::Nothing => "nothing".to_owned(),
        Holding::Version { digest, siblings } => format!("{:.8} ({} siblings)", digest, siblings.len()),
        Holding::NoAnswer { reason } => format!("no answer ({reason})"),
    };
    holdings.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_identical_if_all_answer_and_hold_the_same() {
        let version = |digest: &str| Holding::Version { digest: digest.to_owned(), siblings: Vec::new() };
        let silent = || Holding::NoAnswer { reason: "away".to_owned() };
        assert!(are_identical(&[version("a"), version("a")]));
        assert!(are_identical(&[Holding::Nothing, Holding::Nothing]));
        for holdings in
            [vec![version("a"), version("b")], vec![version("a"), Holding::Nothing], vec![silent(), silent()], vec![]]
        {
            assert!(!are_identical(&holdings), "{}", describe(&holdings));
        }
    }
}
