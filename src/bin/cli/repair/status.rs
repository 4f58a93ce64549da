//! `repair status`

use std::time::Duration;

use bytesize::ByteSize;
use dynkv::api::{Rebuilding, RepairStatus, ScrubStatus, StatusReply};
use dynkv::client::Client;
use humantime::format_duration;
use serde::Serialize;

use super::super::answers::{Answers, Unreachable};
use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::{Columns, Format, Out, count};

/// Between two looks under --watch.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look again each second.
    #[arg(short, long)]
    watch: bool,
}

impl Args {
    /// A document a look: under --watch, only lines can be told apart.
    fn format(&self, asked: Format) -> Format {
        if self.watch && asked == Format::Json { Format::Jsonl } else { asked }
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Document {
    nodes: Vec<Row>,
    /// Nodes that have not begun to compare.
    waiting: Vec<String>,
    unreachable: Vec<Unreachable>,
}

/// How far a node has come, since its process started unless it is said otherwise.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    node: String,
    state: &'static str,
    paused: bool,
    /// Why nothing is begun although something is due.
    waiting: Option<String>,
    /// Trees whose turn it is.
    due: u64,
    compared: u64,
    differing: u64,
    keys_differing: u64,
    bytes: u64,
    /// Trees that agree with all their peers' since the last `repair start`, of `of`.
    done: u64,
    of: u64,
    eta_s: Option<u64>,
    rebuilding: Option<Rebuilding>,
    running: Vec<Running>,
    scrub: ScrubStatus,
}

#[derive(Debug, PartialEq, Serialize)]
struct Running {
    partition: u16,
    n: u8,
    peer: String,
    keys_differing: u64,
    bytes: u64,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.open()?;
    let format = args.format(context.table_format());
    loop {
        match look(&client).await {
            Ok(document) => {
                context.show_as(format, &document, |document, out| print(document, args.watch, out))?;
                if !args.watch {
                    return Ok(document.exit());
                }
            }
            // a cluster that is being started answers later
            Err(failure) if args.watch => failure.report(),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(client: &Client) -> Result<Document, Failure> {
    client.refresh_ring().await?;
    Ok(assemble(&client.status_all().await))
}

impl Document {
    fn exit(&self) -> Exit {
        let is_all = self.unreachable.is_empty() && self.waiting.is_empty();
        if is_all { Exit::Ok } else { Exit::Partly }
    }
}

fn assemble(answers: &Answers) -> Document {
    let replies = || answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let waiting = replies().filter(|reply| reply.repair.is_none()).map(|reply| reply.name.clone()).collect();
    let mut nodes: Vec<Row> = replies().filter_map(|reply| Some(row(reply, reply.repair.as_ref()?))).collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Document { nodes, waiting, unreachable: Unreachable::among(answers) }
}

fn row(reply: &StatusReply, repair: &RepairStatus) -> Row {
    let RepairStatus { paused, due, compared, differing, keys_differing, bytes, done, of, eta_s, rebuilding, .. } =
        *repair;
    let running = repair.running.iter().map(|running| Running {
        partition: running.partition.0,
        n: running.n,
        peer: reply.name_of(running.peer),
        keys_differing: running.keys_differing,
        bytes: running.bytes,
    });
    let state = match repair {
        RepairStatus { paused: true, .. } => "paused",
        RepairStatus { rebuilding: Some(_), .. } => "rebuilding",
        RepairStatus { running, .. } if !running.is_empty() => "comparing",
        RepairStatus { due: 0, .. } => "idle",
        _ => "waiting",
    };
    Row {
        node: reply.name.clone(),
        state,
        paused,
        waiting: repair.waiting.clone(),
        due,
        compared,
        differing,
        keys_differing,
        bytes,
        done,
        of,
        eta_s,
        rebuilding,
        running: running.collect(),
        scrub: repair.scrub.clone(),
    }
}

fn print(document: &Document, watch: bool, out: &mut Out) -> Result<(), Failure> {
    let headings = ["NODE", "STATE", "DONE", "DUE", "COMPARED", "DIFFERING", "KEYS", "BYTES", "LEFT"];
    let mut columns = Columns::new(&headings).right(&[2, 3, 4, 5, 6, 7, 8]);
    for row in &document.nodes {
        columns.row([
            row.node.clone(),
            row.state.to_owned(),
            format!("{}/{}", row.done, row.of),
            row.due.to_string(),
            row.compared.to_string(),
            row.differing.to_string(),
            row.keys_differing.to_string(),
            ByteSize(row.bytes).to_string(),
            time(row.eta_s),
        ]);
    }
    if !document.nodes.is_empty() {
        columns.print(out)?;
        out.line("")?;
        scrubs(&document.nodes).print(out)?;
    }
    document.nodes.iter().flat_map(notes).try_for_each(|note| out.line(note))?;
    for node in &document.waiting {
        out.line(format!("{node} has just started and compares nothing yet"))?;
    }
    document.unreachable.iter().try_for_each(|node| out.line(node.line()))?;
    // between two looks
    if watch { out.line("") } else { Ok(()) }
}

/// How far each node has come with reading what it holds.
fn scrubs(nodes: &[Row]) -> Columns {
    let headings = [
        "NODE",
        "SCRUB",
        "LEAVES",
        "RECORDS",
        "BYTES",
        "ROTTEN",
        "WIPED",
        "RANGES",
        "HOPELESS",
        "CORRECTED",
        "NEXT PASS",
    ];
    let mut columns = Columns::new(&headings).right(&[2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for Row { node, scrub, .. } in nodes {
        let ordered = scrub.of > 0;
        let (done, of) = if ordered { (scrub.done, scrub.of) } else { (scrub.walked, scrub.leaves) };
        let state = if scrub.running.is_empty() { "idle" } else { "reading" };
        columns.row([
            node.clone(),
            if ordered { "ordered" } else { state }.to_owned(),
            format!("{done}/{of}"),
            scrub.records.to_string(),
            ByteSize(scrub.bytes).to_string(),
            scrub.rotten.to_string(),
            scrub.wiped.to_string(),
            scrub.stretches.to_string(),
            scrub.hopeless.to_string(),
            scrub.corrected.to_string(),
            time(scrub.walk_ends_s),
        ]);
    }
    columns
}

fn time(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |left| format_duration(Duration::from_secs(left)).to_string())
}

/// What a node's numbers do not say.
fn notes(row: &Row) -> Vec<String> {
    let node = &row.node;
    let running = row.running.iter().map(|running| {
        let Running { partition, n, peer, keys_differing, bytes } = running;
        let keys = count(*keys_differing, "differing key");
        format!("{node} compares partition {partition} (n {n}) with {peer}: {keys}, {} moved", ByteSize(*bytes))
    });
    let rebuilding = row.rebuilding.map(|Rebuilding { done, of }| {
        format!("{node} has lost its disk and fetches what it held: {done} of {} done", count(of, "tree"))
    });
    let waiting = row.waiting.as_ref().map(|why| format!("{node} waits: {why}"));
    let ScrubStatus { lacking, hopeless, .. } = row.scrub;
    let lacks =
        || format!("{node} lacks what was wiped from {}: no read counts it there", count(lacking, "leaf range"));
    let stays = || format!("{node} has records that cannot be read and that no other node holds: see its log");
    let rot = [(lacking > 0).then(lacks), (hopeless > 0).then(stays)];
    running.chain(rebuilding).chain(waiting).chain(rot.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use dynkv::api::RunningRepair;
    use dynkv::types::{NodeId, PartitionId};

    use super::super::super::status::tests::{lost, member, reply};
    use super::*;

    fn says(id: u64, repair: RepairStatus) -> (String, Result<StatusReply, dynkv::client::ClientError>) {
        let members = vec![member(1, true, "aa"), member(2, true, "aa")];
        (format!("h:{id}"), Ok(StatusReply { repair: Some(repair), ..reply(id, members) }))
    }

    fn running() -> RunningRepair {
        RunningRepair { partition: PartitionId(17), n: 3, peer: NodeId(2), keys_differing: 4, bytes: 2048 }
    }

    #[test]
    fn nodes_are_listed_by_name_with_what_they_do() {
        let one = RepairStatus {
            paused: false,
            waiting: Some("n3 is away".into()),
            running: vec![running()],
            due: 5,
            compared: 40,
            differing: 6,
            keys_differing: 70,
            bytes: 8000,
            done: 9,
            of: 96,
            eta_s: Some(75),
            rebuilding: None,
            scrub: ScrubStatus::default(),
        };
        let document = assemble(&[says(2, RepairStatus::default()), says(1, one)]);
        let peer = "n2".to_owned();
        let running = Running { partition: 17, n: 3, peer, keys_differing: 4, bytes: 2048 };
        let first = Row {
            node: "n1".into(),
            state: "comparing",
            paused: false,
            waiting: Some("n3 is away".into()),
            due: 5,
            compared: 40,
            differing: 6,
            keys_differing: 70,
            bytes: 8000,
            done: 9,
            of: 96,
            eta_s: Some(75),
            rebuilding: None,
            running: vec![running],
            scrub: ScrubStatus::default(),
        };
        assert_eq!((&document.nodes[0], document.nodes[1].node.as_str()), (&first, "n2"));
        let said = ["n1 compares partition 17 (n 3) with n2: 4 differing keys, 2.0 KiB moved", "n1 waits: n3 is away"];
        assert_eq!(notes(&document.nodes[0]), said);
        assert_eq!(notes(&document.nodes[1]), [""; 0]);
    }

    #[track_caller]
    fn check_state(repair: RepairStatus, state: &str) {
        assert_eq!(assemble(&[says(1, repair)]).nodes[0].state, state);
    }

    #[test]
    fn the_state_says_what_a_node_is_about() {
        let none = RepairStatus::default;
        let rebuilding = || Some(Rebuilding { done: 1, of: 9 });
        check_state(none(), "idle");
        check_state(RepairStatus { due: 1, ..none() }, "waiting");
        check_state(RepairStatus { due: 1, running: vec![running()], ..none() }, "comparing");
        check_state(RepairStatus { running: vec![running()], rebuilding: rebuilding(), ..none() }, "rebuilding");
        check_state(RepairStatus { paused: true, rebuilding: rebuilding(), ..none() }, "paused");
        let row = assemble(&[says(1, RepairStatus { rebuilding: rebuilding(), ..none() })]).nodes.remove(0);
        assert_eq!(notes(&row), ["n1 has lost its disk and fetches what it held: 1 of 9 trees done"]);
    }

    #[test]
    fn the_scrub_has_lines_of_its_own() {
        let walking = ScrubStatus {
            walked: 64,
            leaves: 4096,
            walk_ends_s: Some(3 * 3600),
            records: 9,
            bytes: 2048,
            ..ScrubStatus::default()
        };
        let ordered = ScrubStatus {
            running: vec![PartitionId(3)],
            done: 100,
            of: 1024,
            leaves: 4096,
            rotten: 5,
            wiped: 3,
            hopeless: 2,
            corrected: 1,
            lacking: 1,
            ..ScrubStatus::default()
        };
        let of = |scrub| RepairStatus { scrub, ..RepairStatus::default() };
        let document = assemble(&[says(1, of(walking)), says(2, of(ordered))]);
        let lines = [
            "NODE  SCRUB      LEAVES  RECORDS    BYTES  ROTTEN  WIPED  RANGES  HOPELESS  CORRECTED  NEXT PASS",
            "n1    idle      64/4096        9  2.0 KiB       0      0       0         0          0         3h",
            "n2    ordered  100/1024        0      0 B       5      3       0         2          1          -",
        ];
        assert_eq!(scrubs(&document.nodes).lines(), lines);
        assert_eq!(notes(&document.nodes[0]), [""; 0]);
        let said = [
            "n2 lacks what was wiped from 1 leaf range: no read counts it there",
            "n2 has records that cannot be read and that no other node holds: see its log",
        ];
        assert_eq!(notes(&document.nodes[1]), said);
    }

    #[test]
    fn a_list_without_somebodys_word_is_not_whole() {
        let whole = assemble(&[says(1, RepairStatus::default())]);
        assert_eq!((whole.waiting.len(), whole.unreachable.len(), whole.exit()), (0, 0, Exit::Ok));
        let begun = assemble(&[says(1, RepairStatus::default()), ("h:2".to_owned(), Ok(reply(2, vec![])))]);
        assert_eq!((begun.waiting.clone(), begun.exit()), (vec!["n2".to_owned()], Exit::Partly));
        let lost = assemble(&[says(1, RepairStatus::default()), ("h:2".to_owned(), lost())]);
        assert_eq!((lost.unreachable[0].address.as_str(), lost.exit()), ("h:2", Exit::Partly));
    }

    #[test]
    fn looks_that_follow_each_other_are_lines() {
        let format = |watch, asked| Args { watch }.format(asked);
        assert_eq!((format(false, Format::Json), format(true, Format::Json)), (Format::Json, Format::Jsonl));
        assert_eq!((format(false, Format::Table), format(true, Format::Table)), (Format::Table, Format::Table));
    }
}
