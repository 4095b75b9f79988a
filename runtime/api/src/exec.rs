//! `pods/exec`: a websocket whose messages open with the number of a channel (subprotocols v5 and v4 of `channel.k8s.io`).

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::logs::{container, placed, refusal};
use crate::meta;
use crate::node::{ExecRequest, ExecStreams, NodeError, TerminalSize};
use crate::server::{ApiServer, Call};
use crate::status::{Answer, Refusal};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Pieces that may wait in each direction.
const WAITING: usize = 32;
/// Most bytes of a message from a client.
const MOST_MESSAGE: usize = 1 << 20;
/// How often a silent client is made sure of: one that has gone shows by a failing write only.
const BETWEEN_PINGS: Duration = Duration::from_secs(20);
/// How long output may still come once the process has ended: a child of it may hold the streams open.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// `GET` that becomes a websocket.
pub(crate) async fn answer(server: &ApiServer, call: Call) -> Answer {
    let pod = meta::parse(&server.entry(&call.target)?)?;
    let container = container(&pod, call.query.get("container"))?;
    placed(&pod)?;
    let command = call.query.all("command").to_vec();
    if command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for exec"));
    }
    let tty = call.query.flag("tty");
    let flag = |name: &str| call.query.flag(name);
    let request = ExecRequest { container, command, stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr") && !tty, tty };
    if !request.stdin && !request.stdout && !request.stderr {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let Call { target, mut parts, .. } = call;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|error| Refusal::bad_request(format!("exec needs a websocket: {error}")))?;
    let upgrade = upgrade.max_message_size(MOST_MESSAGE).protocols(PROTOCOLS);
    if upgrade.selected_protocol().is_none() {
        return Err(Refusal::bad_request(format!("exec needs one of the websocket subprotocols {}", PROTOCOLS.join(", "))));
    }
    let (stdin, stdin_end) = mpsc::channel(WAITING);
    let (stdout_end, stdout) = mpsc::channel(WAITING);
    let (stderr_end, stderr) = mpsc::channel(WAITING);
    let (resize, resize_end) = mpsc::channel(WAITING);
    let streams = ExecStreams { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end, resize: resize_end };
    let wants_stdin = request.stdin;
    let process = server.nodes.exec(&target.namespace, &target.name, request, streams);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (sink, stream) = socket.split();
        let incoming = receive(stream, wants_stdin.then_some(stdin), resize);
        let outgoing = send(sink, process, stdout, stderr);
        // When either side is done there is nothing left for the other: a client that has gone ends the process's streams.
        tokio::select! {
            () = incoming => {}
            () = outgoing => {}
        }
    }))
}

/// Feeds the process until the client goes. A process that does not read its input holds the client back, instead of filling memory.
async fn receive(mut stream: SplitStream<WebSocket>, mut stdin: Option<mpsc::Sender<Bytes>>, resize: mpsc::Sender<TerminalSize>) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes: Bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let Some((channel, payload)) = bytes.split_first() else { continue };
        match *channel {
            STDIN => {
                if let Some(open) = &stdin
                    && open.send(bytes.slice(1..)).await.is_err()
                {
                    stdin = None;
                }
            }
            CLOSE if payload.first() == Some(&STDIN) => stdin = None,
            RESIZE => {
                if let Some(size) = size(payload) {
                    // A size that finds no room is overtaken by a later one anyway.
                    let _ = resize.try_send(size);
                }
            }
            _ => {}
        }
    }
}

fn size(payload: &[u8]) -> Option<TerminalSize> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    let number = |name: &str| value[name].as_u64().and_then(|number| u16::try_from(number).ok());
    Some(TerminalSize { width: number("Width")?, height: number("Height")? })
}

fn frame(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(payload.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(payload);
    Message::Binary(bytes.freeze())
}

/// Passes output on until the process ends, then says how it ended.
async fn send(
    mut sink: SplitSink<WebSocket, Message>,
    mut process: BoxFuture<'static, Result<i32, NodeError>>,
    mut stdout: mpsc::Receiver<Bytes>,
    mut stderr: mpsc::Receiver<Bytes>,
) {
    let mut outcome = None;
    let (mut out_open, mut err_open) = (true, true);
    let deadline = tokio::time::sleep(Duration::MAX);
    tokio::pin!(deadline);
    let mut alive = tokio::time::interval_at(tokio::time::Instant::now() + BETWEEN_PINGS, BETWEEN_PINGS);
    while outcome.is_none() || out_open || err_open {
        tokio::select! {
            result = &mut process, if outcome.is_none() => {
                outcome = Some(result);
                deadline.as_mut().reset(tokio::time::Instant::now() + LAST_OUTPUT);
            }
            piece = stdout.recv(), if out_open => match piece {
                Some(bytes) => if sink.send(frame(STDOUT, &bytes)).await.is_err() { return },
                None => out_open = false,
            },
            piece = stderr.recv(), if err_open => match piece {
                Some(bytes) => if sink.send(frame(STDERR, &bytes)).await.is_err() { return },
                None => err_open = false,
            },
            () = &mut deadline, if outcome.is_some() => break,
            _ = alive.tick() => if sink.send(Message::Ping(Bytes::new())).await.is_err() { return },
        }
    }
    let status = verdict(outcome.as_ref());
    if sink.send(frame(ERROR, status.to_string().as_bytes())).await.is_ok() {
        // Without a code Go clients take the end for an error. The client may be gone; then there is nobody to take leave of.
        let _ = sink.send(Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() }))).await;
    }
}

/// The `Status` that the error channel ends with.
fn verdict(outcome: Option<&Result<i32, NodeError>>) -> Value {
    match outcome {
        Some(Ok(0)) => json!({"metadata": {}, "status": "Success"}),
        Some(Ok(code)) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Some(Err(error)) => refusal(error).status(),
        None => Refusal::internal("the process was lost").status(),
    }
}
