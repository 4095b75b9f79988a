//! A Dockerfile of a stranger: it parses, every finding lies in the file and can be drawn, and it becomes the same plan twice or errors.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use strake_compile::{Dockerfile, Inputs, Options, compile, needs};
use strake_oci::{Digest, ImageConfig, Platform};
use strake_source::{FileId, Style};
use strake_stages::{BaseImage, BaseReference};

fn inputs(text: &str) -> Inputs {
    let dockerfile = Dockerfile {
        path: "Dockerfile".to_owned(),
        text: text.to_owned(),
        context: "/context".to_owned(),
        ignore: vec!["*.log".to_owned()],
        optional: false,
        image: None,
    };
    let options = Options {
        set: "set".to_owned(),
        namespace: "default".to_owned(),
        platform: Platform::host(),
        build_platform: Platform::host(),
        build_args: BTreeMap::from([("A".to_owned(), Some("$B*".to_owned())), ("C".to_owned(), None)]),
        foreign: false,
        environment: None,
        lints: BTreeMap::new(),
        no_cache: false,
    };
    Inputs { config: None, values: Vec::new(), manifests: Vec::new(), overlay: None, dockerfiles: vec![dockerfile], sealed: Default::default(), options }
}

/// An image that is called as it must be, with a trigger.
fn base(needed: BaseReference) -> (String, BaseImage) {
    let mut config = ImageConfig { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..ImageConfig::default() };
    config.config.env = vec!["PATH=/bin".to_owned(), "E=*".to_owned()];
    config.config.on_build = vec!["ADD $E /x".to_owned()];
    (needed.key, BaseImage { reference: needed.reference, manifest: Digest::of(b"base"), config })
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (_, findings) = strake_dockerfile::parse(FileId(0), text);
    for span in findings.iter().filter_map(|finding| finding.span) {
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "{span:?} is no part of the file");
    }
    let _ = strake_dockerfile::parse_fragment(FileId(0), text, '\\');
    let inputs = inputs(text);
    let bases: BTreeMap<_, _> = needs(&inputs).into_iter().map(base).collect();
    let outcome = compile(&inputs, &bases);
    let _ = strake_source::render(&outcome.sources, &outcome.diagnostics, Style::Plain);
    if let Some(plan) = &outcome.plan {
        assert_eq!(Some(plan), compile(&inputs, &bases).plan.as_ref(), "the same file gives the same plan");
    }
});
