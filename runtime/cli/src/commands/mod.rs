//! One file a family of commands.

pub mod apply;
mod arriving;
pub mod bake;
pub mod build;
pub mod check;
pub mod describe;
pub mod explain;
pub mod get;
pub mod images;
pub mod indexes;
pub mod lock;
pub mod plan;
pub mod registry;
pub mod review;
pub mod rollout;
pub mod serve;
pub mod space;
pub mod stream;
pub mod transfer;
pub mod write;
