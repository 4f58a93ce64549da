//! `tombstones stats`

use std::time::Duration;

use dynkv::api::{TombstoneStats, TombstoneWait};
use dynkv::client::ClientError;
use dynkv::ring::Member;
use dynkv::types::NodeId;
use humantime::format_duration;
use serde::Serialize;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::orders::unknown;
use super::super::output::{Columns, Out, count};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this node's.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Document {
    nodes: Vec<Row>,
    unreachable: Vec<Unreachable>,
}

/// What a node holds.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    node: String,
    tombstones: u64,
    oldest_age_s: Option<u64>,
    ages: Ages,
    /// What they wait for.
    waits: Vec<TombstoneWait>,
    /// Entries of its index that it cannot read.
    unreadable: u64,
    /// Why there may be more.
    incomplete: Option<String>,
}

/// How many are younger than each bound and no younger than the one before.
#[derive(Debug, PartialEq, Serialize)]
struct Ages {
    minute: u64,
    hour: u64,
    day: u64,
    week: u64,
    older: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Unreachable {
    node: String,
    reason: String,
}

type Answers = Vec<(String, Result<TombstoneStats, ClientError>)>;

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let view = client.ring().expect("it has just been fetched");
    let asked = asked(view.layout().members(), args.node.as_deref())?;
    let nodes: Vec<NodeId> = asked.iter().map(|member| member.id).collect();
    let answers = client.tombstones(&nodes).await;
    let document = assemble(asked.into_iter().map(|member| member.name).zip(answers).collect())?;
    context.show(&document, print)?;
    Ok(document.exit())
}

/// Whom to ask: the one named, or every member.
fn asked(members: &[Member], node: Option<&str>) -> Result<Vec<Member>, Failure> {
    let asked: Vec<Member> =
        members.iter().filter(|member| node.is_none_or(|name| member.name == name)).cloned().collect();
    match node {
        Some(name) if asked.is_empty() => Err(unknown("node", name, members)),
        _ => Ok(asked),
    }
}

impl Document {
    fn exit(&self) -> Exit {
        let is_all = self.unreachable.is_empty() && self.nodes.iter().all(|row| row.incomplete.is_none());
        if is_all { Exit::Ok } else { Exit::Partly }
    }
}

/// # Errors
/// Nobody answered.
fn assemble(answers: Answers) -> Result<Document, Failure> {
    if answers.iter().all(|(_, answer)| answer.is_err())
        && let Some((name, Err(error))) = answers.first()
    {
        return Err(Failure::about(format!("no node has counted; {name}"), error));
    }
    let (mut nodes, mut unreachable) = (Vec::new(), Vec::new());
    for (node, answer) in answers {
        match answer {
            Ok(stats) => nodes.push(row(node, stats)),
            Err(error) => unreachable.push(Unreachable { node, reason: error.to_string() }),
        }
    }
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(Document { nodes, unreachable })
}

fn row(node: String, stats: TombstoneStats) -> Row {
    let [minute, hour, day, week, older] = stats.ages;
    Row {
        node,
        tombstones: stats.count,
        oldest_age_s: stats.oldest_ms.map(|age| age / 1000),
        ages: Ages { minute, hour, day, week, older },
        waits: stats.waits,
        unreadable: stats.unreadable,
        incomplete: stats.incomplete,
    }
}

fn table(nodes: &[Row]) -> Columns {
    let headings = ["NODE", "TOMBSTONES", "OLDEST", "<1 MIN", "<1 H", "<1 DAY", "<1 WEEK", "OLDER"];
    let mut columns = Columns::new(&headings).right(&[1, 2, 3, 4, 5, 6, 7]);
    for Row { node, tombstones, oldest_age_s, ages, .. } in nodes {
        let age = |seconds| format_duration(Duration::from_secs(seconds)).to_string();
        columns.row([
            node.clone(),
            tombstones.to_string(),
            oldest_age_s.map_or_else(|| "-".to_owned(), age),
            ages.minute.to_string(),
            ages.hour.to_string(),
            ages.day.to_string(),
            ages.week.to_string(),
            ages.older.to_string(),
        ]);
    }
    columns
}

/// What a node's numbers do not say.
fn notes(row: &Row) -> Vec<String> {
    let Row { node, waits, unreadable, incomplete, .. } = row;
    let waits = waits.iter().map(|wait| format!("{node}, {}: {}", count(wait.count, "tombstone"), wait.reason));
    let unreadable = (*unreadable > 0).then(|| {
        let entries = if *unreadable == 1 { "1 entry".to_owned() } else { format!("{unreadable} entries") };
        format!("{node} cannot read {entries} of its index: `dynkv-cli repair scrub --node {node}` puts that right")
    });
    let incomplete = incomplete.as_ref().map(|why| format!("{node} may hold more: {why}"));
    waits.chain(unreadable).chain(incomplete).collect()
}

fn print(document: &Document, out: &mut Out) -> Result<(), Failure> {
    table(&document.nodes).print(out)?;
    document.nodes.iter().flat_map(notes).try_for_each(|note| out.line(note))?;
    document.unreachable.iter().try_for_each(|lost| out.line(format!("no answer from {}: {}", lost.node, lost.reason)))
}

#[cfg(test)]
mod tests {
    use dynkv::ring::Weight;

    use super::super::super::status::tests::lost;
    use super::*;

    fn holds(stats: TombstoneStats) -> Result<TombstoneStats, ClientError> {
        Ok(stats)
    }

    fn gone() -> Result<TombstoneStats, ClientError> {
        lost().map(|_| TombstoneStats::default())
    }

    fn stats() -> TombstoneStats {
        let wait = |reason: &str, count| TombstoneWait { reason: reason.into(), count };
        TombstoneStats {
            count: 15,
            ages: [1, 2, 3, 4, 5],
            oldest_ms: Some(90_061_999),
            waits: vec![
                wait("n1 runs the rounds of 2 partitions: n3 is away", 1),
                wait("n2 runs the rounds of 12 partitions", 14),
            ],
            ..TombstoneStats::default()
        }
    }

    #[test]
    fn nodes_are_listed_by_name_with_what_their_tombstones_wait_for() {
        let answers = vec![("n2".to_owned(), holds(TombstoneStats::default())), ("n1".to_owned(), holds(stats()))];
        let document = assemble(answers).unwrap();
        let lines = table(&document.nodes).lines();
        let expected = [
            "NODE  TOMBSTONES       OLDEST  <1 MIN  <1 H  <1 DAY  <1 WEEK  OLDER",
            "n1            15  1day 1h 1m 1s       1     2       3        4      5",
            "n2             0             -       0     0       0        0      0",
        ];
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines.iter().map(|line| words(line)).collect::<Vec<_>>(), expected.map(words));
        let said = [
            "n1, 1 tombstone: n1 runs the rounds of 2 partitions: n3 is away",
            "n1, 14 tombstones: n2 runs the rounds of 12 partitions",
        ];
        assert_eq!(notes(&document.nodes[0]), said);
        assert_eq!(notes(&document.nodes[1]), [""; 0]);
        assert_eq!(document.exit(), Exit::Ok);
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!(
            (&json["nodes"][0]["ages"]["older"], &json["nodes"][0]["oldest_age_s"]),
            (&5.into(), &90_061.into())
        );
        assert_eq!(json["nodes"][0]["waits"][1]["count"], 14);
    }

    #[test]
    fn what_is_not_all_is_said_and_told_by_the_exit() {
        let part = TombstoneStats { unreadable: 2, incomplete: Some("no ring yet".into()), ..stats() };
        let document = assemble(vec![("n1".into(), holds(part))]).unwrap();
        let notes = notes(&document.nodes[0]);
        assert_eq!(
            notes[2],
            "n1 cannot read 2 entries of its index: `dynkv-cli repair scrub --node n1` puts that right"
        );
        assert_eq!((notes[3].as_str(), document.exit()), ("n1 may hold more: no ring yet", Exit::Partly));
        let document = assemble(vec![("n1".into(), gone()), ("n2".into(), holds(stats()))]).unwrap();
        assert_eq!((document.unreachable[0].node.as_str(), document.exit()), ("n1", Exit::Partly));
        let failure = assemble(vec![("n1".into(), gone())]).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message().starts_with("no node has counted; n1: "), "{}", failure.message());
    }

    #[test]
    fn one_node_or_all_are_asked() {
        let member = |id| Member {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: "z".into(),
            weight: Weight::ONE,
            address: "h:1".into(),
        };
        let members: Vec<Member> = (1..=3).map(member).collect();
        let names = |node| {
            let asked = asked(&members, node).map_err(|failure| failure.message().to_owned());
            asked.map(|asked| asked.into_iter().map(|member| member.name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!((names(None), names(Some("n2"))), (Ok("n1 n2 n3".into()), Ok("n2".into())));
        assert_eq!(names(Some("n9")), Err("node \"n9\" is not known; members are n1, n2, n3".into()));
    }
}
