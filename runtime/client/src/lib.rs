//! One way to speak to any Kubernetes API: the bundled one inside this process, or the cluster of a kubeconfig.
//!
//! Objects are plain [`serde_json::Value`]s; what resource they belong to is said by a [`Resource`].

mod client;
mod error;
mod exec;
mod forward;
mod kubeconfig;
mod list;
mod logs;
mod query;
mod reflect;
mod resource;
mod table;
mod transport;
mod watch;
mod write;

pub use client::Client;
pub use error::{ClientError, Status};
pub use exec::{Exec, ExecEvent, ExecInput, ExecParams};
pub use forward::Forward;
pub use kubeconfig::stands_alone;
pub use list::{List, ListParams};
pub use logs::{LogParams, LogStream};
pub use reflect::{Change, Reflection};
pub use resource::Resource;
pub use table::{Column, Row, Table};
pub use watch::{WatchEvent, WatchKind, WatchStream};
pub use write::{DeleteParams, Patch, Propagation, WriteParams};
