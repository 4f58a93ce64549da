//! What a node says over HTTP.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer to a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether its status is 200.
    pub ok: bool,
    /// What follows the header.
    pub body: String,
}

/// Asks for `path`. It waits for as long as the node does: give it a timeout.
///
/// # Errors
/// Nobody listens there, or the answer breaks off.
pub async fn get(addr: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(addr).await?;
    // HTTP/1.0: the body ends where the connection does, in one piece
    let request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(parse(&answer))
}

/// `None` if the node at `addr` is ready, else the reason why not.
///
/// # Errors
/// As [`get`].
pub async fn not_ready(addr: SocketAddr) -> io::Result<Option<String>> {
    let Answer { ok, body } = get(addr, "/readyz").await?;
    Ok((!ok).then(|| body.trim().to_owned()))
}

/// What a counter or a gauge of `/metrics` comes to over all of its labels; `None` if the page has none of that name, or not all are whole numbers.
pub fn metric(page: &str, name: &str) -> Option<u64> {
    let of_name = page.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with([' ', '{']));
    let values: Option<Vec<u64>> = of_name.map(|rest| rest.rsplit(' ').next()?.parse().ok()).collect();
    values?.into_iter().reduce(|sum, value| sum + value)
}

fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let ok = head.split_ascii_whitespace().nth(1) == Some("200");
    Answer { ok, body: body.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let said = |ok, body: &str| Answer { ok, body: body.to_owned() };
        assert_eq!(parse("HTTP/1.0 200 OK\r\na: b\r\n\r\nready\n"), said(true, "ready\n"));
        assert_eq!(parse("HTTP/1.1 503 Busy\r\n\r\njoining\n"), said(false, "joining\n"));
        assert_eq!(parse(""), said(false, ""));
    }

    #[test]
    fn a_metric_is_told_by_all_of_its_name() {
        let page = "# TYPE a counter\na_total 1\na{shard=\"0\"} 3\na{shard=\"1\"} 4\nb 5\nc{shard=\"0\"} 1\nc{shard=\"1\"} 0.5\n";
        let metrics = ["a", "a_total", "b", "c", "d"].map(|name| metric(page, name));
        assert_eq!(metrics, [Some(7), Some(1), Some(5), None, None]);
    }
}
