//! Real links, namespaces and rules, each test in network and mount namespaces of its own.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what it expects by what it unwraps, and loudly that it was skipped")]

mod dns;
mod forwarding;
mod inside;
mod pods;
mod services;
