//! The API's way to the node: logs, exec and connections, once the node is there.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use strake_api::node::{ExecRequest, ExecStreams, ForwardStream, LogOptions, LogStream, NodeAccess, NodeError, TerminalSize};
use strake_node::Node;
use tokio::sync::mpsc;

/// Sizes that may wait for the terminal.
const SIZES: usize = 8;

/// The node of this process, which starts after the API.
#[derive(Default)]
pub struct Access {
    node: OnceLock<Arc<Node>>,
}

impl Access {
    /// Brings the node in.
    pub fn set(&self, node: Arc<Node>) {
        let _ = self.node.set(node);
    }

    fn node(&self, namespace: &str, pod: &str) -> Result<Arc<Node>, NodeError> {
        self.node.get().cloned().ok_or_else(|| NodeError::Unreachable { namespace: namespace.to_owned(), pod: pod.to_owned() })
    }
}

/// The node's words in the API's.
fn translate(container: String, error: strake_node::NodeError) -> NodeError {
    match error {
        strake_node::NodeError::UnknownPod { namespace, pod } => NodeError::UnknownPod { namespace, pod },
        strake_node::NodeError::NoPrevious { pod, container } => NodeError::NoPrevious { pod, container },
        strake_node::NodeError::NotAvailable { pod, container, reason } => NodeError::NotAvailable { pod, container, reason },
        strake_node::NodeError::Exec { command, container, source } => NodeError::CannotRun { command, container, reason: source.to_string() },
        strake_node::NodeError::Connect { pod, port, source } => NodeError::Connect { pod, port, source },
        other => NodeError::Stream { container, source: std::io::Error::other(other) },
    }
}

impl NodeAccess for Access {
    fn logs(&self, namespace: &str, pod: &str, options: LogOptions) -> BoxFuture<'static, Result<LogStream, NodeError>> {
        let node = self.node(namespace, pod);
        let (namespace, pod, container) = (namespace.to_owned(), pod.to_owned(), options.container.clone());
        let options = strake_node::LogOptions {
            container: options.container,
            follow: options.follow,
            tail_lines: options.tail_lines,
            since_seconds: options.since_seconds,
            since_time: options.since_time,
            previous: options.previous,
            timestamps: options.timestamps,
            limit_bytes: options.limit_bytes,
        };
        async move {
            let stream = node?.logs(&namespace, &pod, options).await.map_err(|error| translate(container.clone(), error))?;
            Ok(stream.map(move |piece| piece.map_err(|error| translate(container.clone(), error))).boxed())
        }
        .boxed()
    }

    fn exec(&self, namespace: &str, pod: &str, request: ExecRequest, streams: ExecStreams) -> BoxFuture<'static, Result<i32, NodeError>> {
        let node = self.node(namespace, pod);
        let (namespace, pod, container) = (namespace.to_owned(), pod.to_owned(), request.container.clone());
        let request = strake_node::ExecRequest { container: request.container, command: request.command, stdin: request.stdin, tty: request.tty };
        let (sizes, resize) = mpsc::channel(SIZES);
        let ExecStreams { stdin, stdout, stderr, resize: wanted } = streams;
        let streams = strake_node::ExecStreams { stdin, stdout, stderr, resize };
        async move {
            let node = node?;
            let forward = tokio::spawn(forward_sizes(wanted, sizes));
            let ended = node.exec(&namespace, &pod, request, streams).await;
            forward.abort();
            ended.map_err(|error| translate(container, error))
        }
        .boxed()
    }

    fn forward(&self, namespace: &str, pod: &str, port: u16) -> BoxFuture<'static, Result<ForwardStream, NodeError>> {
        let node = self.node(namespace, pod);
        let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
        async move {
            let stream = node?.forward(&namespace, &pod, port).await.map_err(|error| translate(String::new(), error))?;
            Ok(Box::new(stream) as ForwardStream)
        }
        .boxed()
    }
}

async fn forward_sizes(mut wanted: mpsc::Receiver<TerminalSize>, sizes: mpsc::Sender<strake_node::TerminalSize>) {
    while let Some(TerminalSize { width, height }) = wanted.recv().await {
        if sizes.send(strake_node::TerminalSize { width, height }).await.is_err() {
            return;
        }
    }
}
