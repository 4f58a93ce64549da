//! `get`

use std::path::PathBuf;

use clap::ValueEnum;
use dynkv::client::{Client, GetOptions, GetResult, Value};
use dynkv::types::Key;
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::encoding::{parse_context, printable, show_context};
use super::exit::{Exit, Failure};
use super::output::{Format, Out, count, ms, ms_number};
use super::quorum::ReadQuorum;
use super::record::{AckRecord, KeyRecord, acks, names, time};
use super::trace::{self, TraceRecord};

/// Read keys.
///
/// On a terminal: the value, or all concurrent ones (siblings), and the context that the next write should carry. In a pipe:
/// the value's bytes and nothing else. Several keys in a pipe: one JSON document a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli get cart:7
  dynkv-cli get cart:7 > cart.json                  # exactly the value's bytes; exit 4 if there are siblings
  dynkv-cli get cart:7 --context-out ctx && dynkv-cli put cart:7 new -c @ctx
  dynkv-cli get cart:7 --after @ctx                 # nothing older than what was seen or written before
  dynkv-cli get cart:7 --repair blocking            # whoever reads next sees this, too
  dynkv-cli get cart:7 --trace                      # and who was asked when, and where the time went
  dynkv-cli get a b c -o jsonl")]
pub struct Args {
    /// The keys.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    bucket: BucketArg,
    #[command(flatten)]
    quorum: ReadQuorum,
    /// Read from primaries only: nobody stands in for one that is away.
    #[arg(long)]
    strict: bool,
    /// A context of an earlier get or put of this key, or `@FILE` that holds it: the answer is at least that new, or there is none.
    #[arg(long, value_name = "CONTEXT")]
    after: Option<String>,
    /// Whether the answer waits until so many replicas have the result on disk that no later strict read of R goes behind it.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    repair: Repair,
    /// Which of a key's concurrent values; `all` on a terminal and in JSON, `fail` (exit 4) when raw.
    #[arg(long, value_enum)]
    siblings: Option<Siblings>,
    /// Show who wrote each value, and when.
    #[arg(long)]
    meta: bool,
    /// Write the context to this file, for `put -c @FILE`.
    #[arg(long, value_name = "FILE")]
    context_out: Option<PathBuf>,
    /// Show who was asked when, and where the time went; in a pipe on stderr, in JSON as `trace`.
    #[arg(long)]
    trace: bool,
    /// It was asked for by the verb `trace`: the value's bytes are not what is wanted.
    #[arg(skip)]
    trace_only: bool,
}

impl Args {
    /// As `trace get` has it.
    pub fn traced(self) -> Args {
        Args { trace: true, trace_only: true, ..self }
    }
}

/// When replicas that are behind are brought up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Repair {
    /// Behind the answer.
    #[default]
    Async,
    /// Before it.
    Blocking,
}

/// What to do with concurrent values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Siblings {
    /// Give them all.
    All,
    /// Give the one with the latest wall clock; a write with this read's context replaces the others too.
    Lww,
    /// Give none, and exit 4.
    Fail,
}

#[derive(Serialize)]
struct Document<'a> {
    bucket: &'a str,
    #[serde(flatten)]
    record: KeyRecord,
    found: bool,
    deleted: bool,
    acks: Vec<AckRecord>,
    repaired: Vec<String>,
    n: u8,
    r: u8,
    from: &'a str,
    attempts: u32,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceRecord>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let keys = args.keys.iter().map(|key| context.key(key)).collect::<Result<Vec<_>, _>>()?;
    if args.context_out.is_some() && keys.len() > 1 {
        return Err(Failure::usage("--context-out takes the context of one key: get one at a time"));
    }
    if args.after.is_some() && keys.len() > 1 {
        return Err(Failure::usage("--after takes the context of one key: get one at a time"));
    }
    let in_pipe = match keys.len() {
        _ if args.trace_only => Format::Table,
        1 => Format::Raw,
        _ => Format::Jsonl,
    };
    let format = context.format(Format::Table, in_pipe);
    let client = context.connect().await?;
    let mut out = context.out();
    let (mut missing, mut failed) = (0, Vec::new());
    for key in &keys {
        match one(context, &client, &args, format, key, keys.len() > 1, &mut out).await {
            Ok(Exit::NotFound) => missing += 1,
            Ok(_) => {}
            Err(failure) if keys.len() == 1 => return Err(failure),
            Err(failure) => {
                out.flush()?;
                failure.report();
                failed.push(failure.exit);
            }
        }
    }
    out.flush()?;
    Ok(match failed.first() {
        Some(first) if failed.len() == keys.len() && failed.iter().all(|exit| exit == first) => *first,
        Some(_) => Exit::Partly,
        None if missing == keys.len() => Exit::NotFound,
        None if missing > 0 => Exit::Partly,
        None => Exit::Ok,
    })
}

async fn one(
    context: &Context,
    client: &Client,
    args: &Args,
    format: Format,
    key: &Key,
    many: bool,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let name = context.key_format().show(key.as_bytes());
    let bucket = &args.bucket.bucket;
    let options = GetOptions {
        strict: args.strict,
        blocking_repair: args.repair == Repair::Blocking,
        after: args.after.as_deref().map(parse_context).transpose()?,
        trace: args.trace,
        ..args.quorum.options()
    };
    let mut found = match client.get(bucket, key, options).await {
        Ok(found) => found,
        Err(error) => {
            trace::print_failed(client, &name, &error, format, out)?;
            return Err(Failure::about(format!("get {name}"), &error));
        }
    };
    let choice = args.siblings.unwrap_or(if format == Format::Raw { Siblings::Fail } else { Siblings::All });
    choose(&mut found, choice, &name)?;
    // not before: a context that covers what was not shown would let the next write remove it unseen
    if let (Some(path), Some(token)) = (&args.context_out, &found.context) {
        std::fs::write(path, show_context(token) + "\n")
            .map_err(|error| Failure::new(Exit::Error, format!("cannot write {}: {error}", path.display())))?;
    }
    if format.is_json() {
        document(context, client, bucket.as_str(), key, &found, format, out)?;
    }
    if found.is_missing() {
        let what = match (&found.context, found.is_deleted()) {
            (Some(token), true) => format!("deleted (context {})", show_context(token)),
            _ => "not found".to_owned(),
        };
        trace::print(client, found.trace.as_deref(), format, out)?;
        out.flush()?;
        Failure::new(Exit::NotFound, format!("{name}: {what}")).report();
        return Ok(Exit::NotFound);
    }
    match format {
        Format::Raw => raw(&found, many, out)?,
        Format::Table | Format::Wide => {
            if many {
                out.line(format!("{name}:"))?;
            }
            people(client, &found, args.meta || format == Format::Wide, out)?;
        }
        Format::Json | Format::Jsonl => {}
    }
    trace::print(client, found.trace.as_deref(), format, out)?;
    Ok(Exit::Ok)
}

/// Reduces the siblings as asked. A value that is concurrent with a delete is a conflict like any other.
fn choose(found: &mut GetResult, choice: Siblings, name: &str) -> Result<(), Failure> {
    if found.siblings.len() < 2 || found.is_missing() {
        return Ok(());
    }
    match choice {
        Siblings::All => Ok(()),
        Siblings::Lww => {
            let newest = found.siblings.iter().max_by_key(|sibling| (sibling.meta.wall_ms, sibling.meta.dot)).cloned();
            found.siblings = newest.into_iter().collect();
            Ok(())
        }
        Siblings::Fail => {
            let many = count(found.siblings.len() as u64, "concurrent version");
            let advice =
                "--siblings all shows them, --siblings lww takes the latest; put the merged value with the context";
            Err(Failure::new(Exit::Siblings, format!("{name} has {many}: {advice}")))
        }
    }
}

fn raw(found: &GetResult, many: bool, out: &mut Out) -> Result<(), Failure> {
    let alone = !many && found.values().count() == 1;
    found.values().try_for_each(|value| {
        out.bytes(value)?;
        if alone { Ok(()) } else { out.bytes(b"\n") }
    })
}

/// A read as one JSON document.
pub fn document(
    context: &Context,
    client: &Client,
    bucket: &str,
    key: &Key,
    found: &GetResult,
    format: Format,
    out: &mut Out,
) -> Result<(), Failure> {
    let token = found.context.as_deref();
    let record = KeyRecord::new(client, context.key_format(), key.as_bytes(), &found.siblings, token);
    let document = Document {
        bucket,
        record,
        found: !found.is_missing(),
        deleted: found.is_deleted(),
        acks: acks(client, &found.acks, false),
        repaired: found.repaired.iter().map(|node| client.name_of(*node)).collect(),
        n: found.n,
        r: found.r,
        from: &found.from,
        attempts: found.attempts,
        ms: ms_number(found.elapsed),
        trace: found.trace.as_deref().map(|trace| TraceRecord::new(client, trace)),
    };
    out.json(format, &document)
}

/// The values, then what is to be known about them.
pub fn people(client: &Client, found: &GetResult, meta: bool, out: &mut Out) -> Result<(), Failure> {
    let many = found.siblings.len() > 1;
    if many {
        out.line(format!("{}:", count(found.siblings.len() as u64, "sibling")))?;
    }
    for (number, sibling) in (1..).zip(&found.siblings) {
        let value = sibling.bytes.as_deref().map_or_else(|| "(deleted)".to_owned(), printable);
        out.line(if many { format!("[{number}] {value}") } else { value })?;
        if meta {
            out.line(format!("    {}", written(client, sibling)))?;
        }
    }
    out.line("")?;
    if let Some(token) = &found.context {
        out.line(format!("context   {}", show_context(token)))?;
    }
    let records = acks(client, &found.acks, false);
    let tries = if found.attempts > 1 { format!("  {} attempts", found.attempts) } else { String::new() };
    let names = names(&records);
    let repaired: Vec<String> = found.repaired.iter().map(|node| client.name_of(*node)).collect();
    let repaired = if repaired.is_empty() { String::new() } else { format!("  repaired {}", repaired.join(",")) };
    out.line(format!("answered  {}/{} {names}{repaired}  {}{tries}", records.len(), found.n, ms(found.elapsed)))
}

fn written(client: &Client, sibling: &Value) -> String {
    let meta = &sibling.meta;
    let size = meta.len.map_or_else(String::new, |len| format!("{}  ", count(len.into(), "byte")));
    format!(
        "{size}by {} at {}  dot {}:{}",
        client.name_of(meta.node),
        time(meta.wall_ms),
        meta.dot.actor,
        meta.dot.counter
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dynkv::api::SiblingMeta;
    use dynkv::types::{NodeId, WriteId};
    use dynkv::version::{Actor, Dot};

    use super::*;

    fn found(values: &[(u64, Option<&'static str>)]) -> GetResult {
        let sibling = |(index, (wall_ms, value)): (usize, &(u64, Option<&'static str>))| Value {
            meta: SiblingMeta {
                dot: Dot { actor: Actor(index as u64), counter: 1 },
                write_id: WriteId(0),
                node: NodeId(0),
                wall_ms: *wall_ms,
                len: value.map(|value| value.len() as u32),
            },
            bytes: value.map(Into::into),
        };
        GetResult {
            siblings: values.iter().enumerate().map(sibling).collect(),
            context: None,
            acks: vec![],
            repaired: vec![],
            n: 3,
            r: 2,
            from: String::new(),
            elapsed: Duration::ZERO,
            attempts: 1,
            trace: None,
        }
    }

    #[test]
    fn the_latest_wall_clock_wins_under_lww() {
        let mut two = found(&[(5, Some("late")), (3, Some("early"))]);
        choose(&mut two, Siblings::Lww, "k").unwrap();
        assert_eq!(two.values().collect::<Vec<_>>(), ["late"]);
        let mut deleted = found(&[(5, None), (3, Some("early"))]);
        choose(&mut deleted, Siblings::Lww, "k").unwrap();
        assert!(deleted.is_deleted());
    }

    #[test]
    fn a_delete_beside_a_value_is_a_conflict_and_two_deletes_are_none() {
        let failure = choose(&mut found(&[(1, None), (2, Some("v"))]), Siblings::Fail, "k").unwrap_err();
        assert_eq!(failure.exit, Exit::Siblings);
        assert!(failure.message().starts_with("k has 2 concurrent versions: "));
        assert_eq!(choose(&mut found(&[(1, None), (2, None)]), Siblings::Fail, "k"), Ok(()));
        assert_eq!(choose(&mut found(&[(1, Some("v"))]), Siblings::Fail, "k"), Ok(()));
    }
}
