//! `exists`

use serde::Serialize;

use super::context::{BucketArg, Context};
use super::exit::{Exit, Failure};
use super::quorum::ReadQuorum;

/// Say whether a key has a value.
///
/// Exit 0 if it has, 3 if it has none; 5 if too few replicas answered to tell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli exists cart:7
  if dynkv-cli exists -q lock; then echo taken; fi")]
pub struct Args {
    /// The key.
    #[arg(value_name = "KEY")]
    name: String,
    #[command(flatten)]
    bucket: BucketArg,
    #[command(flatten)]
    quorum: ReadQuorum,
}

#[derive(Serialize)]
struct Document<'a> {
    bucket: &'a str,
    key: &'a str,
    exists: bool,
    deleted: bool,
    siblings: usize,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let key = context.key(&args.name)?;
    let client = context.connect().await?;
    let found = client.get(&args.bucket.bucket, &key, args.quorum.options()).await;
    let found = found.map_err(|error| Failure::about(format!("exists {}", args.name), &error))?;
    let (exists, deleted) = (!found.is_missing(), found.is_deleted());
    let mut out = context.out();
    let format = context.table_format();
    if format.is_json() {
        let siblings = found.siblings.len();
        out.json(
            format,
            &Document { bucket: args.bucket.bucket.as_str(), key: &args.name, exists, deleted, siblings },
        )?;
    } else if !context.quiet() {
        out.line(match (exists, deleted) {
            (true, _) => "yes",
            (false, true) => "no, deleted",
            (false, false) => "no",
        })?;
    }
    out.flush()?;
    Ok(if exists { Exit::Ok } else { Exit::NotFound })
}
