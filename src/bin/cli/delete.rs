//! `delete`

use dynkv::client::PutOptions;
use dynkv::types::WriteId;

use super::context::{BucketArg, Context};
use super::encoding::parse_context;
use super::exit::{Exit, Failure};
use super::put;
use super::quorum::WriteQuorum;

/// Delete what a read has shown.
///
/// The context of that read says what goes; a value that somebody wrote meanwhile stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli get cart:7 --context-out ctx
  dynkv-cli delete cart:7 -c @ctx")]
pub struct Args {
    /// The key.
    #[arg(value_name = "KEY")]
    name: String,
    /// The context that `get` printed, or `@FILE` that holds it.
    #[arg(short, long, value_name = "CONTEXT")]
    context: Option<String>,
    #[command(flatten)]
    bucket: BucketArg,
    #[command(flatten)]
    quorum: WriteQuorum,
    /// The id of an earlier attempt at this very delete, as its failure named it.
    #[arg(long, value_name = "ID", value_parser = put::parse_write_id)]
    write_id: Option<WriteId>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let key = context.key(&args.name)?;
    let Some(token) = &args.context else {
        return Err(Failure::usage(format!(
            "a delete needs the context of a read, which says what is to go: `dynkv-cli get {0}` prints it, then \
             `dynkv-cli delete {0} -c CONTEXT`",
            args.name
        )));
    };
    let token = parse_context(token)?;
    let client = context.connect().await?;
    let bucket = &args.bucket.bucket;
    let write_id = args.write_id.unwrap_or_else(|| client.new_write_id());
    let options = PutOptions { write_id: Some(write_id), ..args.quorum.options() };
    let done = client.delete(bucket, &key, token, options).await;
    let done = done.map_err(|error| put::failed(format_args!("delete {}", args.name), write_id, &error))?;
    let mut out = context.out();
    put::print(context, &client, bucket.as_str(), &args.name, &done, &mut out)?;
    out.flush()?;
    Ok(Exit::Ok)
}
