//! The Kubernetes API as an HTTP face of [`strake_state::State`].
//!
//! One registry serves every kind of `strake_kinds`' table: a kind is a row there plus what `prepare` says is special about it. A request is read
//! into a [`server`] call, a change goes through one function (`write::modify`), an answer leaves in the form that the client accepts.

mod allocate;
mod body;
mod bootstrap;
mod delete;
mod discovery;
mod encode;
mod exec;
mod forward;
mod logs;
mod meta;
pub mod node;
mod openapi;
mod patch;
mod prepare;
mod query;
mod read;
mod reviews;
mod select;
pub mod server;
mod spdy;
mod status;
mod subresource;
mod table;
mod target;
mod watching;
mod write;

pub use node::{Connection, ExecRequest, ExecStreams, ForwardStream, LogOptions, LogStream, NoNode, NodeAccess, NodeError, TerminalSize};
pub use server::{ApiOptions, ApiServer, Identity, router};
pub use status::{Cause, Details, Refusal};
