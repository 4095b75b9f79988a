//! What can go wrong on a node outside a pod's own life (that is told in the pod's status and events).

use std::io;
use std::path::PathBuf;

/// One variant an action.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node's object could not be written.
    #[error("cannot register node {name}")]
    Register {
        /// The node.
        name: String,
        /// The API's answer.
        #[source]
        source: Box<strake_client::ClientError>,
    },
    /// Containers of an earlier life could not be found.
    #[error("cannot take up the containers that are there")]
    AdoptContainers(#[source] Box<strake_container::ContainerError>),
    /// The network of an earlier life could not be put in order.
    #[error("cannot put the pods' network in order")]
    AdoptNetwork(#[source] Box<strake_network::NetworkError>),
    /// A directory of the node could not be made or read.
    #[error("cannot use {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What pods left could not be removed.
    #[error("cannot remove {}", path.display())]
    RemoveRemains {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not every pod ended in time.
    #[error("{count} pods did not end in time")]
    StopPods {
        /// How many.
        count: usize,
    },
    /// The node does not run the pod.
    #[error("the node does not run pod {namespace}/{pod}")]
    UnknownPod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
    },
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
        /// Why, for people.
        reason: String,
    },
    /// A command could not be run.
    #[error("cannot run {command:?} in container {container}")]
    Exec {
        /// The command.
        command: Vec<String>,
        /// The container.
        container: String,
        /// Why.
        #[source]
        source: Box<strake_container::ContainerError>,
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
        source: io::Error,
    },
    /// A stream broke.
    #[error("the stream of container {container} broke")]
    Stream {
        /// The container.
        container: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}
