//! `export`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use dynkv::client::scan::{Scan, ScanOptions};
use dynkv::client::{ScanEntry, Value};
use dynkv::quorum::Level;
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::encoding::{KeyFormat, show_context};
use super::exit::{Exit, Failure};
use super::output::count;

/// Write all keys of a bucket as JSON lines.
///
/// A line holds a key, all its concurrent values and its context, each in UTF-8 or, if it is not, in base64.
/// `dynkv-cli import --format jsonl` reads it back. Not a snapshot: keys written meanwhile show their old or new state.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli export > backup.jsonl
  dynkv-cli export -b carts --prefix cart: --out carts.jsonl")]
pub struct Args {
    #[command(flatten)]
    bucket: BucketArg,
    /// Only keys that start with this.
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Write to this file, not to stdout; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pages fetched at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    concurrency: u16,
    /// Replicas that must answer: a number, one, quorum or all.
    #[arg(short, long, value_name = "R")]
    r: Option<Level>,
}

/// A line; `import` reads the same.
#[derive(Serialize)]
struct Line {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    siblings: Vec<Sibling>,
    context: String,
}

#[derive(Serialize)]
struct Sibling {
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let prefix =
        context.key_format().parse(&args.prefix).map_err(|error| Failure::usage(format!("the prefix is {error}")))?;
    let mut out: Box<dyn Write + Send> = match &args.out {
        Some(path) => Box::new(BufWriter::new(
            File::create_new(path)
                .map_err(|error| Failure::new(Exit::Error, format!("cannot create {}: {error}", path.display())))?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let client = context.connect().await?;
    let options = ScanOptions {
        prefix,
        r: args.r,
        concurrency: args.concurrency.into(),
        ..ScanOptions::new(args.bucket.bucket.clone())
    };
    let mut scan = Scan::start(&client, options).await?;
    let bar = context.progress(Some(scan.progress().1.into()), "exporting partitions");
    let (mut keys, mut bytes) = (0, 0);
    while let Some(page) = scan.next_page().await? {
        for entry in &page {
            let line = line(entry);
            bytes += line.len() as u64 + 1;
            out.write_all(line.as_bytes())?;
            out.write_all(b"\n")?;
        }
        keys += page.len() as u64;
        bar.set_position(scan.progress().0.into());
    }
    out.flush()?;
    bar.finish_and_clear();
    if !context.quiet() {
        eprintln!("exported {} in {} of JSON", count(keys, "key"), bytesize::ByteSize(bytes));
    }
    Ok(Exit::Ok)
}

fn line(entry: &ScanEntry) -> String {
    // always utf8 or base64, whatever --key-format: what is exported is to be imported
    let key = KeyFormat::Utf8.encode(entry.key.as_bytes());
    let sibling = |value: &Value| {
        let text = KeyFormat::Utf8.encode(value.bytes.as_deref()?);
        Some(Sibling { value: text.text, encoding: text.encoding })
    };
    let siblings = entry.siblings.iter().filter_map(sibling).collect();
    let line = Line { key: key.text, key_encoding: key.encoding, siblings, context: show_context(&entry.context) };
    super::output::json(&line)
}
