//! Databases of distributions' package managers in the form of text: dpkg's and apk's.

use super::super::purl::package_purl;
use super::{Distribution, Package};

/// The value of a field in a paragraph; lines that go on are not part of it.
fn field<'t>(paragraph: &'t str, name: &str) -> &'t str {
    let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

/// Installed packages of a dpkg status file (deb-control(5)); those of distroless images have no Status field.
pub(super) fn dpkg(text: &str, distribution: &Distribution) -> Vec<Package> {
    let each = |paragraph: &str| {
        let (name, version, status) = (field(paragraph, "Package"), field(paragraph, "Version"), field(paragraph, "Status"));
        let here = status.is_empty() || status.split_whitespace().last() == Some("installed");
        if name.is_empty() || version.is_empty() || !here {
            return None;
        }
        let id = if distribution.id.is_empty() { "debian" } else { &distribution.id };
        let qualifiers = [("arch", field(paragraph, "Architecture")), ("distro", &distribution.qualifier())];
        Some(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            purl: package_purl("deb", &[id], name, version, &qualifiers),
            license: String::new(),
            supplier: field(paragraph, "Maintainer").to_owned(),
        })
    };
    paragraphs(text).filter_map(each).collect()
}

/// Installed packages of apk's database: a letter a field.
pub(super) fn apk(text: &str, distribution: &Distribution) -> Vec<Package> {
    let each = |paragraph: &str| {
        let (name, version) = (field(paragraph, "P"), field(paragraph, "V"));
        if name.is_empty() || version.is_empty() {
            return None;
        }
        let id = if distribution.id.is_empty() { "alpine" } else { &distribution.id };
        let qualifiers = [("arch", field(paragraph, "A")), ("distro", &distribution.qualifier())];
        Some(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            purl: package_purl("apk", &[id], name, version, &qualifiers),
            license: field(paragraph, "L").to_owned(),
            supplier: field(paragraph, "m").to_owned(),
        })
    };
    paragraphs(text).filter_map(each).collect()
}

fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Distribution, apk, dpkg};

    fn named(id: &str, version: &str) -> Distribution {
        Distribution { id: id.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn dpkg_lists_what_is_installed() {
        let text = "Package: libc6\nStatus: install ok installed\nMaintainer: A <a@b>\nArchitecture: amd64\nVersion: 2.36-9\nDescription: x\n Version: no\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: distroless\nVersion: 3\n";
        let found = dpkg(text, &named("debian", "12"));
        let urls: Vec<&str> = found.iter().map(|package| package.purl.as_str()).collect();
        assert_eq!(urls, ["pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12", "pkg:deb/debian/distroless@3?distro=debian-12"]);
        assert_eq!(found[0].supplier, "A <a@b>");
    }

    #[test]
    fn apk_lists_what_is_installed() {
        let text = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\nR:libc.so\n\nP:busybox\nV:1.36\n\n";
        let found = apk(text, &named("alpine", "3.20.1"));
        assert_eq!(found[0].purl, "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1");
        assert_eq!((found[0].license.as_str(), found.len()), ("MIT", 2));
    }
}
