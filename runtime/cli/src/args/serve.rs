//! What can be typed after `strake serve` and `strake kubeconfig`.

use std::path::PathBuf;

use clap::Args;

/// strake serve
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  strake serve --detach\n  strake serve --listen 0.0.0.0:6443\n  strake serve --detach --hooks 0.0.0.0:9595 --hooks-cert fullchain.pem --hooks-key privkey.pem"
)]
pub struct Serve {
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    pub listen: std::net::SocketAddr,
    #[command(flatten)]
    pub webhooks: Webhooks,
    /// Return once the API answers, and go on in the background
    #[arg(long)]
    pub detach: bool,
}

/// Where webhooks of git forges are heard.
#[derive(Args, Debug, Clone, Default)]
pub struct Webhooks {
    /// Where webhooks of git forges are heard: http://ADDRESS:PORT/hooks/NAMESPACE/NAME of a sync. Plain HTTP, for a reverse proxy, or TLS with --hooks-cert
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub hooks: Option<std::net::SocketAddr>,
    /// The certificate for webhooks over TLS, with its chain, in PEM; one that was renewed is used from then on
    #[arg(long, value_name = "FILE", requires = "hooks", requires = "hooks_key")]
    pub hooks_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "hooks_cert")]
    pub hooks_key: Option<PathBuf>,
}

/// strake kubeconfig
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  kubectl --kubeconfig \"$(strake kubeconfig --path)\" get nodes")]
pub struct Kubeconfig {
    /// Print the path of the file instead
    #[arg(long)]
    pub path: bool,
}
