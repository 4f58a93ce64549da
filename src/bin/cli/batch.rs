//! `batch`

use std::io;
use std::path::{Path, PathBuf};

use dynkv::client::{Client, ClientError, PutOptions};
use dynkv::types::{Bucket, Key};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::context::{BucketArg, Context};
use super::encoding::{KeyFormat, parse_context, show_context};
use super::exit::{Exit, Failure};
use super::output::Out;
use super::pool::Pool;
use super::quorum::{ReadQuorum, WriteQuorum};
use super::record::{SiblingRecord, acks, names};

/// Run many operations.
///
/// One JSON object a line: {"op": "put", "key": .., "value": .., "context": ..}, {"op": "get", "key": ..},
/// {"op": "delete", "key": .., "context": ..}. One JSON object comes back for each, with the number of its line, as soon as
/// it is done. Operations run at the same time and in any order: --concurrency 1 keeps theirs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  printf '{\"op\":\"put\",\"key\":\"a\",\"value\":\"1\"}\\n{\"op\":\"get\",\"key\":\"b\"}\\n' | dynkv-cli batch -
  dynkv-cli batch operations.jsonl --concurrency 1")]
pub struct Args {
    /// The file; `-` for stdin.
    file: PathBuf,
    #[command(flatten)]
    bucket: BucketArg,
    #[command(flatten)]
    read: ReadQuorum,
    #[command(flatten)]
    write: WriteQuorum,
    /// Operations under way at the same time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Operation {
    Put { key: String, value: String, encoding: Option<String>, context: Option<String> },
    Get { key: String },
    Delete { key: String, context: String },
}

#[derive(Default, Serialize)]
struct Line {
    line: u64,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    siblings: Option<Vec<SiblingRecord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acks: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Of a failed write: it may have taken effect all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    indeterminate: Option<bool>,
}

#[derive(Clone)]
struct Runner {
    client: Client,
    bucket: Bucket,
    format: KeyFormat,
    read: ReadQuorum,
    write: WriteQuorum,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let unreadable = |error| Failure::new(Exit::Error, format!("cannot read {}: {error}", args.file.display()));
    let mut lines = BufReader::new(open(&args.file).await.map_err(unreadable)?).split(b'\n');
    let runner = Runner {
        client: context.connect().await?,
        bucket: args.bucket.bucket.clone(),
        format: context.key_format(),
        read: args.read,
        write: args.write,
    };
    let mut results = Results { out: context.out(), done: 0, failed: 0 };
    let mut pool = Pool::new(args.concurrency.into());
    let mut number = 0;
    let mut input = Ok(true);
    while !pool.is_empty() || matches!(input, Ok(true)) {
        // results are told while the input is waited for: whoever writes it may wait for them
        tokio::select! {
            Some(line) = pool.next(), if !pool.is_empty() => results.add(&line)?,
            text = lines.next_segment(), if matches!(input, Ok(true)) && !pool.is_full() => match text {
                Ok(Some(text)) => {
                    number += 1;
                    if !text.trim_ascii().is_empty() {
                        pool.add(runner.clone().run(number, text)).await;
                    }
                }
                Ok(None) => input = Ok(false),
                Err(error) => input = Err(error),
            },
        }
    }
    results.ended(input.err().map(unreadable))
}

async fn open(path: &Path) -> io::Result<Box<dyn AsyncRead + Unpin>> {
    Ok(if path.as_os_str() == "-" { Box::new(tokio::io::stdin()) } else { Box::new(File::open(path).await?) })
}

struct Results {
    out: Out,
    done: u64,
    failed: u64,
}

impl Results {
    fn add(&mut self, line: &Line) -> Result<(), Failure> {
        self.done += 1;
        self.failed += u64::from(!line.ok);
        let told = self.out.line(super::output::json(line)).and_then(|()| self.out.flush());
        // a reader that has gone ends the batch, and what was not begun is not done
        told.map_err(|failure| if failure.exit == Exit::Ok { Failure::silent(Exit::Partly) } else { failure })
    }

    fn ended(self, unreadable: Option<Failure>) -> Result<Exit, Failure> {
        match (unreadable, self.failed) {
            (Some(failure), _) if self.done == 0 => Err(failure),
            (Some(failure), _) => Err(Failure::new(Exit::Partly, failure.message())),
            (None, 0) => Ok(Exit::Ok),
            (None, failed) => Err(Failure::new(Exit::Partly, format!("{failed} of {} operations failed", self.done))),
        }
    }
}

impl Runner {
    async fn run(self, line: u64, text: Vec<u8>) -> Line {
        let operation = match serde_json::from_slice(&text) {
            Ok(operation) => operation,
            Err(error) => return Line { line, error: Some(error.to_string()), ..Line::default() },
        };
        let (Operation::Put { key, .. } | Operation::Get { key } | Operation::Delete { key, .. }) = &operation;
        let key = Some(key.clone());
        match self.carry_out(operation).await {
            Ok(done) => Line { line, key, ok: true, ..done },
            Err((error, indeterminate)) => {
                Line { line, key, error: Some(error), indeterminate: indeterminate.then_some(true), ..Line::default() }
            }
        }
    }

    async fn carry_out(&self, operation: Operation) -> Result<Line, (String, bool)> {
        let key = |text: &str| {
            let bytes = self.format.parse(text).map_err(|error| (format!("the key is {error}"), false))?;
            Key::new(bytes).map_err(|error| (error.to_string(), false))
        };
        let token = |text: &str| match text.strip_prefix('@') {
            // a batch may come from somebody who is not to read this machine's files
            Some(_) => Err(("a batch takes contexts as they are printed, no files".to_owned(), false)),
            None => parse_context(text).map_err(|failure| (failure.message().to_owned(), false)),
        };
        let failed = |error: ClientError| (error.to_string(), error.is_indeterminate());
        let written = match operation {
            Operation::Get { key: name } => {
                let found = self.client.get(&self.bucket, &key(&name)?, self.read.options()).await.map_err(failed)?;
                let siblings = found.siblings.iter().map(|sibling| SiblingRecord::new(&self.client, sibling)).collect();
                let context = found.context.as_deref().map(show_context);
                let acks = Some(names(&acks(&self.client, &found.acks, false)));
                return Ok(Line { siblings: Some(siblings), context, acks, ..Line::default() });
            }
            Operation::Put { key: name, value, encoding, context } => {
                let format = match encoding.as_deref() {
                    None | Some("utf8") => KeyFormat::Utf8,
                    Some("base64") => KeyFormat::Base64,
                    Some(other) => return Err((format!("encoding {other:?} is neither utf8 nor base64"), false)),
                };
                let value = format.parse(&value).map_err(|error| (format!("the value is {error}"), false))?;
                let context = context.as_deref().map(token).transpose()?;
                let options = PutOptions { context, ..self.write.options() };
                self.client.put(&self.bucket, &key(&name)?, value, options).await
            }
            Operation::Delete { key: name, context } => {
                self.client.delete(&self.bucket, &key(&name)?, token(&context)?, self.write.options()).await
            }
        };
        let receipt = written.map_err(failed)?.receipt;
        let acks = Some(names(&acks(&self.client, &receipt.acks, true)));
        Ok(Line { context: Some(show_context(&receipt.context)), acks, ..Line::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_breaks_off_is_no_success() {
        let (done, failed) = (3, 0);
        let results = || Results { out: Out::stdout(), done, failed };
        assert_eq!(results().ended(None), Ok(Exit::Ok));
        let unreadable = || Some(Failure::new(Exit::Error, "cannot read f: gone"));
        assert_eq!(results().ended(unreadable()).unwrap_err().exit, Exit::Partly);
        assert_eq!(Results { done: 0, ..results() }.ended(unreadable()).unwrap_err().exit, Exit::Error);
    }

    #[test]
    fn operations_are_told_apart_and_checked() {
        let parse = |text| serde_json::from_str::<Operation>(text).map_err(|error| error.to_string());
        assert_eq!(parse(r#"{"op":"get","key":"a"}"#), Ok(Operation::Get { key: "a".into() }));
        assert!(parse(r#"{"op":"put","key":"a"}"#).unwrap_err().contains("missing field `value`"));
        assert!(parse(r#"{"op":"delete","key":"a"}"#).unwrap_err().contains("missing field `context`"));
        assert!(parse(r#"{"op":"cas","key":"a"}"#).unwrap_err().contains("unknown variant `cas`"));
        assert!(parse(r#"{"op":"get","key":"a","r":1}"#).unwrap_err().contains("unknown field `r`"));
    }
}
