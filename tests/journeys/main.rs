//! From a directory to running pods, as a user goes: each test is one journey with the real program, real layers, real containers, real addresses.

mod bake;
mod build;
mod cluster;
mod confine;
mod contexts;
mod copies;
mod details;
mod engine;
mod entitled;
mod everyday;
mod guestbook;
mod jobs;
mod history;
mod lives;
mod network;
mod node;
mod orders;
mod outputs;
mod placing;
mod platforms;
mod repositories;
mod review;
mod rollout;
mod shells;
mod watch;
mod sync;
