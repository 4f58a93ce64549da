//! Raw QUIC: messages over one stream.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use hdrhistogram::Histogram;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{Cost, histogram};
use crate::cpu;

/// Messages of the closed loop in flight.
const IN_FLIGHT: usize = 512;
const CHUNK: usize = 1 << 20;
/// An echo that is silent so long has stopped; a busy machine holds one up for less.
const SILENCE: Duration = Duration::from_secs(10);
/// What the certificate is for.
const NAME: &str = "floor.test";
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where the answering end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// In this process, whose CPU is counted.
    Here,
    /// In one of its own, as a node is to its clients and to other nodes: the system has to wake it for what arrives.
    Apart,
}

/// Round trips: `ask` bytes there, `answer` bytes back.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    pub ask: usize,
    pub answer: usize,
}

impl Echo {
    /// As many as there can be. The CPU is that of this process.
    pub async fn closed(self, span: Duration) -> Result<Cost> {
        self.with_echo(Other::Here, async |mut lane| {
            lane.ask(IN_FLIGHT).await?;
            let (start, before, mut done) = (Instant::now(), cpu::used(&[]), 0);
            while start.elapsed() < span {
                let answered = lane.answers().await?;
                done += answered as u64;
                lane.ask(answered).await?;
            }
            Ok(Cost::of(done, start.elapsed(), cpu::used(&[]) - before))
        })
        .await
    }

    /// One after the other: microseconds of each.
    pub async fn alone(self, span: Duration, other: Other) -> Result<Histogram<u64>> {
        self.with_echo(other, async |mut lane| {
            let (start, mut latency) = (Instant::now(), histogram());
            while start.elapsed() < span {
                let asked = Instant::now();
                lane.ask(1).await?;
                while lane.answers().await? == 0 {}
                latency.saturating_record(asked.elapsed().as_micros().max(1) as u64);
            }
            Ok(latency)
        })
        .await
    }

    /// At `rate` a second: microseconds from when each is due to its answer.
    pub async fn paced(self, span: Duration, rate: f64) -> Result<Histogram<u64>> {
        // Within one process it is steadier: two that share the machine with the thread that paces them are late at 70 % of their peak.
        self.with_echo(Other::Here, async |lane| {
            let Lane { mut send, mut recv, question, answer, .. } = lane;
            let (start, all) = (Instant::now(), (span.as_secs_f64() * rate) as usize);
            // A thread of its own, as the cluster's load has: the runtime's timer is no finer than a millisecond.
            let (tell, mut due) = tokio::sync::mpsc::unbounded_channel();
            let pacer = tokio::task::spawn_blocking(move || {
                let mut asked = 0;
                while asked < all {
                    std::thread::sleep(Duration::from_micros(100));
                    asked = all.min((start.elapsed().as_secs_f64() * rate) as usize);
                    if tell.send(asked).is_err() {
                        break;
                    }
                }
            });
            let asks = async {
                let mut asked = 0;
                while let Some(due) = due.recv().await {
                    send.write_all_chunks(&mut vec![question.clone(); due - asked]).await?;
                    asked = due;
                }
                Ok(pacer.await?)
            };
            let answers = async {
                let (mut latency, mut held, mut number) = (histogram(), 0, 0);
                while number < all {
                    let chunk = tokio::time::timeout(SILENCE, recv.read_chunk(CHUNK, true)).await;
                    held += chunk.context("the echo has stopped")??.context("the echo goes on")?.bytes.len();
                    for _ in 0..held / answer {
                        let due = Duration::from_secs_f64(number as f64 / rate);
                        latency.saturating_record(start.elapsed().saturating_sub(due).as_micros().max(1) as u64);
                        number += 1;
                    }
                    held %= answer;
                }
                anyhow::Ok(latency)
            };
            let ((), latency) = tokio::try_join!(asks, answers)?;
            Ok(latency)
        })
        .await
    }

    async fn with_echo<T>(self, other: Other, drive: impl AsyncFnOnce(Lane) -> Result<T>) -> Result<T> {
        if other == Other::Apart {
            let (_child, to, certificate) = self.spawn().await?;
            return self.drive(to, certificate, drive).await;
        }
        let (server, certificate) = server()?;
        let driven = self.drive(server.local_addr()?, certificate, drive);
        let (echoed, measured) = tokio::join!(self.echo(&server), driven);
        // Closing the connection is how the measurement ends the echo.
        drop(echoed);
        measured
    }

    async fn drive<T>(
        self,
        to: SocketAddr,
        certificate: CertificateDer<'static>,
        drive: impl AsyncFnOnce(Lane) -> Result<T>,
    ) -> Result<T> {
        let connection = client(certificate)?.connect(to, NAME)?.await?;
        let (send, recv) = connection.open_bi().await?;
        let question = Bytes::from(vec![9; self.ask]);
        let lane = Lane { send, recv, question, answer: self.answer, held: 0 };
        let measured = drive(lane).await;
        connection.close(0u32.into(), b"measured");
        measured
    }

    /// A process that answers, where it listens, and its certificate. It ends when the first is dropped.
    async fn spawn(self) -> Result<(Child, SocketAddr, CertificateDer<'static>)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--echo".to_owned(), self.ask.to_string(), self.answer.to_string()]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the echo says where it listens")?;
        let (to, certificate) = line.split_once(' ').context("an address and a certificate")?;
        let bytes = HEXLOWER.decode(certificate.as_bytes()).context("the certificate")?;
        Ok((child, to.parse()?, CertificateDer::from(bytes)))
    }

    /// What the process does that [`spawn`](Self::spawn) starts: it says where it listens, and answers one connection.
    pub async fn serve(self) -> Result<()> {
        let (server, certificate) = server()?;
        println!("{} {}", server.local_addr()?, HEXLOWER.encode(&certificate));
        self.echo(&server).await
    }

    async fn echo(self, server: &Endpoint) -> Result<()> {
        let connection = accept(server).await?;
        let (mut send, mut recv) = connection.accept_bi().await?;
        let (mut held, reply) = (0usize, Bytes::from(vec![7; self.answer]));
        while let Some(chunk) = recv.read_chunk(CHUNK, true).await? {
            held += chunk.bytes.len();
            let mut replies = vec![reply.clone(); held / self.ask];
            held %= self.ask;
            if send.write_all_chunks(&mut replies).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// The asking end of a stream.
struct Lane {
    send: SendStream,
    recv: RecvStream,
    question: Bytes,
    answer: usize,
    /// Bytes of an answer that is not whole yet.
    held: usize,
}

impl Lane {
    async fn ask(&mut self, questions: usize) -> Result<()> {
        Ok(self.send.write_all_chunks(&mut vec![self.question.clone(); questions]).await?)
    }

    /// How many answers have come.
    async fn answers(&mut self) -> Result<usize> {
        let chunk = self.recv.read_chunk(CHUNK, true).await?.context("the echo goes on")?;
        self.held += chunk.bytes.len();
        let answered = self.held / self.answer;
        self.held %= self.answer;
        Ok(answered)
    }
}

/// Bytes that one stream carries a second of CPU, both ends, in messages of `size` bytes.
pub async fn stream_bytes(size: usize, span: Duration) -> Result<f64> {
    let (server, certificate) = server()?;
    let (client, to) = (client(certificate)?, server.local_addr()?);
    let sink = async {
        let connection = accept(&server).await?;
        let mut recv = connection.accept_uni().await?;
        let mut received = 0u64;
        // The other end closes when it is done.
        while let Ok(Some(chunk)) = recv.read_chunk(CHUNK, true).await {
            received += chunk.bytes.len() as u64;
        }
        anyhow::Ok(received)
    };
    let source = async {
        let connection = client.connect(to, NAME)?.await?;
        let mut send = connection.open_uni().await?;
        let (start, before, value) = (Instant::now(), cpu::used(&[]), Bytes::from(vec![9; size]));
        while start.elapsed() < span {
            send.write_chunk(value.clone()).await?;
        }
        send.finish()?;
        send.stopped().await?;
        anyhow::Ok(cpu::used(&[]) - before)
    };
    let (received, used) = tokio::try_join!(sink, source)?;
    Ok(received as f64 / used.as_secs_f64())
}

async fn accept(server: &Endpoint) -> Result<Connection> {
    Ok(server.accept().await.context("the client dials")?.await?)
}

/// A listener on loopback, and its certificate.
fn server() -> Result<(Endpoint, CertificateDer<'static>)> {
    let certified = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = certified.cert.der().clone();
    let key =
        PrivateKeyDer::try_from(certified.signing_key.serialize_der()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let config = quinn::ServerConfig::with_single_cert(vec![certificate.clone()], key)?;
    Ok((Endpoint::server(config, LOOPBACK)?, certificate))
}

fn client(trusted: CertificateDer<'static>) -> Result<Endpoint> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted)?;
    let mut client = Endpoint::client(LOOPBACK)?;
    client.set_default_client_config(quinn::ClientConfig::with_root_certificates(Arc::new(roots))?);
    Ok(client)
}
