//! A process inside a container, over a websocket with the channels of `v5.channel.k8s.io`.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::error::Status;
use crate::query::Query;
use crate::transport::BoxError;
use crate::{Client, ClientError, Resource};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Pieces that may wait in each direction.
const WAITING: usize = 64;

/// What to run where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecParams {
    /// The container; needed when the pod has several.
    pub container: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether input will be sent.
    pub stdin: bool,
    /// Whether it runs on a terminal; then standard error comes with standard output.
    pub tty: bool,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecEvent {
    /// A piece of standard output.
    Stdout(Bytes),
    /// A piece of standard error.
    Stderr(Bytes),
    /// The process ended with this code. The last event.
    Exit(i32),
    /// It could not be run, or was lost. The last event.
    Failed(Box<Status>),
}

/// What can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecInput {
    /// A piece of standard input.
    Stdin(Bytes),
    /// Standard input ends.
    CloseStdin,
    /// The terminal's new size in characters.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// A running process. Dropping it closes the connection.
#[derive(Debug)]
pub struct Exec {
    events: mpsc::Receiver<Result<ExecEvent, ClientError>>,
    input: mpsc::Sender<ExecInput>,
}

impl Exec {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<ExecEvent, ClientError>> {
        self.events.recv().await
    }

    /// Where input goes. Sending fails once the process has ended.
    pub fn input(&self) -> mpsc::Sender<ExecInput> {
        self.input.clone()
    }

    /// Collects everything until the end: the exit code, standard output, standard error.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the process could not be run, [`ClientError::Receive`] when the connection was lost.
    pub async fn collect(mut self) -> Result<(i32, Vec<u8>, Vec<u8>), ClientError> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(event) = self.next().await {
            match event? {
                ExecEvent::Stdout(bytes) => out.extend_from_slice(&bytes),
                ExecEvent::Stderr(bytes) => err.extend_from_slice(&bytes),
                ExecEvent::Exit(code) => return Ok((code, out, err)),
                ExecEvent::Failed(status) => return Err(ClientError::Api(status)),
            }
        }
        Err(broken("exec".to_owned(), "the connection ended before the process did".into()))
    }
}

fn broken(path: String, source: BoxError) -> ClientError {
    ClientError::Receive { path, source }
}

fn frame(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(payload.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(payload);
    Message::Binary(bytes.freeze())
}

fn outgoing(input: ExecInput) -> Message {
    match input {
        ExecInput::Stdin(bytes) => frame(STDIN, &bytes),
        ExecInput::CloseStdin => frame(CLOSE, &[STDIN]),
        ExecInput::Resize { width, height } => frame(RESIZE, format!("{{\"Width\":{width},\"Height\":{height}}}").as_bytes()),
    }
}

/// Reads the final Status: success, an exit code, or a failure.
fn verdict(payload: &[u8]) -> Result<ExecEvent, serde_json::Error> {
    let status: Status = serde_json::from_slice(payload)?;
    if matches!(status.status, Some(kube::core::response::StatusSummary::Success)) {
        return Ok(ExecEvent::Exit(0));
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let code = causes.filter(|cause| cause.reason == "ExitCode").find_map(|cause| cause.message.parse().ok());
    Ok(match code.filter(|_| status.reason == "NonZeroExitCode") {
        Some(code) => ExecEvent::Exit(code),
        None => ExecEvent::Failed(Box::new(status)),
    })
}

fn incoming(path: &str, mut bytes: Bytes) -> Option<Result<ExecEvent, ClientError>> {
    if bytes.is_empty() {
        return None;
    }
    let payload = bytes.split_off(1);
    match bytes[0] {
        // Servers open each channel with an empty frame.
        STDOUT | STDERR if payload.is_empty() => None,
        STDOUT => Some(Ok(ExecEvent::Stdout(payload))),
        STDERR => Some(Ok(ExecEvent::Stderr(payload))),
        ERROR if payload.is_empty() => None,
        ERROR => Some(verdict(&payload).map_err(|source| ClientError::Decode { path: path.to_owned(), source })),
        _ => None,
    }
}

impl Client {
    /// Runs a command in a pod's container.
    pub async fn exec(&self, namespace: &str, pod: &str, params: &ExecParams) -> Result<Exec, ClientError> {
        let path = Resource::PODS.path(Some(namespace), Some(pod), Some("exec"));
        let mut query = Query::new(path.clone());
        for word in &params.command {
            query.set("command", word);
        }
        query.set_some("container", params.container.as_deref());
        query.flag("stdin", params.stdin).set("stdout", "true").flag("stderr", !params.tty).flag("tty", params.tty);
        let connection = self.transport.websocket(&path, query).await?;
        let (mut sink, mut stream) = connection.into_stream().split();
        let (input, mut inputs) = mpsc::channel::<ExecInput>(WAITING);
        let (events, received) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(input) = inputs.recv() => if sink.send(outgoing(input)).await.is_err() { break },
                    () = events.closed() => break,
                    message = stream.next() => {
                        let event = match message {
                            Some(Ok(Message::Binary(bytes))) => incoming(&path, bytes),
                            Some(Ok(Message::Close(_))) | None => break,
                            Some(Ok(_)) => None,
                            Some(Err(source)) => Some(Err(broken(path.clone(), Box::new(source)))),
                        };
                        let Some(event) = event else { continue };
                        let last = !matches!(event, Ok(ExecEvent::Stdout(_) | ExecEvent::Stderr(_)));
                        if events.send(event).await.is_err() || last { break }
                    }
                }
            }
            // The other end may have closed already.
            let _ = sink.close().await;
        });
        Ok(Exec { events: received, input })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{ExecEvent, ExecInput, incoming, outgoing};

    #[test]
    fn channels() {
        let read = |bytes: &'static [u8]| incoming("/x", Bytes::from_static(bytes)).map(|event| event.map_err(|error| error.to_string()));
        assert_eq!(read(b""), None);
        assert_eq!(read(b"\x01"), None, "servers open channels with empty frames");
        assert_eq!(read(b"\x01out"), Some(Ok(ExecEvent::Stdout(Bytes::from_static(b"out")))));
        assert_eq!(read(b"\x02err"), Some(Ok(ExecEvent::Stderr(Bytes::from_static(b"err")))));
        assert_eq!(read(b"\x03{\"status\":\"Success\",\"metadata\":{}}"), Some(Ok(ExecEvent::Exit(0))));
        let failed = br#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"137"}]}}"#;
        assert_eq!(incoming("/x", Bytes::from([b"\x03", &failed[..]].concat())).unwrap().unwrap(), ExecEvent::Exit(137));
        let lost = read(b"\x03{\"status\":\"Failure\",\"reason\":\"InternalError\",\"message\":\"lost\"}");
        assert!(matches!(lost, Some(Ok(ExecEvent::Failed(status))) if status.message == "lost"));
        assert!(matches!(read(b"\x03nonsense"), Some(Err(_))));
        assert_eq!(read(b"\x09x"), None);
        let sent = |input| outgoing(input).into_data().to_vec();
        assert_eq!(sent(ExecInput::Stdin(Bytes::from_static(b"a"))), b"\x00a");
        assert_eq!(sent(ExecInput::CloseStdin), [255, 0]);
        assert_eq!(sent(ExecInput::Resize { width: 80, height: 24 }), b"\x04{\"Width\":80,\"Height\":24}");
    }
}
