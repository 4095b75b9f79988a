//! Package URLs (purl-spec): how statements name images and packages.

use std::fmt::Write as _;

use strake_oci::Platform;

/// The package URL of an image, as BuildKit writes it: `pkg:docker/alpine@3.20?platform=linux%2Famd64`.
///
/// `familiar` is the reference as people write it, with a tag or digest.
pub fn image_purl(familiar: &str, platform: Option<&Platform>) -> String {
    let (name, digest) = familiar.split_once('@').map_or((familiar, None), |(name, digest)| (name, Some(digest)));
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let path: Vec<String> = name.split('/').map(encoded).collect();
    let mut url = format!("pkg:docker/{}", path.join("/"));
    if let Some(tag) = tag.or_else(|| digest.is_none().then_some("latest")) {
        let _ = write!(url, "@{}", encoded(tag));
    }
    let qualifiers = [("digest", digest.map(str::to_owned)), ("platform", platform.map(Platform::to_string))];
    let qualifiers = qualifiers.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?)))).collect::<Vec<_>>();
    if !qualifiers.is_empty() {
        let _ = write!(url, "?{}", qualifiers.join("&"));
    }
    url
}

/// The package URL of a package.
pub(super) fn package_purl(kind: &str, namespace: &[&str], name: &str, version: &str, qualifiers: &[(&str, &str)]) -> String {
    let mut url = format!("pkg:{kind}/");
    for part in namespace.iter().filter(|part| !part.is_empty()) {
        let _ = write!(url, "{}/", encoded(part));
    }
    url.push_str(&encoded(name));
    if !version.is_empty() {
        let _ = write!(url, "@{}", encoded(version));
    }
    let mut given: Vec<String> = qualifiers.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    given.sort_unstable();
    if !given.is_empty() {
        let _ = write!(url, "?{}", given.join("&"));
    }
    url
}

/// Percent-encoded: everything but what the specification leaves as it is.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{image_purl, package_purl};

    #[test]
    fn images_and_packages_have_urls() {
        let arm = "linux/arm/v7".parse().expect("a platform");
        assert_eq!(image_purl("alpine:3.20", Some(&arm)), "pkg:docker/alpine@3.20?platform=linux%2Farm%2Fv7");
        assert_eq!(image_purl("localhost:5000/a/b", None), "pkg:docker/localhost:5000/a/b@latest");
        let pinned = format!("alpine@sha256:{}", "0".repeat(64));
        assert_eq!(image_purl(&pinned, None), format!("pkg:docker/alpine?digest=sha256:{}", "0".repeat(64)));
        let url = package_purl("deb", &["debian"], "libstdc++6", "12.2.0-14+deb12u1", &[("distro", "debian-12"), ("arch", "amd64")]);
        assert_eq!(url, "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12");
        assert_eq!(package_purl("npm", &["@types"], "node", "1", &[]), "pkg:npm/%40types/node@1");
    }
}
