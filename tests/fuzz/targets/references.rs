//! References of images and git repositories, selectors, quantities, durations: what is read can be written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strake_words::{FieldSelector, GitReference, GitScheme, GoDuration, LabelSelector, Quantity, Reference};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = Reference::parse(text) {
        for written in [reference.to_string(), reference.familiar()] {
            assert_eq!(Reference::parse(&written).as_ref(), Ok(&reference), "{text:?} as {written:?}");
        }
        let tagged = reference.with_default_tag();
        assert!(tagged.tag.is_some() || tagged.digest.is_some());
        for forbidden in ["..", "//", "\\", " ", "\n"] {
            assert!(!tagged.repository().contains(forbidden), "{tagged} names a path");
        }
    }
    if let Ok(git) = GitReference::parse(text) {
        assert!(
            !git.remote.starts_with('-') && !git.remote.to_ascii_lowercase().starts_with("file:"),
            "git would take {:?} for an option or a path",
            git.remote
        );
        assert!(git.reference.iter().all(|reference| !reference.starts_with('-')), "an option: {git:?}");
        assert!(git.subdir.iter().all(|subdir| !subdir.starts_with('/') && subdir.split('/').all(|part| part != "..")), "outside: {git:?}");
        assert!(git.scheme != GitScheme::File);
        let _ = (git.shown(), git.commit());
        let again = GitReference::parse(&git.remote).map(|again| (again.remote, again.host, again.port, again.scheme));
        assert_eq!(again.ok(), Some((git.remote.clone(), git.host.clone(), git.port, git.scheme)), "{text:?}");
    }
    let _ = GitReference::parse_local(text);
    if let Ok(selector) = LabelSelector::parse(text) {
        let _ = selector.matches(&[("a".to_owned(), "b".to_owned())].into());
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let _ = selector.matches(&[("a".to_owned(), "b".to_owned())].into());
    }
    if let Ok(quantity) = Quantity::parse(text) {
        let written = quantity.to_string();
        let again = Quantity::parse(&written);
        assert_eq!(again.as_ref().map(Quantity::as_milli).ok(), Some(quantity.as_milli()), "{text:?} as {written:?}");
        assert_eq!(again.map(|again| again.to_string()).ok(), Some(written), "{text:?}: the written form is canonical");
    }
    if let Ok(duration) = GoDuration::parse(text) {
        let written = duration.to_string();
        assert_eq!(GoDuration::parse(&written).ok(), Some(duration), "{text:?} as {written:?}");
        let _ = duration.to_std();
    }
});
