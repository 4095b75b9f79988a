//! `pods/portforward` in its three forms: SPDY/3.1 on the connection itself, SPDY/3.1 inside a websocket, and channels of a websocket.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::logs::placed;
use crate::meta;
use crate::node::{ForwardStream, NodeError};
use crate::query::Query;
use crate::server::{ApiServer, Call};
use crate::spdy::{Frame, FrameReader, FrameWriter};
use crate::status::{Answer, Refusal};

/// SPDY inside a websocket: what kubectl asks for first.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Two channels a port: data, and what went wrong.
const CHANNELS: &str = "v4.channel.k8s.io";
/// The protocol of streams: for each connection one of data and one for what went wrong.
const STREAMS: &str = "portforward.k8s.io";
/// Pieces that may wait for a connection inside the pod.
const WAITING: usize = 64;
const PIECE: usize = 32 << 10;
/// Streams of one client: two a connection.
const MOST_STREAMS: usize = 2_000;
/// Ports of one websocket: a channel's number is a byte.
const MOST_PORTS: usize = 64;
const REFUSED_STREAM: u32 = 3;
const PROTOCOL_ERROR: u32 = 1;
/// Most bytes of a message from a client.
const MOST_MESSAGE: usize = 1 << 20;
/// How often a silent client is made sure of.
const BETWEEN_PINGS: Duration = Duration::from_secs(20);

/// Opens a connection to a port of the pod.
type Dial = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<ForwardStream, NodeError>> + Send + Sync>;

/// `GET` or `POST` that becomes a connection.
pub(crate) async fn answer(server: &ApiServer, call: Call) -> Answer {
    let pod = meta::parse(&server.entry(&call.target)?)?;
    placed(&pod)?;
    let (nodes, namespace, name) = (server.nodes.clone(), call.target.namespace.clone(), call.target.name.clone());
    let dial: Dial = Arc::new(move |port| nodes.forward(&namespace, &name, port));
    if call.header(header::UPGRADE).eq_ignore_ascii_case("SPDY/3.1") {
        return upgrade(call, dial);
    }
    let Call { mut parts, query, .. } = call;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| Refusal::bad_request("port-forward needs a connection that is upgraded to SPDY/3.1 or a websocket"))?;
    let upgrade = upgrade.max_message_size(MOST_MESSAGE).protocols([TUNNEL, CHANNELS]);
    match upgrade.selected_protocol().and_then(|protocol| protocol.to_str().ok()) {
        Some(TUNNEL) => Ok(upgrade.on_upgrade(move |socket| tunnel(socket, dial))),
        Some(CHANNELS) => {
            let ports = ports(&query)?;
            Ok(upgrade.on_upgrade(move |socket| channels(socket, ports, dial)))
        }
        _ => Err(Refusal::bad_request(format!("port-forward needs one of the websocket subprotocols {TUNNEL}, {CHANNELS}"))),
    }
}

/// The ports that the query names.
fn ports(query: &Query) -> Answer<Vec<u16>> {
    let words = query.all("ports").iter().flat_map(|words| words.split(','));
    let read = |word: &str| {
        word.trim().parse().ok().filter(|port| *port > 0).ok_or_else(|| Refusal::bad_request(format!("query parameter \"ports\": {word:?} is not a port")))
    };
    let ports = words.map(read).collect::<Answer<Vec<u16>>>()?;
    if ports.is_empty() || ports.len() > MOST_PORTS {
        return Err(Refusal::bad_request(format!("query parameter \"ports\": expected 1 to {MOST_PORTS} ports")));
    }
    Ok(ports)
}

/// Takes the connection over.
fn upgrade(mut call: Call, dial: Dial) -> Answer {
    let offered = call.parts.headers.get_all("x-stream-protocol-version").iter().filter_map(|value| value.to_str().ok());
    if !offered.flat_map(|words| words.split(',')).any(|word| word.trim() == STREAMS) {
        return Err(Refusal::bad_request(format!("port-forward needs the stream protocol {STREAMS} (X-Stream-Protocol-Version)")));
    }
    let upgrade = call.parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| Refusal::bad_request("this connection cannot be upgraded: HTTP/1.1 is needed"))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => serve(TokioIo::new(connection), dial).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert("x-stream-protocol-version", HeaderValue::from_static(STREAMS));
    Ok(response)
}

/// A websocket whose binary messages are the bytes of a connection.
async fn tunnel(socket: WebSocket, dial: Dial) {
    let (ours, theirs) = tokio::io::duplex(PIECE);
    let (mut from_session, mut to_session) = tokio::io::split(ours);
    let (mut sink, mut stream) = socket.split();
    let incoming = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) if to_session.write_all(&bytes).await.is_err() => break,
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    let outgoing = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        let mut alive = tokio::time::interval_at(tokio::time::Instant::now() + BETWEEN_PINGS, BETWEEN_PINGS);
        loop {
            tokio::select! {
                read = from_session.read_buf(&mut buffer) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(_) => if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() { break },
                },
                _ = alive.tick() => if sink.send(Message::Ping(Bytes::new())).await.is_err() { break },
            }
        }
        let _ = sink.send(Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() }))).await;
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
        () = serve(theirs, dial) => {}
    }
}

/// What is known of a stream that the client has opened.
struct Open {
    request: String,
    is_data: bool,
    /// Where its data goes; `None` once the client has ended it.
    input: Option<mpsc::Sender<Bytes>>,
}

/// The two streams of a connection that is to be made.
#[derive(Default)]
struct Pair {
    error: Option<u32>,
    data: Option<(u32, mpsc::Receiver<Bytes>)>,
}

/// Serves the streams of one client until it goes; then its connections end with it.
async fn serve(connection: impl AsyncRead + AsyncWrite + Send + 'static, dial: Dial) {
    let (source, sink) = tokio::io::split(connection);
    let (frames, outgoing) = mpsc::channel(WAITING);
    let session = Session { dial, frames, open: HashMap::new(), pairs: HashMap::new(), connections: JoinSet::new() };
    tokio::select! {
        ended = write(sink, outgoing) => if let Err(error) = ended { tracing::debug!(%error, "a port-forward's client went") },
        ended = session.run(FrameReader::new(source)) => if let Err(error) = ended { tracing::debug!(%error, "a port-forward ended") },
    }
}

async fn write(mut sink: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Frame>) -> io::Result<()> {
    let mut writer = FrameWriter::new();
    while let Some(frame) = frames.recv().await {
        sink.write_all(&writer.encode(&frame)?).await?;
        if frames.is_empty() {
            sink.flush().await?;
        }
    }
    Ok(())
}

struct Session {
    dial: Dial,
    frames: mpsc::Sender<Frame>,
    open: HashMap<u32, Open>,
    pairs: HashMap<String, Pair>,
    connections: JoinSet<()>,
}

impl Session {
    async fn run(mut self, mut source: FrameReader<impl AsyncRead + Unpin>) -> io::Result<()> {
        loop {
            // A frame that is read in part must be read on: nothing may come between.
            let frame = source.next().await?;
            while self.connections.try_join_next().is_some() {}
            match frame {
                None => return Ok(()),
                Some(Frame::Open { stream, headers, fin }) => self.opened(stream, &headers, fin).await,
                Some(Frame::Data { stream, bytes, fin }) => self.data(stream, bytes, fin).await,
                Some(Frame::Reset { stream, .. }) => self.forget(stream),
                Some(Frame::Ping(id)) => self.send(Frame::Ping(id)).await,
                Some(Frame::Reply { .. } | Frame::GoAway) => {}
            }
        }
    }

    async fn send(&self, frame: Frame) {
        // The writer ends the session when it ends.
        let _ = self.frames.send(frame).await;
    }

    async fn opened(&mut self, stream: u32, headers: &[(String, String)], fin: bool) {
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let is_data = match header("streamtype") {
            Some("data") => true,
            Some("error") => false,
            _ => return self.send(Frame::Reset { stream, status: PROTOCOL_ERROR }).await,
        };
        let port = header("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
        let Some(port) = port else { return self.send(Frame::Reset { stream, status: PROTOCOL_ERROR }).await };
        if self.open.len() >= MOST_STREAMS || self.open.contains_key(&stream) {
            return self.send(Frame::Reset { stream, status: REFUSED_STREAM }).await;
        }
        // Old clients name no request: the stream of data follows that of errors.
        let request = header("requestid").map_or_else(|| format!("stream {}", if is_data { stream.saturating_sub(2) } else { stream }), str::to_owned);
        self.send(Frame::Reply { stream }).await;
        let pair = self.pairs.entry(request.clone()).or_default();
        let mut input = None;
        if is_data {
            let (sender, receiver) = mpsc::channel(WAITING);
            pair.data = Some((stream, receiver));
            input = (!fin).then_some(sender);
        } else {
            pair.error = Some(stream);
        }
        self.open.insert(stream, Open { request: request.clone(), is_data, input });
        if let Pair { error: Some(_), data: Some(_) } = pair
            && let Some(Pair { error: Some(error), data: Some((data, input)) }) = self.pairs.remove(&request)
        {
            let connect = (self.dial)(port);
            self.connections.spawn(forward(connect, port, (data, error), input, self.frames.clone()));
        }
    }

    /// A connection that does not read holds its client back, instead of filling memory.
    async fn data(&mut self, stream: u32, bytes: Bytes, fin: bool) {
        let Some(open) = self.open.get_mut(&stream) else { return };
        if let Some(input) = &open.input
            && !bytes.is_empty()
            && input.send(bytes).await.is_err()
        {
            open.input = None;
        }
        if fin {
            self.ended(stream);
        }
    }

    /// The client sends no more on it.
    fn ended(&mut self, stream: u32) {
        if self.open.get(&stream).is_some_and(|open| !self.pairs.contains_key(&open.request)) {
            self.open.remove(&stream);
        } else if let Some(open) = self.open.get_mut(&stream) {
            open.input = None;
        }
    }

    fn forget(&mut self, stream: u32) {
        if let Some(open) = self.open.remove(&stream)
            && let Some(pair) = self.pairs.get_mut(&open.request)
        {
            if open.is_data {
                pair.data = None
            } else {
                pair.error = None
            }
            if pair.data.is_none() && pair.error.is_none() {
                self.pairs.remove(&open.request);
            }
        }
    }
}

/// One connection, between the client's streams and the pod.
async fn forward(
    connect: BoxFuture<'static, Result<ForwardStream, NodeError>>,
    port: u16,
    (data, error): (u32, u32),
    mut input: mpsc::Receiver<Bytes>,
    frames: mpsc::Sender<Frame>,
) {
    let mut said = Bytes::new();
    match connect.await {
        Err(error) => said = refused(port, &error),
        Ok(connection) => {
            let (mut source, mut sink) = tokio::io::split(connection);
            let inward = async {
                while let Some(bytes) = input.recv().await {
                    if sink.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                let _ = sink.shutdown().await;
                // What the pod still says is passed on.
                std::future::pending().await
            };
            let outward = async {
                let mut buffer = BytesMut::with_capacity(PIECE);
                while let Ok(1..) = source.read_buf(&mut buffer).await {
                    if frames.send(Frame::Data { stream: data, bytes: buffer.split().freeze(), fin: false }).await.is_err() {
                        return;
                    }
                    buffer.reserve(PIECE);
                }
            };
            tokio::select! {
                () = inward => {}
                () = outward => {}
            }
        }
    }
    // Whoever reads the error first must find it whole.
    let _ = frames.send(Frame::Data { stream: error, bytes: said, fin: true }).await;
    let _ = frames.send(Frame::Data { stream: data, bytes: Bytes::new(), fin: true }).await;
}

fn refused(port: u16, error: &NodeError) -> Bytes {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    tracing::debug!(port, %error, "a port is not forwarded");
    Bytes::from(format!("{error}{cause}"))
}

fn channel(number: usize, payload: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(payload.len() + 1);
    bytes.put_u8(u8::try_from(number).unwrap_or(u8::MAX));
    bytes.put_slice(payload);
    Message::Binary(bytes.freeze())
}

/// A websocket with two channels a port: one connection to each. A channel opens with the port's number: that of data once its connection stands.
async fn channels(socket: WebSocket, ports: Vec<u16>, dial: Dial) {
    let (mut sink, mut stream) = socket.split();
    let (messages, mut outgoing) = mpsc::channel(WAITING);
    let mut connections = JoinSet::new();
    let mut inputs = Vec::new();
    for (number, port) in ports.into_iter().enumerate() {
        let (input, received) = mpsc::channel(WAITING);
        inputs.push(input);
        connections.spawn(channel_pair(dial(port), port, number * 2, received, messages.clone()));
    }
    drop(messages);
    let incoming = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    let Some(number) = bytes.first().copied().map(usize::from).filter(|number| number % 2 == 0) else { continue };
                    if let Some(input) = inputs.get(number / 2) {
                        // A connection that has ended takes nothing more.
                        let _ = input.send(bytes.slice(1..)).await;
                    }
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    let outward = async {
        let mut alive = tokio::time::interval_at(tokio::time::Instant::now() + BETWEEN_PINGS, BETWEEN_PINGS);
        loop {
            tokio::select! {
                message = outgoing.recv() => match message {
                    Some(message) => if sink.send(message).await.is_err() { return },
                    None => break,
                },
                _ = alive.tick() => if sink.send(Message::Ping(Bytes::new())).await.is_err() { return },
            }
        }
        let _ = sink.send(Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() }))).await;
    };
    tokio::select! {
        () = incoming => {}
        () = outward => {}
    }
}

async fn channel_pair(
    connect: BoxFuture<'static, Result<ForwardStream, NodeError>>,
    port: u16,
    data: usize,
    mut input: mpsc::Receiver<Bytes>,
    messages: mpsc::Sender<Message>,
) {
    let connected = connect.await;
    // The client may have gone: then there is nobody to tell.
    let _ = messages.send(channel(data + 1, &port.to_le_bytes())).await;
    let connection = match connected {
        Ok(connection) => connection,
        Err(error) => return messages.send(channel(data + 1, &refused(port, &error))).await.unwrap_or_default(),
    };
    let _ = messages.send(channel(data, &port.to_le_bytes())).await;
    let (mut source, mut sink) = tokio::io::split(connection);
    let inward = async {
        while let Some(bytes) = input.recv().await {
            if sink.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = source.read(&mut buffer).await {
            if messages.send(channel(data, &buffer[..length])).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use bytes::Bytes;
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

    use super::{Dial, serve};
    use crate::node::{ForwardStream, NodeError};
    use crate::spdy::{Frame, FrameReader, FrameWriter};

    /// Port 1 takes nothing; the others say their number and then give back what they get.
    fn dial() -> Dial {
        Arc::new(|port| {
            async move {
                if port == 1 {
                    let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                    return Err(NodeError::Connect { pod: "web".to_owned(), port, source });
                }
                let (ours, theirs) = tokio::io::duplex(1024);
                tokio::spawn(async move {
                    let (mut source, mut sink) = tokio::io::split(ours);
                    sink.write_all(format!("port {port}\n").as_bytes()).await.expect("written");
                    let _ = tokio::io::copy(&mut source, &mut sink).await;
                    let _ = sink.shutdown().await;
                });
                Ok(Box::new(theirs) as ForwardStream)
            }
            .boxed()
        })
    }

    struct Peer {
        reader: FrameReader<ReadHalf<DuplexStream>>,
        writer: FrameWriter,
        sink: WriteHalf<DuplexStream>,
        said: BTreeMap<u32, Vec<u8>>,
        ended: BTreeSet<u32>,
    }

    impl Peer {
        fn new() -> Peer {
            // A narrow pipe: no frame comes in one piece.
            let (ours, theirs) = tokio::io::duplex(16);
            tokio::spawn(serve(theirs, dial()));
            let (source, sink) = tokio::io::split(ours);
            Peer { reader: FrameReader::new(source), writer: FrameWriter::new(), sink, said: BTreeMap::new(), ended: BTreeSet::new() }
        }

        async fn send(&mut self, frame: Frame) {
            let bytes = self.writer.encode(&frame).expect("encoded");
            self.sink.write_all(&bytes).await.expect("sent");
        }

        async fn open(&mut self, stream: u32, kind: &str, port: &str, request: &str) {
            let headers = [("streamtype", kind), ("port", port), ("requestid", request)].map(|(name, value)| (name.to_owned(), value.to_owned()));
            self.send(Frame::Open { stream, headers: headers.to_vec(), fin: kind == "error" }).await;
        }

        /// Everything of these streams, once all of them have ended.
        async fn collect(&mut self, streams: &[u32]) -> BTreeMap<u32, String> {
            while !streams.iter().all(|stream| self.ended.contains(stream)) {
                match self.reader.next().await.expect("frames").expect("the session goes on") {
                    Frame::Data { stream, bytes, fin } => {
                        self.said.entry(stream).or_default().extend_from_slice(&bytes);
                        if fin {
                            self.ended.insert(stream);
                        }
                    }
                    Frame::Reset { stream, .. } => panic!("stream {stream} was reset"),
                    _ => {}
                }
            }
            let mut text = |stream: &u32| String::from_utf8(self.said.remove(stream).unwrap_or_default()).expect("text");
            streams.iter().map(|stream| (*stream, text(stream))).collect()
        }
    }

    #[tokio::test]
    async fn connections_of_one_client_go_side_by_side() {
        let mut peer = Peer::new();
        peer.open(1, "error", "80", "0").await;
        peer.open(3, "data", "80", "0").await;
        peer.open(5, "error", "81", "1").await;
        peer.open(7, "data", "81", "1").await;
        for (stream, text) in [(7, "b"), (3, "a"), (7, "bb")] {
            peer.send(Frame::Data { stream, bytes: text.into(), fin: false }).await;
        }
        for stream in [3, 7] {
            peer.send(Frame::Data { stream, bytes: Bytes::new(), fin: true }).await;
        }
        let said = peer.collect(&[1, 3, 5, 7]).await;
        let expected = [(1, ""), (3, "port 80\na"), (5, ""), (7, "port 81\nbbb")].map(|(stream, text)| (stream, text.to_owned()));
        assert_eq!(said, expected.into());
        // Connections end while others begin.
        for stream in (9..81).step_by(4) {
            peer.open(stream, "error", "82", &stream.to_string()).await;
            peer.open(stream + 2, "data", "82", &stream.to_string()).await;
            peer.send(Frame::Data { stream: stream + 2, bytes: Bytes::new(), fin: true }).await;
            if stream > 12 {
                assert_eq!(peer.collect(&[stream - 4, stream - 2]).await[&(stream - 2)], "port 82\n");
            }
        }
        peer.collect(&[77, 79]).await;
        // The session has room for more, and answers pings.
        peer.send(Frame::Ping(9)).await;
        assert_eq!(peer.reader.next().await.expect("frames"), Some(Frame::Ping(9)));
    }

    #[tokio::test]
    async fn a_port_that_nobody_has_is_told_on_its_own_stream() {
        let mut peer = Peer::new();
        peer.open(1, "error", "1", "0").await;
        peer.open(3, "data", "1", "0").await;
        let said = peer.collect(&[1, 3]).await;
        assert!(said[&1].contains("cannot connect to port 1 inside pod web: connection refused"), "{said:?}");
        peer.open(5, "error", "80", "1").await;
        peer.open(7, "data", "80", "1").await;
        peer.send(Frame::Data { stream: 7, bytes: Bytes::new(), fin: true }).await;
        assert_eq!(peer.collect(&[5, 7]).await[&7], "port 80\n");
    }

    #[tokio::test]
    async fn streams_that_make_no_sense_are_reset_alone() {
        let mut peer = Peer::new();
        peer.open(1, "stdin", "80", "0").await;
        assert!(matches!(peer.reader.next().await.expect("frames"), Some(Frame::Reset { stream: 1, .. })));
        peer.open(3, "data", "0", "0").await;
        assert!(matches!(peer.reader.next().await.expect("frames"), Some(Frame::Reset { stream: 3, .. })));
        // Old clients name no request, and a half that was given up waits for nobody.
        peer.send(Frame::Open { stream: 5, headers: vec![("streamtype".into(), "error".into()), ("port".into(), "80".into())], fin: true }).await;
        peer.send(Frame::Open { stream: 7, headers: vec![("streamtype".into(), "data".into()), ("port".into(), "80".into())], fin: true }).await;
        assert_eq!(peer.collect(&[5, 7]).await[&7], "port 80\n");
    }

    #[tokio::test]
    async fn a_client_that_goes_takes_its_connections_with_it() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let (gone, mut is_gone) = tokio::sync::oneshot::channel();
        let pod = std::sync::Mutex::new(Some(ours));
        let dial: Dial = Arc::new(move |_| {
            let stream = pod.lock().expect("one caller").take().expect("once");
            async move { Ok(Box::new(stream) as ForwardStream) }.boxed()
        });
        tokio::spawn(async move {
            let mut theirs = theirs;
            let _ = theirs.read(&mut [0; 8]).await;
            let _ = gone.send(());
        });
        let (client, server) = tokio::io::duplex(64 << 10);
        let session = tokio::spawn(serve(server, dial));
        let (source, sink) = tokio::io::split(client);
        let mut peer = Peer { reader: FrameReader::new(source), writer: FrameWriter::new(), sink, said: BTreeMap::new(), ended: BTreeSet::new() };
        peer.open(1, "error", "80", "0").await;
        peer.open(3, "data", "80", "0").await;
        assert_eq!(peer.reader.next().await.expect("frames"), Some(Frame::Reply { stream: 1 }));
        assert!(is_gone.try_recv().is_err());
        drop(peer);
        session.await.expect("the session ends");
        is_gone.await.expect("the connection ends");
    }
}
