//! A connection to a port inside a pod, over a websocket with two channels (`v4.channel.k8s.io`): bytes, and what went wrong.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use crate::query::Query;
use crate::{Client, ClientError, Resource};

const DATA: u8 = 0;
const ERROR: u8 = 1;
/// Bytes of a port's number, with which the server opens each channel.
const PORT_BYTES: usize = 2;
/// Pieces that may wait in each direction.
const WAITING: usize = 64;

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Forward {
    incoming: mpsc::Receiver<Result<Bytes, ClientError>>,
    outgoing: mpsc::Sender<Bytes>,
    opened: Option<oneshot::Receiver<()>>,
}

impl Forward {
    /// Waits until the server has opened the connection. strake's own does when something inside the pod has taken it; a kubelet does before, and tells a
    /// refusal by [`Forward::next`].
    ///
    /// # Errors
    /// [`ClientError::NotConnected`], or the connection was lost.
    pub async fn opened(&mut self) -> Result<(), ClientError> {
        let lost = || ClientError::Receive { path: "portforward".to_owned(), source: "the connection ended before it was opened".into() };
        let Some(opened) = self.opened.take() else { return Ok(()) };
        if opened.await.is_ok() {
            return Ok(());
        }
        match self.incoming.recv().await {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Err(lost()),
        }
    }

    /// The next piece that came from the pod; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        self.incoming.recv().await
    }

    /// Where pieces for the pod go. Sending fails once the connection has ended.
    pub fn outgoing(&self) -> mpsc::Sender<Bytes> {
        self.outgoing.clone()
    }
}

/// What a message means; channels open with the port's number.
struct Channels {
    pod: String,
    port: u16,
    opened: [usize; 2],
}

impl Channels {
    fn read(&mut self, mut message: Bytes) -> Option<Result<Bytes, ClientError>> {
        if message.is_empty() {
            return None;
        }
        let channel = message.split_to(1)[0];
        let opened = self.opened.get_mut(usize::from(channel))?;
        let skipped = (PORT_BYTES - *opened).min(message.len());
        *opened += skipped;
        let payload = message.split_off(skipped);
        match channel {
            _ if payload.is_empty() => None,
            DATA => Some(Ok(payload)),
            ERROR => {
                let reason = String::from_utf8_lossy(&payload).into_owned();
                Some(Err(ClientError::NotConnected { pod: self.pod.clone(), port: self.port, reason }))
            }
            _ => None,
        }
    }
}

impl Client {
    /// Connects to a port on the loopback of a pod. That nothing takes the connection there is told by the first [`Forward::next`].
    ///
    /// # Errors
    /// The pod is not there, or the server does not forward.
    pub async fn forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Forward, ClientError> {
        let path = Resource::PODS.path(Some(namespace), Some(pod), Some("portforward"));
        let mut query = Query::new(path.clone());
        query.set("ports", &port.to_string());
        let connection = self.transport.websocket(&path, query).await?;
        let (mut sink, mut stream) = connection.into_stream().split();
        let (outgoing, mut pieces) = mpsc::channel::<Bytes>(WAITING);
        let (events, incoming) = mpsc::channel(WAITING);
        let (open, opened) = oneshot::channel();
        let mut open = Some(open);
        let mut channels = Channels { pod: pod.to_owned(), port, opened: [0; 2] };
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(piece) = pieces.recv() => {
                        let mut message = BytesMut::with_capacity(piece.len() + 1);
                        message.put_u8(DATA);
                        message.put_slice(&piece);
                        if sink.send(Message::Binary(message.freeze())).await.is_err() { break }
                    }
                    () = events.closed() => break,
                    message = stream.next() => {
                        let event = match message {
                            Some(Ok(Message::Binary(bytes))) => channels.read(bytes),
                            Some(Ok(Message::Close(_))) | None => break,
                            Some(Ok(_)) => None,
                            Some(Err(source)) => Some(Err(ClientError::Receive { path: path.clone(), source: Box::new(source) })),
                        };
                        if channels.opened[usize::from(DATA)] == PORT_BYTES && let Some(open) = open.take() {
                            // Nobody needs to wait for it.
                            let _ = open.send(());
                        }
                        let Some(event) = event else { continue };
                        let last = event.is_err();
                        if events.send(event).await.is_err() || last { break }
                    }
                }
            }
            // The other end may have closed already.
            let _ = sink.close().await;
        });
        Ok(Forward { incoming, outgoing, opened: Some(opened) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Channels;

    #[test]
    fn channels_open_with_the_port() {
        let mut channels = Channels { pod: "web".to_owned(), port: 80, opened: [0; 2] };
        let mut read = |bytes: &'static [u8]| channels.read(Bytes::from_static(bytes)).map(|read| read.map_err(|error| error.to_string()));
        assert_eq!(read(b""), None);
        assert_eq!(read(b"\x00\x50\x00"), None);
        assert_eq!(read(b"\x01\x50"), None, "the number may come in parts");
        assert_eq!(read(b"\x01\x00"), None);
        assert_eq!(read(b"\x00hello"), Some(Ok(Bytes::from_static(b"hello"))));
        assert_eq!(read(b"\x07x"), None);
        assert_eq!(read(b"\x01refused"), Some(Err("port 80 of pod web is not forwarded: refused".to_owned())));
    }
}
