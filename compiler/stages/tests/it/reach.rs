//! What a target reaches: images that only a base's triggers name, and errors beside errors.

use std::collections::BTreeMap;

use strake_stages::{BaseImage, Request, base_references, base_references_with, errors_beside, lower};

use crate::bases::{all, request};

fn keys(request: &Request, bases: &BTreeMap<String, BaseImage>) -> Vec<String> {
    base_references_with(request, bases).0.into_iter().map(|base| base.key).collect()
}

/// dockerfile.md FROM, ONBUILD; buildkit-facts 18: `COPY --from` in a trigger is a stage of the child's file, else an image.
#[test]
fn triggers_of_a_base_name_stages_or_images() {
    let bases = all();
    let (asked, _) = request("FROM triggers\n");
    assert_eq!(base_references(&asked).0.len(), 1, "nothing is known of triggers yet");
    assert_eq!(keys(&asked, &bases), ["docker.io/library/helper:latest", "docker.io/library/triggers:latest"]);
    let mut with = bases.clone();
    let helper = with["docker.io/library/bare:latest"].clone();
    with.insert("docker.io/library/helper:latest".to_owned(), helper);
    assert!(lower(&asked, &bases).0.is_none() && lower(&asked, &with).0.is_some());
    // A stage of that name is meant first, and what it needs is needed.
    let (asked, _) = request("FROM configured:1 AS helper\nFROM unused AS no\nFROM triggers\n");
    assert_eq!(keys(&asked, &bases), ["docker.io/library/configured:1", "docker.io/library/triggers:latest"]);
}

#[test]
fn a_file_with_errors_tells_those_of_its_stages_too() {
    let (asked, found) = request(
        "FROM nowhere AS a\nFRUM x\nRUN --mount=type=odd x\nCOPY --from=b / /\nENV X=${BASE:?needed}\nFROM a AS b\nSTOPSIGNAL NONE\nRUN --nonsense x\n",
    );
    assert!(found.iter().filter(|finding| finding.is_error()).count() >= 2, "{found:?}");
    let codes: Vec<&str> = errors_beside(&asked).iter().map(|finding| finding.code.0).collect();
    assert_eq!(codes, ["mount-option", "stage-reference", "stopsignal"]);
}
