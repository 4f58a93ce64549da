//! `explain`

use dynkv::api::{Explain, ExplainReply};
use dynkv::client::Client;
use dynkv::quorum::{Condition, Forecast};
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::exit::{Exit, Failure};
use super::output::{Columns, Out, count};
use super::quorum::{ReadQuorum, WriteQuorum};

/// Explain what a read and a write of a key would come to now, without doing either.
///
/// A node, a primary if one can be reached, tells whom it relies on, to whom a put would go, whom a get would ask first, and
/// how many more nodes may fail, by the worst of luck, before either is unavailable. Exit 8 if one is already.
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

impl Outcome {
    fn new(forecast: Forecast, name: impl Fn(dynkv::types::NodeId) -> String) -> Outcome {
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
    let document = document(&client, bucket.bucket.as_str(), &name, reply);
    context.show(&document, print)?;
    Ok(if document.read.succeeds && document.write.succeeds { Exit::Ok } else { Exit::Degraded })
}

fn document<'a>(client: &Client, bucket: &'a str, key: &'a str, reply: ExplainReply) -> Document<'a> {
    let name = |node| client.name_of(node);
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
    for row in &document.preference {
        let role = row.slot.map_or_else(|| "stand-in".to_owned(), |slot| format!("primary {slot}"));
        let state =
            if row.rebuilding { format!("{}, rebuilding", word(row.state)) } else { word(row.state).to_owned() };
        columns.row([role, row.node.clone(), state]);
    }
    columns.print(out)?;
    out.line("")?;
    out.line(document.write.line("put", "goes to"))?;
    out.line(document.read.line("get", "asks first"))
}

#[cfg(test)]
mod tests {
    use dynkv::types::NodeId;

    use super::*;

    #[test]
    fn a_forecast_reads_as_a_sentence() {
        let line = |succeeds, reason: &str, asked: &[(u8, NodeId)]| {
            let forecast = Forecast { succeeds, reason: reason.into(), margin: 1, asked: asked.to_vec() };
            Outcome::new(forecast, |node| format!("n{}", node.0)).line("put", "goes to")
        };
        assert_eq!(
            line(true, "", &[(0, NodeId(1)), (1, NodeId(4))]),
            "put  would succeed, and survives 1 more failure  (goes to 0=n1 1=n4)"
        );
        assert_eq!(line(false, "unavailable: x", &[]), "put  unavailable: x  (goes to nobody)");
    }
}
