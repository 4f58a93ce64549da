//! `put`

use std::fmt::Display;
use std::io::{IsTerminal, Read};

use bytes::Bytes;
use dynkv::client::{Client, ClientError, PutResult};
use dynkv::types::WriteId;
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::encoding::{parse_context, show_context};
use super::exit::{Exit, Failure};
use super::get;
use super::output::{Format, Out, ms, ms_number};
use super::quorum::WriteQuorum;
use super::record::{AckRecord, HintRecord, acks, durability, names};
use super::trace::{self, TraceRecord};

/// Write a key.
///
/// With the context of an earlier get or put it replaces what that one showed; without one it stands beside whatever is
/// there, as a sibling.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli put cart:7 '{\"apples\": 2}'
  dynkv-cli put cart:7 @cart.json -c @ctx           # the value from a file, the context from another
  dynkv-cli put cart:7 '{}' --trace                 # and who was asked when, and where the time went
  generate | dynkv-cli put report -w all --dw 3     # the value from stdin, on all replicas' disks")]
pub struct Args {
    /// The key.
    #[arg(value_name = "KEY")]
    name: String,
    /// The value; `@FILE` reads it from a file, `-` (or none, in a pipe) from stdin. One that begins
    /// with a dash and is no number goes behind `--`.
    #[arg(allow_negative_numbers = true)]
    pub(super) value: Option<String>,
    #[command(flatten)]
    bucket: BucketArg,
    #[command(flatten)]
    quorum: WriteQuorum,
    /// The context of the read that this write follows, or `@FILE` that holds it.
    #[arg(short, long, value_name = "CONTEXT")]
    pub(super) context: Option<String>,
    /// The id of an earlier attempt at this very write, 32 hexadecimal digits: repeating it makes no second value.
    /// A failure that leaves the write's fate open names it.
    #[arg(long, value_name = "ID", value_parser = parse_write_id)]
    write_id: Option<WriteId>,
    /// Read the key afterwards and print what is there; in JSON as a second document.
    #[arg(long)]
    return_body: bool,
    /// Show who was asked when, and where the time went; in JSON as `trace`.
    #[arg(long)]
    trace: bool,
}

impl Args {
    /// As `trace put` has it.
    pub fn traced(self) -> Args {
        Args { trace: true, ..self }
    }
}

pub fn parse_write_id(text: &str) -> Result<WriteId, String> {
    let digits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| digits);
    id.map(WriteId).ok_or_else(|| "32 hexadecimal digits are needed, as the failed attempt printed them".to_owned())
}

#[derive(Serialize)]
struct Document<'a> {
    bucket: &'a str,
    key: &'a str,
    acks: Vec<AckRecord>,
    n: u8,
    w: u8,
    hints: Vec<HintRecord>,
    context: String,
    dot: String,
    coordinator: String,
    write_id: String,
    attempts: u32,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceRecord>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let key = context.key(&args.name)?;
    let token = args.context.as_deref().map(parse_context).transpose()?;
    let value = value(args.value.as_deref())?;
    let client = context.connect().await?;
    let write_id = args.write_id.unwrap_or_else(|| client.new_write_id());
    let (trace, write) = (args.trace, Some(write_id));
    let options = dynkv::client::PutOptions { context: token, write_id: write, trace, ..args.quorum.options() };
    let bucket = &args.bucket.bucket;
    let done = client.put(bucket, &key, value, options).await;
    let mut out = context.out();
    let done = match done {
        Ok(done) => done,
        Err(error) => {
            trace::print_failed(&client, &args.name, &error, context.table_format(), &mut out)?;
            return Err(failed(format_args!("put {}", args.name), write_id, &error));
        }
    };
    print(context, &client, bucket.as_str(), &args.name, &done, &mut out)?;
    if args.return_body {
        let found = client.get(bucket, &key, Default::default()).await;
        let found =
            found.map_err(|error| Failure::about(format!("the write is done, but get {}", args.name), &error))?;
        match context.table_format() {
            format if format.is_json() => {
                get::document(context, &client, bucket.as_str(), &key, &found, format, &mut out)?;
            }
            _ => get::people(&client, &found, false, &mut out)?,
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}

/// Why a write failed; one whose fate is open can be repeated under its id without making a second value.
pub fn failed(what: impl Display, write_id: WriteId, error: &ClientError) -> Failure {
    if error.is_indeterminate() {
        let again = format!("the same command with --write-id {write_id} repeats it and makes no second value");
        return Failure::new(error.into(), format!("{what}: {error}; {again}"));
    }
    Failure::about(what, error)
}

/// The receipt.
pub fn print(
    context: &Context,
    client: &Client,
    bucket: &str,
    key: &str,
    done: &PutResult,
    out: &mut Out,
) -> Result<(), Failure> {
    let records = acks(client, &done.receipt.acks, true);
    let hints: Vec<HintRecord> = done.receipt.hints.iter().map(|hint| HintRecord::new(client, hint)).collect();
    let token = show_context(&done.receipt.context);
    let format = context.table_format();
    if format.is_json() {
        return out.json(
            format,
            &Document {
                bucket,
                key,
                acks: records,
                n: done.receipt.n,
                w: done.receipt.w,
                hints,
                context: token,
                dot: format!("{}:{}", done.receipt.dot.actor, done.receipt.dot.counter),
                coordinator: client.name_of(done.receipt.coordinator),
                write_id: done.write_id.to_string(),
                attempts: done.attempts,
                ms: ms_number(done.elapsed),
                trace: done.trace.as_deref().map(|trace| TraceRecord::new(client, trace)),
            },
        );
    }
    if format == Format::Raw {
        out.line(token)?;
        return trace::print(client, done.trace.as_deref(), format, out);
    }
    if context.quiet() {
        return trace::print(client, done.trace.as_deref(), format, out);
    }
    let tries = if done.attempts > 1 { format!("  {} attempts", done.attempts) } else { String::new() };
    let hints: String = hints.iter().map(|hint| format!("  hint {}->{}", hint.holder, hint.target)).collect();
    out.line(format!(
        "ok  acks {}/{} {} ({}){hints}  {}{tries}  context {token}",
        records.len(),
        done.receipt.n,
        names(&records),
        durability(&records),
        ms(done.elapsed),
    ))?;
    trace::print(client, done.trace.as_deref(), format, out)
}

/// The value that an argument stands for.
fn value(argument: Option<&str>) -> Result<Bytes, Failure> {
    match argument {
        None if std::io::stdin().is_terminal() => {
            Err(Failure::usage("the value is missing: give it, or @FILE, or - to type it and end with Ctrl-D"))
        }
        None | Some("-") => {
            let mut value = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut value);
            read.map_err(|error| Failure::new(Exit::Error, format!("cannot read stdin: {error}")))?;
            Ok(value.into())
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => std::fs::read(path)
                .map(Bytes::from)
                .map_err(|error| Failure::new(Exit::Error, format!("cannot read {path}: {error}"))),
            None => Ok(Bytes::copy_from_slice(text.as_bytes())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_as_text_or_from_a_file() {
        assert_eq!(value(Some("-5")), Ok(Bytes::from_static(b"-5")));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\0\xff\n").unwrap();
        assert_eq!(value(Some(&format!("@{}", file.path().display()))), Ok(Bytes::from_static(b"\0\xff\n")));
        let failure = value(Some("@/nowhere")).unwrap_err();
        assert!(failure.message().starts_with("cannot read /nowhere"), "{failure:?}");
    }

    #[test]
    fn a_write_in_doubt_says_how_to_repeat_it() {
        let timeout = std::time::Duration::from_secs(5);
        let doubt = failed("put k", WriteId(255), &ClientError::Indeterminate { timeout, asked: vec!["n1".into()] });
        assert_eq!(doubt.exit, Exit::Unavailable);
        assert!(doubt.message().contains("--write-id 000000000000000000000000000000ff"), "{}", doubt.message());
        let sure = failed("put k", WriteId(255), &ClientError::Busy { timeout });
        assert!(!sure.message().contains("--write-id"), "{}", sure.message());
    }

    #[test]
    fn write_ids_have_32_digits() {
        assert_eq!(parse_write_id("000000000000000000000000000000ff"), Ok(WriteId(255)));
        for bad in ["", "ff", "+00000000000000000000000000000ff", "g00000000000000000000000000000ff"] {
            assert!(parse_write_id(bad).is_err(), "{bad}");
        }
    }
}
