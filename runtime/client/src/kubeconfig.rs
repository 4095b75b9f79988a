//! Kubeconfigs that somebody else has written, and that a server uses.

use kube::config::Kubeconfig;

/// Whether a kubeconfig is usable anywhere: it names no file of the machine that uses it, and no program that it would run.
///
/// # Errors
/// What of it is not, for the person who wrote it.
pub fn stands_alone(text: &str) -> Result<(), String> {
    let config = Kubeconfig::from_yaml(text).map_err(|error| format!("it cannot be read: {error}"))?;
    if config.contexts.is_empty() {
        return Err("it has no context".to_owned());
    }
    for (name, cluster) in config.clusters.iter().filter_map(|named| Some((&named.name, named.cluster.as_ref()?))) {
        if cluster.certificate_authority.is_some() {
            return Err(format!("its cluster `{name}` names a file, by certificate-authority: give certificate-authority-data"));
        }
    }
    for (name, user) in config.auth_infos.iter().filter_map(|named| Some((&named.name, named.auth_info.as_ref()?))) {
        let files = [
            ("client-certificate", user.client_certificate.is_some(), "client-certificate-data"),
            ("client-key", user.client_key.is_some(), "client-key-data"),
            ("tokenFile", user.token_file.is_some(), "token"),
        ];
        if let Some((field, _, instead)) = files.into_iter().find(|(_, given, _)| *given) {
            return Err(format!("its user `{name}` names a file, by {field}: give {instead}"));
        }
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err(format!("its user `{name}` wants a program to be run for its login: give a token, or a certificate and its key"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::stands_alone;

    #[test]
    fn only_what_is_in_it_is_used() {
        let with = |cluster: &str, user: &str| {
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: 'https://h'{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
            )
        };
        assert_eq!(stands_alone(&with("", "token: x")), Ok(()));
        assert_eq!(stands_alone(&with(", certificate-authority-data: eA==", "client-certificate-data: eA==, client-key-data: eA==")), Ok(()));
        for (text, says) in [
            (with(", certificate-authority: /etc/ca", "token: x"), "`k` names a file"),
            (with("", "client-key: /etc/key"), "by client-key"),
            (with("", "client-certificate: /etc/key"), "by client-certificate"),
            (with("", "tokenFile: /etc/shadow"), "by tokenFile"),
            (with("", "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, interactiveMode: Never}"), "wants a program to be run"),
            (with("", "auth-provider: {name: gcp, config: {cmd-path: /bin/sh}}"), "wants a program to be run"),
            ("{}".to_owned(), "no context"),
            ("[".to_owned(), "cannot be read"),
        ] {
            assert!(stands_alone(&text).is_err_and(|why| why.contains(says)), "{text}: {:?}", stands_alone(&text));
        }
    }
}
