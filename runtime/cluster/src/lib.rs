//! One process: state, API, control loop, scheduler loop and node. The loops speak to the API in process, through the same routes that kubectl uses.

mod access;
mod controllers;
mod error;
mod events;
mod hooks;
mod kubeconfig;
mod listen;
mod lock;
mod pki;
mod scheduler;
mod serve;
mod stop;

pub use error::ClusterError;
pub use events::Recorder;
pub use hooks::{HookAnswer, HookRequest, HookTls, Hooks, serve_hooks};
pub use lock::{Holder, holder, make_private};
pub use serve::{Beside, Options, serve};
pub use stop::{Stopped, is_left, stop};
