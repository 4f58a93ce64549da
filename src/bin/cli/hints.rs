//! `hints`

mod order;

use std::time::{SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use humantime::format_duration;
use serde::Serialize;

use super::answers::{Answers, Unreachable};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Columns, Out};

/// Show, replay or drop what nodes keep for others that missed writes.
///
/// A counted hint stands for a write that was acknowledged because of it: it stays until its target holds the write.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli hints list
  dynkv-cli hints flush --target n3
  dynkv-cli hints drop --target n3 --yes     # n3 never returns; what only waited for it is lost")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List what waits, by holder and target, and when it will be gone at today's rate.
    ///
    /// Exit 7 if a node did not answer.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli hints list
  dynkv-cli hints list -o json | jq '.hints[] | select(.counted > 0)'")]
    List,
    /// Replay at once, however often it has failed.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli hints flush
  dynkv-cli hints flush --target n3 --node n1")]
    Flush(order::FlushArgs),
    /// Drop all that waits for a node which is never to return, acknowledged writes included.
    ///
    /// On a terminal it asks; elsewhere it wants --yes.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli hints drop --target n3 --yes")]
    Drop(order::DropArgs),
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::List => list(context).await,
        Verb::Flush(args) => order::flush(context, args).await,
        Verb::Drop(args) => order::drop(context, args).await,
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Document {
    hints: Vec<Row>,
    total: u64,
    /// Nodes that have started of late and still count what they keep: more may come.
    counting: Vec<String>,
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Row {
    holder: String,
    target: String,
    target_id: String,
    hints: u64,
    counted: u64,
    bytes: u64,
    oldest_age_s: u64,
    replayed: u64,
    rate: u64,
    /// At today's rate; null while nothing moves.
    drains_in_s: Option<u64>,
}

#[allow(clippy::disallowed_methods, reason = "ages are for people, by this machine's clock")]
async fn list(context: &Context) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let document = assemble(&client.status_all().await, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    context.show(&document, print)?;
    Ok(document.exit())
}

impl Document {
    fn exit(&self) -> Exit {
        let is_all = self.unreachable.is_empty() && self.counting.is_empty();
        if is_all { Exit::Ok } else { Exit::Partly }
    }
}

fn assemble(answers: &Answers, now_ms: u64) -> Document {
    let replies = || answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let counting = replies().filter(|reply| !reply.hints_counted).map(|reply| reply.name.clone()).collect();
    let mut hints: Vec<Row> = replies()
        .flat_map(|reply| {
            reply.hints.iter().map(|kept| Row {
                holder: reply.name.clone(),
                target: reply.name_of(kept.target),
                target_id: kept.target.to_string(),
                hints: kept.hints,
                counted: kept.counted,
                bytes: kept.bytes,
                oldest_age_s: now_ms.saturating_sub(kept.oldest_wall_ms) / 1000,
                replayed: kept.replayed,
                rate: kept.rate,
                drains_in_s: kept.drains_in().map(|time| time.as_secs()),
            })
        })
        .collect();
    hints.sort_by(|a, b| (&a.target, &a.holder).cmp(&(&b.target, &b.holder)));
    let unreachable = Unreachable::among(answers);
    Document { total: hints.iter().map(|row| row.hints).sum(), hints, counting, unreachable }
}

fn print(document: &Document, out: &mut Out) -> Result<(), Failure> {
    let headings = ["HOLDER", "TARGET", "HINTS", "COUNTED", "BYTES", "OLDEST", "RATE", "DRAINED IN"];
    let mut columns = Columns::new(&headings).right(&[2, 3, 4, 5, 6, 7]);
    for row in &document.hints {
        let time = |seconds| format_duration(std::time::Duration::from_secs(seconds)).to_string();
        columns.row([
            row.holder.clone(),
            row.target.clone(),
            row.hints.to_string(),
            row.counted.to_string(),
            ByteSize(row.bytes).to_string(),
            time(row.oldest_age_s),
            format!("{}/s", ByteSize(row.rate)),
            row.drains_in_s.map_or_else(|| "not moving".to_owned(), time),
        ]);
    }
    if document.hints.is_empty() {
        out.line("nothing waits for anybody")?;
    } else {
        columns.print(out)?;
    }
    for node in &document.counting {
        out.line(format!("{node} has just started and still counts what it keeps"))?;
    }
    document.unreachable.iter().try_for_each(|node| out.line(node.line()))
}

#[cfg(test)]
mod tests {
    use dynkv::api::StatusReply;

    use super::super::status::tests::{backlog, lost, member, reply};
    use super::*;

    #[test]
    fn what_waits_is_listed_by_target_and_holder() {
        let members = || vec![member(2, true, "aa"), member(3, false, "aa")];
        let one = StatusReply { hints: vec![backlog(3, 2, 0), backlog(2, 1, 50)], ..reply(1, members()) };
        let four = StatusReply { hints: vec![backlog(3, 4, 0), backlog(2, 8, 0)], ..reply(4, members()) };
        let document = assemble(&[("h:4".into(), Ok(four)), ("h:1".into(), Ok(one))], 65_000);
        let row = |row: &Row| (row.target.clone(), row.holder.clone(), row.hints, row.counted, row.drains_in_s);
        let rows: Vec<_> = document.hints.iter().map(row).collect();
        let known =
            |target: &str, holder: &str, hints, drains| (target.to_owned(), holder.to_owned(), hints, 1, drains);
        assert_eq!(
            rows,
            [
                known("n2", "n1", 1, Some(2)),
                known("n2", "n4", 8, None),
                known("n3", "n1", 2, None),
                known("n3", "n4", 4, None)
            ]
        );
        assert_eq!((document.total, document.hints[0].oldest_age_s), (15, 60));
    }

    #[test]
    fn a_list_without_somebodys_word_is_not_whole() {
        let one = |hints_counted| ("h:1".to_owned(), Ok(StatusReply { hints_counted, ..reply(1, vec![]) }));
        let two = || ("h:2".to_owned(), lost());
        let whole = assemble(&[one(true)], 0);
        assert_eq!((whole.counting.len(), whole.unreachable.len(), whole.exit()), (0, 0, Exit::Ok));
        let counting = assemble(&[one(false)], 0);
        assert_eq!((counting.counting.clone(), counting.exit()), (vec!["n1".to_owned()], Exit::Partly));
        let lost = assemble(&[one(true), two()], 0);
        assert_eq!((lost.exit(), lost.unreachable), (Exit::Partly, Unreachable::among(&[two()])));
    }
}
