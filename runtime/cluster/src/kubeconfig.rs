//! The way in: a kubeconfig with the administrator's certificate inside.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Pki;

/// The kubeconfig for a server at `address`: one cluster, one user and one context, all named `strake`.
pub fn render(pki: &Pki, address: SocketAddr) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: strake\nclusters:\n- name: strake\n  cluster:\n    server: https://{address}\n    certificate-authority-data: {}\n\
         contexts:\n- name: strake\n  context:\n    cluster: strake\n    user: strake\nusers:\n- name: strake\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        data(&pki.authority),
        data(&pki.admin.certificate),
        data(&pki.admin.key),
    )
}
