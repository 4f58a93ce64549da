//! One run: start, load, strike, heal, read back, judge.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dynkv::client::Client;
use tokio::time::sleep;

use super::args::Args;
use super::clock::{self, Jumps};
use super::cluster::{Cluster, Equipment};
use super::disk::{SlowSyncs, SmallDisk};
use super::drill;
use super::effect::{Effect, Effects};
use super::fault::Need;
use super::finale::read_back;
use super::inject::Injector;
use super::load::{Load, Record, Shared};
use super::node::Place;
use super::report::{Clients, Report};
use super::sabotage::{Sabotage, lose_write};
use super::scenario::Scenario;
use super::settle::settle;
use super::verdict::{self, Evidence, SETTLED_WITHIN};
use super::watch::{Watch, reaped_by};

/// How a run came out.
pub enum Outcome {
    /// It was made.
    Judged(Box<Report>),
    /// It could not be made here.
    Skipped(BTreeSet<Need>),
}

/// Makes a run. An error is a failure as well: a cluster that does not start, a node that ends by itself, a key that cannot be
/// read back.
pub async fn run(args: &Args) -> Result<Outcome> {
    let started = Instant::now();
    let Some(scenario) = Scenario::new(args.scenario, args.times(), args.seed) else {
        return Ok(Outcome::Judged(Box::new(drill::run(args).await?)));
    };
    let needs: BTreeSet<Need> = scenario.strikes.iter().flat_map(|strike| strike.fault.needs()).copied().collect();
    let program = args.program()?;
    let lacking = lacking(&needs, &program).await?;
    if !lacking.is_empty() {
        return Ok(Outcome::Skipped(lacking));
    }
    let equipment = Equipment {
        program,
        small_disk: needs.contains(&Need::SmallDisk),
        clocks: needs.contains(&Need::FakeTime),
        seed: args.seed,
        keep: args.keep,
    };
    let effects = Arc::new(Effects::default());
    let cluster = Cluster::start(&equipment, effects.clone()).await.context("starting the cluster")?;
    let config = cluster.client_config();
    let record = Arc::new(Record::new(config.request_timeout));
    let shared = Shared { record, effects, jumps: Arc::new(Jumps::default()) };
    let watch = Watch::start(&cluster.places(), &shared);
    let load = Load::start(args.load(), &config, &shared).await?;
    let began = load.began();
    let pretends = args.sabotage == Some(Sabotage::NoFault);
    let mut injector = Injector::new(cluster, shared.clone(), pretends);
    let returns = strike(&mut injector, &scenario, &load).await?;
    let tally = load.stop().await?;
    let first_struck = scenario.strikes.first().map_or(began, |strike| began + strike.from);
    let first_down = watch.first_down(first_struck).map(|at| at.saturating_sub(began));
    drop(watch);

    let client = Client::connect(config).await.context("connecting to read back")?;
    let keys = shared.record.open().0.names().to_vec();
    let healed = began + returns.iter().max().copied().unwrap_or_default();
    let places = injector.cluster.places();
    let settled = settle(&places, &client, &keys, &shared.record, healed, SETTLED_WITHIN).await;
    read_back(&client, &keys, &shared.record).await?;
    let reaped = reaped_by_all(&places).await;
    shared.effects.add(Effect::Reaped, reaped);
    client.close().await;
    injector.cluster.check()?;

    let mut recorder = shared.record.open().0;
    if args.sabotage == Some(Sabotage::LoseWrite) {
        ensure!(lose_write(recorder.history()), "there is no acknowledged write to be lost");
    }
    let detected = verdict::detection(&scenario.strikes, first_down);
    let (checks, findings) = verdict::check(&Evidence {
        scenario: &scenario,
        history: recorder.history(),
        keys: &keys,
        idle: &injector.idle,
        dishonest: &shared.record.dishonest(),
        tally: &tally,
        detected,
        returns: &returns,
        settled: &settled,
        reaped,
    });
    Ok(Outcome::Judged(Box::new(Report {
        name: scenario.kind.name(),
        seed: args.seed,
        checks,
        clients: Some(Clients::new(&scenario, &tally, findings, detected)),
        effects: shared.effects.counts(),
        took: started.elapsed(),
    })))
}

/// Lets all strikes begin and end in their time, and waits for the load's end; when each ended, from the beginning of the load.
async fn strike(injector: &mut Injector, scenario: &Scenario, load: &Load) -> Result<Vec<Duration>> {
    let mut moments: Vec<(Duration, bool, usize)> = Vec::new();
    for (index, strike) in scenario.strikes.iter().enumerate() {
        moments.push((strike.from, true, index));
        moments.push((strike.until, false, index));
    }
    // at the same moment, what ends does so first
    moments.sort_unstable();
    let mut returns = Vec::new();
    for (at, begins, index) in moments {
        sleep(at.saturating_sub(load.elapsed())).await;
        let strike = &scenario.strikes[index];
        if begins {
            injector.begin(index, strike)?;
        } else {
            injector.end(index, strike)?;
            returns.push(load.elapsed());
        }
    }
    sleep(scenario.load.saturating_sub(load.elapsed())).await;
    injector.cluster.check()?;
    Ok(returns)
}

/// Since their last start.
async fn reaped_by_all(places: &[Place]) -> u64 {
    let mut reaped = 0;
    for place in places {
        reaped += reaped_by(place).await.unwrap_or_default();
    }
    reaped
}

/// Of these, what this machine or the nodes' program does not have.
async fn lacking(needs: &BTreeSet<Need>, program: &Path) -> Result<BTreeSet<Need>> {
    let mut lacking = BTreeSet::new();
    for need in needs {
        if !is_met(*need, program).await? {
            lacking.insert(*need);
        }
    }
    Ok(lacking)
}

async fn is_met(need: Need, program: &Path) -> Result<bool> {
    Ok(match need {
        Need::Strace => SlowSyncs::is_allowed(),
        Need::SmallDisk => SmallDisk::is_allowed(),
        Need::FakeTime => clock::library().is_some(),
        Need::Steerable => match clock::library() {
            Some(library) => clock::can_steer(library, program).await?,
            // what cannot be told is no second complaint
            None => true,
        },
    })
}
