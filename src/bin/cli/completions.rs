//! `completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::context::Context;
use super::exit::{Exit, Failure};

/// Print the completions of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli completions bash > /etc/bash_completion.d/dynkv-cli
  source <(dynkv-cli completions zsh)")]
pub struct Args {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "dynkv-cli", &mut script);
    let mut out = context.out();
    out.bytes(&script)?;
    out.flush()?;
    Ok(Exit::Ok)
}
