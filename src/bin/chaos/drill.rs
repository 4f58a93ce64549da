//! The hints drill: hints by the hundred thousand are made while one node is away, and delivered when it is back. Then once more,
//! while the node that holds most of them is killed half-way, and their target after three quarters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dynkv::api::Holding;
use dynkv::client::{Client, PutOptions};
use dynkv::quorum::Level;
use dynkv::types::Bucket;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::args::Args;
use super::cluster::{Cluster, Equipment};
use super::effect::Effects;
use super::load::key_of;
use super::report::Report;
use super::sabotage::Sabotage;
use super::scenario::NODES;
use super::settle::{are_identical, ask_for};
use super::verdict::Check;
use super::watch;

/// Who hints are for.
const TARGET: usize = NODES - 1;
/// The time for 100,000 hints, and for any smaller number.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// When a drill is given up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Writes under way at one time.
const AT_ONCE: usize = 256;
/// Writes between two looks at how many hints there are.
const STRETCH: u64 = 5_000;
/// Three of five nodes hold a key: of so many writes for each hint that is wanted, enough miss the target.
const WRITES_A_HINT: u64 = 3;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// For how long one that is killed has no process.
const DEAD: Duration = Duration::from_secs(1);
const VALUE: [u8; 100] = [b'v'; 100];

/// Makes both rounds. An error is a failure as well.
pub async fn run(args: &Args) -> Result<Report> {
    let started = Instant::now();
    let equipment =
        Equipment { program: args.program()?, small_disk: false, clocks: false, seed: args.seed, keep: args.keep };
    let effects = Arc::new(Effects::default());
    let cluster = Cluster::start(&equipment, effects.clone()).await.context("starting the cluster")?;
    let client = Client::connect(cluster.client_config()).await.context("connecting")?;
    let mut drill = Drill { cluster, effects, client, wanted: args.hints, sabotage: args.sabotage };
    let mut checks = Vec::new();
    for disturbed in [false, true] {
        let round = drill.round(disturbed).await?;
        drill.judge(&round, &mut checks);
    }
    drill.client.close().await;
    drill.cluster.check()?;
    let Drill { effects, .. } = drill;
    Ok(Report {
        name: args.scenario.name(),
        seed: args.seed,
        checks,
        clients: None,
        effects: effects.counts(),
        took: started.elapsed(),
    })
}

struct Drill {
    cluster: Cluster,
    effects: Arc<Effects>,
    client: Client,
    /// Hints of a round.
    wanted: u64,
    sabotage: Option<Sabotage>,
}

/// What was seen in a round.
#[derive(Debug)]
struct Round {
    disturbed: bool,
    /// Hints that all nodes together held when their target came back.
    hints: u64,
    /// How long it took to deliver them, from the start of the target's process; none if it was given up.
    delivered: Option<Duration>,
    /// Hints that were left when each of the two was killed.
    killed_at: Vec<u64>,
    keys: u64,
    /// Acknowledged writes that a replica does not hold.
    lost: Vec<String>,
}

impl Drill {
    async fn round(&mut self, disturbed: bool) -> Result<Round> {
        let pretends = self.sabotage == Some(Sabotage::NoFault);
        if !pretends {
            self.kill(TARGET)?;
            self.wait_until_down().await?;
        }
        let prefix = if disturbed { "disturbed" } else { "calm" };
        let (keys, hints) = self.make_hints(prefix).await?;
        eprintln!("dynkv-chaos: {hints} hints of {keys} writes are kept, {prefix} delivery");
        let back = Instant::now();
        self.cluster.start_node(TARGET)?;
        let (mut killed_at, mut delivered) = (Vec::new(), None);
        while delivered.is_none() && back.elapsed() < PATIENCE {
            // until all answer, nobody knows how many are left
            let held: Option<Vec<u64>> = self.hints_held().await.into_iter().collect();
            let left = held.as_ref().map(|held| held.iter().sum());
            match (held, left) {
                (Some(_), Some(0)) => delivered = Some(back.elapsed()),
                (Some(held), Some(left))
                    if disturbed && killed_at.len() < 2 && left <= hints >> (1 + killed_at.len()) =>
                {
                    let most = (0..NODES).max_by_key(|node| held[*node]).expect("there are nodes");
                    self.strike(if killed_at.is_empty() { most } else { TARGET }).await?;
                    killed_at.push(left);
                }
                _ => sleep(LOOK).await,
            }
        }
        let mut names: Vec<String> = (0..keys).map(|number| name(prefix, number)).collect();
        if self.sabotage == Some(Sabotage::LoseWrite) {
            names.push(name(prefix, keys));
        }
        let lost = self.missing(names).await?;
        Ok(Round { disturbed, hints, delivered, killed_at, keys, lost })
    }

    /// The keys that a replica does not hold, or holds in another version.
    async fn missing(&self, keys: Vec<String>) -> Result<Vec<String>> {
        let since = Instant::now();
        let (mut missing, mut open) = (Vec::new(), keys);
        while !open.is_empty() {
            let mut unanswered = Vec::new();
            ask_for(&self.client, open, |key, holdings| {
                if holdings.iter().any(|holding| matches!(holding, Holding::NoAnswer { .. })) {
                    unanswered.push(key);
                } else if holdings.contains(&Holding::Nothing) || !are_identical(&holdings) {
                    missing.push(key);
                }
            })
            .await;
            open = unanswered;
            ensure!(open.is_empty() || since.elapsed() < PATIENCE, "replicas of {} keys do not answer", open.len());
            sleep(LOOK).await;
        }
        Ok(missing)
    }

    fn judge(&self, round: &Round, checks: &mut Vec<Check>) {
        let Round { disturbed, hints, delivered, killed_at, keys, lost } = round;
        let [made, soon, none] = if *disturbed {
            ["hints to deliver once more", "delivered though both ends are killed", "none lost on that way"]
        } else {
            ["hints to deliver", "delivered within 60 s", "none lost"]
        };
        checks.push(Check::new(made, *hints >= self.wanted, format!("{hints} of {} wanted", self.wanted)));
        let took = delivered.map_or("never".to_owned(), |took| format!("after {:.1} s", took.as_secs_f64()));
        let in_time = delivered.is_some_and(|took| took <= DELIVERED_WITHIN);
        checks.push(Check::new(soon, in_time, took));
        if *disturbed {
            let struck = killed_at.len() == 2 && killed_at.iter().all(|left| *left > 0);
            let seen = format!("hints that were left when they were killed: {killed_at:?}");
            checks.push(Check::new("holder and target killed on the way", struck, seen));
        }
        let examples: Vec<&str> = lost.iter().take(5).map(String::as_str).collect();
        let seen = format!("{} of {keys} acknowledged writes are not with all replicas {examples:?}", lost.len());
        checks.push(Check::new(none, lost.is_empty(), seen));
    }

    /// Writes new keys to all three places of each until so many hints are kept; how many keys, how many hints.
    async fn make_hints(&self, prefix: &str) -> Result<(u64, u64)> {
        let mut keys = 0;
        loop {
            let until = keys + STRETCH.min(self.wanted);
            self.write(prefix, keys..until).await?;
            keys = until;
            let hints = self.hints_held().await.into_iter().flatten().sum();
            if hints >= self.wanted || keys >= self.wanted * WRITES_A_HINT {
                return Ok((keys, hints));
            }
        }
    }

    async fn write(&self, prefix: &str, numbers: std::ops::Range<u64>) -> Result<()> {
        let mut waiting = numbers;
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(number) = waiting.next()
            {
                let (client, key) = (self.client.clone(), key_of(&name(prefix, number)));
                under_way.spawn(async move {
                    let options = PutOptions { w: Some(Level::All), ..PutOptions::default() };
                    client.put(&Bucket::default(), &key, VALUE.as_slice().into(), options).await
                });
            }
            let Some(written) = under_way.join_next().await else { return Ok(()) };
            written.context("a write does not panic")?.context("writing while one node of five is away")?;
        }
    }

    /// By node; none for one that does not answer.
    async fn hints_held(&self) -> Vec<Option<u64>> {
        let mut held = Vec::with_capacity(NODES);
        for node in &self.cluster.nodes {
            held.push(watch::status(&node.place).await.as_ref().and_then(watch::hints_of));
        }
        held
    }

    async fn wait_until_down(&self) -> Result<()> {
        let since = Instant::now();
        for (index, node) in self.cluster.nodes.iter().enumerate().filter(|(index, _)| *index != TARGET) {
            while !watch::status(&node.place).await.as_ref().is_some_and(watch::names_one_down) {
                ensure!(
                    since.elapsed() < DELIVERED_WITHIN,
                    "n{} does not notice that n{} is dead",
                    index + 1,
                    TARGET + 1
                );
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn strike(&mut self, node: usize) -> Result<()> {
        if self.sabotage != Some(Sabotage::NoFault) {
            self.kill(node)?;
            sleep(DEAD).await;
        }
        self.cluster.start_node(node)
    }

    fn kill(&mut self, node: usize) -> Result<()> {
        self.cluster.nodes[node].signal(Signal::KILL)?;
        self.cluster.nodes[node].bury(&self.effects)
    }
}

fn name(prefix: &str, number: u64) -> String {
    format!("{prefix}-{number}")
}
