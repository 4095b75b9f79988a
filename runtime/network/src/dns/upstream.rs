//! Where names outside the cluster are asked: the machine's own resolvers.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const TIMEOUT: Duration = Duration::from_secs(2);
const MOST_UPSTREAMS: usize = 3;
/// systemd-resolved keeps the real ones here, when resolv.conf names only its stub.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The machine's resolvers, read again when their file changes.
#[derive(Debug)]
pub struct Upstreams {
    path: PathBuf,
    own: Ipv4Addr,
    known: Mutex<(Option<SystemTime>, Vec<SocketAddr>)>,
    asked: Mutex<HashMap<(String, u16), u32>>,
    failures: AtomicU32,
}

impl Upstreams {
    /// Resolvers from a file in the form of resolv.conf; `own` is our address, never asked.
    pub fn new(path: PathBuf, own: Ipv4Addr) -> Self {
        Upstreams { path, own, known: Mutex::default(), asked: Mutex::default(), failures: AtomicU32::new(0) }
    }

    /// The resolvers to ask, in order.
    pub fn servers(&self) -> Vec<SocketAddr> {
        let changed = std::fs::metadata(&self.path).and_then(|facts| facts.modified()).ok();
        let Ok(mut known) = self.known.lock() else { return Vec::new() };
        if known.0 != changed || changed.is_none() {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            let mut servers = read_resolv_conf(&text, self.own);
            if servers.iter().all(|server| server.ip().is_loopback())
                && let Ok(text) = std::fs::read_to_string(RESOLVED)
            {
                let behind = read_resolv_conf(&text, self.own);
                servers = if behind.is_empty() { servers } else { behind };
            }
            *known = (changed, servers);
        }
        known.1.clone()
    }

    /// Notes that a question is under way, until the guard is dropped; `None` when it is already and comes from this very
    /// machine: one of the resolvers sends it back to us.
    pub(crate) fn begin(&self, name: &str, kind: u16, from_here: bool) -> Option<Asked<'_>> {
        let key = (name.to_ascii_lowercase(), kind);
        let mut asked = self.asked.lock().ok()?;
        let count = asked.entry(key.clone()).or_default();
        if *count > 0 && from_here {
            return None;
        }
        *count += 1;
        Some(Asked { upstreams: self, key })
    }

    /// Asks the resolvers in turn and gives the first answer as it came.
    ///
    /// # Errors
    /// When there is none, or none answers.
    pub(crate) async fn ask(&self, query: &[u8], tcp: bool) -> io::Result<Vec<u8>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the machine's resolv.conf names no name server");
        for server in self.servers() {
            let answer = async { if tcp { ask_tcp(server, query).await } else { ask_udp(server, query).await } };
            match tokio::time::timeout(TIMEOUT, answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        // Once in a while is enough: a machine without a network asks all day long.
        if self.failures.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
            tracing::warn!(error = %last, "a name outside the cluster could not be asked");
        }
        Err(last)
    }
}

/// A question under way.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    upstreams: &'a Upstreams,
    key: (String, u16),
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Ok(mut asked) = self.upstreams.asked.lock()
            && let Some(count) = asked.get_mut(&self.key)
        {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.key);
            }
        }
    }
}

/// The first three name servers of a resolv.conf, without `own`.
pub fn read_resolv_conf(text: &str, own: Ipv4Addr) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).filter(|rest| rest.starts_with(char::is_whitespace));
    let addresses = named.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    addresses.filter(|address| *address != IpAddr::V4(own)).take(MOST_UPSTREAMS).map(|address| SocketAddr::new(address, 53)).collect()
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let read = socket.recv(&mut buffer).await?;
        // A stray packet has another id.
        if read >= 12 && buffer.get(..2) == query.get(..2) {
            buffer.truncate(read);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

    #[test]
    fn resolv_conf_is_read_as_resolvers_do() {
        let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.43.0.10\n nameserver\t192.0.2.1 # main\nnameserver ::1\nnameserverx 1.1.1.1\n\
                    nameserver nonsense\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let read: Vec<String> = read_resolv_conf(text, OWN).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.1:53", "[::1]:53", "192.0.2.2:53"]);
    }

    #[test]
    fn a_question_that_comes_back_from_this_machine_is_a_loop() {
        let upstreams = Upstreams::new("/nonexistent".into(), OWN);
        let first = upstreams.begin("Example.org.", 1, false);
        assert!(first.is_some());
        assert!(upstreams.begin("example.org.", 1, true).is_none(), "sent back by a resolver here");
        assert!(upstreams.begin("example.org.", 1, false).is_some(), "another pod asks the same");
        drop(first);
        assert!(upstreams.begin("example.org.", 1, true).is_some(), "a program of this machine asks");
    }
}
