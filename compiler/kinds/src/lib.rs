//! Kubernetes objects: their types, their schema, and what decoding, defaulting, validating and merging them means.
//!
//! [`table`] names the kinds; [`schema`] holds their fields as data, and everything else walks it: [`decode`] checks JSON strictly and brings it into the form
//! that a server stores, [`default`](mod@default) and [`validate`] do what a server does on a write, [`merge`] and [`apply`] are the patches, [`protobuf`] reads the bodies
//! of typed clients, [`openapi`] describes it all to clients. Compiler and server call the same functions: a plan made offline is what a server will do.
//!
//! This is the only package that names `k8s-openapi`; everything else takes the types from here.

pub mod apply;
pub mod decode;
pub mod default;
pub mod expression;
pub mod health;
pub mod indexes;
pub mod merge;
pub mod openapi;
pub mod path;
pub mod protobuf;
pub mod quantity;
pub mod schedule;
pub mod schema;
pub mod structural;
mod table;
pub mod validate;

pub use table::{KindInfo, by_kind, by_name, by_resource, custom, table};

pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};

/// `v1`: the core group.
pub mod core {
    pub use k8s_openapi::api::core::v1::*;
}

/// `apps/v1`.
pub mod apps {
    pub use k8s_openapi::api::apps::v1::*;
}

/// `batch/v1`.
pub mod batch {
    pub use k8s_openapi::api::batch::v1::*;
}

/// `discovery.k8s.io/v1`.
pub mod discovery {
    pub use k8s_openapi::api::discovery::v1::*;
}

/// `coordination.k8s.io/v1`.
pub mod coordination {
    pub use k8s_openapi::api::coordination::v1::*;
}

/// `meta/v1`: what all objects share.
pub mod meta {
    pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::*;
}
