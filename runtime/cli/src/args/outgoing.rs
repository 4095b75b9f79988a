//! Where images go.

use clap::Args;

/// Where images go that another cluster is to run.
#[derive(Args, Debug, Clone, Default)]
pub struct Outgoing {
    /// For another cluster: push images that are built there, where it pulls them from: HOST[/PATH] (images that name a registry go to their own) [default: strake.yaml's registry]
    #[arg(long, visible_alias = "registry", value_name = "REGISTRY")]
    pub push_to: Option<String>,
}
