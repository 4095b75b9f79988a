//! One file a family of commands.

pub mod apply;
mod arriving;
pub mod bake;
pub mod build;
pub mod check;
pub mod ci;
pub mod describe;
pub mod dev;
pub mod explain;
pub mod forward;
pub mod get;
pub mod history;
pub mod images;
pub mod indexes;
pub mod lock;
pub mod plan;
pub mod registry;
pub mod review;
pub mod rollout;
pub mod serve;
pub mod space;
pub mod status;
pub mod stream;
pub mod sync;
pub mod telling;
pub mod transfer;
pub mod write;
