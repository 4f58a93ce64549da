//! What `dynkv-cli` says to command lines that need no cluster.

use assert_cmd::Command;

/// Runs it without the caller's environment; gives the exit code, stdout and stderr.
fn cli(args: &[&str]) -> (i32, String, String) {
    cli_with(args, "")
}

fn cli_with(args: &[&str], stdin: &'static str) -> (i32, String, String) {
    let mut command = Command::cargo_bin("dynkv-cli").expect("cargo builds the binaries before this test");
    for name in ["DYNKV_ENDPOINTS", "DYNKV_CLUSTER", "DYNKV_CA", "DYNKV_CERT", "DYNKV_KEY"] {
        command.env_remove(name);
    }
    let output = command.args(args).write_stdin(stdin).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code().expect("no signal ended it"), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn check_usage(args: &[&str], says: &str) {
    let (code, stdout, stderr) = cli(args);
    assert_eq!(code, 2, "{args:?}: {stderr}");
    assert_eq!(stdout, "", "{args:?}");
    assert!(stderr.contains(says), "{args:?} should say {says:?}: {stderr}");
}

#[test]
fn command_lines_that_make_no_sense() {
    check_usage(&["frobnicate"], "unrecognized subcommand");
    check_usage(&["get"], "<KEY>");
    check_usage(&["get", "a", "-o", "xml"], "jsonl");
    check_usage(&["get", "a", "-r", "17"], "a number from 1 to 16, \"one\", \"quorum\" or \"all\"");
    check_usage(&["put", "a", "b", "--dw", "17"], "17");
    check_usage(&["get", "a", "--timeout", "1ms"], "at least 50ms");
    check_usage(&["bench", "--mix", "50:60"], "make 100");
    check_usage(&["scan", "--cursor", "x"], "not a cursor");
    check_usage(&["get", "a", "b", "--context-out", "f"], "one at a time");
    check_usage(&["trace", "scan"], "unrecognized subcommand");
    check_usage(&["trace", "get"], "<KEY>");
    check_usage(&["trace", "get", "a", "b", "--context-out", "f"], "one at a time");
}

#[test]
fn keys_and_buckets_have_bounds() {
    check_usage(&["get", ""], "the key is empty");
    check_usage(&["get", &"k".repeat(4097)], "the key has 4097 bytes");
    check_usage(&["put", &"k".repeat(4097), "v"], "a key has 1 to 4096 bytes");
    check_usage(&["get", "a", "-b", ""], "bucket name");
    check_usage(&["get", "a", "-b", "tab\there"], "control character");
    check_usage(&["get", "6g", "--key-format", "hex"], "not hex");
}

#[test]
fn a_delete_says_how_to_get_its_context() {
    check_usage(&["delete", "cart"], "dynkv-cli delete cart -c CONTEXT");
    check_usage(&["delete", "cart", "-c", "!"], "not one that get or put printed");
}

#[test]
fn hints_are_not_dropped_by_accident() {
    check_usage(&["hints"], "flush");
    check_usage(&["hints", "drop", "--yes"], "--target");
    check_usage(&["hints", "drop", "--target", "n3"], "loses acknowledged writes");
}

#[test]
fn repairs_are_ordered_of_partitions_and_nodes() {
    check_usage(&["repair"], "resume");
    check_usage(&["repair", "start", "--partition", "70000"], "70000 is not in 0..=65535");
    check_usage(&["repair", "start", "--partition", "all"], "invalid digit");
    check_usage(&["repair", "pause", "--partition", "1"], "unexpected argument");
    check_usage(&["repair", "start", "--watch"], "unexpected argument");
    check_usage(&["tombstones"], "stats");
}

#[test]
fn only_what_watches_can_wait_for_health() {
    check_usage(&["health", "--exit-when-healthy"], "--watch");
    check_usage(&["health", "--watch", "--exit-when-healthy", "--within", "soon"], "soon");
    check_usage(&["explain", "k", "-w", "17"], "a number from 1 to 16");
}

#[test]
fn a_cluster_must_be_named() {
    check_usage(&["get", "a"], "--cluster DIR/cluster.json (DYNKV_CLUSTER)");
    check_usage(&["get", "a", "-e", "nowhere"], "is not HOST:PORT");
    check_usage(&["get", "a", "-e", "127.0.0.1:1"], "--ca is missing");
    check_usage(&["status", "--cluster", "/nowhere/cluster.json"], "`dynkv dev` writes it");
}

#[test]
fn certificates_that_cannot_be_read_are_their_own_kind() {
    let tls = ["--ca", "/nowhere/ca.pem", "--cert", "/nowhere/c.pem", "--key", "/nowhere/c.key"];
    let args: Vec<_> = ["get", "a", "-e", "127.0.0.1:1"].into_iter().chain(tls).collect();
    let (code, _, stderr) = cli(&args);
    assert_eq!(code, 6, "{stderr}");
    assert!(stderr.contains("/nowhere/"), "{stderr}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let (code, _, stderr) = cli(&["put", "a", "@/nowhere/value"]);
    assert_eq!((code, stderr.contains("cannot read /nowhere/value")), (1, true), "{stderr}");
    let (code, _, stderr) = cli(&["import", "/nowhere/file"]);
    assert_eq!((code, stderr.contains("cannot read /nowhere/file")), (1, true), "{stderr}");
}

#[test]
fn help_and_version_and_completions_need_nothing() {
    let (code, help, _) = cli(&["--help"]);
    assert_eq!(code, 0);
    let data = ["get", "put", "delete", "exists", "scan", "batch", "import", "export"];
    let others = ["where", "status", "ring", "repair", "hints", "tombstones", "health", "explain", "trace", "bench"];
    for verb in data.into_iter().chain(others) {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "{verb}");
        let (code, help, _) = cli(&[verb, "--help"]);
        assert_eq!((code, help.contains("EXAMPLES")), (0, true), "{verb}");
    }
    let (code, version, _) = cli(&["version", "-o", "json"]);
    assert_eq!(code, 0);
    assert!(version.contains("\"schema\": 1") && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let (code, script, _) = cli(&["completions", "bash"]);
    assert_eq!((code, script.contains("_dynkv__cli")), (0, true));
}
