//! Bad input and bad luck: each gives a clear message and a non-zero exit, and leaves nothing behind.

mod attacks;
mod build;
mod cluster;
mod crash;
mod hostile;
mod interrupt;
mod manifests;
mod outside;
mod prune;
mod security;
mod store;
