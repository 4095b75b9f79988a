//! Lock files and metadata of languages' package managers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::purl::package_purl;
use super::Package;

/// Reads a file's text, or says why it cannot.
pub(super) type Read = fn(&str) -> Result<Vec<Package>, String>;

/// How a file of a name is read.
pub(super) fn reader(name: &str) -> Option<Read> {
    Some(match name {
        "Cargo.lock" => |text| Ok(cargo(text)),
        "package-lock.json" | "npm-shrinkwrap.json" | ".package-lock.json" => npm,
        "yarn.lock" => |text| Ok(yarn(text)),
        "go.sum" => |text| Ok(go_sum(text)),
        "requirements.txt" => |text| Ok(requirements(text)),
        "Gemfile.lock" => |text| Ok(gemfile(text)),
        "composer.lock" | "installed.json" => composer,
        _ => return None,
    })
}

pub(super) fn plain(kind: &str, namespace: &[&str], name: &str, version: &str) -> Package {
    let shown = namespace.iter().filter(|part| !part.is_empty()).chain([&name]).copied().collect::<Vec<_>>().join("/");
    let purl = package_purl(kind, namespace, name, version, &[]);
    Package { name: shown, version: version.to_owned(), purl, license: String::new(), supplier: String::new() }
}

/// `[[package]]` tables with a name and a version.
fn cargo(text: &str) -> Vec<Package> {
    let tables = text.split("[[package]]").skip(1);
    let each = |table: &str| {
        let value = |name: &str| {
            let own = table.lines().take_while(|line| !line.starts_with('['));
            let line = own.map(str::trim).find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
            line.map(|value| value.trim().trim_matches('"').to_owned()).filter(|value| !value.is_empty())
        };
        Some(plain("cargo", &[], &value("name")?, &value("version")?))
    };
    tables.filter_map(each).collect()
}

/// A scoped name in two: `@types/node`.
fn npm_package(name: &str, version: &str) -> Package {
    match name.split_once('/') {
        Some((scope, name)) if scope.starts_with('@') => plain("npm", &[scope], name, version),
        _ => plain("npm", &[], name, version),
    }
}

/// Version 2 and 3 list `packages` by their place, version 1 `dependencies` in each other.
fn npm(text: &str) -> Result<Vec<Package>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let mut found = Vec::new();
    if let Some(packages) = value.get("packages").and_then(Value::as_object) {
        for (place, package) in packages.iter().filter(|(place, package)| !place.is_empty() && package.get("link").is_none()) {
            let name = package.get("name").and_then(Value::as_str).or_else(|| place.rsplit_once("node_modules/").map(|(_, name)| name));
            if let (Some(name), Some(version)) = (name, package.get("version").and_then(Value::as_str)) {
                let license = package.get("license").and_then(Value::as_str).unwrap_or_default().to_owned();
                found.push(Package { license, ..npm_package(name, version) });
            }
        }
        return Ok(found);
    }
    let mut todo: Vec<&Value> = value.get("dependencies").into_iter().collect();
    while let Some(dependencies) = todo.pop() {
        for (name, package) in dependencies.as_object().into_iter().flatten() {
            found.extend(package.get("version").and_then(Value::as_str).map(|version| npm_package(name, version)));
            todo.extend(package.get("dependencies"));
        }
    }
    Ok(found)
}

/// `"@a/b@^1", "@a/b@^1.2":` (or `"@a/b@npm:^1":`), then `  version "1.2.3"` (or `  version: 1.2.3`).
fn yarn(text: &str) -> Vec<Package> {
    let (mut name, mut found) = (None, Vec::new());
    for line in text.lines() {
        if !line.starts_with([' ', '#']) && line.ends_with(':') {
            let first = line.trim_end_matches(':').split(',').next().unwrap_or_default().trim().trim_matches('"');
            name = first.get(1..).and_then(|rest| rest.find('@')).map(|at| first[..=at].to_owned()).filter(|_| !first.contains("@workspace:"));
        } else if let Some(version) = line.strip_prefix("  version").filter(|rest| rest.starts_with([' ', ':'])) {
            let version = version.trim_start_matches(':').trim().trim_matches('"');
            found.extend(name.take().map(|name| npm_package(&name, version)));
        }
    }
    found
}

/// `MODULE VERSION h1:…`; lines about go.mod files alone say nothing of what is used.
fn go_sum(text: &str) -> Vec<Package> {
    let each = |line: &str| {
        let mut words = line.split_whitespace();
        let (module, version) = (words.next()?, words.next()?);
        (!version.ends_with("/go.mod")).then(|| go_module(module, version))
    };
    text.lines().filter_map(each).collect()
}

/// The package of a Go module.
pub(super) fn go_module(module: &str, version: &str) -> Package {
    let parts: Vec<&str> = module.split('/').collect();
    let (name, namespace) = parts.split_last().unwrap_or((&module, &[]));
    plain("golang", namespace, name, version)
}

/// Python's names are compared in lower case, with dashes.
fn python(name: &str, version: &str) -> Package {
    plain("pypi", &[], &name.to_lowercase().replace(['_', '.'], "-"), version)
}

/// Lines that pin: `name==version`, with extras, markers, hashes and comments after or between.
fn requirements(text: &str) -> Vec<Package> {
    let each = |line: &str| {
        let line = line.split([';', '#', ' ']).next().unwrap_or_default().trim();
        let (name, version) = line.split_once("==")?;
        let name = name.split('[').next().unwrap_or_default().trim();
        let version = version.trim_start_matches('=').trim();
        let good = !name.is_empty()
            && !version.is_empty()
            && !version.contains('*')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        good.then(|| python(name, version))
    };
    text.lines().map(|line| line.replace(" == ", "==")).filter_map(|line| each(&line)).collect()
}

/// The header of an installed Python package (core metadata).
pub(super) fn dist_info(text: &str) -> Vec<Package> {
    let header = text.split("\n\n").next().unwrap_or_default();
    let field = |name: &str| header.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().trim();
    let (name, version) = (field("Name"), field("Version"));
    if name.is_empty() || version.is_empty() {
        return Vec::new();
    }
    let license = [field("License-Expression"), field("License")].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    vec![Package { license: license.to_owned(), supplier: field("Author").to_owned(), ..python(name, version) }]
}

/// `    name (version)` below `specs:` of a source; what is indented deeper are wishes.
fn gemfile(text: &str) -> Vec<Package> {
    let (mut specs, mut found) = (false, BTreeSet::new());
    for line in text.lines() {
        if !line.starts_with(' ') {
            specs = false;
        }
        specs |= line.trim() == "specs:";
        let own = line.strip_prefix("    ").filter(|rest| specs && !rest.starts_with(' '));
        if let Some((name, version)) = own.and_then(|own| own.strip_suffix(')')?.split_once(" (")) {
            found.insert((name.to_owned(), version.to_owned()));
        }
    }
    found.iter().map(|(name, version)| plain("gem", &[], name, version)).collect()
}

/// `packages` and `packages-dev`; an `installed.json` has the first, or is the list itself.
fn composer(text: &str) -> Result<Vec<Package>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let lists = [Some(&value), value.get("packages"), value.get("packages-dev")].into_iter().flatten().filter_map(Value::as_array).flatten();
    let each = |package: &Value| {
        let (name, version) = (package.get("name")?.as_str()?, package.get("version")?.as_str()?);
        let (vendor, name) = name.split_once('/').unwrap_or(("", name));
        let license = package.get("license").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" OR ");
        Some(Package { license, ..plain("composer", &[vendor], name, version) })
    };
    Ok(lists.filter_map(each).collect())
}

#[cfg(test)]
mod tests {
    use super::{dist_info, reader};

    fn urls(name: &str, text: &str) -> Vec<String> {
        let mut urls: Vec<String> = reader(name).expect("a reader")(text).expect("read").into_iter().map(|package| package.purl).collect();
        urls.sort();
        urls
    }

    #[test]
    fn lock_files_list_what_they_lock() {
        let cargo = "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\nsource = \"registry+x\"\ndependencies = [\n \"name = nothing\",\n]\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\n[metadata]\nname = \"no\"\n";
        assert_eq!(urls("Cargo.lock", cargo), ["pkg:cargo/own@0.1.0", "pkg:cargo/serde@1.0.1"]);
        let npm3 = r#"{"lockfileVersion":3,"packages":{"":{"name":"me","version":"1"},"node_modules/a":{"version":"1.0.0"},"node_modules/a/node_modules/@t/b":{"version":"2.0.0"},"node_modules/l":{"link":true,"version":"9"}}}"#;
        assert_eq!(urls("package-lock.json", npm3), ["pkg:npm/%40t/b@2.0.0", "pkg:npm/a@1.0.0"]);
        let npm1 = r#"{"dependencies":{"a":{"version":"1.0.0","dependencies":{"b":{"version":"2.0.0"}}}}}"#;
        assert_eq!(urls("npm-shrinkwrap.json", npm1), ["pkg:npm/a@1.0.0", "pkg:npm/b@2.0.0"]);
        let yarn1 = "# yarn lockfile v1\n\n\"@a/b@^1\", \"@a/b@^1.2\":\n  version \"1.2.3\"\n  resolved \"x\"\n  dependencies:\n    version \"^9\"\n\nc@^2:\n  version \"2.0.0\"\n";
        assert_eq!(urls("yarn.lock", yarn1), ["pkg:npm/%40a/b@1.2.3", "pkg:npm/c@2.0.0"]);
        let berry =
            "__metadata:\n  version: 8\n\n\"c@npm:^2\":\n  version: 2.0.0\n  resolution: \"c@npm:2.0.0\"\n\n\"me@workspace:.\":\n  version: 0.0.0-use.local\n";
        assert_eq!(urls("yarn.lock", berry), ["pkg:npm/c@2.0.0"]);
        let sum = "golang.org/x/net v0.1.0 h1:abc=\ngolang.org/x/net v0.1.0/go.mod h1:def=\nexample.org/only v1.0.0/go.mod h1:x=\n";
        assert_eq!(urls("go.sum", sum), ["pkg:golang/golang.org/x/net@v0.1.0"]);
        let pinned = "# c\nDjango==4.2 ; python_version > '3'\nrequests[socks] == 2.31.0  # why\nloose>=1\n-r other.txt\nx==1.*\nhashed==1.0 --hash=sha256:1\n";
        assert_eq!(urls("requirements.txt", pinned), ["pkg:pypi/django@4.2", "pkg:pypi/hashed@1.0", "pkg:pypi/requests@2.31.0"]);
        let gems =
            "GEM\n  remote: https://x/\n  specs:\n    rack (2.2.8)\n    rails (7.1.0)\n      rack (>= 2)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  rails (= 7)\n";
        assert_eq!(urls("Gemfile.lock", gems), ["pkg:gem/rack@2.2.8", "pkg:gem/rails@7.1.0"]);
        let composer = r#"{"packages":[{"name":"a/b","version":"v1","license":["MIT"]}],"packages-dev":[{"name":"c/d","version":"2"}]}"#;
        assert_eq!(urls("composer.lock", composer), ["pkg:composer/a/b@v1", "pkg:composer/c/d@2"]);
    }

    #[test]
    fn installed_python_packages_have_a_header() {
        let found = dist_info("Metadata-Version: 2.1\nName: Flask_Cors\nVersion: 4.0\nLicense: MIT\n\nName: no\n");
        assert_eq!((found[0].purl.as_str(), found[0].license.as_str()), ("pkg:pypi/flask-cors@4.0", "MIT"));
        assert!(dist_info("x").is_empty());
    }

    #[test]
    fn what_is_no_lock_file_is_an_error_or_nothing() {
        for (name, text) in [("package-lock.json", "{"), ("composer.lock", "x")] {
            assert!(reader(name).expect("a reader")(text).is_err(), "{name}");
        }
        for name in ["Cargo.lock", "yarn.lock", "go.sum", "requirements.txt", "Gemfile.lock"] {
            assert!(urls(name, "\u{0}\n::\n@\n==\n").is_empty(), "{name}");
        }
    }
}
