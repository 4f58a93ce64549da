//! `dynkv-cli` against real nodes.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::nodes::{Nodes, PATIENCE};

/// What a command said and how it ended.
pub struct Said {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Said {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// The JSON document that was printed.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Said {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.text(), self.err);
        self
    }

    /// Checks that standard error has these words.
    #[track_caller]
    pub fn complains(self, words: &str) -> Said {
        assert!(self.err.contains(words), "{words:?} is not in: {}", self.err);
        self
    }
}

/// Runs `dynkv-cli` with these arguments and nothing on its standard input.
pub fn cli(nodes: &Nodes, args: &[&str]) -> Said {
    cli_with(nodes, args, b"")
}

/// Runs `dynkv-cli` again and again until it ends with this code and prints JSON that passes.
pub fn cli_until(nodes: &Nodes, args: &[&str], code: i32, passes: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = cli(nodes, args);
        if said.code == code && passes(&said.json()) {
            return said.json();
        }
        let Said { code, err, .. } = &said;
        assert!(Instant::now() < deadline, "{args:?} still ends with {code}: {}{err}", said.text());
    }
}

/// Runs `dynkv-cli` with these arguments and this standard input.
pub fn cli_with(nodes: &Nodes, args: &[&str], input: &[u8]) -> Said {
    let endpoints: Vec<&str> = nodes.nodes.iter().map(|node| node.endpoint.as_str()).collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_dynkv-cli"))
        .args(["--endpoints", &endpoints.join(",")])
        .arg("--ca")
        .arg(&nodes.tls.ca)
        .arg("--cert")
        .arg(&nodes.tls.cert)
        .arg("--key")
        .arg(&nodes.tls.key)
        .args(args)
        .env_remove("DYNKV_CLUSTER")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client was built with the tests");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A command that reads nothing may end before it is fed; that is its right.
    let _ = stdin.write_all(input);
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("a child can be waited for");
    let err = String::from_utf8_lossy(&stderr).into_owned();
    Said { code: status.code().unwrap_or(-1), out: stdout, err }
}
