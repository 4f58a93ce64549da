//! `repair status`

use std::time::Duration;

use bytesize::ByteSize;
use dynkv::api::{Rebuilding, RepairStatus, StatusReply};
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
            row.eta_s.map_or_else(|| "-".to_owned(), |left| format_duration(Duration::from_secs(left)).to_string()),
        ]);
    }
    if !document.nodes.is_empty() {
        columns.print(out)?;
    }
    document.nodes.iter().flat_map(notes).try_for_each(|note| out.line(note))?;
    for node in &document.waiting {
        out.line(format!("{node} has just started and compares nothing yet"))?;
    }
    document.unreachable.iter().try_for_each(|node| out.line(node.line()))?;
    // between two looks
    if watch { out.line("") } else { Ok(()) }
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
    running.chain(rebuilding).chain(waiting).collect()
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
