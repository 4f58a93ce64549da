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
    let (bucket, siblings) = (args.bucket.bucket.as_str(), found.siblings.len());
    context.show(&Document { bucket, key: &args.name, exists, deleted, siblings }, |_, out| {
        match (exists, deleted) {
            _ if context.quiet() => Ok(()),
            (true, _) => out.line("yes"),
            (false, true) => out.line("no, deleted"),
            (false, false) => out.line("no"),
        }
    })?;
    Ok(if exists { Exit::Ok } else { Exit::NotFound })
}
