//! `status`

mod views;

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use dynkv::api::{MemberStatus, Phase, StatusReply};
use serde::Serialize;

use super::answers::{Answers, Unreachable};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Columns, Format, Out, count};
use views::Views;

/// Show the cluster's nodes and how they are.
///
/// Every node is asked for its own view. The state's first letter: U up, D down (no node has a live link to it, or all
/// that have hold it for dead); the second: N serving, J joining or
/// rebuilding, L draining, X without a working disk, ? unknown. Exit 8 unless every member is UN and all follow one ring.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli status
  dynkv-cli status -o wide
  dynkv-cli status --views
  dynkv-cli status -o json | jq '.members[] | select(.state != \"UN\")'")]
pub struct Args {
    /// Show what every node says of every other one.
    #[arg(long)]
    views: bool,
}

#[derive(Serialize)]
struct Document {
    cluster: String,
    cluster_id: Option<String>,
    ring_version: Option<u64>,
    members: Vec<Row>,
    unreachable: Vec<Unreachable>,
    /// Keys kept for nodes that missed writes, over all holders.
    hints: u64,
    hint_bytes: u64,
    degraded: bool,
    /// What is not as it should be.
    problems: Vec<String>,
}

impl Document {
    fn exit(&self) -> Exit {
        if self.degraded { Exit::Degraded } else { Exit::Ok }
    }

    /// What is kept for nodes that missed writes, if anything is.
    fn hints_line(&self) -> Option<String> {
        let (hints, bytes) = (count(self.hints, "hint"), ByteSize(self.hint_bytes));
        let line = format!("{hints} of {bytes} wait for nodes that missed writes: see `dynkv-cli hints list`");
        (self.hints > 0).then_some(line)
    }
}

/// One member, as it says itself and as the others see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    state: String,
    name: String,
    zone: String,
    address: String,
    owned_percent: f64,
    id: String,
    disk: Option<String>,
    generation: Option<u64>,
    /// The most that any answering node suspects it.
    phi: Option<f64>,
    /// The least time since any answering node heard of it.
    heartbeat_age_ms: Option<u64>,
    /// By name, the answering nodes that hold it for dead.
    convicted_by: Vec<String>,
    ring: Option<String>,
    keys: Option<u64>,
    disk_bytes: Option<u64>,
    free_bytes: Option<u64>,
    uptime_s: Option<u64>,
    /// What it waits for.
    note: String,
    /// Keys that it keeps for others; null while it counts them.
    hints_kept: Option<u64>,
    /// Keys that the answering nodes keep for it.
    hints_for: u64,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.open()?;
    // a cluster that is not born has no ring, and still a status
    let ring = client.refresh_ring().await;
    let mut answers = client.status_all().await;
    if !answers.iter().any(|(_, answer)| answer.is_ok()) {
        let first = answers.drain(..).find_map(|(_, answer)| answer.err());
        return Err(match (ring, first) {
            (Err(error), _) | (Ok(_), Some(error)) => error.into(),
            (Ok(_), None) => Failure::new(Exit::Error, "the ring has no members"),
        });
    }
    let document = assemble(&answers);
    if args.views {
        context.show(&Views::of(&answers), Views::print)?;
    } else {
        let wide = context.table_format() == Format::Wide;
        context.show(&document, |document, out| print(document, wide, out))?;
    }
    Ok(document.exit())
}

fn assemble(answers: &Answers) -> Document {
    let replies: Vec<&StatusReply> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
    let newest = replies.iter().max_by_key(|reply| reply.ring_version).copied();
    let partitions: u32 = newest.map_or(0, |reply| reply.members.iter().map(|member| member.partitions).sum());
    let mut rows: Vec<Row> = newest
        .map_or(&[][..], |reply| &reply.members[..])
        .iter()
        .map(|member| row(member, &replies, partitions))
        .collect();
    // a node that waits for its cluster's birth is in nobody's layout yet
    for reply in &replies {
        if !rows.iter().any(|row| row.id == reply.node.to_string()) {
            rows.push(unborn(reply, answers));
        }
    }
    rows.sort_by_key(|row| natural(&row.name));
    let unreachable = Unreachable::among(answers);
    let kept = || replies.iter().flat_map(|reply| &reply.hints);
    let problems = problems(&rows, &replies, &unreachable);
    Document {
        cluster: newest.map_or_else(String::new, |reply| reply.cluster_name.clone()),
        cluster_id: newest.and_then(|reply| reply.cluster).map(|id| id.to_string()),
        ring_version: newest.and_then(|reply| reply.ring_version).map(|version| version.0),
        members: rows,
        unreachable,
        hints: kept().map(|kept| kept.hints).sum(),
        hint_bytes: kept().map(|kept| kept.bytes).sum(),
        degraded: !problems.is_empty(),
        problems,
    }
}

fn row(member: &MemberStatus, replies: &[&StatusReply], partitions: u32) -> Row {
    let own = replies.iter().find(|reply| reply.node == member.node);
    // a node that did not answer this client is up if another one has a live link to it, and does not hold it for dead
    let seen = replies.iter().flat_map(|reply| &reply.members).filter(|seen| seen.node == member.node);
    let up = own.is_some() || seen.clone().any(|seen| seen.up && !seen.convicted);
    let rebuilding = seen.clone().any(|seen| seen.rebuilding);
    let convicts = |reply: &&&StatusReply| reply.members.iter().any(|seen| seen.node == member.node && seen.convicted);
    let convicted_by = replies.iter().filter(convicts).map(|reply| reply.name.clone()).collect();
    let told = seen.clone().max_by_key(|seen| seen.generation).unwrap_or(member);
    let letter = match own.map(|own| own.phase) {
        Some(Phase::Serving) if rebuilding => 'J',
        Some(Phase::Serving) => 'N',
        Some(Phase::Joining) => 'J',
        Some(Phase::Draining) => 'L',
        Some(Phase::ReadOnly) => 'X',
        None if rebuilding => 'J',
        None if up => '?',
        None => 'N',
    };
    Row {
        state: format!("{}{letter}", if up { 'U' } else { 'D' }),
        name: member.name.clone(),
        zone: member.zone.clone(),
        address: member.address.clone(),
        owned_percent: f64::from(member.partitions) * 100.0 / f64::from(partitions.max(1)),
        id: member.node.to_string(),
        disk: told.disk.map(|disk| disk.to_string()),
        generation: told.generation.map(|generation| generation.0),
        phi: seen.clone().filter_map(|seen| seen.phi).max_by(f64::total_cmp),
        heartbeat_age_ms: seen.filter_map(|seen| seen.heartbeat_age_ms).min(),
        convicted_by,
        ring: told.ring.clone(),
        keys: own.map(|own| own.keys),
        disk_bytes: own.map(|own| own.disk_bytes),
        free_bytes: own.map(|own| own.free_bytes),
        uptime_s: own.map(|own| own.uptime_s),
        note: own.map_or_else(String::new, |own| own.waiting_for.clone()),
        hints_kept: own.and_then(|own| hints_kept(own)),
        hints_for: replies
            .iter()
            .flat_map(|reply| &reply.hints)
            .filter(|kept| kept.target == member.node)
            .map(|kept| kept.hints)
            .sum(),
    }
}

fn unborn(reply: &StatusReply, answers: &Answers) -> Row {
    let address = answers.iter().find(|(_, answer)| answer.as_ref().is_ok_and(|known| known.node == reply.node));
    let letter = match reply.phase {
        Phase::Serving => 'N',
        Phase::Joining => 'J',
        Phase::Draining => 'L',
        Phase::ReadOnly => 'X',
    };
    Row {
        state: format!("U{letter}"),
        name: reply.name.clone(),
        zone: String::new(),
        address: address.map_or_else(String::new, |(address, _)| address.clone()),
        owned_percent: 0.0,
        id: reply.node.to_string(),
        disk: None,
        generation: None,
        phi: None,
        heartbeat_age_ms: None,
        convicted_by: Vec::new(),
        ring: None,
        keys: Some(reply.keys),
        disk_bytes: Some(reply.disk_bytes),
        free_bytes: Some(reply.free_bytes),
        uptime_s: Some(reply.uptime_s),
        note: reply.waiting_for.clone(),
        hints_kept: hints_kept(reply),
        hints_for: 0,
    }
}

fn hints_kept(reply: &StatusReply) -> Option<u64> {
    reply.hints_counted.then(|| reply.hints.iter().map(|kept| kept.hints).sum())
}

fn problems(rows: &[Row], replies: &[&StatusReply], unreachable: &[Unreachable]) -> Vec<String> {
    let mut problems: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let what = match row.state.as_str() {
                "UN" => return None,
                state if state.starts_with('D') => "is down",
                "UJ" => "is joining or rebuilding",
                "UL" => "is draining",
                "UX" => "takes no writes",
                _ => "answers its peers and not this client",
            };
            let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
            Some(format!("{} {what}{note}", row.name))
        })
        .collect();
    for row in rows.iter().filter(|row| !row.state.starts_with('D') && !row.convicted_by.is_empty()) {
        problems.push(format!("{} is up, and held for dead by {}", row.name, row.convicted_by.join(", ")));
    }
    let rings: BTreeMap<_, _> = rows.iter().filter_map(|row| Some((row.ring.as_ref()?, &row.name))).collect();
    if rings.len() > 1 {
        problems.push(format!("members follow {} different rings", rings.len()));
    }
    if rows.is_empty() && replies.is_empty() {
        problems.extend(unreachable.iter().map(|node| node.address.clone()));
    }
    problems
}

/// Names with their numbers in order: n2 before n10.
fn natural(name: &str) -> (String, u64, String) {
    let head = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (head.to_owned(), name[head.len()..].parse().unwrap_or(0), name.to_owned())
}

fn print(document: &Document, wide: bool, out: &mut Out) -> Result<(), Failure> {
    let ring =
        document.ring_version.map_or_else(|| "not born yet".to_owned(), |version| format!("ring version {version}"));
    out.line(format!("cluster {}  {ring}", document.cluster))?;
    out.line("")?;
    let mut headings = vec!["STATE", "NAME", "ZONE", "ADDRESS", "OWNED", "KEYS", "GENERATION", "RING", "HINTS FOR IT"];
    if wide {
        headings.extend(["PHI", "HEARD", "DISK", "FREE", "UPTIME", "NODE ID", "DISK ID"]);
    }
    let mut columns = Columns::new(&headings).right(&[4, 5, 6, 8]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for row in &document.members {
        let mut cells = vec![
            row.state.clone(),
            row.name.clone(),
            row.zone.clone(),
            row.address.clone(),
            format!("{:.1} %", row.owned_percent),
            or_dash(row.keys.map(|keys| keys.to_string())),
            or_dash(row.generation.map(|generation| generation.to_string())),
            or_dash(row.ring.as_ref().map(|ring| ring.chars().take(8).collect())),
            row.hints_for.to_string(),
        ];
        if wide {
            let size = |bytes: Option<u64>| or_dash(bytes.map(|bytes| ByteSize(bytes).to_string()));
            let uptime = row.uptime_s.map(|s| humantime::format_duration(Duration::from_secs(s)).to_string());
            let heard = row.heartbeat_age_ms.map(|ms| format!("{:.1} s ago", ms as f64 / 1000.0));
            cells.extend([or_dash(row.phi.map(|phi| format!("{phi:.1}"))), or_dash(heard)]);
            cells.extend([size(row.disk_bytes), size(row.free_bytes), or_dash(uptime)]);
            cells.extend([row.id.clone(), or_dash(row.disk.clone())]);
        }
        columns.row(cells);
    }
    columns.print(out)?;
    out.line("")?;
    document.unreachable.iter().try_for_each(|node| out.line(node.line()))?;
    document.hints_line().iter().try_for_each(|line| out.line(line))?;
    if document.degraded {
        out.line(format!("degraded: {}", document.problems.join("; ")))
    } else {
        out.line("all members are up and follow one ring")
    }
}

#[cfg(test)]
pub mod tests;
