//! Cluster names: what is known (`zone`), where other names are asked (`upstream`), and the server between (`server`).

mod server;
mod upstream;
mod zone;

pub(crate) use server::NameServer;
pub use upstream::{Upstreams, read_resolv_conf};
pub use zone::{Answer, Data, Question, Zone, ZoneBuilder, ZoneEndpoint, ZonePort, ZoneService};
