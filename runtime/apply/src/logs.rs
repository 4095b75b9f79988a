//! What containers write while they start: each line with its pod's name, from the first one on.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use serde_json::Value;
use strake_client::{Client, LogParams, LogStream, Resource};

use crate::{Event, evidence};

/// How often to look for containers that have started.
const LOOK: Duration = Duration::from_millis(400);
/// Lines of a container that only has to get ready: who wants more asks for its log.
const MOST_LINES: usize = 200;
/// A line that is longer is cut.
const MOST_BYTES: usize = 16 * 1024;

/// A line, or the end of what is shown.
struct Line {
    pod: String,
    container: String,
    text: String,
}

/// Follows the containers of an object's pods.
pub(crate) struct Follower<'a> {
    client: &'a Client,
    events: &'a (dyn Fn(Event) + Sync),
    object: &'a Value,
    /// All pods to their end, and not one of them until it is ready.
    whole: bool,
    /// The pod that stands for all replicas.
    chosen: Option<String>,
    /// Pod, container and how often it was restarted.
    seen: BTreeSet<(String, String, i64)>,
    streams: SelectAll<BoxStream<'static, Line>>,
}

impl<'a> Follower<'a> {
    /// Follows nothing yet.
    pub(crate) fn new(client: &'a Client, events: &'a (dyn Fn(Event) + Sync), object: &'a Value, whole: bool) -> Self {
        Follower { client, events, object, whole, chosen: None, seen: BTreeSet::new(), streams: SelectAll::new() }
    }

    /// Tells lines as they come, for ever.
    pub(crate) async fn run(&mut self) {
        loop {
            self.look().await;
            let end = tokio::time::Instant::now() + LOOK;
            while let Ok(line) = tokio::time::timeout_at(end, self.streams.next()).await {
                let Some(line) = line else {
                    // Nothing is followed yet, or no more.
                    tokio::time::sleep_until(end).await;
                    break;
                };
                self.tell(line);
            }
        }
    }

    /// Tells what has been written until now and not been told, of containers that have ended.
    pub(crate) async fn finish(&mut self) {
        self.look().await;
        while let Some(line) = self.streams.next().await {
            self.tell(line);
        }
    }

    fn tell(&self, line: Line) {
        (self.events)(Event::Log { pod: line.pod, container: line.container, line: line.text });
    }

    /// Opens the logs of containers that have started since.
    async fn look(&mut self) {
        let mut pods = pods(self.client, self.object).await;
        pods.sort_by(|a, b| name(a).cmp(name(b)));
        if !self.whole {
            let chosen = pods.iter().find(|pod| self.chosen.as_deref() == Some(uid(pod))).or(pods.first()).cloned();
            self.chosen = chosen.as_ref().map(|pod| uid(pod).to_owned());
            pods = chosen.into_iter().collect();
        }
        for pod in &pods {
            for (container, restarts) in started(pod) {
                let key = (uid(pod).to_owned(), container.clone(), restarts);
                if !self.seen.contains(&key) {
                    self.open(pod, container).await;
                    // Not before: this may be given up while it asks, and is then asked again.
                    self.seen.insert(key);
                }
            }
        }
    }

    async fn open(&mut self, pod: &Value, container: String) {
        let params = LogParams { container: Some(container.clone()), follow: true, ..LogParams::default() };
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        // Who may not read logs still applies.
        let Ok(stream) = self.client.logs(namespace, name(pod), &params).await else { return };
        let pod_name = name(pod).to_owned();
        let several = pod["spec"]["containers"].as_array().map_or(0, Vec::len) + pod["spec"]["initContainers"].as_array().map_or(0, Vec::len) > 1;
        let shown = if several { container } else { String::new() };
        let line = move |text| Line { pod: pod_name.clone(), container: shown.clone(), text };
        if self.whole {
            return self.streams.push(lines(stream).map(line).boxed());
        }
        let more = format!("… `strake logs {}` shows the rest", name(pod));
        let some = lines(stream).take(MOST_LINES + 1).enumerate().map(move |(index, text)| if index < MOST_LINES { text } else { more.clone() });
        self.streams.push(some.map(line).boxed());
    }
}

async fn pods(client: &Client, object: &Value) -> Vec<Value> {
    if object["kind"] != "Pod" {
        return evidence::pods_of(client, object).await;
    }
    let found = client.get(&Resource::PODS, object["metadata"]["namespace"].as_str(), name(object)).await.ok().flatten();
    found.into_iter().filter(|pod| uid(pod) == uid(object)).collect()
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap_or_default()
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// The containers of a pod that run or have run, each with the number of its restarts.
fn started(pod: &Value) -> Vec<(String, i64)> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let statuses = lists.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    let has_begun = |status: &&Value| status["state"]["running"].is_object() || status["state"]["terminated"].is_object();
    let entry = |status: &Value| (status["name"].as_str().unwrap_or_default().to_owned(), status["restartCount"].as_i64().unwrap_or(0));
    statuses.filter(has_begun).map(entry).collect()
}

/// The lines of a log; the last one may lack its end.
fn lines(stream: LogStream) -> impl futures::Stream<Item = String> + Send + 'static {
    futures::stream::unfold((stream, Vec::<u8>::new(), false), |(mut stream, mut buffer, mut ended)| async move {
        loop {
            let end = buffer.iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.or_else(|| (buffer.len() > MOST_BYTES || (ended && !buffer.is_empty())).then_some(buffer.len())) {
                let line: Vec<u8> = buffer.drain(..end).collect();
                if buffer.first() == Some(&b'\n') {
                    buffer.remove(0);
                }
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                return Some((text, (stream, buffer, ended)));
            }
            if ended {
                return None;
            }
            match stream.next().await {
                Some(Ok(bytes)) => buffer.extend_from_slice(&bytes),
                Some(Err(_)) | None => ended = true,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;
    use serde_json::json;

    use super::{lines, started};

    #[tokio::test]
    async fn lines_are_whole_however_they_come() {
        for size in [1, 3, 100] {
            let text = b"one\ntwo\r\n\nlast";
            let pieces: Vec<_> = text.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let found: Vec<String> = lines(futures::stream::iter(pieces).boxed()).collect().await;
            assert_eq!(found, ["one", "two", "", "last"], "in pieces of {size}");
        }
    }

    #[test]
    fn containers_that_wait_have_no_log_yet() {
        let pod = json!({"status": {
            "initContainerStatuses": [{"name": "init", "restartCount": 1, "state": {"terminated": {"exitCode": 0}}}],
            "containerStatuses": [{"name": "a", "restartCount": 0, "state": {"running": {}}}, {"name": "b", "state": {"waiting": {}}}],
        }});
        assert_eq!(started(&pod), [("init".to_owned(), 1), ("a".to_owned(), 0)]);
    }
}
