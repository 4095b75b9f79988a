//! Node ports on 127.0.0.1, by copying bytes. The kernel could redirect them too, but only with `route_localnet`, which
//! opens localhost to the neighbours (CVE-2020-8558).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, bind, listen, shutdown, socket_with, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::NetworkError;
use crate::services::{PortRoute, Protocol, ServiceRoute};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A listener that fails to accept (no file descriptors left) waits this long.
const REST: Duration = Duration::from_millis(100);
/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const MOST_WAITING: i32 = 4096;
/// An endpoint that is silent this long is asked whether it is still there: a pod may go without a word.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// The listeners on localhost.
pub(crate) struct LocalPorts {
    runtime: Handle,
    open: BTreeMap<u16, LocalPort>,
}

impl LocalPorts {
    pub(crate) fn new(runtime: Handle) -> Self {
        LocalPorts { runtime, open: BTreeMap::new() }
    }

    /// Listens on exactly the node ports of these Services that have endpoints, and holds the others without listening: a
    /// connection to them is refused. When this returns, a port no longer wanted is closed. Gives those that could not be had.
    pub(crate) fn program(&mut self, services: &[ServiceRoute]) -> Vec<NetworkError> {
        let mut failed = Vec::new();
        let mut wanted = BTreeSet::new();
        for service in services {
            for port in service.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
                let Some(number) = port.node_port else { continue };
                if !wanted.insert(number) {
                    continue;
                }
                if let Err(source) = self.serve(number, port) {
                    failed.push(NetworkError::BindNodePort { port: number, service: service.name.clone(), source });
                }
            }
        }
        self.open.retain(|number, _| wanted.contains(number));
        failed
    }

    fn serve(&mut self, number: u16, route: &PortRoute) -> io::Result<()> {
        let port = match self.open.entry(number) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(free) => free.insert(LocalPort::bind(number)?),
        };
        port.endpoints.write().unwrap_or_else(PoisonError::into_inner).clone_from(&route.endpoints);
        if route.endpoints.is_empty() {
            port.close();
            Ok(())
        } else {
            port.open(&self.runtime)
        }
    }
}

/// One port: bound for as long as a Service has it, and listening while there are endpoints.
struct LocalPort {
    socket: OwnedFd,
    endpoints: Arc<RwLock<Vec<SocketAddrV4>>>,
    accepting: Option<AbortHandle>,
}

impl LocalPort {
    fn bind(number: u16) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        // Connections of an earlier life in TIME_WAIT don't hold the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, number))?;
        Ok(LocalPort { socket, endpoints: Arc::default(), accepting: None })
    }

    fn open(&mut self, runtime: &Handle) -> io::Result<()> {
        if self.accepting.is_none() {
            listen(&self.socket, MOST_WAITING)?;
            let _entered = runtime.enter();
            let listener = TcpListener::from_std(self.socket.try_clone()?.into())?;
            self.accepting = Some(runtime.spawn(accept(listener, Arc::clone(&self.endpoints))).abort_handle());
        }
        Ok(())
    }

    /// Ends the listening at once. To end the task alone isn't enough: until the runtime comes to drop its listener, the kernel
    /// goes on to establish connections, and resets them afterwards.
    fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            if let Err(error) = shutdown(&self.socket, Shutdown::Read) {
                tracing::debug!(%error, "a node port's listener could not be closed at once");
            }
        }
    }
}

impl Drop for LocalPort {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(listener: TcpListener, endpoints: Arc<RwLock<Vec<SocketAddrV4>>>) {
    let turn = AtomicUsize::new(0);
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let mut candidates = endpoints.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !candidates.is_empty() {
            let first = turn.fetch_add(1, Ordering::Relaxed) % candidates.len();
            candidates.rotate_left(first);
        }
        tokio::spawn(copy(client, candidates));
    }
}

/// Connects to the first endpoint that answers; a client without one sees its connection closed.
async fn copy(mut client: TcpStream, endpoints: Vec<SocketAddrV4>) {
    for endpoint in endpoints {
        if let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint)).await {
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            let _ = sockopt::set_socket_keepalive(&server, true).and_then(|()| sockopt::set_tcp_keepidle(&server, KEEPALIVE_IDLE));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
