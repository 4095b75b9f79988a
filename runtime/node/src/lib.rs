//! The node agent: it runs the pods that the API gives to this machine.
//!
//! Each pod has a worker that observes, asks the pure decider [`strake_pod::step`] what to do, and does it with the store, the containers and
//! the network. Nothing here decides; everything that decides is tested without a machine.
//!
//! ```text
//! <root>/pods/<uid>/sandbox.json, pod.json    what is needed after a crash
//! <root>/pods/<uid>/etc/                      hosts, hostname, resolv.conf
//! <root>/pods/<uid>/volumes/<name>/           the pod's volumes (memory and secrets: tmpfs)
//! <root>/pods/<uid>/logs/<container>/<n>.log  one log an attempt
//! <root>/pods/<uid>/termination/              last words
//! ```

mod actions;
mod adopt;
mod env;
mod error;
mod events;
mod exec;
mod images;
mod logs;
mod machine;
mod names;
mod node;
mod objects;
mod probes;
mod quantity;
mod register;
mod sandbox;
mod services;
mod shared;
mod signals;
mod spec;
mod status;
mod volumes;
mod worker;

pub use error::NodeError;
pub use exec::{ExecRequest, ExecStreams, TerminalSize};
pub use logs::{LogOptions, LogStream};
pub use node::{Node, Parts, remove_remains};
