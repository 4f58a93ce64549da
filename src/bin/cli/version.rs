//! `version`

use dynkv::frame::PROTOCOL;
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};

/// Print the version of this program and of the protocol that it speaks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli version -o json")]
pub struct Args {}

#[derive(Serialize)]
struct Document {
    version: &'static str,
    protocol: u16,
}

pub fn run(context: &Context, _: &Args) -> Result<Exit, Failure> {
    let document = Document { version: env!("CARGO_PKG_VERSION"), protocol: PROTOCOL };
    context.show(&document, |Document { version, protocol }, out| {
        out.line(format!("dynkv-cli {version}  protocol {protocol}"))
    })?;
    Ok(Exit::Ok)
}
