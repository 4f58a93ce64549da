//! Clients at work: each a loop of its own, all they ask and are told on record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use dynkv::api::{Ack, SiblingMeta};
use dynkv::client::{Client, ClientConfig, ClientError, GetOptions, GetResult, PutOptions, PutResult};
use dynkv::quorum::Level;
use dynkv::sim::oracle::{Holder, OpId};
use dynkv::types::{Bucket, Key, NodeId, Time};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::choice::{Act, Known, Memory, draw};
use super::clock::Jumps;
use super::effect::{Effect, Effects};
use super::recorder::{Failure, Intent, Recorder};
use super::tally::{Done, Tally};

/// A pause between two requests of a client, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 10..30;

/// How likely a client gives a write up almost at once, and so does not learn its fate.
const IMPATIENCE: f64 = 0.05;
/// How long it waits then, in milliseconds: about as long as a write takes.
const BARELY_MS: std::ops::Range<u64> = 0..3;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct LoadSpec {
    /// How many clients.
    pub clients: usize,
    /// Replicas that must answer a read.
    pub r: u8,
    /// Replicas that must acknowledge a write.
    pub w: u8,
    /// Of what clients draw.
    pub seed: u64,
}

/// The record of a run, and its clock.
pub struct Record {
    origin: Instant,
    recorder: Mutex<Recorder>,
    dishonest: Mutex<Vec<String>>,
}

impl Record {
    /// An empty one.
    pub fn new(patience: Duration) -> Record {
        let recorder = Mutex::new(Recorder::new(patience));
        Record { origin: Instant::now(), recorder, dishonest: Mutex::default() }
    }

    /// Since the run began.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The recorder and the time: taken together, so that events are in the order of their times.
    pub fn open(&self) -> (MutexGuard<'_, Recorder>, Time) {
        let recorder = self.recorder.lock().expect("nobody panics while recording");
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        (recorder, Time::from_micros(micros))
    }

    /// Answers that nobody should be given.
    pub fn dishonest(&self) -> Vec<String> {
        self.dishonest.lock().expect("nobody panics while noting").clone()
    }

    fn note(&self, failure: Failure, error: &ClientError) {
        if failure == Failure::Dishonest {
            self.dishonest.lock().expect("nobody panics while noting").push(error.to_string());
        }
    }
}

/// What clients share with the rest of a run.
#[derive(Clone)]
pub struct Shared {
    /// All that is asked and told.
    pub record: Arc<Record>,
    /// What faults do.
    pub effects: Arc<Effects>,
    /// Clocks that are off.
    pub jumps: Arc<Jumps>,
}

/// A load that runs.
pub struct Load {
    spec: LoadSpec,
    record: Arc<Record>,
    stop: Arc<AtomicBool>,
    loops: JoinSet<Vec<Done>>,
    began: Duration,
}

impl Load {
    /// Lets clients loose.
    pub async fn start(spec: LoadSpec, config: &ClientConfig, shared: &Shared) -> Result<Load> {
        let record = shared.record.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for _ in 0..spec.clients {
            clients.push(Client::connect(config.clone()).await.context("connecting a client")?);
        }
        let began = record.elapsed();
        let mut loops = JoinSet::new();
        for (index, client) in clients.into_iter().enumerate() {
            let seed = spec.seed.wrapping_mul(1000).wrapping_add(index as u64);
            let worker = Worker {
                index,
                client,
                spec,
                shared: shared.clone(),
                began,
                rng: StdRng::seed_from_u64(seed),
                memory: Memory::default(),
                done: Vec::new(),
            };
            loops.spawn(worker.run(stop.clone()));
        }
        Ok(Load { spec, record, stop, loops, began })
    }

    /// When it began, by the record's clock.
    pub fn began(&self) -> Duration {
        self.began
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.record.elapsed().saturating_sub(self.began)
    }

    /// Lets clients end what they have begun.
    pub async fn stop(mut self) -> Result<Tally> {
        let length = self.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(done) = self.loops.join_next().await {
            all.extend(done.context("a client's loop panicked")?);
        }
        Ok(Tally::new(all, self.spec.clients, length))
    }
}

struct Worker {
    index: usize,
    client: Client,
    spec: LoadSpec,
    shared: Shared,
    began: Duration,
    rng: StdRng,
    memory: Memory,
    done: Vec<Done>,
}

impl Worker {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Done> {
        while !stop.load(Ordering::Relaxed) {
            let now = self.elapsed();
            match draw(&mut self.rng, self.index, now, &mut self.memory) {
                Act::Read(key) => {
                    self.read(&key).await;
                }
                Act::Merge(key) => {
                    if let Some(known) = self.read(&key).await {
                        self.write(key, Some(known), false).await;
                    }
                }
                Act::Write { key, known, delete } => {
                    let known = self.memory.known.get(&key).filter(|_| known).cloned();
                    self.write(key, known, delete).await;
                }
                Act::Retry => {
                    let place = self.rng.random_range(0..self.memory.doubtful.len());
                    let (intent, context) = self.memory.doubtful.swap_remove(place);
                    self.shared.effects.saw(Effect::Retried);
                    self.put(intent, context).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(PAUSE_MS))).await;
        }
        self.client.close().await;
        self.done
    }

    fn elapsed(&self) -> Duration {
        self.shared.record.elapsed().saturating_sub(self.began)
    }

    fn ended(&mut self, began: Duration, ok: bool, attempts: u32) {
        self.done.push(Done { client: self.index, began, ended: self.elapsed(), ok });
        self.shared.effects.add(Effect::FailedOver, u64::from(attempts > 1));
    }

    async fn read(&mut self, key: &str) -> Option<Known> {
        let began = self.elapsed();
        let op = {
            let (mut recorder, now) = self.shared.record.open();
            recorder.read_begins(now, key)
        };
        let options = GetOptions { r: Some(Level::Number(self.spec.r)), ..GetOptions::default() };
        let result = self.client.get(&Bucket::default(), &key_of(key), options).await;
        match result {
            Ok(found) => {
                self.look_at_clocks(&found);
                let primaries = found.acks.iter().filter(|ack| !ack.stand_in).count();
                let primaries = u8::try_from(primaries).unwrap_or(u8::MAX);
                {
                    let (mut recorder, now) = self.shared.record.open();
                    recorder.read_answered(now, op, &found.siblings, primaries);
                }
                self.ended(began, true, found.attempts);
                Some(self.remember(key, op, found.context, found.siblings.len()))
            }
            Err(error) => {
                self.shared.record.open().0.read_failed(op);
                self.shared.record.note(Failure::of(&error), &error);
                self.ended(began, false, 1);
                None
            }
        }
    }

    fn remember(&mut self, key: &str, basis: OpId, context: Option<Bytes>, siblings: usize) -> Known {
        let known = Known { context, basis, siblings };
        self.memory.known.insert(key.to_owned(), known.clone());
        known
    }

    async fn write(&mut self, key: String, known: Option<Known>, delete: bool) {
        let id = self.client.new_write_id();
        let padding = "x".repeat(self.rng.random_range(0..200));
        let body = (!delete).then(|| Bytes::from(format!("{}:{padding}", id.0)));
        let basis = known.as_ref().map(|known| known.basis);
        let context = known.and_then(|known| known.context);
        self.put(Intent { key, id, body, basis }, context).await;
    }

    async fn put(&mut self, intent: Intent, context: Option<Bytes>) {
        let began = self.elapsed();
        let op = {
            let (mut recorder, now) = self.shared.record.open();
            recorder.write_begins(now, &intent)
        };
        let barely = Duration::from_millis(self.rng.random_range(BARELY_MS));
        let impatient = self.rng.random_bool(IMPATIENCE);
        let sent = self.send(&intent, context.clone());
        let Some(result) = (if impatient { timeout(barely, sent).await.ok() } else { Some(sent.await) }) else {
            // that the client did not wait says nothing of the cluster: it counts as no request
            let (mut recorder, now) = self.shared.record.open();
            recorder.write_given_up(now, op);
            self.memory.doubtful.push((intent, context));
            return;
        };
        match result {
            Ok(PutResult { receipt, attempts, .. }) => {
                let by = self.holders(&intent.key, &receipt.acks);
                {
                    let (mut recorder, now) = self.shared.record.open();
                    recorder.write_acked(now, op, receipt.dot, by);
                }
                self.ended(began, true, attempts);
                self.remember(&intent.key, op, Some(receipt.context), 1);
            }
            Err(error) => {
                let failure = {
                    let (mut recorder, now) = self.shared.record.open();
                    recorder.write_failed(now, op, &error)
                };
                self.shared.record.note(failure, &error);
                self.ended(began, false, 1);
                if failure == Failure::Unknown {
                    self.memory.doubtful.push((intent, context));
                }
            }
        }
    }

    async fn send(&self, intent: &Intent, context: Option<Bytes>) -> Result<PutResult, ClientError> {
        let options = PutOptions {
            context: context.clone(),
            w: Some(Level::Number(self.spec.w)),
            write_id: Some(intent.id),
            ..PutOptions::default()
        };
        let (bucket, key) = (Bucket::default(), key_of(&intent.key));
        match (&intent.body, context) {
            (Some(body), _) => self.client.put(&bucket, &key, body.clone(), options).await,
            (None, context) => self.client.delete(&bucket, &key, context.unwrap_or_default(), options).await,
        }
    }

    /// Who stands for an answer.
    fn holders(&self, key: &str, acks: &[Ack]) -> Vec<Holder> {
        let bucket = Bucket::default();
        let ring = self.client.ring();
        let primary = |slot: u8| {
            let ring = ring.as_ref()?;
            let (partition, _) = ring.partition_of(&bucket, &key_of(key));
            ring.preference(partition, &bucket)?.slots().get(usize::from(slot)).copied()
        };
        let heir = |ack: &Ack| primary(ack.slot).filter(|_| ack.stand_in).map(|node| self.index_of(node));
        let holder = |ack: &Ack| Holder { node: self.index_of(ack.node), synced: ack.synced, heir: heir(ack) };
        acks.iter().map(holder).collect()
    }

    /// Nodes are called n1, n2 ...; whoever is not known by such a name is told from all of them.
    fn index_of(&self, node: NodeId) -> u16 {
        let name = self.client.name_of(node);
        name.strip_prefix('n').and_then(|number| number.parse::<u16>().ok()).map_or(u16::MAX, |number| number - 1)
    }

    fn look_at_clocks(&self, found: &GetResult) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let off = |meta: &SiblingMeta| {
            self.shared.jumps.shows(self.index_of(meta.node), Duration::from_millis(meta.wall_ms), now)
        };
        if found.siblings.iter().any(|sibling| off(&sibling.meta)) {
            self.shared.effects.saw(Effect::SeenClockOff);
        }
    }
}

/// The key of this name.
pub fn key_of(name: &str) -> Key {
    Key::new(name.to_owned()).expect("the names of keys are short")
}
