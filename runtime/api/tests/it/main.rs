//! The API as clients see it: requests in, answers out, without sockets; and the real kubectl over one.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say aloud what they skip")]

mod kubectl;
mod objects;
mod scene;
mod streams;
mod watches;
mod wire;
