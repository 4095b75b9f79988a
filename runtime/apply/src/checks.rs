//! Asks new pods what a rollout's check wants to know.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use serde_json::Value;
use strake_client::ExecParams;
use strake_plan::Check;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Applier;
use crate::rollout::Record;

/// A check counts as failed when it has failed so often,
const TRIES: usize = 3;
/// with so long in between.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long one try may take.
const TIME: Duration = Duration::from_secs(10);
/// Pods that are asked at once.
const AT_ONCE: usize = 8;
/// More of an answer is not read: its first line has the status.
const MOST_BYTES: usize = 4096;
/// What is shown of a command's output.
const SHOWN: usize = 300;

impl Applier<'_> {
    /// What is wrong with the new pods of a rollout by its check; nothing when they pass.
    pub(crate) async fn check_track(&self, track: &Value, record: &Record) -> Option<String> {
        let check = record.rollout.check.as_ref()?;
        let mut failed = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            failed = self.check_once(track, check).await.err();
            failed.as_ref()?;
        }
        failed
    }

    async fn check_once(&self, track: &Value, check: &Check) -> Result<(), String> {
        if let Check::Http { host: Some(host), port, path, status } = check {
            let asked = timed(ask(host, *port, path)).await.map_err(|why| format!("GET {check}: {why}"))?;
            return expect(asked, *status).map_err(|why| format!("GET {check}: {why}"));
        }
        let pods = crate::evidence::pods_of(self.client, track).await;
        let each = futures::stream::iter(pods).map(|pod| async move {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            timed(self.check_pod(&pod, name, check)).await.map_err(|why| format!("{check} of pod {name}: {why}"))
        });
        each.buffered(AT_ONCE).try_collect().await
    }

    async fn check_pod(&self, pod: &Value, name: &str, check: &Check) -> Result<(), String> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        match check {
            Check::Exec(command) => {
                let container = pod["spec"]["containers"][0]["name"].as_str().map(str::to_owned);
                let command = ["sh", "-c", command].map(str::to_owned).to_vec();
                let params = ExecParams { container, command, stdin: false, tty: false };
                let exec = self.client.exec(namespace, name, &params).await.map_err(|error| error.to_string())?;
                let (code, out, err) = exec.collect().await.map_err(|error| error.to_string())?;
                if code == 0 {
                    return Ok(());
                }
                let text = [out, err].concat();
                let text: String = String::from_utf8_lossy(&text).trim().chars().take(SHOWN).collect();
                Err(format!("it ended with {code}{}{text}", if text.is_empty() { "" } else { ": " }))
            }
            Check::Http { port, path, status, .. } => {
                let mut forward = self.client.forward(namespace, name, *port).await.map_err(|error| error.to_string())?;
                forward.outgoing().send(Bytes::from(request(&format!("localhost:{port}"), path))).await.map_err(|_| "the connection ended".to_owned())?;
                let mut answer = Vec::new();
                while !is_enough(&answer) {
                    let Some(piece) = forward.next().await else { break };
                    answer.extend_from_slice(&piece.map_err(|error| error.to_string())?);
                }
                expect(status_of(&answer)?, *status)
            }
        }
    }
}

async fn timed<T>(ask: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(TIME, ask).await.unwrap_or_else(|_| Err(format!("no answer within {} s", TIME.as_secs())))
}

async fn ask(host: &str, port: u16, path: &str) -> Result<u16, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = tokio::net::TcpStream::connect((host, port)).await.map_err(|error| format!("cannot connect: {error}"))?;
    stream.write_all(request(&format!("{host}:{port}"), path).as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !is_enough(&answer) {
        if stream.read_buf(&mut answer).await.map_err(|error| error.to_string())? == 0 {
            break;
        }
    }
    status_of(&answer)
}

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: strake\r\nAccept: */*\r\nConnection: close\r\n\r\n")
}

fn is_enough(answer: &[u8]) -> bool {
    answer.contains(&b'\n') || answer.len() > MOST_BYTES
}

/// The status of an HTTP answer.
fn status_of(answer: &[u8]) -> Result<u16, String> {
    if answer.is_empty() {
        return Err("the connection ended without an answer".to_owned());
    }
    let text = String::from_utf8_lossy(answer);
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let status = words.next().filter(|word| word.starts_with("HTTP/")).and(words.next()).and_then(|word| word.parse().ok());
    status.ok_or_else(|| format!("no answer of HTTP: `{}`", line.chars().take(80).collect::<String>()))
}

fn expect(found: u16, wanted: Option<u16>) -> Result<(), String> {
    match wanted {
        Some(wanted) if wanted == found => Ok(()),
        Some(wanted) => Err(format!("it answered {found}, and {wanted} is expected")),
        None if (200..400).contains(&found) => Ok(()),
        None => Err(format!("it answered {found}, and 200 to 399 is expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_and_compared() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\nx: y\r\n"), Ok(204));
        assert!(status_of(b"").is_err() && status_of(b"SSH-2.0\r\n").is_err() && status_of(b"HTTP/1.1").is_err());
        assert!(expect(200, None).is_ok() && expect(399, None).is_ok() && expect(404, None).is_err());
        assert!(expect(404, Some(404)).is_ok() && expect(200, Some(404)).is_err());
        assert!(is_enough(b"HTTP/1.1 200 OK\r\n") && !is_enough(b"HTTP/1.1"));
    }
}
