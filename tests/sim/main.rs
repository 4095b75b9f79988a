//! The whole control plane under a simulated clock: all controllers, the scheduler and every pod's decider, against the model of
//! the API and nodes that pretend, with crashes, late, doubled, reordered and lost notifications. One thread, one seed a run.
//!
//! A failure prints its seed; `STRAKE_SIM_SEED=<n> cargo test --test sim` runs that one alone, `STRAKE_SIM_SEEDS=<n>` runs more.

mod cluster;
mod control;
mod dice;
mod jobs;
mod node;
mod scenarios;
mod scheduler;
