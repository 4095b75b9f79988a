//! What a Sync says and what its repository answers: specs, references, version ranges, addresses of forges. The same commit is chosen twice, and it is one that the
//! repository has or that the spec names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use strake_sync::{Fate, Forge, Provider, Reference, Refs, Spec, choose};

/// Lines `NAME COMMIT`.
fn refs(text: &str) -> Refs {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(name, commit)| (name.to_owned(), commit.to_owned())).collect()
}

fn chosen(reference: &Reference, refs: &Refs) {
    let head = choose(reference, refs, None, None);
    assert_eq!(format!("{head:?}"), format!("{:?}", choose(reference, refs, None, None)));
    if let Ok(head) = head {
        let _ = head.shown();
        let named = matches!(reference, Reference::Commit(commit) if *commit == head.commit);
        assert!(named || refs.values().any(|commit| *commit == head.commit), "{reference:?} means {head:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, rest) = text.split_once('\0').unwrap_or((text, ""));
    let refs = refs(rest);
    if let Ok(object) = serde_json::from_str::<Value>(first) {
        if let Ok(spec) = Spec::read(&object) {
            chosen(&spec.reference, &refs);
        }
        return;
    }
    let word = || first.to_owned();
    for reference in [Reference::Name(word()), Reference::Branch(word()), Reference::Tag(word()), Reference::Semver(word()), Reference::Commit(word())] {
        chosen(&reference, &refs);
    }
    for provider in [None, Provider::parse("github"), Provider::parse("gitlab"), Provider::parse("gitea")] {
        let Ok(forge) = Forge::of(first, provider, "", "", "strake/a") else { continue };
        let request = forge.request("token", "0123456789abcdef0123456789abcdef01234567", Fate::Success, rest);
        // What the project is called stays in its place.
        let path = request.url.split_once("://").map_or(request.url.as_str(), |(_, path)| path);
        assert!(!path.contains(['?', '#', ' ', '\n']) || path.contains("/statuses/"), "{path}");
        assert!(request.headers.iter().all(|(_, value)| !value.contains(['\n', '\r'])));
    }
});
