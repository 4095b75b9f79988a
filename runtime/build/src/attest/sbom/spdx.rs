//! The list of packages as SPDX 2.3 (JSON).

use serde_json::{Value, json};
use strake_oci::Digest;

use super::{Inventory, Package};

/// The predicate's type.
pub const SPDX: &str = "https://spdx.dev/Document";
/// Where the names of documents are made up: by their content, so that the same image gives the same document.
const NAMESPACE: &str = "https://strake.dev/spdx/";
/// What SPDX says for "nobody looked".
const UNKNOWN: &str = "NOASSERTION";

/// The document about an image: `name` is what people call it, `created` an RFC 3339 time.
pub fn spdx(inventory: &Inventory, name: &str, created: &str) -> Value {
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-Image",
        "name": name,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    })];
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    for (package, files) in &inventory.packages {
        let id = id_of(package);
        relationships.push(relationship("SPDXRef-Image", "CONTAINS", &id));
        packages.push(element(package, &id, &files.iter().map(String::as_str).collect::<Vec<_>>().join(", ")));
    }
    let content = Digest::of(json!([name, packages]).to_string().as_bytes());
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("{NAMESPACE}{}", content.hex()),
        "creationInfo": { "created": created, "creators": [concat!("Tool: strake-", env!("CARGO_PKG_VERSION"))] },
        "packages": packages,
        "relationships": relationships,
    });
    if !inventory.warnings.is_empty() {
        document["comment"] = format!("incomplete: {}", inventory.warnings.join("; ")).into();
    }
    document
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Letters, digits, dots and dashes only; the digest keeps apart what looks the same then.
fn id_of(package: &Package) -> String {
    let plain: String = package.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("SPDXRef-Package-{plain}-{}", Digest::of(package.purl.as_bytes()).short())
}

fn element(package: &Package, id: &str, files: &str) -> Value {
    let mut element = json!({
        "SPDXID": id,
        "name": package.name,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "sourceInfo": format!("found in {files}"),
        "externalRefs": [{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": package.purl }],
    });
    if !package.version.is_empty() {
        element["versionInfo"] = package.version.as_str().into();
    }
    // Package managers write licences as they like; SPDX expressions they are only by chance.
    if !package.license.is_empty() {
        element["licenseComments"] = format!("declared as: {}", package.license).into();
    }
    if !package.supplier.is_empty() {
        element["supplier"] = format!("Organization: {}", package.supplier).into();
    }
    element
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Inventory, spdx};
    use crate::attest::sbom::locks::plain;

    #[test]
    fn a_document_names_every_package_once_and_is_the_same_again() {
        let package = |name| (plain("npm", &[], name, "1"), BTreeSet::from(["/a".to_owned(), "/b".to_owned()]));
        let inventory = Inventory { packages: vec![package("a_b"), package("a-b")], warnings: vec!["/x: odd".to_owned()] };
        let document = spdx(&inventory, "web", "1970-01-01T00:00:00Z");
        let ids: BTreeSet<&str> = document["packages"].as_array().expect("a list").iter().filter_map(|package| package["SPDXID"].as_str()).collect();
        assert_eq!(ids.len(), 3, "{ids:?}");
        assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))), "{ids:?}");
        assert_eq!(document["relationships"].as_array().map(Vec::len), Some(3));
        assert_eq!(document["packages"][1]["sourceInfo"], "found in /a, /b");
        assert_eq!(document["comment"], "incomplete: /x: odd");
        assert_eq!(document, spdx(&inventory, "web", "1970-01-01T00:00:00Z"));
        assert_ne!(document["documentNamespace"], spdx(&inventory, "other", "1970-01-01T00:00:00Z")["documentNamespace"]);
    }
}
