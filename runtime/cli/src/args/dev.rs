//! The development loop, and ports of pods on this machine.

use std::net::IpAddr;

use clap::Args;

use super::{Apply, Format, Scope};

/// strake up
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "With --watch, strake up stays: a saved file builds again what it changes and replaces it in the cluster, ports are forwarded and logs are
shown. What does not build or start is told, what ran goes on, and the next save is tried. Ctrl-C ends the loop; the app stays.

Examples:
  strake up deploy/
  strake up . --watch
  strake up . --watch --sync --down-on-exit
  strake up . --watch --context staging --progress json 2>events.jsonl"
)]
pub struct Up {
    #[command(flatten)]
    pub apply: Apply,
    /// Stay, and bring every saved file into the cluster
    #[arg(short, long)]
    pub watch: bool,
    /// Put changed files that the Dockerfile only copies into the running containers, without a new image
    #[arg(long, requires = "watch")]
    pub sync: bool,
    /// Delete what was applied when the loop ends
    #[arg(long, requires = "watch")]
    pub down_on_exit: bool,
    /// Forward no ports
    #[arg(long, requires = "watch")]
    pub no_forward: bool,
}

/// strake port-forward
#[derive(Args, Debug)]
#[command(after_help = "A connection goes to a pod that is ready, or waits until there is one: pods may be replaced meanwhile.

Examples:
  strake port-forward service/web 8080:80
  strake port-forward deployment/web 8080
  strake port-forward web-5d8f7-x2x4k :8080 -n shop")]
pub struct PortForward {
    /// A pod, or KIND/NAME of what owns or selects pods
    pub target: String,
    /// [LOCAL:]PORT, by number or name; without LOCAL the same number, with an empty one any free port
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    pub ports: Vec<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// How to print what is forwarded
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
    #[command(flatten)]
    pub scope: Scope,
}
