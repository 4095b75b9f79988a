//! Watching a collection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures::Stream;
use http::Method;
use http_body::Body as _;
use serde::Deserialize;
use serde_json::Value;

use crate::query::Query;
use crate::transport::Body;
use crate::{Client, ClientError, ListParams, Resource, Status};

/// What happened to an object, from the watcher's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WatchKind {
    /// It appeared (or began to match the selector).
    Added,
    /// It changed.
    Modified,
    /// It went (or ceased to match the selector).
    Deleted,
    /// Nothing: only `metadata.resourceVersion` tells how far the watch is.
    Bookmark,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchKind,
    /// The object after it; for a deletion, its last state.
    pub object: Value,
}

impl WatchEvent {
    /// The revision to resume from after this event.
    pub fn resource_version(&self) -> &str {
        self.object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// Events as they come. It ends when the server ends it (at its time limit, or because this reader was too slow): resume from the last revision.
pub struct WatchStream {
    path: String,
    body: Body,
    buffer: BytesMut,
    searched: usize,
    found: VecDeque<Result<WatchEvent, ClientError>>,
    ended: bool,
}

impl WatchStream {
    fn cut(&mut self) {
        while let Some(offset) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + offset);
            self.buffer.advance(1);
            self.searched = 0;
            if !line.is_empty() {
                self.found.push_back(read(&self.path, &line));
            }
        }
        self.searched = self.buffer.len();
    }
}

fn read(path: &str, line: &[u8]) -> Result<WatchEvent, ClientError> {
    let failed = |source| ClientError::Decode { path: path.to_owned(), source };
    let frame: Frame = serde_json::from_slice(line).map_err(failed)?;
    let kind = match &*frame.kind {
        "ADDED" => WatchKind::Added,
        "MODIFIED" => WatchKind::Modified,
        "DELETED" => WatchKind::Deleted,
        "BOOKMARK" => WatchKind::Bookmark,
        _ => {
            let status: Status = serde_json::from_value(frame.object).map_err(failed)?;
            return Err(ClientError::Api(Box::new(status)));
        }
    };
    Ok(WatchEvent { kind, object: frame.object })
}

impl Stream for WatchStream {
    type Item = Result<WatchEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.found.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                        self.cut();
                    }
                }
                Some(Err(source)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(ClientError::Receive { path: self.path.clone(), source })));
                }
                None => self.ended = true,
            }
        }
    }
}

impl Client {
    /// Everything that happens after `resource_version` (of a list) to the objects of a namespace, or of all of them.
    ///
    /// # Errors
    /// [`ClientError::is_expired`] here, or from the stream, when that revision is not remembered: list again.
    pub async fn watch(&self, resource: &Resource, namespace: Option<&str>, params: &ListParams, resource_version: &str) -> Result<WatchStream, ClientError> {
        let mut query = Query::new(resource.path(namespace, None, None));
        query.set("watch", "true").set("allowWatchBookmarks", "true");
        params.fill(&mut query);
        if !resource_version.is_empty() {
            query.set("resourceVersion", resource_version);
        }
        let path = resource.path(namespace, None, None);
        let response = self.open(Method::GET, query.finish(), None).await?;
        Ok(WatchStream { path, body: response.into_body(), buffer: BytesMut::new(), searched: 0, found: VecDeque::new(), ended: false })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use bytes::{Bytes, BytesMut};
    use futures::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    use super::WatchStream;

    /// The events of a watch whose bytes come in pieces of `size`.
    async fn events(text: &str, size: usize) -> Vec<String> {
        let pieces: Vec<_> = text.as_bytes().chunks(size).map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        let body = StreamBody::new(stream::iter(pieces)).map_err(|never| match never {}).boxed_unsync();
        let watch = WatchStream { path: "/x".to_owned(), body, buffer: BytesMut::new(), searched: 0, found: VecDeque::new(), ended: false };
        let show = |event: Result<super::WatchEvent, crate::ClientError>| match event {
            Ok(event) => format!("{:?}@{}", event.kind, event.resource_version()),
            Err(error) => format!("{} expired={}", error, error.is_expired()),
        };
        watch.map(show).collect().await
    }

    #[tokio::test]
    async fn events_may_be_cut_anywhere() {
        let event =
            |kind: &str, revision: u32| format!("{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{revision}\",\"name\":\"é\"}}}}}}\n");
        let text = [event("ADDED", 1), event("MODIFIED", 2), "\n".to_owned(), event("DELETED", 3), event("BOOKMARK", 4)].concat()
            + "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"message\":\"too old\",\"reason\":\"Expired\"}}\n{\"type\":\"ADDED\"}\n{\"cut off";
        for size in [1, 2, 7, 64, 10_000] {
            let found = events(&text, size).await;
            let expected = [
                "Added@1",
                "Modified@2",
                "Deleted@3",
                "Bookmark@4",
                "too old expired=true",
                "the answer to /x is not the JSON that was expected expired=false",
            ];
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }
}
