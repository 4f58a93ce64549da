//! `where`

use std::time::Duration;

use dynkv::api::{Holding, WhereReply};
use dynkv::client::Client;
use dynkv::types::NodeId;
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::exit::{Exit, Failure};
use super::output::{Columns, Out, count, ms, ms_number};

/// Show where a key lives and what each replica holds of it.
///
/// Equal digests are equal versions. A replica that is behind stays so until the key is written again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli where cart:7
  dynkv-cli where cart:7 -o json")]
pub struct Args {
    /// The key.
    #[arg(value_name = "KEY")]
    name: String,
    #[command(flatten)]
    bucket: BucketArg,
}

#[derive(Serialize)]
struct Document<'a> {
    bucket: &'a str,
    key: &'a str,
    token: String,
    partition: u16,
    slots: Vec<Slot>,
    stand_ins: Vec<String>,
    /// Whether all replicas answered and hold the same.
    agree: bool,
    from: &'a str,
    ms: f64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Slot {
    slot: usize,
    node: String,
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    siblings: usize,
    dots: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Slot {
    fn new(slot: usize, node: String, holding: &Holding) -> Slot {
        let bare = Slot { slot, node, up: true, digest: None, siblings: 0, dots: vec![], reason: None };
        match holding {
            Holding::Nothing => bare,
            Holding::Version { digest, siblings } => Slot {
                digest: Some(digest.clone()),
                siblings: siblings.len(),
                dots: siblings.iter().map(|meta| format!("{}:{}", meta.dot.actor, meta.dot.counter)).collect(),
                ..bare
            },
            Holding::NoAnswer { reason } => Slot { up: false, reason: Some(reason.clone()), ..bare },
        }
    }

    fn cells(&self) -> [String; 6] {
        let digest = match (&self.digest, self.up) {
            (Some(digest), _) => digest.chars().take(8).collect(),
            (None, true) => "nothing".to_owned(),
            (None, false) => "?".to_owned(),
        };
        let versions = if self.up { self.siblings.to_string() } else { String::new() };
        let note = self.reason.clone().unwrap_or_else(|| self.dots.join(" "));
        let state = if self.up { "up" } else { "down" };
        [self.slot.to_string(), self.node.clone(), state.to_owned(), digest, versions, note]
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let key = context.key(&args.name)?;
    let client = context.connect().await?;
    let found = client.where_is(&args.bucket.bucket, &key).await;
    let found = found.map_err(|error| Failure::about(format!("where {}", args.name), &error))?;
    let slots = slots(&client, &found.reply);
    let document = Document {
        bucket: args.bucket.bucket.as_str(),
        key: &args.name,
        token: format!("{:016x}", found.reply.token),
        partition: found.reply.partition.0,
        agree: slots.iter().all(|slot| slot.up && slot.digest == slots[0].digest),
        slots,
        stand_ins: found.reply.stand_ins.iter().map(|node| client.name_of(*node)).collect(),
        from: &found.from,
        ms: ms_number(found.elapsed),
    };
    context.show(&document, |document, out| print(document, found.elapsed, out))?;
    Ok(Exit::Ok)
}

fn print(document: &Document<'_>, elapsed: Duration, out: &mut Out) -> Result<(), Failure> {
    let Document { token, partition, slots, stand_ins, agree, .. } = document;
    out.line(format!("token {token}  partition {partition}  {}", ms(elapsed)))?;
    out.line("")?;
    let mut columns = Columns::new(&["SLOT", "NODE", "STATE", "DIGEST", "VERSIONS", "DOTS"]).right(&[0, 4]);
    slots.iter().for_each(|slot| columns.row(slot.cells()));
    columns.print(out)?;
    out.line("")?;
    out.line(format!("stand-ins  {}", if stand_ins.is_empty() { "none".to_owned() } else { stand_ins.join(", ") }))?;
    out.line(summary(slots, *agree))
}

fn slots(client: &Client, reply: &WhereReply) -> Vec<Slot> {
    let slot =
        |(number, (node, holding)): (usize, &(NodeId, Holding))| Slot::new(number, client.name_of(*node), holding);
    reply.slots.iter().enumerate().map(slot).collect()
}

fn summary(slots: &[Slot], agree: bool) -> String {
    let down = slots.iter().filter(|slot| !slot.up).count() as u64;
    match (agree, down) {
        (true, _) => "all replicas hold the same".to_owned(),
        (false, 0) => "the replicas differ: the next write of the key brings them together".to_owned(),
        (false, down) => format!("no answer from {}", count(down, "replica")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_called_nothing() {
        let nothing = Slot::new(0, "n1".into(), &Holding::Nothing);
        assert_eq!(nothing.cells(), ["0", "n1", "up", "nothing", "0", ""]);
        let silent = Slot::new(1, "n2".into(), &Holding::NoAnswer { reason: "timed out".into() });
        assert_eq!(silent.cells(), ["1", "n2", "down", "?", "", "timed out"]);
        let held = Slot::new(2, "n3".into(), &Holding::Version { digest: "0123456789abcdef".into(), siblings: vec![] });
        assert_eq!(held.cells()[3], "01234567");
        assert_eq!(
            summary(&[nothing, held], false),
            "the replicas differ: the next write of the key brings them together"
        );
        assert_eq!(summary(&[silent], false), "no answer from 1 replica");
    }
}
