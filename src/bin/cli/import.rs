//! `import`

mod dpkg;
mod jsonl;
mod lines;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use dynkv::client::{Client, ClientError, PutOptions};
use dynkv::types::{Bucket, Key};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;

use super::context::{BucketArg, Context};
use super::exit::{Exit, Failure};
use super::output::{count, ms_number};
use super::pool::Pool;
use super::quorum::WriteQuorum;

pub use lines::BadInput;

/// Write many keys.
///
/// jsonl: a line {"key": .., "value": ..} for each key, "key_encoding" and "encoding" "base64" where they are not UTF-8;
/// lines of `export` too, of which every sibling is written. dpkg: stanzas as in /var/lib/dpkg/status, the key
/// `package:architecture`, the value the stanza's bytes. A line that is malformed ends the import before anything behind it is read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli import /var/lib/dpkg/status --format dpkg -b packages
  dynkv-cli import backup.jsonl --failed failed.keys
  generate | dynkv-cli import - --replace")]
pub struct Args {
    /// The file; `-` for stdin.
    file: PathBuf,
    /// How the file is written.
    #[arg(long, value_enum, default_value_t)]
    format: InputFormat,
    #[command(flatten)]
    bucket: BucketArg,
    #[command(flatten)]
    quorum: WriteQuorum,
    /// Keys written at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// Read each key first and replace what is there. Without it, what is there stays beside what is imported, as a sibling.
    #[arg(long)]
    replace: bool,
    /// Write the keys that failed to this file, one a line in the format of --key-format.
    #[arg(long, value_name = "FILE")]
    failed: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    /// JSON, a key a line.
    #[default]
    Jsonl,
    /// Debian control stanzas.
    Dpkg,
}

/// A key and what to write to it: several values are siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    key: Key,
    values: Vec<Bytes>,
}

type Items = Box<dyn Iterator<Item = Result<Item, BadInput>> + Send>;

#[derive(Debug, Default, Serialize)]
struct Summary {
    keys: u64,
    bytes: u64,
    failed: u64,
    seconds: f64,
}

struct Written {
    key: Key,
    bytes: u64,
    result: Result<(), ClientError>,
}

/// What has come of the import so far.
struct Tally<'a> {
    context: &'a Context,
    bar: ProgressBar,
    failed: Option<BufWriter<File>>,
    summary: Summary,
    /// The first error's code: what the import ends with if nothing at all was written.
    exit: Option<Exit>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut items = open(&args)?;
    let cannot = |action: &str, path: &PathBuf, error| {
        Failure::new(Exit::Error, format!("cannot {action} {}: {error}", path.display()))
    };
    let failed = args.failed.as_ref().map(|path| File::create(path).map_err(|error| cannot("create", path, error)));
    let client = context.connect().await?;
    let started = Instant::now();
    let mut tally = Tally {
        context,
        bar: context.progress(None, "importing"),
        failed: failed.transpose()?.map(BufWriter::new),
        summary: Summary::default(),
        exit: None,
    };
    let mut pool = Pool::new(args.concurrency.into());
    let mut bad = None;
    for item in &mut items {
        match item {
            Ok(item) => {
                let task = write(client.clone(), args.bucket.bucket.clone(), item, args.quorum.options(), args.replace);
                if let Some(written) = pool.add(task).await {
                    tally.add(written)?;
                }
            }
            Err(error) => {
                bad = Some(error);
                break;
            }
        }
    }
    while let Some(written) = pool.next().await {
        tally.add(written)?;
    }
    tally.finish(started.elapsed())?;
    match bad {
        Some(error) => {
            let exit = if tally.summary.keys > 0 { Exit::Partly } else { Exit::Usage };
            Err(Failure::new(exit, format!("{}, {error}; what stands before it was imported", args.file.display())))
        }
        None => Ok(tally.ended()),
    }
}

fn open(args: &Args) -> Result<Items, Failure> {
    let reader: Box<dyn BufRead + Send> = if args.file.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(&args.file);
        let file =
            file.map_err(|error| Failure::new(Exit::Error, format!("cannot read {}: {error}", args.file.display())))?;
        Box::new(BufReader::with_capacity(1 << 20, file))
    };
    Ok(match args.format {
        InputFormat::Jsonl => Box::new(jsonl::Items::new(reader)),
        InputFormat::Dpkg => Box::new(dpkg::Stanzas::new(reader)),
    })
}

async fn write(client: Client, bucket: Bucket, item: Item, options: PutOptions, replace: bool) -> Written {
    let bytes = item.values.iter().map(|value| value.len() as u64).sum();
    let Item { key, values } = item;
    let result = async {
        let mut context = None;
        if replace {
            context = client.get(&bucket, &key, Default::default()).await?.context;
        }
        for value in values {
            // each sibling follows what was there, and none follows another
            let options = PutOptions { context: context.clone(), ..options.clone() };
            client.put(&bucket, &key, value, options).await?;
        }
        Ok(())
    };
    let result = result.await;
    Written { key, bytes, result }
}

impl Tally<'_> {
    fn add(&mut self, written: Written) -> Result<(), Failure> {
        let Err(error) = written.result else {
            self.summary.keys += 1;
            self.summary.bytes += written.bytes;
            self.bar.inc(1);
            return Ok(());
        };
        self.summary.failed += 1;
        self.exit.get_or_insert(Exit::from(&error));
        let key = self.context.key_format().show(written.key.as_bytes());
        if let Some(file) = &mut self.failed {
            let written = writeln!(file, "{key}");
            written.map_err(|error| Failure::new(Exit::Error, format!("cannot write the failed keys: {error}")))?;
        }
        self.bar.suspend(|| Failure::about(&key, &error).report());
        Ok(())
    }

    fn finish(&mut self, elapsed: Duration) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        self.summary.seconds = ms_number(elapsed) / 1000.0;
        if let Some(file) = &mut self.failed {
            let flushed = file.flush();
            flushed.map_err(|error| Failure::new(Exit::Error, format!("cannot write the failed keys: {error}")))?;
        }
        let Summary { keys, bytes, failed, seconds } = &self.summary;
        if !self.context.quiet() {
            let size = bytesize::ByteSize(*bytes);
            let rate = *keys as f64 / seconds.max(0.001);
            eprintln!("imported {}, {size}, {failed} failed, {seconds:.1} s, {rate:.0} a second", count(*keys, "key"));
        }
        let format = self.context.table_format();
        if format.is_json() {
            let mut out = self.context.out();
            out.json(format, &self.summary)?;
            out.flush()?;
        }
        Ok(())
    }

    fn ended(&self) -> Exit {
        match self.exit {
            None => Exit::Ok,
            Some(_) if self.summary.keys > 0 => Exit::Partly,
            Some(exit) => exit,
        }
    }
}
