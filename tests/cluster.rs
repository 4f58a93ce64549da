//! The client's commands against three real nodes.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes")]

#[path = "processes/cli.rs"]
#[allow(dead_code, reason = "shared by tests that need different parts of it")]
mod cli;
#[path = "processes/nodes.rs"]
#[allow(dead_code, reason = "shared with the benchmark")]
mod nodes;

use std::time::{Duration, Instant};

use anyhow::Result;

use self::cli::{cli, cli_until, cli_with};
use self::nodes::{Nodes, settings};

/// The context that a command printed as JSON.
fn context_of(json: &serde_json::Value) -> String {
    let context = json["context"].as_str().or_else(|| json["keys"][0]["context"].as_str());
    context.unwrap_or_else(|| panic!("no context in {json}")).to_owned()
}

#[tokio::test]
async fn siblings_and_what_resolves_them() -> Result<()> {
    let nodes = Nodes::start(3, &settings(&[])).await?;
    cli(&nodes, &["put", "cart", "apples"]).ends(0);
    cli(&nodes, &["put", "cart", "pears"]).ends(0);
    let both = cli(&nodes, &["-o", "json", "get", "cart"]).ends(0).json();
    let text = both.to_string();
    assert!(text.contains("apples") && text.contains("pears"), "{text}");
    cli(&nodes, &["get", "cart", "--siblings", "fail"]).ends(4);
    let context = context_of(&both);
    cli(&nodes, &["put", "cart", "apples and pears", "-c", &context]).ends(0);
    let one = cli(&nodes, &["-o", "raw", "get", "cart"]).ends(0);
    assert_eq!(one.text(), "apples and pears");

    let context = context_of(&cli(&nodes, &["-o", "json", "get", "cart"]).ends(0).json());
    cli(&nodes, &["exists", "cart"]).ends(0);
    cli(&nodes, &["delete", "cart", "-c", &context]).ends(0);
    cli(&nodes, &["get", "cart"]).ends(3);
    cli(&nodes, &["exists", "cart"]).ends(3);
    cli(&nodes, &["get", "nobody wrote this"]).ends(3);
    Ok(())
}

#[tokio::test]
async fn bad_requests_are_refused_and_named() -> Result<()> {
    let nodes = Nodes::start(3, &settings(&[("net", "max_value = \"1KiB\"")])).await?;
    cli(&nodes, &["put", "k", "v", "-w", "4"]).ends(2).complains("w = 4 is out of range");
    cli(&nodes, &["put", "k", "v", "--pw", "9"]).ends(2).complains("pw");
    cli(&nodes, &["put", "k", "v", "--dw", "4"]).ends(2).complains("dw");
    cli(&nodes, &["get", "k", "-r", "0"]).ends(2);
    cli(&nodes, &["get", "k", "--pr", "4"]).ends(2).complains("pr");
    cli(&nodes, &["put", "", "v"]).ends(2).complains("empty");
    cli(&nodes, &["put", &"k".repeat(4097), "v"]).ends(2).complains("4097");
    cli(&nodes, &["put", "k", &"v".repeat(1025)]).ends(2).complains("1025");
    cli(&nodes, &["get", "k", "-b", "nowhere"]).ends(2).complains("default");
    cli(&nodes, &["put", "k", "v", "-c", "AAAA"]).ends(2).complains("context");
    cli(&nodes, &["put", "a", "v"]).ends(0);
    let of_a = context_of(&cli(&nodes, &["-o", "json", "get", "a"]).ends(0).json());
    cli(&nodes, &["put", "b", "v", "-c", &of_a]).ends(2).complains("context");
    cli(&nodes, &["delete", "a"]).ends(2);

    let other = Nodes::start(1, &settings(&[])).await?;
    cli(&other, &["put", "a", "v"]).ends(0);
    cli(&other, &["put", "a", "v", "-c", &of_a]).ends(2).complains("context");
    cli(&nodes, &["get", "b"]).ends(3);
    Ok(())
}

#[tokio::test]
async fn a_missing_quorum_is_indeterminate_and_one_replica_is_enough_for_one() -> Result<()> {
    let mut nodes = Nodes::start(3, &settings(&[])).await?;
    cli(&nodes, &["put", "k", "before"]).ends(0);
    nodes.kill(1);
    nodes.kill(2);
    let start = Instant::now();
    cli(&nodes, &["put", "other", "v", "-w", "2"]).ends(5).complains("indeterminate: 1 of 2");
    assert!(start.elapsed() < Duration::from_secs(7), "the answer took {:?}", start.elapsed());
    cli(&nodes, &["put", "k", "v", "-w", "1"]).ends(0);
    cli(&nodes, &["get", "k", "-r", "2", "--timeout", "1s"]).ends(5);
    let one = cli(&nodes, &["-o", "json", "get", "k", "-r", "1"]).ends(0).json().to_string();
    assert!(one.contains("before") && one.contains("\"v\""), "{one}");
    cli(&nodes, &["status"]).ends(8);
    Ok(())
}

#[tokio::test]
async fn records_go_in_and_come_out_as_they_were() -> Result<()> {
    let nodes = Nodes::start(3, &settings(&[("cluster.buckets.flags", "conflict = \"lww\"")])).await?;
    let lines: String = (0..500).map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"value {n}\"}}\n")).collect();
    cli_with(&nodes, &["import", "-"], lines.as_bytes()).ends(0);
    let exported = cli(&nodes, &["export"]).ends(0).text();
    assert_eq!(exported.lines().filter(|line| line.contains("\"k")).count(), 500);
    let page = cli(&nodes, &["scan", "--prefix", "k49", "--keys-only"]).ends(0).text();
    for key in ["k49", "k490", "k499"] {
        assert!(page.contains(key), "{page}");
    }
    assert!(!page.contains("k48"), "{page}");
    let bad = cli_with(&nodes, &["import", "-"], b"{\"key\":\"good\",\"value\":\"v\"}\nnonsense\n");
    assert_ne!(bad.code, 0);
    assert!(bad.err.contains('2'), "the line is named: {}", bad.err);

    cli(&nodes, &["put", "-b", "flags", "dark-mode", "off"]).ends(0);
    cli(&nodes, &["put", "-b", "flags", "dark-mode", "on"]).ends(0);
    assert_eq!(cli(&nodes, &["-o", "raw", "get", "-b", "flags", "dark-mode"]).ends(0).text(), "on");

    let place = cli(&nodes, &["-o", "json", "where", "k1"]).ends(0).text();
    for node in ["n1", "n2", "n3"] {
        assert!(place.contains(node), "{place}");
    }
    cli(&nodes, &["status"]).ends(0);
    cli(&nodes, &["ring"]).ends(0);
    cli(&nodes, &["nodes"]).ends(0);
    Ok(())
}

#[tokio::test]
async fn a_scan_in_short_pieces_shows_every_key_once() -> Result<()> {
    let nodes = Nodes::start(3, &settings(&[("cluster", "partitions = 4")])).await?;
    let lines: String = (0..200).map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"v\"}}\n")).collect();
    cli_with(&nodes, &["import", "-"], lines.as_bytes()).ends(0);
    // nodes count deleted keys towards a page's limit
    let exported = cli(&nodes, &["export"]).ends(0).text();
    let deletes: String = exported
        .lines()
        .step_by(2)
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("export prints JSON"))
        .map(|line| format!("{{\"op\":\"delete\",\"key\":{},\"context\":{}}}\n", line["key"], line["context"]))
        .collect();
    cli_with(&nodes, &["batch", "-"], deletes.as_bytes()).ends(0);

    let (mut seen, mut cursor) = (Vec::new(), String::from("0."));
    loop {
        let args = ["-o", "json", "scan", "--limit", "7", "--keys-only", "--cursor", &cursor];
        let piece = cli(&nodes, &args).ends(0).json();
        let keys = piece["keys"].as_array().expect("a list of keys");
        assert!(keys.len() <= 7, "{piece}");
        seen.extend(keys.iter().map(|key| key["key"].to_string()));
        match piece["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 100);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    Ok(())
}

#[tokio::test]
async fn what_was_deleted_is_counted_on_all_that_remember_it() -> Result<()> {
    let nodes = Nodes::start(3, &settings(&[])).await?;
    let context = context_of(&cli(&nodes, &["-o", "json", "put", "cart", "apples", "-w", "all"]).ends(0).json());
    cli(&nodes, &["delete", "cart", "-c", &context, "-w", "all"]).ends(0);
    let stats = cli(&nodes, &["-o", "json", "tombstones", "stats"]).ends(0).json();
    for (nth, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
        let node = &stats["nodes"][nth];
        assert_eq!((&node["node"], &node["tombstones"]), (&name.into(), &1.into()), "{stats}");
        assert_eq!((&node["ages"]["minute"], &node["waits"][0]["count"]), (&1.into(), &1.into()), "{stats}");
    }
    cli(&nodes, &["tombstones", "stats", "--node", "n9"]).ends(2).complains("members are n1, n2, n3");
    Ok(())
}

#[tokio::test]
async fn operators_see_what_is_missing_and_what_it_costs() -> Result<()> {
    let mut nodes = Nodes::start(3, &settings(&[])).await?;
    cli(&nodes, &["health", "--watch", "--exit-when-healthy", "--within", "30s"]).ends(0);
    let well = cli(&nodes, &["-o", "json", "explain", "k"]).ends(0).json();
    assert_eq!((&well["write"]["margin"], &well["schema"]), (&1.into(), &1.into()), "{well}");
    cli(&nodes, &["hints", "flush", "--target", "n9"]).ends(2).complains("members are n1, n2, n3");
    nodes.kill(2);
    cli(&nodes, &["put", "k", "v"]).ends(0);
    // the put may have been answered before its coordinator gave n3 up, and gave it a hint
    let kept = cli_until(&nodes, &["-o", "json", "hints", "list"], 7, |kept| kept["total"] == 1);
    assert_eq!(kept["hints"][0]["target"], "n3", "{kept}");
    let ill = cli(&nodes, &["-o", "json", "health"]).ends(8).json();
    assert_eq!((&ill["healthy"], &ill["hints"]), (&false.into(), &1.into()), "{ill}");
    let short = cli(&nodes, &["-o", "json", "explain", "k", "-w", "all"]).ends(8).json();
    assert_eq!((&short["write"]["succeeds"], &short["read"]["margin"]), (&false.into(), &0.into()), "{short}");
    cli(&nodes, &["hints", "drop", "--target", "n3"]).ends(2).complains("--yes");
    cli(&nodes, &["hints", "drop", "--target", "n3", "--yes"]).ends(7);
    Ok(())
}
