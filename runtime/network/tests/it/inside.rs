//! Running a test in namespaces of its own, and small servers and clients inside a pod's.

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use strake_network::{Network, Options, PortRoute, Protocol, ServiceRoute};

const MARK: &str = "STRAKE_TEST_INSIDE";

/// How long anything may take that has to happen: a loaded machine is slow, and that is no failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the test again as root of its own network and mount namespaces. `false` is said by the outer run, which then is done.
pub fn own_namespaces(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {test}: it makes links and rules, which needs root");
        return false;
    }
    let own = std::env::current_exe().expect("a test knows its program");
    let done = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(own)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("unshare (util-linux) runs");
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(done.status.success() && said.contains("1 passed"), "{test} in its namespaces:\n{said}");
    eprintln!("{said}");
    false
}

/// Runs an async body with an open network below a temporary directory, then takes it down.
pub fn with_network<F: Future<Output = ()>>(body: impl FnOnce(std::sync::Arc<Network>, tempfile::TempDir) -> F) {
    sh("ip link set lo up");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let network = Network::open(options(folder.path())).await.expect("the network opens");
        body(std::sync::Arc::new(network), folder).await;
    });
}

/// The usual options below a directory, with resolvers that are not there.
pub fn options(folder: &Path) -> Options {
    let resolv = folder.join("resolv.conf");
    if !resolv.exists() {
        std::fs::write(&resolv, "").expect("written");
    }
    Options { resolv_conf: resolv, ..Options::usual(folder.join("run")) }
}

/// A shell command that has to work.
pub fn sh(command: &str) -> String {
    let done = Command::new("sh").args(["-c", command]).output().expect("sh runs");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Runs work in a thread inside a namespace.
pub fn inside<T: Send + 'static>(namespace: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(namespace).expect("the namespace is bound");
    let thread = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("entered");
        work()
    });
    thread.join().expect("the work in the namespace ends well")
}

/// A TCP server in a namespace: it answers `name peer-address` to everyone.
pub fn serve(namespace: &Path, port: u16, name: &'static str) {
    inside(namespace, move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().expect("a peer").ip();
                let _ = stream.write_all(format!("{name} {peer}").as_bytes());
            }
        });
    });
}

/// A UDP server in a namespace that answers with its name.
pub fn serve_udp(namespace: &Path, port: u16, name: &'static str) {
    inside(namespace, move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bound");
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), peer);
            }
        });
    });
}

/// What a server says, or the kind of error.
pub fn call(address: SocketAddrV4) -> Result<String, std::io::ErrorKind> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(address), PATIENCE).map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.kind())?;
    Ok(text)
}

/// The same from inside a namespace.
pub fn call_from(namespace: &Path, address: SocketAddrV4) -> Result<String, std::io::ErrorKind> {
    inside(namespace, move || call(address))
}

/// An address.
pub fn at(address: impl Into<Ipv4Addr>, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address.into(), port)
}

/// A Service of one port.
pub fn service(name: &str, cluster: [u8; 4], protocol: Protocol, node_port: Option<u16>, endpoints: &[SocketAddrV4]) -> ServiceRoute {
    let ports = vec![PortRoute { protocol, port: 80, node_port, endpoints: endpoints.to_vec() }];
    ServiceRoute { name: name.to_owned(), cluster_ip: Some(Ipv4Addr::from(cluster)), ports }
}
