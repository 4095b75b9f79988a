//! The seam to whatever runs the pods: logs and exec are answered by it, not by the state.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Which part of a container's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The container's name, always resolved.
    pub container: String,
    /// Go on as lines come, until the container ends.
    pub follow: bool,
    /// The last so many lines.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Only lines since then.
    pub since_time: Option<jiff::Timestamp>,
    /// The container's life before its last restart.
    pub previous: bool,
    /// Each line opens with its RFC 3339 time and a space.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// What to run in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container's name, always resolved.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether input will come.
    pub stdin: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted, apart.
    pub stderr: bool,
    /// Run on a terminal; everything it says goes to `stdout`.
    pub tty: bool,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The streams of an exec. All channels are bounded; a closed `stdout` means that nobody listens any more and the process should end.
#[derive(Debug)]
pub struct ExecStreams {
    /// Input; its end is the end of standard input.
    pub stdin: mpsc::Receiver<Bytes>,
    /// Where output goes.
    pub stdout: mpsc::Sender<Bytes>,
    /// Where errors go.
    pub stderr: mpsc::Sender<Bytes>,
    /// Sizes of the client's terminal.
    pub resize: mpsc::Receiver<TerminalSize>,
}

/// Why a node cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The container has no run before this one, or its log is gone.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// The container has not started.
    #[error("container {container} in pod {pod} is not available: {reason}")]
    NotAvailable {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// `waiting to start: ContainerCreating`, `not running`.
        reason: String,
    },
    /// The node does not have the pod.
    #[error("the node does not run pod {namespace}/{pod}")]
    UnknownPod {
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// The command could not be started (it is not there, or is not executable).
    #[error("cannot run {command:?} in container {container}: {reason}")]
    CannotRun {
        /// The command.
        command: Vec<String>,
        /// The container.
        container: String,
        /// Why.
        reason: String,
    },
    /// Nothing runs pods here, or the pod's node cannot be reached.
    #[error("no node answers for pod {namespace}/{pod}")]
    Unreachable {
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// Nothing inside the pod takes a connection to the port.
    #[error("cannot connect to port {port} inside pod {pod}")]
    Connect {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Reading or writing a stream failed.
    #[error("the stream of container {container} broke")]
    Stream {
        /// The container.
        container: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The bytes of a log as they come.
pub type LogStream = BoxStream<'static, Result<Bytes, NodeError>>;

/// Bytes in both directions.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection to a port inside a pod.
pub type ForwardStream = Box<dyn Connection>;

/// What runs the pods.
pub trait NodeAccess: Send + Sync {
    /// A container's log.
    fn logs(&self, namespace: &str, pod: &str, options: LogOptions) -> BoxFuture<'static, Result<LogStream, NodeError>>;

    /// Runs a command in a container until it ends; gives its exit code.
    fn exec(&self, namespace: &str, pod: &str, request: ExecRequest, streams: ExecStreams) -> BoxFuture<'static, Result<i32, NodeError>>;

    /// Connects to a port as a process inside the pod would, on its loopback.
    fn forward(&self, namespace: &str, pod: &str, port: u16) -> BoxFuture<'static, Result<ForwardStream, NodeError>>;
}

/// No node at all: every request is [`NodeError::Unreachable`].
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNode;

impl NodeAccess for NoNode {
    fn logs(&self, namespace: &str, pod: &str, _: LogOptions) -> BoxFuture<'static, Result<LogStream, NodeError>> {
        Box::pin(std::future::ready(Err(unreachable(namespace, pod))))
    }

    fn exec(&self, namespace: &str, pod: &str, _: ExecRequest, _: ExecStreams) -> BoxFuture<'static, Result<i32, NodeError>> {
        Box::pin(std::future::ready(Err(unreachable(namespace, pod))))
    }

    fn forward(&self, namespace: &str, pod: &str, _: u16) -> BoxFuture<'static, Result<ForwardStream, NodeError>> {
        Box::pin(std::future::ready(Err(unreachable(namespace, pod))))
    }
}

fn unreachable(namespace: &str, pod: &str) -> NodeError {
    NodeError::Unreachable { namespace: namespace.to_owned(), pod: pod.to_owned() }
}
