//! Which cluster a command speaks to.

use std::path::{Path, PathBuf};

use strake_client::Client;

use crate::args::Target;
use crate::failure::Failure;

/// Where strake's own cluster keeps its way in.
pub fn own_kubeconfig(root: &Path) -> PathBuf {
    root.join("cluster/kubeconfig")
}

/// Whether the cluster that `target` names is strake's own after all: its server answers at the same address.
pub async fn is_own(root: &Path, target: &Target) -> bool {
    if !target.is_foreign() {
        return true;
    }
    let (Ok(named), Ok(own)) = (connect(root, target).await, connect(root, &Target::default()).await) else { return false };
    named.server() == own.server()
}

/// The cluster that `target` names; strake's own when it names none.
///
/// # Errors
/// No cluster runs, or the kubeconfig cannot be used.
pub async fn connect(root: &Path, target: &Target) -> Result<Client, Failure> {
    if target.context.is_some() || target.kubeconfig.is_some() {
        return Ok(Client::from_kubeconfig(target.kubeconfig.as_deref(), target.context.as_deref()).await?);
    }
    if strake_cluster::holder(root).is_none_or(|holder| holder.address.is_empty()) {
        let hint = format!("no cluster runs in {}: start one with `strake serve --detach` or `strake up DIR`, or name another with --context", root.display());
        return Err(Failure::text(hint));
    }
    Ok(Client::from_kubeconfig(Some(&own_kubeconfig(root)), None).await?)
}
