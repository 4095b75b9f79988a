//! Brings a cluster up, in the order that its manual would give, and holds it until a signal.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use strake_api::{ApiOptions, ApiServer, router};
use strake_client::Client;
use strake_container::{Executor, LinuxExecutor};
use strake_network::Network;
use strake_state::{Embedded, State};
use strake_store::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::access::Access;
use crate::lock::{ServeLock, make_private};
use crate::{ClusterError, controllers, kubeconfig, listen, pki, scheduler, stop};

/// The API's own Service address.
const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 1);
/// Threads of the server: it waits most of the time.
const THREADS: usize = 2;
/// Threads that may block, each for a container's create, an image's unpacking, …
const BLOCKING_THREADS: usize = 64;
/// How long what a killed server had open may stay in use by processes that it was about to start.
const INHERITED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(10);

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory.
    pub root: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
}

/// What runs beside the controllers, for as long as the cluster does: it gets the same way into the API.
pub type Beside = Box<dyn FnOnce(Client) -> BoxFuture<'static, ()> + Send>;

/// Runs a cluster until SIGTERM or SIGINT. Its pods go on afterwards, unless [`crate::stop`] asked for the end.
///
/// # Errors
/// Whatever keeps it from starting; nothing is left behind then.
pub fn serve(options: Options, beside: Option<Beside>) -> Result<(), ClusterError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).max_blocking_threads(BLOCKING_THREADS).enable_all().build();
    let runtime = runtime.map_err(|source| ClusterError::System { action: "start a runtime", source })?;
    let result = runtime.block_on(async {
        // A signal that comes while the cluster starts is heeded as soon as it has: then everything that was made is known.
        let signals = Signals::listen()?;
        let lock = ServeLock::take(&options.root)?;
        let _ = fs::remove_file(stop::marker(&options.root));
        run(&options, beside, lock, signals).await
    });
    runtime.shutdown_background();
    result
}

/// Tries again for a while when something is in use after the server before this one was killed: what that one was about to start has a copy of its
/// sockets and files until it is executed.
///
/// # Errors
/// The last attempt's.
pub(crate) async fn patiently<T>(lock: &ServeLock, mut attempt: impl AsyncFnMut() -> Result<T, ClusterError>) -> Result<T, ClusterError> {
    let end = Instant::now() + if lock.after_crash() { INHERITED } else { Duration::ZERO };
    loop {
        match attempt().await {
            Err(error) if error.is_in_use() && Instant::now() < end => tokio::time::sleep(AGAIN).await,
            done => return done,
        }
    }
}

/// The network of a state directory.
pub(crate) fn network_options(root: &Path) -> strake_network::Options {
    strake_network::Options::usual(root.join("run"))
}

/// Opens the network. The marker tells `strake stop` that there is one to remove; where another cluster has it, nothing here is to be removed.
async fn network(root: &Path) -> Result<Network, ClusterError> {
    let marker = stop::network_marker(root);
    let ours = marker.exists();
    make_private(root, "run").map_err(|source| ClusterError::Write { path: marker.clone(), source })?;
    fs::write(&marker, "").map_err(|source| ClusterError::Write { path: marker.clone(), source })?;
    let opened = Network::open(network_options(root)).await.map_err(ClusterError::network);
    if !ours && matches!(opened, Err(ClusterError::NetworkTaken { .. })) {
        let _ = fs::remove_file(&marker);
    }
    opened
}

/// What the node is called: the host's name, as Kubernetes wants names.
fn node_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().to_lowercase();
    let valid: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' }).collect();
    let trimmed = valid.trim_matches(|c| c == '-' || c == '.');
    if trimmed.is_empty() { "strake".to_owned() } else { trimmed.to_owned() }
}

fn certificate_names(node: &str) -> Vec<String> {
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", node];
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn run(options: &Options, beside: Option<Beside>, mut lock: ServeLock, mut signals: Signals) -> Result<(), ClusterError> {
    let root = options.root.as_path();
    let failed = |source| ClusterError::Listen { address: options.listen, source };
    // First of all: a port in use must not leave anything made.
    let listener = patiently(&lock, async || TcpListener::bind(options.listen).map_err(failed)).await?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;

    let directory = root.join("cluster");
    make_private(root, "cluster").map_err(|source| ClusterError::Write { path: directory.clone(), source })?;
    let path = directory.join("state.redb");
    let state: Arc<dyn State> = Arc::new(patiently(&lock, async || Embedded::open(&path).map_err(|error| ClusterError::State { error })).await?);
    let store = Store::open(root).map_err(ClusterError::Store)?;
    let executor = Arc::new(LinuxExecutor::new(root, PathBuf::from("/proc/self/exe")).map_err(ClusterError::Container)?);
    for id in executor.repair_own(&stop::is_pods).map_err(ClusterError::Container)? {
        tracing::info!(%id, "a container that an earlier life had begun to make was removed");
    }
    let network = Arc::new(patiently(&lock, async || network(root).await).await?);
    let node = node_name();
    let addresses =
        [address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(API_SERVICE), IpAddr::V4(network.node_address()), IpAddr::V4(network.internal_address())];
    let pki = pki::open(&directory.join("pki"), &certificate_names(&node), &addresses, jiff::Timestamp::now())?;

    let access = Arc::new(Access::default());
    let api = Arc::new(ApiServer::new(state.clone(), ApiOptions { secure_port: address.port(), ..ApiOptions::default() }, access.clone()));
    api.bootstrap().await.map_err(|source| ClusterError::Bootstrap { message: source.message })?;
    let router = router(api.clone());
    tokio::spawn(api.maintain());
    let client = Client::in_process(router.clone());
    let acceptor = listen::acceptor(&pki)?;
    tokio::spawn(listen::serve(listener, acceptor, router));
    pki::write_private(&directory.join("kubeconfig"), &kubeconfig::render(&pki, address))?;
    lock.note(&address.to_string(), network.hindrances().iter().map(ToString::to_string).collect())?;
    tracing::info!("the API answers at https://{address}");

    let beside_client = client.clone();
    tokio::spawn(controllers::run(client.clone()));
    tokio::spawn(scheduler::run(client.clone()));
    let parts =
        strake_node::Parts { root: root.to_owned(), name: node, client, store, executor: executor.clone() as Arc<dyn Executor>, network: network.clone() };
    let node = strake_node::Node::start(parts).await.map_err(ClusterError::Node)?;
    access.set(node.clone());
    if let Some(beside) = beside {
        tokio::spawn(beside(beside_client));
    }
    signals.any().await;
    if stop::marker(root).exists() {
        tracing::info!("stopping the pods");
        node.stop_all().await.map_err(ClusterError::Node)?;
        network.teardown().await.map_err(ClusterError::Network)?;
        let _ = fs::remove_file(stop::network_marker(root));
    } else {
        tracing::info!("the pods go on; `strake stop` ends them");
        node.leave().await;
        network.close().await;
    }
    drop(state);
    drop(lock);
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, ClusterError> {
        let failed = |source| ClusterError::System { action: "listen for signals", source };
        Ok(Signals { terminate: signal(SignalKind::terminate()).map_err(failed)?, interrupt: signal(SignalKind::interrupt()).map_err(failed)? })
    }

    /// Returns at the first since [`Signals::listen`].
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
