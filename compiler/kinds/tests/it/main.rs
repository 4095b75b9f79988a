//! Tests of strake-kinds.

#![expect(clippy::disallowed_methods, reason = "golden cases are folders of files")]

mod apply;
mod decode;
mod defaults;
mod jobs;
mod laws;
mod merge;
mod openapi;
mod protobuf;
mod schema;
mod structural;
mod validate;
