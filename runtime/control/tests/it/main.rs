//! The controllers against the model of the API.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; what it expects stands in its assertions")]

mod bench;
mod cronjobs;
mod deployments;
mod endpoints;
mod garbage;
mod jobs;
mod laws;
mod nodes;
mod replicasets;
mod views;
