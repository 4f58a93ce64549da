//! `explain`

use dynkv::api::{Explain, ExplainReply};
use dynkv::quorum::{Condition, Forecast};
use dynkv::types::NodeId;
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::exit::{Exit, Failure};
use super::output::{Columns, Out, count};
use super::quorum::{ReadQuorum, WriteQuorum};

/// Explain what a read and a write of a key would come to now, without doing either.
///
/// The node that a put would go to first tells whom it relies on, to whom a put would go, whom a get would ask first, and
/// how many more nodes may fail, by the worst of luck, before either is unavailable to it. Exit 8 if one is already; a put then goes on to the next node.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli explain cart:7
  dynkv-cli explain cart:7 -r all -w all --strict
  dynkv-cli explain cart:7 -o json | jq .write.margin")]
pub struct Args {
    /// The key.
    #[arg(value_name = "KEY")]
    name: String,
    #[command(flatten)]
    bucket: BucketArg,
    #[command(flatten)]
    read: ReadQuorum,
    #[command(flatten)]
    write: WriteQuorum,
}

#[derive(Serialize)]
struct Document<'a> {
    bucket: &'a str,
    key: &'a str,
    token: String,
    partition: u16,
    n: u8,
    r: u8,
    pr: u8,
    w: u8,
    pw: u8,
    dw: u8,
    /// Whose view it is.
    from: String,
    coordinator: String,
    preference: Vec<Row>,
    read: Outcome,
    write: Outcome,
}

#[derive(Serialize)]
struct Row {
    node: String,
    /// Null for one that would stand in.
    slot: Option<u8>,
    state: Condition,
    rebuilding: bool,
}

#[derive(Serialize)]
struct Outcome {
    succeeds: bool,
    reason: String,
    margin: u8,
    asked: Vec<Asked>,
}

#[derive(Serialize)]
struct Asked {
    slot: u8,
    node: String,
}

impl Row {
    /// Its role, its name, and how it is.
    fn cells(&self) -> [String; 3] {
        let role = self.slot.map_or_else(|| "stand-in".to_owned(), |slot| format!("primary {slot}"));
        let state = word(self.state);
        let state = if self.rebuilding { format!("{state}, rebuilding") } else { state.to_owned() };
        [role, self.node.clone(), state]
    }
}

impl Outcome {
    fn new(forecast: Forecast, name: impl Fn(NodeId) -> String) -> Outcome {
        let Forecast { succeeds, reason, margin, asked } = forecast;
        let asked = asked.into_iter().map(|(slot, node)| Asked { slot, node: name(node) });
        Outcome { succeeds, reason, margin, asked: asked.collect() }
    }

    fn line(&self, what: &str, to: &str) -> String {
        let asked: Vec<String> = self.asked.iter().map(|asked| format!("{}={}", asked.slot, asked.node)).collect();
        let verdict = match (self.succeeds, self.reason.is_empty()) {
            (true, true) => format!("would succeed, and survives {}", count(self.margin.into(), "more failure")),
            (true, false) => format!("would succeed {}", self.reason),
            (false, _) => self.reason.clone(),
        };
        format!("{what}  {verdict}  ({to} {})", if asked.is_empty() { "nobody".to_owned() } else { asked.join(" ") })
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Args { name, bucket, read, write } = args;
    let key = context.key(&name)?;
    let client = context.connect().await?;
    let (ReadQuorum { r, pr }, WriteQuorum { w, pw, dw, strict }) = (read, write);
    let asked = Explain { bucket: bucket.bucket.clone(), key, r, pr, w, pw, dw, strict };
    let reply = client.explain(asked).await.map_err(|error| Failure::about(format!("explain {name}"), &error))?;
    let document = document(|node| client.name_of(node), bucket.bucket.as_str(), &name, reply);
    context.show(&document, print)?;
    Ok(document.exit())
}

impl Document<'_> {
    fn exit(&self) -> Exit {
        if self.read.succeeds && self.write.succeeds { Exit::Ok } else { Exit::Degraded }
    }
}

fn document<'a>(
    name: impl Fn(NodeId) -> String + Copy,
    bucket: &'a str,
    key: &'a str,
    reply: ExplainReply,
) -> Document<'a> {
    let preference = reply.candidates.iter().map(|known| Row {
        node: name(known.node),
        slot: known.slot,
        state: known.condition,
        rebuilding: known.rebuilding,
    });
    Document {
        bucket,
        key,
        token: format!("{:016x}", reply.token),
        partition: reply.partition.0,
        n: reply.n,
        r: reply.r.0,
        pr: reply.r.1,
        w: reply.w.0,
        pw: reply.w.1,
        dw: reply.w.2,
        from: name(reply.node),
        coordinator: name(reply.coordinator),
        preference: preference.collect(),
        read: Outcome::new(reply.read, name),
        write: Outcome::new(reply.write, name),
    }
}

fn word(state: Condition) -> &'static str {
    match state {
        Condition::Itself => "itself",
        Condition::Up => "up",
        Condition::NoLink => "no link",
        Condition::Silent => "silent",
        Condition::Convicted => "held for dead",
        Condition::ReadOnly => "itself, read-only",
    }
}

fn print(document: &Document<'_>, out: &mut Out) -> Result<(), Failure> {
    let Document { token, partition, n, r, pr, w, pw, dw, from, coordinator, .. } = document;
    out.line(format!("token {token}  partition {partition}  n={n} r={r} pr={pr} w={w} pw={pw} dw={dw}"))?;
    out.line(format!("as {from} sees it; a put is coordinated by {coordinator}"))?;
    out.line("")?;
    let mut columns = Columns::new(&["ROLE", "NODE", "STATE"]);
    document.preference.iter().for_each(|row| columns.row(row.cells()));
    columns.print(out)?;
    out.line("")?;
    out.line(document.write.line("put", "goes to"))?;
    out.line(document.read.line("get", "asks first"))
}

#[cfg(test)]
mod tests {
    use dynkv::quorum::Candidate;
    use dynkv::types::PartitionId;

    use super::*;

    fn forecast(succeeds: bool, reason: &str, asked: &[(u8, NodeId)]) -> Forecast {
        Forecast { succeeds, reason: reason.into(), margin: 1, asked: asked.to_vec() }
    }

    #[test]
    fn a_forecast_reads_as_a_sentence() {
        let line = |succeeds, reason: &str, asked: &[(u8, NodeId)]| {
            Outcome::new(forecast(succeeds, reason, asked), |node| format!("n{}", node.0)).line("put", "goes to")
        };
        assert_eq!(
            line(true, "", &[(0, NodeId(1)), (1, NodeId(4))]),
            "put  would succeed, and survives 1 more failure  (goes to 0=n1 1=n4)"
        );
        let condition = "only if those who stand in hold the key";
        assert_eq!(line(true, condition, &[(2, NodeId(4))]), format!("put  would succeed {condition}  (goes to 2=n4)"));
        assert_eq!(line(false, "unavailable: x", &[]), "put  unavailable: x  (goes to nobody)");
    }

    /// As `n1` sees it, for a put that `n2` would coordinate; the quorums are all different.
    fn explained(read: bool, write: bool) -> Document<'static> {
        let candidate =
            |(node, slot, condition, rebuilding)| Candidate { node: NodeId(node), slot, condition, rebuilding };
        let candidates = [
            (1, Some(0), Condition::ReadOnly, false),
            (2, Some(1), Condition::Silent, true),
            (3, None, Condition::Convicted, false),
        ];
        let reply = ExplainReply {
            token: 0xab,
            partition: PartitionId(7),
            n: 9,
            r: (2, 1),
            w: (5, 3, 4),
            node: NodeId(1),
            coordinator: NodeId(2),
            candidates: candidates.map(candidate).to_vec(),
            read: forecast(read, "", &[]),
            write: forecast(write, "", &[]),
        };
        document(|node| format!("n{}", node.0), "b", "k", reply)
    }

    #[test]
    fn a_document_says_what_was_answered_by_name() {
        let Document { n, r, pr, w, pw, dw, from, coordinator, preference, token, .. } = explained(true, true);
        assert_eq!((n, r, pr, w, pw, dw), (9, 2, 1, 5, 3, 4));
        assert_eq!((&*from, &*coordinator, &*token), ("n1", "n2", "00000000000000ab"));
        assert_eq!(
            preference.iter().map(Row::cells).collect::<Vec<_>>(),
            [
                ["primary 0", "n1", "itself, read-only"],
                ["primary 1", "n2", "silent, rebuilding"],
                ["stand-in", "n3", "held for dead"]
            ]
        );
    }

    #[test]
    fn a_key_that_cannot_be_read_or_cannot_be_written_is_degraded() {
        let exits = [(true, true), (false, true), (true, false)].map(|(read, write)| explained(read, write).exit());
        assert_eq!(exits, [Exit::Ok, Exit::Degraded, Exit::Degraded]);
    }
}
