//! `scan`

use bytes::Bytes;
use dynkv::client::scan::{Cursor, Scan, ScanOptions};
use dynkv::client::{Client, PageQuery, ScanEntry};
use dynkv::quorum::Level;
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::encoding::preview;
use super::exit::{Exit, Failure};
use super::output::{Columns, Format, count};
use super::record::KeyRecord;

/// The widest value in a table.
const PREVIEW: usize = 60;
/// The most keys asked for at a time.
const LONGEST_PAGE: usize = 256;

/// List a bucket's keys, in ring order.
///
/// Not a snapshot: a key written meanwhile shows its old or its new state. A prefix is compared with every key of the
/// bucket, since keys lie scattered over the ring.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli scan --prefix cart: --limit 20
  dynkv-cli scan --keys-only --limit 0 > keys       # all of them
  dynkv-cli scan --cursor 17.AAE                    # goes on where an earlier one said")]
pub struct Args {
    #[command(flatten)]
    bucket: BucketArg,
    /// Only keys that start with this.
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// At most so many keys; 0 for all.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Leave the values out.
    #[arg(long)]
    keys_only: bool,
    /// Go on where an earlier scan ended.
    #[arg(long, value_parser = parse_cursor)]
    cursor: Option<Cursor>,
    /// Replicas that must answer: a number, one, quorum or all.
    #[arg(short, long, value_name = "R")]
    r: Option<Level>,
}

fn parse_cursor(text: &str) -> Result<Cursor, String> {
    Cursor::decode(text).ok_or_else(|| "not a cursor that scan has printed".to_owned())
}

#[derive(Serialize)]
struct Document<'a> {
    bucket: &'a str,
    keys: &'a [KeyRecord],
    /// Null at the end.
    cursor: Option<&'a str>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let prefix =
        context.key_format().parse(&args.prefix).map_err(|error| Failure::usage(format!("the prefix is {error}")))?;
    let client = context.connect().await?;
    let format = context.table_format();
    let mut out = context.out();
    let mut scan = Scan::start(&client, options(&args, prefix)).await?;
    let mut held = Vec::new();
    let mut left = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut cursor = None;
    while left > 0 {
        let Some(mut page) = scan.next_page().await? else {
            cursor = None;
            break;
        };
        cursor = scan.cursor().map(Cursor::encode);
        left = match left.checked_sub(page.len()) {
            Some(left) => left,
            None => {
                (page, cursor) = head(&client, &scan, left).await?;
                // the scan is behind the whole page and knows nothing of the cut: it cannot go on
                0
            }
        };
        // all of a bucket may be more than memory holds: only what is printed as a whole is kept
        if format == Format::Json || (left < usize::MAX / 2 && matches!(format, Format::Table | Format::Wide)) {
            held.append(&mut page);
        } else {
            page.iter().try_for_each(|entry| out.line(line(context, &client, &args, format, entry)))?;
        }
    }
    match format {
        Format::Json => {
            let keys: Vec<_> = held.iter().map(|entry| record(context, &client, entry)).collect();
            out.json(
                format,
                &Document { bucket: args.bucket.bucket.as_str(), keys: &keys, cursor: cursor.as_deref() },
            )?;
        }
        _ if held.is_empty() => {}
        _ => table(context, &args, &held).print(&mut out)?,
    }
    out.flush()?;
    if let Some(cursor) = cursor.filter(|_| !context.quiet()) {
        eprintln!("more follow: --cursor {cursor}");
    }
    Ok(Exit::Ok)
}

fn options(args: &Args, prefix: Bytes) -> ScanOptions {
    let page = if args.limit == 0 { LONGEST_PAGE } else { args.limit.min(LONGEST_PAGE) };
    ScanOptions {
        prefix,
        keys_only: args.keys_only,
        r: args.r,
        start: args.cursor.clone().unwrap_or(Cursor::START),
        page: page as u32,
        ..ScanOptions::new(args.bucket.bucket.clone())
    }
}

/// The first keys of the page given last, and where to go on behind them: only nodes can make cursors.
async fn head(client: &Client, scan: &Scan, limit: usize) -> Result<(Vec<ScanEntry>, Option<String>), Failure> {
    let Cursor { partition, mut after } = scan.last_page().cloned().expect("a page has been given");
    let ScanOptions { bucket, prefix, keys_only, r, .. } = scan.options();
    let (mut entries, r) = (Vec::with_capacity(limit), *r);
    // nodes count deleted keys too, so that a page may hold fewer than were asked for
    while entries.len() < limit {
        let (bucket, prefix, keys_only) = (bucket.clone(), prefix.clone(), *keys_only);
        let limit = (limit - entries.len()) as u32;
        let page = client.scan_page(PageQuery { bucket, partition, after, prefix, limit, keys_only, r }).await?;
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return Ok((entries, scan.cursor().map(Cursor::encode)));
        }
    }
    Ok((entries, Some(Cursor { partition, after }.encode())))
}

fn record(context: &Context, client: &Client, entry: &ScanEntry) -> KeyRecord {
    KeyRecord::new(client, context.key_format(), entry.key.as_bytes(), &entry.siblings, Some(&entry.context))
}

/// One key of a listing that is not held as a whole.
fn line(context: &Context, client: &Client, args: &Args, format: Format, entry: &ScanEntry) -> String {
    let key = context.key_format().show(entry.key.as_bytes());
    match format {
        Format::Json | Format::Jsonl => super::output::json(&record(context, client, entry)),
        _ if args.keys_only => key,
        _ => format!("{key}\t{}", value(entry, usize::MAX / 8)),
    }
}

fn table(context: &Context, args: &Args, entries: &[ScanEntry]) -> Columns {
    let key = |entry: &ScanEntry| context.key_format().show(entry.key.as_bytes());
    let versions = |entry: &ScanEntry| entry.siblings.len().to_string();
    if args.keys_only {
        let mut columns = Columns::new(&["KEY", "VERSIONS"]).right(&[1]);
        entries.iter().for_each(|entry| columns.row([key(entry), versions(entry)]));
        return columns;
    }
    let mut columns = Columns::new(&["KEY", "VERSIONS", "BYTES", "VALUE"]).right(&[1, 2]);
    for entry in entries {
        let bytes: u64 = entry.siblings.iter().filter_map(|sibling| sibling.meta.len).map(u64::from).sum();
        columns.row([key(entry), versions(entry), bytes.to_string(), value(entry, PREVIEW)]);
    }
    columns
}

fn value(entry: &ScanEntry, width: usize) -> String {
    let mut values = entry.siblings.iter().filter_map(|sibling| sibling.bytes.as_deref());
    let first = values.next().map_or_else(String::new, |first| preview(first, width));
    match values.count() as u64 {
        0 => first,
        more => format!("{first}  (and {})", count(more, "sibling")),
    }
}
